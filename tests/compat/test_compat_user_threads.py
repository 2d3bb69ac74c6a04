"""Threads and forks of user code, in drivers, tasks and actors."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from compat_target import ray

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.row("14.threads")]


@ray.remote
def echo(x: Any) -> Any:
    return x


@ray.remote
class Counter:
    def __init__(self) -> None:
        self.value = 0

    def add(self, n: int) -> int:
        self.value += n
        return self.value


def use_everything(seed: int) -> int:
    """Puts, tasks, waits and gets, all mixed; the sum of what came back."""
    total = 0
    for i in range(10):
        ref = ray.put([seed, i])
        refs = [echo.remote(ref), echo.remote(i), ref]
        ready, rest = ray.wait(refs, num_returns=2, timeout=60)
        assert len(ready) == 2 and len(rest) == 1
        pair, number, same = ray.get(refs)
        assert pair == same == [seed, i]
        total += number
    return total


def test_threads_of_the_driver() -> None:
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(use_everything, range(16))) == [45] * 16


def test_threads_of_a_task() -> None:
    @ray.remote
    def many() -> list[int]:
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(use_everything, range(4)))

    assert ray.get(many.remote()) == [45] * 4


def test_threads_share_an_actor() -> None:
    counter = Counter.remote()
    with ThreadPoolExecutor(6) as pool:
        for _ in pool.map(lambda _: ray.get([counter.add.remote(1) for _ in range(50)]), range(6)):
            pass
    assert ray.get(counter.add.remote(0)) == 300


def test_a_thread_makes_and_another_gets() -> None:
    refs: list[Any] = []
    thread = threading.Thread(target=lambda: refs.extend(echo.remote(i) for i in range(20)))
    thread.start()
    thread.join()
    assert ray.get(refs) == list(range(20))
    counters: list[Any] = []
    thread = threading.Thread(target=lambda: counters.append(Counter.remote()))
    thread.start()
    thread.join()
    assert ray.get(counters[0].add.remote(2)) == 2


def test_background_threads_of_an_actor_go_on() -> None:
    @ray.remote
    class Ticker:
        def __init__(self) -> None:
            self.ticks = 0
            self.seen: list[int] = []
            threading.Thread(target=self.run, daemon=True).start()

        def run(self) -> None:
            while True:
                self.seen.append(ray.get(echo.remote(self.ticks)))
                self.ticks += 1
                time.sleep(0.001)

        def read(self) -> list[int]:
            return list(self.seen)

    ticker = Ticker.remote()
    deadline = time.monotonic() + 60
    while len(ray.get(ticker.read.remote())) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    seen = ray.get(ticker.read.remote())
    assert seen == list(range(len(seen)))
    ray.kill(ticker)


def _square(x: int) -> int:
    return x * x


def test_forks_of_an_actor_that_do_not_call_ray() -> None:
    @ray.remote
    class Loader:
        """As data loaders do: forked processes that send back what they made."""

        def load(self, workers: int) -> list[int]:
            context = multiprocessing.get_context("fork")
            queue = context.SimpleQueue()

            def produce(i: int) -> None:
                queue.put(_square(i))

            children = [context.Process(target=produce, args=(i,)) for i in range(workers)]
            for child in children:
                child.start()
            out = sorted(queue.get() for _ in children)
            for child in children:
                child.join()
            assert [child.exitcode for child in children] == [0] * workers
            return out

        def echo(self, x: Any) -> Any:
            return ray.get(echo.remote(x))

    loader = Loader.remote()
    for _ in range(2):
        assert ray.get(loader.load.remote(4)) == [0, 1, 4, 9]
        assert ray.get(loader.echo.remote("still here")) == "still here"


def test_a_fork_of_the_driver_that_does_not_call_ray() -> None:
    ref = ray.put(5)
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert ray.get([ref, echo.remote(6)]) == [5, 6]


def test_subprocesses_of_a_task() -> None:
    @ray.remote
    def run() -> str:
        import subprocess

        return subprocess.run(["echo", "hello"], capture_output=True, text=True).stdout

    assert ray.get(run.remote()) == "hello\n"


def test_a_blocking_get_in_a_coroutine() -> None:
    @ray.remote
    class Blocks:
        async def block(self, x: int) -> int:
            return ray.get(echo.remote(x))

        async def beside(self) -> bool:
            await asyncio.sleep(0)
            return True

    blocks = Blocks.remote()
    assert ray.get([blocks.block.remote(i) for i in range(3)]) == [0, 1, 2]
    assert ray.get(blocks.beside.remote())
