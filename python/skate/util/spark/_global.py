"""One global cluster for each machine and user: a lock, and the record that a bare init() reads.

The lock is held by an open file of the process that made the cluster, so it is free again however
that process ends. The record `current_cluster` is the one that `skate start --head` writes; what it
said before is put back at the end, if that cluster lives.
"""

from __future__ import annotations

import fcntl
import os

from skate import _node

_LOCK = "spark_global.lock"
_RECORD = "current_cluster"


def _take(path: str) -> int:
    """The locked file of this path. Its last holder may remove it just now: then anew."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        except BlockingIOError:
            holder = os.pread(file, 100, 0).decode(errors="replace").strip()
            os.close(file)
            raise ValueError(
                "There is a global cluster on Spark on this machine already"
                + (f" (process {holder})" if holder else "")
                + ": join it with init(), or shut it down before another one is set up."
            ) from None
        except FileNotFoundError:
            pass
        os.close(file)


class Claim:
    """The machine's place for a global cluster, taken. ValueError: somebody has it."""

    def __init__(self, base: str | None = None) -> None:
        self._base = base or _node.base_dir()
        self._before: str | None = None
        self._address = ""
        self._path = os.path.join(self._base, _LOCK)
        self._file = _take(self._path)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def record(self, address: str) -> None:
        """From now on init() without an address joins this cluster."""
        self._before = _node.current_cluster(self._base)
        self._address = address
        _node.write_private(os.path.join(self._base, _RECORD), address)

    def release(self) -> None:
        """Give the place back; again is fine."""
        if self._file < 0:
            return
        path = os.path.join(self._base, _RECORD)
        if self._address and self._says(path) == self._address:
            if self._before and _node.cluster_nodes(self._base, self._before):
                _node.write_private(path, self._before)
            else:
                os.unlink(path)
        os.unlink(self._path)  # we hold it: whoever opened it already finds that it is gone
        os.close(self._file)
        self._file = -1

    @staticmethod
    def _says(path: str) -> str:
        try:
            with open(path, encoding="ascii") as file:
                return file.read().strip()
        except (OSError, ValueError):
            return ""
