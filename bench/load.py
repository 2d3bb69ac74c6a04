"""How much of the machine others used meanwhile, in cores.

Ours are the descendants of the bench's own process, which makes itself the reaper of orphans: a
daemon whose parent is gone stays in the tree. Others are all other processes that are not threads
of the kernel; time that the host took away counts, too. A process that ended within a second and
that nobody waited for is not seen. `CpuLoad` looks once a second, so that what others had used
before does not leave the sum with them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
import time

TICKS = os.sysconf("SC_CLK_TCK")
KTHREADD = 2
PR_SET_CHILD_SUBREAPER = 36


def become_reaper() -> None:
    """Orphans below us become our children instead of init's."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def processes() -> dict[int, tuple[int, int]]:
    """pid -> (parent, ticks of CPU of it and of its children that were waited for)."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as stat:
                fields = stat.read().rpartition(")")[2].split()
        except OSError:
            continue
        found[int(name)] = (int(fields[1]), sum(map(int, fields[11:15])))
    return found


def descendants(all_of_them: dict[int, tuple[int, int]], root: int) -> set[int]:
    """The tree below root, root included."""
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in all_of_them.items():
        children.setdefault(parent, []).append(pid)
    found, todo = {root}, [root]
    while todo:
        for pid in children.get(todo.pop(), []):
            if pid not in found:
                found.add(pid)
                todo.append(pid)
    return found


def stolen() -> int:
    """Ticks that the host gave to somebody else."""
    with open("/proc/stat", encoding="ascii") as stat:
        return int(stat.readline().split()[8])


def foreign_ticks(root: int) -> int:
    """CPU that living processes of others have used, and their waited-for children."""
    everything = processes()
    ours = descendants(everything, root)
    return sum(
        ticks
        for pid, (parent, ticks) in everything.items()
        if pid not in ours and pid != KTHREADD and parent != KTHREADD
    )


class CpuLoad:
    """`with CpuLoad() as load: ...`, then load.cores: what others used, on average."""

    def __init__(self) -> None:
        self.cores = 0.0

    def __enter__(self) -> CpuLoad:
        self._end = threading.Event()
        self._root = os.getpid()
        self._used = 0
        self._began = time.monotonic()
        self._stolen = stolen()
        self._last = foreign_ticks(self._root)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        now = foreign_ticks(self._root)
        self._used += max(0, now - self._last)
        self._last = now

    def _watch(self) -> None:
        while not self._end.wait(1.0):
            self._look()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._look()
        spent = max(time.monotonic() - self._began, 1e-6)
        self.cores = (self._used + stolen() - self._stolen) / TICKS / spent


def clear_away() -> None:
    """End what a measured process left behind (all below us), and bury it."""
    for pid in descendants(processes(), os.getpid()) - {os.getpid()}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
