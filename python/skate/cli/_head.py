"""What a head keeps: the log of its control store, and where the next start finds it again."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass, field
from typing import Any

from skate import _node

LOG = "gcs.db"


@dataclass
class Head:
    """What is there of the cluster that a `skate start --head` is for."""

    folder: str
    settings: list[tuple[str, Any]]  # of skate-gcs
    goes_on: bool = False  # its log is there: this start continues it
    is_new: bool = False  # there was no such folder
    key: str | None = None
    session_dir: str | None = None  # of its first node, which lives still
    raylet: dict[str, Any] = field(default_factory=dict)


def _redis(options: dict[str, Any]) -> list[tuple[str, Any]]:
    """The settings of a log in Redis."""
    rays = "RAY_external_storage_namespace"
    name = os.environ.get("SKATE_REDIS_NAMESPACE") or os.environ.get(rays, "")
    settings = [
        ("redis", options["redis_address"]), ("redis_user", options.get("redis_username") or ""),
        ("redis_password", options.get("of_redis") or ""), ("redis_name", name),
    ]  # fmt: skip
    for key, value in settings:
        if any(c in value for c in "\t\n\0"):
            raise ValueError(f"{key.replace('_', '-')} may not hold a tab or a newline")
    if options.get("fresh"):
        raise ValueError(
            "--fresh is for a log in a file: with Redis, give the new cluster another name in "
            "the variable SKATE_REDIS_NAMESPACE"
        )
    return settings


def plan(base: str, address: str, options: dict[str, Any]) -> Head:
    """How to start the head at this address: what it keeps, and whether that is there."""
    folder = _node.cluster_dir(base, address)
    log = os.path.join(folder, LOG)
    if len(log) > 240:
        raise ValueError(f"the folder {folder} has too long a path: set SKATE_TMPDIR to another")
    where = _redis(options) if options.get("redis_address") else [("log", log)]
    head = Head(folder, [*where, ("log_recover", int(bool(options.get("recover"))))])
    head.is_new = not os.path.isdir(folder)
    record = _node._read_json(os.path.join(folder, "cluster.json")) or {}
    if pids(record):
        return head  # it runs: the port is taken, and that is said
    if options.get("fresh") and not head.is_new:
        forget_log(folder)
    head.goes_on = os.path.exists(log) and os.path.getsize(log) > 0
    if options.get("redis_address"):
        head.goes_on = bool(record)  # what is in Redis is Redis's; the key is here
    if head.goes_on:
        head.key = _node.read_key(base, address)
        raylet = record.get("raylet") or {}
        if raylet and _node.is_alive(raylet):
            head.raylet, head.session_dir = raylet, record.get("session_dir")
    return head


def pids(record: dict[str, Any]) -> list[int]:
    """The processes of a control store that live: its keeper, then the server."""
    out = []
    if record.get("pid") and _node.is_alive(record):
        out.append(record["pid"])
    named = _node.store_pids(record.get("session_dir") or "/nowhere")
    return out + [pid for pid in named if pid not in out]


def undo(head: Head, ip: str, port: int) -> None:
    """A start that has failed leaves nothing that a later one would go on from. (Another's that
    was quicker has the port: then the folder is that one's.)"""
    if head.is_new and not _is_taken(ip, port):
        _node.remove_tree(head.folder)


def _is_taken(ip: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((ip, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def forget_log(folder: str) -> None:
    """Remove the log and what lies beside it."""
    for name in os.listdir(folder):
        if name.startswith(LOG):
            os.unlink(os.path.join(folder, name))
