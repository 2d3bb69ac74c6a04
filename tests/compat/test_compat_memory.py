"""A node that is low on memory all the time: what its programs are told."""

from __future__ import annotations

import importlib
import time

import pytest
from compat_target import ON_RAY, exceptions, ray, start

LOW = {"memory_usage_threshold": 0.0001, "memory_monitor_refresh_ms": 100,
       "task_oom_retry_delay_base_ms": 0}  # fmt: skip


@pytest.fixture
def low(no_cluster):
    def begin(**more):
        start(_system_config={**LOW, **more})

    return begin


@ray.remote(max_retries=0)
def hold():
    held = bytearray(b"x" * 200_000_000)
    time.sleep(60)
    return len(held)


@ray.remote
class Holder:
    def hold(self):
        held = bytearray(b"x" * 200_000_000)
        time.sleep(60)
        return len(held)


@pytest.mark.row("5.system")
def test_a_task(low):
    low()
    with pytest.raises(exceptions.OutOfMemoryError, match="due to the node running low on memory"):
        ray.get(hold.remote(), timeout=60)
    if not ON_RAY:  # there it needs the dashboard
        state = importlib.import_module(f"{ray.__name__}.util.state")
        (task,) = state.list_tasks(filters=[("name", "=", "hold")], detail=True)
        assert task.error_type == "OUT_OF_MEMORY" and task.state == "FAILED"


@pytest.mark.row("5.system")
def test_tries_have_a_count_of_their_own(low):
    low(task_oom_retries=1)
    with pytest.raises(exceptions.OutOfMemoryError):
        ray.get(hold.options(max_retries=-1).remote(), timeout=60)


@pytest.mark.row("5.system", "5.actor_error")
def test_an_actor(low):
    low()
    actor = Holder.remote()
    with pytest.raises(exceptions.OutOfMemoryError, match="due to the node running low on memory"):
        ray.get(actor.hold.remote(), timeout=60)
