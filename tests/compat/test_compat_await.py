"""Awaiting refs: in a driver's loop, in tasks, as futures; cancellation, errors, large values."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from compat_target import CPUS, ON_RAY, exceptions, ray

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.row("1.object_ref")]


@ray.remote
def echo(x: Any) -> Any:
    return x


@ray.remote
def later(x: Any, seconds: float) -> Any:
    time.sleep(seconds)
    return x


@ray.remote
def fail() -> None:
    raise KeyError("no")


@ray.remote(max_retries=0)
def crash() -> None:
    os._exit(1)


@ray.remote
class Store:
    def echo(self, x: Any) -> Any:
        return x

    def stop(self) -> None:
        os._exit(1)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def test_await_in_the_drivers_loop() -> None:
    async def main() -> None:
        assert await echo.remote(1) == 1
        assert await ray.put([2]) == [2]
        assert await later.remote(3, 0.05) == 3
        store = Store.remote()
        assert await store.echo.remote(4) == 4
        ref = echo.remote(5)
        assert [await ref, await ref] == [5, 5]

    asyncio.run(main())
    asyncio.run(main())  # another loop


def test_gather_and_wait() -> None:
    async def main() -> None:
        assert await asyncio.gather(*[echo.remote(i) for i in range(50)]) == list(range(50))
        store = Store.remote()
        slow = store.sleep.remote(60)
        tasks = [asyncio.ensure_future(slow), asyncio.ensure_future(echo.remote("fast"))]
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result() for task in done] == ["fast"]
        for task in rest:
            task.cancel()
        ray.kill(store)
        first = next(asyncio.as_completed([echo.remote(7).as_future()]))
        assert await first == 7

    asyncio.run(main())


def test_errors_are_raised() -> None:
    async def main() -> None:
        with pytest.raises(KeyError):
            await fail.remote()
        with pytest.raises(exceptions.WorkerCrashedError):
            await crash.remote()
        store = Store.remote()
        with pytest.raises(exceptions.RayActorError):
            await store.stop.remote()
        found = await asyncio.gather(echo.remote(1), fail.remote(), return_exceptions=True)
        assert found[0] == 1 and isinstance(found[1], KeyError)

    asyncio.run(main())


def test_a_timeout_only_ends_the_waiting() -> None:
    async def main() -> None:
        ref = later.remote("late", 0.5)
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(ref.as_future(), 0.01)
        assert await ref == "late"

    asyncio.run(main())


def test_large_values() -> None:
    async def main() -> None:
        blob = bytes(3_000_000)
        assert await echo.remote(blob) == blob
        assert (await ray.put(blob)) == blob

    asyncio.run(main())


def test_a_ref_of_another_process() -> None:
    @ray.remote
    class Maker:
        def make(self) -> list[Any]:
            return [later.remote("lent", 0.2), ray.put(bytes(500_000)), fail.remote()]

    async def main() -> None:
        maker = Maker.remote()
        small, large, bad = await maker.make.remote()
        assert await small == "lent"
        assert await large == bytes(500_000)
        with pytest.raises(KeyError):
            await bad

    asyncio.run(main())


def test_futures() -> None:
    future = echo.remote(1).future()
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(timeout=60) == 1
    assert isinstance(fail.remote().future().exception(timeout=60), KeyError)
    futures = [later.remote(i, 0.01).future() for i in range(20)]
    assert {f.result(60) for f in concurrent.futures.as_completed(futures, 60)} == set(range(20))
    called = threading.Event()
    future.add_done_callback(lambda _: called.set())
    assert called.wait(60)

    async def main() -> None:
        future = echo.remote(2).as_future()
        assert asyncio.isfuture(future)
        assert await future == 2

    asyncio.run(main())


def test_a_callback_on_completion(eventually: Callable[..., Any]) -> None:
    seen: list[Any] = []
    echo.remote(1)._on_completed(seen.append)
    eventually(lambda: seen == [1])
    fail.remote()._on_completed(seen.append)
    eventually(lambda: len(seen) == 2)
    assert isinstance(seen[1], exceptions.RayTaskError)
    assert isinstance(seen[1].cause, KeyError)


def test_await_in_a_task_and_in_a_thread() -> None:
    @ray.remote
    def gathers(n: int) -> list[int]:
        async def main() -> list[int]:
            return list(await asyncio.gather(*[echo.remote(i) for i in range(n)]))

        return asyncio.run(main())

    assert ray.get(gathers.remote(10)) == list(range(10))
    out: list[Any] = []

    async def main() -> None:
        out.extend(await asyncio.gather(*[echo.remote(i) for i in range(10)]))

    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(out) == sorted([*range(10)] * 3)


def test_awaiting_tasks_lend_their_cpus() -> None:
    if ON_RAY:
        return  # there it waits for ever: only a blocking get() lends

    @ray.remote
    def parent(i: int) -> int:
        async def main() -> int:
            return await echo.remote(i) + await echo.remote(i)

        return asyncio.run(main())

    # As many parents as CPUs, twice: the workers are used again after it.
    for _ in range(2):
        assert ray.get([parent.remote(i) for i in range(CPUS)]) == [2 * i for i in range(CPUS)]


def test_get_goes_on_beside_awaits() -> None:
    """A thread that blocks in get() and a loop that awaits share the process's input."""
    waiting = [later.remote(i, 0.2) for i in range(2)]
    out: list[Any] = []
    thread = threading.Thread(target=lambda: out.extend(ray.get(waiting)))
    thread.start()

    async def main() -> None:
        store = Store.remote()
        for i in range(20):
            assert await store.echo.remote(i) == i

    asyncio.run(main())
    thread.join(60)
    assert out == [0, 1]


def test_thousands_of_awaits() -> None:
    async def main() -> None:
        store = Store.remote()
        n = 3000
        assert await asyncio.gather(*[store.echo.remote(i) for i in range(n)]) == list(range(n))

    asyncio.run(main())
