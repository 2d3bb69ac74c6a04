"""The process that keeps the head of a cluster on an executor: `python -m ..._head_keeper`.

It is told everything on stdin, the cluster's key among it, starts the head as a driver would, says
`READY ip:port` (or `ERROR text`) and closes its stdout and stderr. From then on it sleeps until the
executor it serves ends, or the head's raylet in order: somebody has told the head to end. Daemons
that end otherwise are started again. A head that nobody has joined in the first `join_s` seconds is
one whose driver cannot reach it, or is gone: it ends, too. What the keeper started ends with it, in
order or by the pipes it holds.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import sys
import time

from skate import _node
from skate.util.spark._away_head import HeadSettings
from skate.util.spark._head import Head

POLL_MS = 500  # where the kernel gives no descriptor for a process
LOOK_S = 5.0  # between looks whether somebody has joined


def wait_for_end(pids: list[int], seconds: float | None = None) -> None:
    """Until one of these processes has ended, or so much time has passed."""
    deadline = None if seconds is None else time.monotonic() + seconds
    poll, fds = select.poll(), []
    try:
        for pid in pids:
            try:
                fds.append(os.pidfd_open(pid))
            except ProcessLookupError:
                return
            except OSError:  # an old kernel
                continue
            poll.register(fds[-1], select.POLLIN)
        step = None if len(fds) == len(pids) and deadline is None else POLL_MS
        while not poll.poll(step):
            if not all(os.path.exists(f"/proc/{pid}") for pid in pids):
                return
            if deadline is not None and time.monotonic() >= deadline:
                return
    finally:
        for fd in fds:
            os.close(fd)


def is_joined(head: Head) -> bool | None:
    """Is there a node but the head's, a driver's too, or was there one? None: it does not say."""
    from skate import _api

    try:
        head.nodes()  # connects
        return any(not row["is_head"] for row in _api._node_rows())
    except Exception:  # whatever a head that is on its way out makes of a call
        return None
    finally:
        head.release()


def _start(settings: HeadSettings, ip: str) -> Head:
    head = Head.start(settings.plan, ip, settings.key, settings.environment)
    head.logs_to = settings.logs_to or ""
    return head


def _leave() -> None:
    """Nothing of the Spark task's is held any more."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


def main() -> None:
    """Entry point."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    settings, ip, executor = pickle.loads(sys.stdin.buffer.read())
    try:
        head = _start(settings, ip)
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        print(f"ERROR {error}", flush=True)
        raise SystemExit(1) from None
    try:
        print(f"READY {head.address}", flush=True)
        _leave()
        joined: bool | None = False
        overdue = time.monotonic() + settings.join_s
        while True:
            left = None if joined else min(LOOK_S, max(0.0, overdue - time.monotonic()))
            wait_for_end([pid for pid in (executor, *head.pids) if pid], left)
            if head.was_told_to_end or (executor and not _node.start_time(executor)):
                break
            head.mend()
            joined = joined or is_joined(head)
            if joined is False and time.monotonic() >= overdue:
                break
    finally:
        with contextlib.suppress(OSError):
            head.stop()


if __name__ == "__main__":
    main()
