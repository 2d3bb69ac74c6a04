"""The record by which programs of a machine find a node, and its removal whatever happens.

init(address) finds a raylet of its machine by a small file in the folder of the cluster (`_node`
owns the format). Whoever writes that file may be killed, and the raylet does not know of it. So a
janitor waits beside: a shell that sleeps until its stdin ends, which is when the writer is gone,
and removes the file, and the folder when it was the last. Costs one idle process of 1 MB a node.
"""

from __future__ import annotations

import json
import os
import subprocess

_SCRIPT = 'trap "" HUP INT TERM; while read -r _; do :; done; rm -f -- "$1"; rmdir -- "$2" 2>&-'


class Janitor:
    """Removes a file, and its folder when empty, once this process ends or says so."""

    def __init__(self, path: str) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "skate-janitor", path, os.path.dirname(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin")},
        )

    def clean(self) -> None:
        """Clean now; waits until it is done."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.wait(timeout=10)


def publish(
    address: str, socket_path: str, pid: int, session_dir: str, executor: int = 0
) -> Janitor:
    """Record a raylet of this machine. `executor`: the process of the Spark executor it serves."""
    from skate import _node

    path = _node.record_node(_node.base_dir(), address, socket_path, pid, session_dir)
    if executor:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        record["executor"] = executor
        _node.write_private(path, json.dumps(record))
    return Janitor(path)
