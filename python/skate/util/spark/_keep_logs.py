"""collect_log_to_path: keeps what a node logs, although the raylet removes its files at its end.

A thread gives every log file a second name (a hard link) soon after it appears; the bytes stay when
the raylet unlinks the first one. At the end of the node they are copied to where the user wants.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading

PERIOD_S = 0.5  # what appears and ends within it may be missed


class LogKeeper:
    """Owns the thread. Nothing here is ever an error of the node."""

    def __init__(self, run_dir: str) -> None:
        self._logs = os.path.join(run_dir, "logs")
        self._kept = os.path.join(run_dir, "kept-logs")
        self._done = threading.Event()
        os.makedirs(self._kept, mode=0o700, exist_ok=True)
        self._thread = threading.Thread(target=self._run, name="skate-keep-logs", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            self._link_new()
            if self._done.wait(PERIOD_S):
                return

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
