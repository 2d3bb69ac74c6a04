"""Async actors: coroutines on an event loop, their limits, groups, order and errors."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from compat_target import ON_RAY, exceptions, ray

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote
class Gate:
    """Calls wait at it until it is opened; counts who is inside."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.inside = self.most = 0
        self.log: list[Any] = []

    async def enter(self, name: Any = None) -> Any:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.log.append(name)
        await self.event.wait()
        self.inside -= 1
        return name

    async def open(self) -> None:
        self.event.set()

    async def read(self) -> tuple[int, int, list[Any]]:
        return self.inside, self.most, list(self.log)

    def plain(self, name: Any = None) -> str:
        self.log.append(name)
        return threading.current_thread().name

    async def thread(self) -> str:
        return threading.current_thread().name

    async def fail(self) -> None:
        raise KeyError("no")

    async def context(self) -> tuple[Any, Any]:
        first = ray.get_runtime_context().get_task_id()
        await asyncio.sleep(0.01)
        return first, ray.get_runtime_context().get_task_id()

    async def child(self) -> Any:
        async def ask() -> Any:
            return ray.get_runtime_context().get_task_id()

        return await asyncio.create_task(ask()), ray.get_runtime_context().get_task_id()

    async def awaits(self, ref: list[Any]) -> Any:
        return await ref[0]

    async def gathers(self, refs: list[Any]) -> Any:
        return await asyncio.gather(*refs)

    async def two(self) -> tuple[int, int]:
        return 1, 2

    async def current(self) -> bool:
        return asyncio.current_task() is not None and asyncio.get_running_loop().is_running()


@ray.remote
def echo(x: Any) -> Any:
    return x


@ray.remote
def later(x: Any, seconds: float) -> Any:
    time.sleep(seconds)
    return x


@pytest.mark.row("3.max_concurrency")
def test_coroutines_run_at_the_same_time() -> None:
    gate = Gate.remote()
    waiting = [gate.enter.remote(i) for i in range(20)]
    deadline = time.monotonic() + 30
    while ray.get(gate.read.remote())[0] < 20:
        assert time.monotonic() < deadline
    ray.get(gate.open.remote())
    assert ray.get(waiting) == list(range(20))
    assert ray.get(gate.read.remote()) == (0, 20, list(range(20)))


@pytest.mark.row("3.max_concurrency")
def test_the_limit_of_max_concurrency_holds() -> None:
    gate = Gate.options(max_concurrency=3).remote()
    waiting = [gate.enter.remote(i) for i in range(8)]
    ready, _ = ray.wait(waiting, timeout=0.3)
    assert ready == []
    # The limit counts every call: even open() waits, so the gate stays closed.
    opening = gate.open.remote()
    ready, _ = ray.wait([opening], timeout=0.3)
    assert ready == []
    ray.kill(gate)
    with pytest.raises(exceptions.RayActorError):
        ray.get(waiting)


@pytest.mark.row("3.max_concurrency")
def test_a_coroutine_that_ends_lets_the_next_begin() -> None:
    @ray.remote
    class Count:
        def __init__(self) -> None:
            self.now = self.most = 0

        async def call(self) -> int:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.001)
            self.now -= 1
            return self.most

    count = Count.options(max_concurrency=4).remote()
    assert max(ray.get([count.call.remote() for _ in range(40)])) == 4


@pytest.mark.row("3.max_concurrency")
def test_all_methods_run_on_one_thread_that_is_not_the_main_one() -> None:
    gate = Gate.remote()
    names = {ray.get(gate.thread.remote()), ray.get(gate.plain.remote())}
    assert len(names) == 1
    assert names != {"MainThread"}


@pytest.mark.row("3.max_concurrency")
def test_calls_begin_in_their_order() -> None:
    gate = Gate.remote()
    refs = [gate.enter.remote(i) if i % 3 else gate.plain.remote(i) for i in range(60)]
    ray.get(gate.open.remote())
    ray.get(refs)
    seen = ray.get(gate.read.remote())[2]
    assert (sorted(seen) if ON_RAY else seen) == list(range(60))


@pytest.mark.row("3.max_concurrency")
def test_many_calls_may_wait_for_a_later_one() -> None:
    gate = Gate.options(max_concurrency=5000).remote()
    waiting = [gate.enter.remote(i) for i in range(2500)]
    ray.get(gate.open.remote())
    assert ray.get(waiting) == list(range(2500))


