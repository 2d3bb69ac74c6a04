"""Threaded actors: max_concurrency, concurrency groups, order, and what runs where."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytest
from compat_target import ON_RAY, exceptions, ray

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote
class Meeting:
    """`meet(n)` returns when n calls are inside at once."""

    def __init__(self) -> None:
        self.constructor = threading.current_thread().name
        self.condition = threading.Condition()
        self.inside = self.most = 0

    def meet(self, n: int, seconds: float = 20) -> bool:
        with self.condition:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.condition.notify_all()
            met = self.condition.wait_for(lambda: self.most >= n, seconds)
            self.inside -= 1
            return met

    def read(self) -> tuple[int, int]:
        return self.inside, self.most

    def where(self) -> tuple[str, str]:
        return self.constructor, threading.current_thread().name

    def ids(self, seconds: float) -> tuple[Any, Any]:
        first = ray.get_runtime_context().get_task_id()
        time.sleep(seconds)
        return first, ray.get_runtime_context().get_task_id()

    def fail(self) -> None:
        raise KeyError("no")

    def die(self) -> None:
        os._exit(1)

    def ask(self, x: int) -> int:
        return ray.get(double.remote(x))

    def echo(self, x: Any) -> Any:
        return x


@ray.remote
def double(x: int) -> int:
    return 2 * x


@ray.remote
def later(x: Any, seconds: float) -> Any:
    time.sleep(seconds)
    return x


@pytest.mark.row("3.max_concurrency")
def test_calls_run_in_threads_up_to_the_limit() -> None:
    meeting = Meeting.options(max_concurrency=4).remote()
    assert ray.get([meeting.meet.remote(4) for _ in range(4)]) == [True] * 4
    few = Meeting.options(max_concurrency=2).remote()
    assert ray.get([few.meet.remote(3, 0.1) for _ in range(5)]) == [False] * 5
    assert ray.get(few.read.remote())[1] == 2


@pytest.mark.row("3.max_concurrency")
def test_one_call_at_a_time_by_default() -> None:
    meeting = Meeting.remote()
    assert ray.get([meeting.meet.remote(2, 0.02) for _ in range(3)]) == [False] * 3


@pytest.mark.row("3.max_concurrency")
def test_the_main_thread_makes_and_others_run() -> None:
    meeting = Meeting.options(max_concurrency=2).remote()
    constructor, method = ray.get(meeting.where.remote())
    assert constructor == "MainThread"
    assert method != "MainThread"
    assert ray.get(Meeting.remote().where.remote()) == ("MainThread", "MainThread")


@pytest.mark.row("3.max_concurrency")
def test_each_thread_knows_its_own_task() -> None:
    meeting = Meeting.options(max_concurrency=4).remote()
    refs = [meeting.ids.remote(0.05) for _ in range(4)]
    for ref, (before, after) in zip(refs, ray.get(refs)):
        assert before == after == ref.task_id().hex()


@pytest.mark.row("3.max_concurrency")
def test_errors_and_calls_within_threads() -> None:
    meeting = Meeting.options(max_concurrency=3).remote()
    with pytest.raises(KeyError):
        ray.get(meeting.fail.remote())
    assert ray.get([meeting.ask.remote(i) for i in range(6)]) == [2 * i for i in range(6)]
    waiting = meeting.meet.remote(3)
    ray.get(meeting.read.remote())
    with pytest.raises(exceptions.RayActorError):
        ray.get(meeting.die.remote())
    with pytest.raises(exceptions.RayActorError):
        ray.get(waiting)


@pytest.mark.row("3.max_concurrency")
def test_large_values_of_threads() -> None:
    meeting = Meeting.options(max_concurrency=3).remote()
    blobs = [bytes([i]) * 300_000 for i in range(6)]
    assert ray.get([meeting.echo.remote(blob) for blob in blobs]) == blobs


@pytest.mark.row("3.order")
def test_a_late_argument_holds_up_only_ordered_actors() -> None:
    @ray.remote
    class Log:
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def add(self, x: Any) -> None:
            self.seen.append(x)

        def read(self) -> list[Any]:
            return self.seen

    threaded = Log.options(max_concurrency=2).remote()
    slow = threaded.add.remote(later.remote("slow", 4 if ON_RAY else 0.5))
    ray.get(threaded.add.remote("fast"))
    ray.get(slow)
    assert ray.get(threaded.read.remote()) == ["fast", "slow"]
    ordered = Log.remote()
    ordered.add.remote(later.remote("slow", 0.3))
    ordered.add.remote("fast")
    assert ray.get(ordered.read.remote()) == ["slow", "fast"]
    free = Log.options(allow_out_of_order_execution=True).remote()
    slow = free.add.remote(later.remote("slow", 4 if ON_RAY else 0.5))
    ray.get(free.add.remote("fast"))
    ray.get(slow)
    assert ray.get(free.read.remote()) == ["fast", "slow"]


@pytest.mark.row("3.order")
def test_ordered_execution_is_for_plain_actors() -> None:
    @ray.remote
    class Async:
        async def get(self) -> None:
            pass

    with pytest.raises(ValueError):
        Async.options(allow_out_of_order_execution=False).remote()
    with pytest.raises(ValueError):
        Meeting.options(max_concurrency=2, allow_out_of_order_execution=False).remote()
    plain = Meeting.options(allow_out_of_order_execution=False).remote()
    assert ray.get(plain.echo.remote(1)) == 1


@pytest.mark.row("3.concurrency_groups")
def test_groups_have_their_own_threads_and_limits() -> None:
    @ray.remote(concurrency_groups={"io": 2, "compute": 1})
    class Groups:
        def __init__(self) -> None:
            self.event = threading.Event()
            self.lock = threading.Lock()
            self.inside = self.most = 0

        @ray.method(concurrency_group="io")
        def io(self, seconds: float = 20) -> bool:
            with self.lock:
                self.inside += 1
                self.most = max(self.most, self.inside)
            done = self.event.wait(seconds)
            with self.lock:
                self.inside -= 1
            return done

        @ray.method(concurrency_group="compute")
        def compute(self) -> str:
            return threading.current_thread().name

        def default(self) -> str:
            return threading.current_thread().name

        def finish(self) -> int:
            self.event.set()
            return self.most

    groups = Groups.remote()
    waiting = [groups.io.remote() for _ in range(3)]
    a, b = ray.get([groups.compute.remote(), groups.default.remote()])
    assert a != b
    assert ray.get(groups.default.options(concurrency_group="compute").remote()) == a
    stuck = groups.default.options(concurrency_group="io").remote()
    ready, _ = ray.wait([stuck, *waiting], timeout=0.3)
    assert ready == []
    assert ray.get(groups.finish.remote()) == 2
    assert ray.get(waiting) == [True] * 3
    assert ray.get(stuck) not in (a, b)


@pytest.mark.row("3.concurrency_groups")
def test_unknown_groups_and_options_are_refused() -> None:
    @ray.remote(concurrency_groups={"io": 1})
    class Groups:
        def call(self) -> int:
            return 1

    with pytest.raises(ValueError):
        Groups.options(concurrency_groups={"io": 2})
    groups = Groups.remote()
    assert ray.get(groups.call.options(concurrency_group="io").remote()) == 1
    # Ray's actor dies of it; Skate says so at once.
    with pytest.raises(exceptions.RayActorError if ON_RAY else ValueError):
        ray.get(groups.call.options(concurrency_group="nope").remote(), timeout=60)


@pytest.mark.row("3.max_pending_calls")
def test_calls_above_the_limit_are_refused_at_once() -> None:
    meeting = Meeting.options(max_pending_calls=3, max_concurrency=10).remote()
    ray.get(meeting.echo.remote(0))
    waiting = [meeting.meet.remote(99, 20) for _ in range(3)]
    with pytest.raises(exceptions.PendingCallsLimitExceeded):
        meeting.echo.remote(1)
    ray.kill(meeting)
    with pytest.raises(exceptions.RayActorError):
        ray.get(waiting)


@pytest.mark.row("3.max_pending_calls")
def test_answered_and_cancelled_calls_count_no_more() -> None:
    meeting = Meeting.options(max_pending_calls=2, max_concurrency=2).remote()
    for i in range(6):
        assert ray.get(meeting.echo.remote(i)) == i
    for _ in range(6):
        late = meeting.echo.remote(later.remote(1, 0.2))
        ray.cancel(late)
        with pytest.raises(exceptions.TaskCancelledError):
            ray.get(late)
    assert ray.get(meeting.echo.remote(7)) == 7
