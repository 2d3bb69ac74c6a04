"""No more nodes on an executor than it has slots for, whatever was killed or cancelled.

Spark gives a slot to its next task within milliseconds, while what the last one had started may
still be there. When Spark's Python worker is killed, its raylet is on its way out. When a job is
cancelled, the slots are free at once, and the Python workers live for up to two seconds more.

So each raylet carries its task's process and executor in its environment. A task that is about to
start a node first waits for raylets of its cluster on this machine whose task is gone (they end by
themselves within moments; one that does not, a stopped process, is killed), and then until its
executor has room for one more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

VARIABLE = "SKATE_SPARK_TASK"
ORDERLY_S = 0.5
KILLED_S = 5.0
ROOM_S = 10.0
LOOK_S = 0.02
_NAME = "skate-raylet"


class NoRoomError(RuntimeError):
    """The executor's nodes did not end."""


@dataclass(frozen=True)
class Owner:
    """Whose raylet it is."""

    session: str
    task: int
    began: int  # when that process was started: its number may be given again
    executor: int

    def text(self) -> str:
        """The value of VARIABLE."""
        return f"{self.session}:{self.task}:{self.began}:{self.executor}"

    @property
    def lives(self) -> bool:
        """Does the task's process?"""
        from skate import _node

        return _node.start_time(self.task) == self.began


def me(session: str, executor: int) -> Owner:
    """This process as an owner."""
    from skate import _node

    return Owner(session, os.getpid(), _node.start_time(os.getpid()), executor)


@contextlib.contextmanager
def room(own: Owner, most: int, folder: str) -> Iterator[None]:
    """Inside, one raylet may be started: there is no orphan, and fewer than `most` on the executor
    (0: not known). One task of those that use `folder` is inside at a time. NoRoomError."""
    deadline = time.monotonic() + ROOM_S
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while True:
            fcntl.flock(handle, fcntl.LOCK_EX)
            others = _end_orphans(own.session)
            here = [pid for pid, owner in others.items() if owner.executor == own.executor]
            if not most or len(here) < most:
                yield
                return
            fcntl.flock(handle, fcntl.LOCK_UN)
            if time.monotonic() > deadline:
                raise NoRoomError(
                    f"{len(here)} nodes of this cluster still run on this executor, which has "
                    f"room for {most}: raylets {', '.join(map(str, here))}"
                )
            time.sleep(LOOK_S)  # until the kernel has their ends; nobody else tells
    finally:
        os.close(handle)


def executor_cores(pid: int) -> int:
    """The cores of an executor, by its command line; 0 when that does not say it."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return 0
    for name, value in zip(words, words[1:], strict=False):
        if name == b"--cores" and value.isdigit():
            return int(value)
    return 0


def _end_orphans(session: str) -> dict[int, Owner]:
    """The other raylets of the cluster, by process."""
    living = {}
    for pid in _raylets():
        owner = _owner(pid)
        if owner is None or owner.session != session:
            continue
        if owner.lives:
            living[pid] = owner
        else:
            _end(pid, owner)
    return living


def _raylets() -> list[int]:
    """Processes of the name; a raylet's child has it, too, until it is another program."""
    parents = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
                before, _, after = file.read().rpartition(")")
        except OSError:
            continue
        if before.endswith(f"({_NAME}"):
            parents[int(name)] = int(after.split()[1])
    return [pid for pid, parent in parents.items() if parent not in parents]


def _owner(pid: int) -> Owner | None:
    """Whose raylet this process is; None: no living one of Spark's."""
    from skate import _node

    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            variables = file.read().split(b"\0")
    except OSError:
        return None
    prefix = f"{VARIABLE}=".encode()
    texts = [v[len(prefix) :].decode() for v in variables if v.startswith(prefix)]
    words = texts[-1].split(":") if texts else []
    if len(words) != 4 or not all(w.isdigit() for w in words[1:]) or not _node.start_time(pid):
        return None
    return Owner(words[0], int(words[1]), int(words[2]), int(words[3]))


def _end(pid: int, owner: Owner) -> None:
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return  # it is gone
    try:
        if _owner(pid) != owner:
            return  # its number went to another process
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        if not poll.poll(ORDERLY_S * 1000):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            poll.poll(KILLED_S * 1000)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)