@pytest.mark.row("3.max_concurrency")
def test_errors_of_coroutines() -> None:
    gate = Gate.remote()
    with pytest.raises(KeyError) as caught:
        ray.get(gate.fail.remote())
    assert isinstance(caught.value, exceptions.RayTaskError)
    assert "fail" in str(caught.value)
    with pytest.raises(TypeError):
        gate.enter.remote(1, 2, 3)
    assert ray.get(gate.current.remote()) is True


@pytest.mark.row("3.max_concurrency")
def test_each_coroutine_knows_its_own_task() -> None:
    gate = Gate.remote()
    refs = [gate.context.remote() for _ in range(5)]
    seen = ray.get(refs)
    for ref, (before, after) in zip(refs, seen):
        assert before == after == ref.task_id().hex()
    child, own = ray.get(gate.child.remote())
    assert child == own


@pytest.mark.row("3.max_concurrency")
def test_a_late_argument_holds_nobody_up() -> None:
    gate = Gate.remote()
    slow = gate.plain.remote(later.remote("slow", 0.5))
    assert ray.get(gate.plain.remote("fast"))
    ray.get(slow)
    assert ray.get(gate.read.remote())[2] == ["fast", "slow"]


@pytest.mark.row("3.max_concurrency")
def test_awaiting_refs_in_a_coroutine() -> None:
    gate = Gate.remote()
    assert ray.get(gate.awaits.remote([echo.remote(5)])) == 5
    assert ray.get(gate.gathers.remote([echo.remote(i) for i in range(10)])) == list(range(10))

    @ray.remote
    def bad() -> None:
        raise ValueError("inner")

    with pytest.raises(ValueError):
        ray.get(gate.awaits.remote([bad.remote()]))


@pytest.mark.row("3.max_concurrency")
def test_several_returns_of_a_coroutine() -> None:
    gate = Gate.remote()
    one, two = gate.two.options(num_returns=2).remote()
    assert ray.get([one, two]) == [1, 2]


@pytest.mark.row("3.max_concurrency")
def test_an_async_constructor() -> None:
    @ray.remote
    class Slow:
        async def __init__(self, x: int) -> None:
            await asyncio.sleep(0.01)
            self.x = x
            self.loop = asyncio.get_running_loop()

        async def get(self) -> tuple[int, bool]:
            return self.x, self.loop is asyncio.get_running_loop()

    assert ray.get(Slow.remote(4).get.remote()) == (4, True)


@pytest.mark.row("3.max_concurrency")
def test_a_constructor_that_fails() -> None:
    @ray.remote
    class Broken:
        def __init__(self) -> None:
            raise OSError("no disk")

        async def get(self) -> None:
            pass

    with pytest.raises(exceptions.ActorDiedError) as caught:
        ray.get(Broken.remote().get.remote())
    assert "no disk" in str(caught.value)


@pytest.mark.row("3.max_concurrency")
def test_background_tasks_of_the_constructor() -> None:
    @ray.remote
    class Ticker:
        def __init__(self) -> None:
            self.ticks = 0
            self.task = asyncio.get_event_loop().create_task(self.run())

        async def run(self) -> None:
            while True:
                self.ticks += 1
                await asyncio.sleep(0.001)

        async def read(self) -> int:
            await asyncio.sleep(0.01)
            return self.ticks

    ticker = Ticker.remote()
    first = ray.get(ticker.read.remote())
    assert ray.get(ticker.read.remote()) > first > 0


@pytest.mark.row("3.concurrency_groups")
def test_groups_of_an_async_actor_have_their_own_limits_and_loops() -> None:
    @ray.remote(concurrency_groups={"io": 2, "compute": 1})
    class Groups:
        @ray.method(concurrency_group="io")
        async def io(self) -> str:
            await asyncio.sleep(0.01)
            return threading.current_thread().name

        @ray.method(concurrency_group="compute")
        async def block(self, seconds: float) -> str:
            time.sleep(seconds)
            return threading.current_thread().name

        async def default(self) -> str:
            return threading.current_thread().name

    groups = Groups.remote()
    busy = groups.block.remote(1.0)
    names = ray.get([groups.io.remote(), groups.default.remote()])
    ready, _ = ray.wait([busy], timeout=0)
    assert ready == []
    assert len({*names, ray.get(busy)}) == 3
    other = ray.get(groups.default.options(concurrency_group="io").remote())
    assert other == names[0]
