"""collect_log_to_path: keeps what a node logs, although the raylet removes its files at its end.

A thread is told by the kernel (inotify) of every log file that appears, and gives it a second name
(a hard link): the bytes stay when the raylet unlinks the first one. At the end of the node they are
copied to where the user wants.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import threading

PERIOD_S = 0.5  # how often to look without being told, and whether it is over
_IN_CREATE, _IN_MOVED_TO = 0x100, 0x80


def _watch(folder: str) -> int:
    """A descriptor that is readable when a file appears in the folder; -1: the kernel has none."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if fd >= 0 and libc.inotify_add_watch(fd, os.fsencode(folder), _IN_CREATE | _IN_MOVED_TO) < 0:
        os.close(fd)
        return -1
    return int(fd)


class LogKeeper:
    """Owns the thread. Nothing here is ever an error of the node."""

    def __init__(self, run_dir: str) -> None:
        self._logs = os.path.join(run_dir, "logs")
        self._kept = os.path.join(run_dir, "kept-logs")
        self._done = threading.Event()
        os.makedirs(self._kept, mode=0o700, exist_ok=True)
        self._news = _watch(self._logs)
        self._thread = threading.Thread(target=self._run, name="skate-keep-logs", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._done.is_set():
            self._link_new()
            if self._news < 0:
                self._done.wait(PERIOD_S)
            elif select.select([self._news], [], [], PERIOD_S)[0]:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._news, 65536)
        self._link_new()
        if self._news >= 0:
            os.close(self._news)

    def _link_new(self) -> None:
        with contextlib.suppress(OSError):
            for entry in os.scandir(self._logs):
                with contextlib.suppress(FileExistsError, FileNotFoundError):
                    os.link(entry.path, os.path.join(self._kept, entry.name))

    def finish(self, target: str) -> None:
        """Copy everything to `target`."""
        self._done.set()
        self._thread.join(timeout=5)
        with contextlib.suppress(OSError, shutil.Error):
            shutil.copytree(self._kept, target, dirs_exist_ok=True)
