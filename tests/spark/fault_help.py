"""What the tests of faults share: the processes behind a node, and what may be left of one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spark_help import processes

from skate import _node
from skate.util.spark import _orphans


@dataclass(frozen=True)
class Chain:
    """A node's raylet, and the processes that it hangs on."""

    raylet: int
    task: int  # Spark's Python worker
    daemon: int  # pyspark.daemon; 1 when that is gone
    executor: int
    mark: str

    @property
    def left(self) -> dict[int, str]:
        """Living processes of this node: each inherits the raylet's environment."""
        return processes({_orphans.VARIABLE: self.mark})


def parent(pid: int) -> int:
    """The parent of a process; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[1])


def lives(pid: int) -> bool:
    """Does it run, and is no zombie?"""
    return _node.start_time(pid) != 0


def owners(session: str) -> Iterator[tuple[int, _orphans.Owner]]:
    """The living raylets that are nodes of a cluster on Spark."""
    for pid in _orphans._raylets():
        owner = _orphans._owner(pid)
        if owner is not None and owner.session == session:
            yield pid, owner


def chains(cluster: Any) -> list[Chain]:
    """All that have a living task and executor."""
    found = []
    for pid, owner in owners(cluster.cluster_unique_id):
        if owner.lives and lives(owner.executor) and lives(pid):
            found.append(Chain(pid, owner.task, parent(owner.task), owner.executor, owner.text()))
    return sorted(found, key=lambda chain: chain.raylet)


def of_head(word: str) -> int:
    """The head's daemon of this name: a child of this process, or of its keeper."""
    own = os.getpid()
    for pid, command in processes().items():
        if word in command.split(" ")[0] and own in (parent(pid), parent(parent(pid))):
            return pid
    raise AssertionError(f"the head has no {word}")


def numbered(rows: list[dict[str, Any]]) -> dict[str, str]:
    """NodeID -> NodeName of the living nodes of Spark."""
    return {r["NodeID"]: r["NodeName"] for r in rows if r["Alive"] and r["NodeName"] != "head"}


def node_of(rows: list[dict[str, Any]], chain: Chain) -> str:
    """Its NodeID; "" while it is not listed as alive. (Where an executor has one node.)"""
    here = f"_{chain.executor}_"
    return next((r["NodeID"] for r in rows if r["Alive"] and here in r["RayletSocketName"]), "")


@dataclass
class Seen:
    """What followed a kill, in seconds after it."""

    noticed: float = 0.0
    gone: float = 0.0
    back: float = 0.0


def kill(pid: int) -> float:
    """kill -9; when."""
    os.kill(pid, signal.SIGKILL)
    return time.monotonic()
