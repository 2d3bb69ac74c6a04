"""Starting the autoscaler's process, and its record by which it is found again."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from skate import _node

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

RECORD = "autoscaler.json"


def start(
    address: str, key: str, config: dict[str, Any], lasting: bool, log: str | None
) -> subprocess.Popen[str]:
    """Run it. log: the file for what it says; None: this process's stderr. RuntimeError."""
    errors = None if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "skate.autoscaler._monitor"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True,
        )  # fmt: skip
    finally:
        if errors is not None:
            os.close(errors)
    assert process.stdin is not None and process.stdout is not None
    told = {"address": address, "key": key, "config": config, "lasting": lasting}
    try:
        process.stdin.write(json.dumps(told) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
    except BrokenPipeError:
        answer = ""
    if answer.strip() != "READY":
        process.kill()
        process.wait()
        raise RuntimeError("the autoscaler could not be started" + (f", see {log}" if log else ""))
    return process


def stop(process: subprocess.Popen[str]) -> None:
    """End one that is not lasting, and the nodes that it has started."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    process.wait()
    process.stdout.close()


def record(base: str, address: str, name: str, pid: int) -> None:
    """Write down that it runs, for `skate stop`, `skate down` and `skate status`."""
    path = os.path.join(_node.cluster_dir(base, address), RECORD)
    _node.write_private(path, json.dumps({
        "autoscaler": name, "address": address, "pid": pid, "start_time": _node.start_time(pid),
        "by": _node.BY_START,
    }))  # fmt: skip


def clusters(base: str) -> dict[str, dict[str, Any]]:
    """Name of a cluster -> the record of its autoscaler."""
    out = {}
    for folder in sorted(os.listdir(base)):
        found = _node._read_json(os.path.join(base, folder, RECORD))
        if folder.startswith("cluster_") and found:
            out[str(found["autoscaler"])] = found
    return out
