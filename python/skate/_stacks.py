"""Python stacks of a busy worker, from outside: a signal, and a memory file that it writes to.

The handler is faulthandler's, in C: it needs no lock of the interpreter and works in the middle of
anything. The file belongs to the worker and has no name in the file system; whoever may look into
/proc of the worker (the same user) may read it.
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import signal
import time

SIGNAL = signal.SIGRTMAX - 4  # like that of cancel(), one that programs rarely use
_NAME = "skate-stack"


def offer() -> None:
    """In a worker, at its start: be ready to be asked."""
    fd = os.memfd_create(_NAME, os.MFD_CLOEXEC)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    faulthandler.register(SIGNAL, file=fd, all_threads=True, chain=False)


def _file_of(pid: int) -> str | None:
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        try:
            if _NAME in os.readlink(f"{folder}/{name}"):
                return f"{folder}/{name}"
        except OSError:
            continue
    return None


def dump(pid: int, timeout: float) -> str:
    """The stacks of a worker's threads, or why there are none."""
    try:
        path = _file_of(pid)
        if path is None and os.readlink(f"/proc/{pid}/exe").endswith("/skate-worker"):
            return "(a worker for C tasks: there is no Python in it)"
        if path is None:
            return "(this worker is just starting: it offers no stacks yet)"
        os.truncate(path, 0)
        os.kill(pid, SIGNAL)
        deadline = time.monotonic() + timeout
        before = -1
        while time.monotonic() < deadline:
            size = os.stat(path).st_size
            if size and size == before:  # written to its end
                with open(path, "rb") as file:
                    return file.read().decode("utf-8", "replace")
            before = size
            time.sleep(0.02)
    except (ProcessLookupError, FileNotFoundError):
        return "(it has ended)"
    except PermissionError:
        return "(it belongs to another user)"
    return f"(no answer within {timeout} s: it is stopped, or in a call that no signal interrupts)"
