"""What the dead leave behind in a process: nothing, once nobody speaks of them."""

from __future__ import annotations

import os
import signal
import time

import pytest

from skate import _core, exceptions
from skate.util.state import list_workers


def eventually(question, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline, _core.stats()
        time.sleep(0.01)
    return answer


def test_a_storm_of_short_lived_actors_and_workers_leaves_nothing(session):
    @session.remote(num_cpus=0)
    class Mayfly:
        def pid(self):
            return os.getpid()

    @session.remote(max_retries=0)
    def end():
        os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(10):
        flies = [Mayfly.remote() for _ in range(20)]
        for pid in session.get([fly.pid.remote() for fly in flies]):
            os.kill(pid, signal.SIGKILL)
        for fly in flies:
            with pytest.raises(exceptions.RayActorError):
                session.get(fly.pid.remote())
        for ref in [end.remote() for _ in range(4)]:
            with pytest.raises(exceptions.WorkerCrashedError):
                session.get(ref)
    kept = flies.pop()
    del flies, fly, ref
    eventually(lambda: _core.stats()["actors"] == 1)
    # The kept one's, and those of living workers, leased or not.
    eventually(lambda: _core.stats()["links"] <= 1 + sum(
        row.is_alive and row.worker_type == "WORKER" for row in list_workers()))  # fmt: skip
    with pytest.raises(exceptions.RayActorError, match="SIGKILL"):
        session.get(kept.pid.remote())  # whoever still has a handle is still told why
