"""Folders of sessions whose processes were all killed at once: removed when a new session starts.

However a session ends, one of its processes removes its folder. Only a power cut or a kill -9 of
all of them leaves it, with its logs. The records of a cluster_utils.Cluster are its program's: they
stay when that is killed. Nothing of another machine or of another user is touched.
"""

from __future__ import annotations

import os
import socket
import time

from skate import _node

QUIET_S = 60.0  # a younger folder may belong to a session that starts just now
MOST = 100  # folders looked at by one start


def sweep(base: str) -> list[str]:
    """Remove the folders of dead sessions and of dead programs' clusters in `base`; their paths."""
    removed = []
    try:
        with os.scandir(base) as entries:
            found = [e.path for e in entries if e.name.startswith(_node.SWEPT) and _is_old(e)]
    except OSError:
        return []
    for path in sorted(found)[:MOST]:
        is_session = os.path.basename(path).startswith("session_")
        if _session_is_dead(path) if is_session else _cluster_is_dead(base, path):
            _node.remove_tree(path)
            removed.append(path)
    return removed


def _session_is_dead(path: str) -> bool:
    if _serves(socket.AF_UNIX, os.path.join(path, "raylet.sock")) or _maker_lives(path):
        return False
    return not _node.store_pids(path)  # `skate stop` looks for them there


def _cluster_is_dead(base: str, path: str) -> bool:
    """Of a cluster_utils.Cluster, none of whose daemons lives? (What `skate start` has recorded is
    for `skate stop`.)"""
    address = os.path.basename(path).removeprefix("cluster_").replace("_", ":")
    records = [_node._read_json(os.path.join(path, name)) or {"by": "?"}
               for name in os.listdir(path) if name.endswith(".json")]  # fmt: skip
    if not records or any(r.get("by") or _node.is_alive(r) for r in records):
        return False
    return not _serves(socket.AF_INET, _node.split_address(address))


def _is_old(entry: os.DirEntry[str]) -> bool:
    try:
        state = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    mine = entry.is_dir(follow_symlinks=False) and state.st_uid == os.getuid()
    return mine and time.time() - state.st_mtime > QUIET_S


def _serves(family: int, where: str | tuple[str, int]) -> bool:
    """Does a daemon listen there? In doubt, yes."""
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setblocking(family == socket.AF_INET)  # loopback answers at once
        try:
            sock.connect(where)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def _maker_lives(path: str) -> bool:
    """Does the process live that the folder's name ends with?"""
    last = path.rpartition("_")[2]
    return last.isdigit() and os.path.exists(f"/proc/{last}")
