"""Rows of calls: tasks, actor calls. Values differ on each call; many rows run with a dict, too."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

from target import Target, record

BATCH = 1000
LEAVES = 128  # a tree of 2 * LEAVES - 1 tasks
ACTORS = 4


def tasks(target: Target) -> Iterator[tuple[str, float]]:
    """One at a time, a thousand at a time, in a chain, in a tree, waited for one by one."""
    target.load()
    target.init()
    ray = target.ray
    numbers = itertools.count()

    @ray.remote
    def add(x: int, y: float) -> float:
        return x + y

    class State:
        counter = 0

    @ray.remote
    def count() -> int:
        State.counter += 1
        return State.counter

    @ray.remote
    def number_of(fields: dict[str, Any]) -> int:
        return fields["number"]

    def sync() -> int:
        for _ in range(10):
            i = next(numbers)
            assert ray.get(add.remote(i, 0.5)) == i + 0.5
        return 10

    def sync_dict() -> int:
        for _ in range(10):
            i = next(numbers)
            assert ray.get(number_of.remote(record(i))) == i
        return 10

    def without_arguments() -> int:
        out = ray.get([count.remote() for _ in range(BATCH)])
        assert len(set(out)) > BATCH // 16
        return BATCH

    def with_arguments() -> int:
        first = next(numbers)
        out = ray.get([add.remote(first, float(i)) for i in range(BATCH)])
        assert out[0] == first and out[-1] == first + BATCH - 1
        return BATCH

    def with_dict() -> int:
        first = next(numbers)
        out = ray.get([number_of.remote(record(first + i)) for i in range(BATCH)])
        assert out == list(range(first, first + BATCH))
        return BATCH

    def chain() -> int:
        first = next(numbers)
        ref: Any = first
        for i in range(100):
            ref = add.remote(ref, i)
        assert ray.get(ref) == first + 4950
        return 100

    def tree() -> int:
        first = next(numbers)
        level = [add.remote(first, i) for i in range(LEAVES)]
        while len(level) > 1:
            level = [add.remote(a, b) for a, b in zip(level[::2], level[1::2], strict=True)]
        assert ray.get(level[0]) == LEAVES * first + LEAVES * (LEAVES - 1) // 2
        return 2 * LEAVES - 1

    def wait_one_by_one() -> int:
        first = next(numbers)
        refs = [add.remote(first, i) for i in range(BATCH)]
        done = 0
        while refs:
            ready, refs = ray.wait(refs)
            done += len(ready)
        assert done == BATCH
        return BATCH

    yield "tasks_sync", target.rate(sync)
    yield "tasks_sync_dict", target.rate(sync_dict)
    yield "tasks_async", target.rate(without_arguments)
    yield "tasks_async_args", target.rate(with_arguments)
    yield "tasks_async_dict", target.rate(with_dict)
    yield "tasks_chain_100", target.rate(chain)
    yield "tasks_tree_255", target.rate(tree)
    yield "wait_1000", target.rate(wait_one_by_one)
    ray.shutdown()


def actor_classes(ray: Any) -> tuple[Any, Any, Any]:
    """(an actor that adds, an async one, one that calls others)."""

    @ray.remote
    class Counter:
        def __init__(self) -> None:
            self.value = 0

        def add(self, x: int) -> int:
            self.value += x
            return self.value

        def add_from(self, fields: dict[str, Any]) -> int:
            self.value += fields["number"]
            return self.value

    @ray.remote
    class AsyncCounter:
        async def add(self, x: int) -> int:
            return x + 1

        async def add_from(self, fields: dict[str, Any]) -> int:
            return fields["number"] + 1

    @ray.remote
    class Caller:
        def __init__(self, targets: list[Any]) -> None:
            self.targets = targets

        def burst(self, first: int, count: int, with_dict: bool) -> int:
            numbers = range(first, first + count)
            if with_dict:
                refs = [t.add_from.remote(record(i)) for i in numbers for t in self.targets]
            else:
                refs = [t.add.remote(i) for i in numbers for t in self.targets]
            return len(ray.get(refs))

    return Counter, AsyncCounter, Caller


def rising(out: list[int]) -> int:
    """The answers of one counter: in order, none twice. How many."""
    assert out == sorted(out) and len(set(out)) == len(out)
    return len(out)


def counter_calls(target: Target, actors: list[Any]) -> Iterator[tuple[str, float]]:
    """One caller: one at a time, pipelined to one actor, pipelined to four."""
    ray, one = target.ray, actors[0]
    numbers = itertools.count(1)

    def sync() -> int:
        for _ in range(10):
            ray.get(one.add.remote(next(numbers)))
        return 10

    def sync_dict() -> int:
        for _ in range(10):
            ray.get(one.add_from.remote(record(next(numbers))))
        return 10

    def one_to_one() -> int:
        return rising(ray.get([one.add.remote(next(numbers)) for _ in range(BATCH)]))

    def one_to_one_dict() -> int:
        refs = [one.add_from.remote(record(next(numbers))) for _ in range(BATCH)]
        return rising(ray.get(refs))

    def one_to_many() -> int:
        refs = [a.add.remote(next(numbers)) for _ in range(BATCH // ACTORS) for a in actors]
        rising(ray.get(refs)[::ACTORS])
        return BATCH

    def one_to_many_dict() -> int:
        refs = [
            a.add_from.remote(record(next(numbers))) for _ in range(BATCH // ACTORS) for a in actors
        ]
        rising(ray.get(refs)[::ACTORS])
        return BATCH

    yield "actor_sync", target.rate(sync)
    yield "actor_sync_dict", target.rate(sync_dict)
    yield "actor_async", target.rate(one_to_one)
    yield "actor_async_dict", target.rate(one_to_one_dict)
    yield "actor_async_1_to_4", target.rate(one_to_many)
    yield "actor_async_1_to_4_dict", target.rate(one_to_many_dict)


def actor_calls(target: Target) -> Iterator[tuple[str, float]]:
    """Calls of actors that live already: from the driver, from four actors, of an async actor."""
    target.load()
    target.init()
    ray = target.ray
    counter, async_counter, caller = actor_classes(ray)
    numbers = itertools.count(1)
    actors = [counter.remote() for _ in range(ACTORS)]
    ray.get([a.add.remote(0) for a in actors])
    yield from counter_calls(target, actors)

    callers = [caller.remote(actors) for _ in range(ACTORS)]

    def many_to_many(with_dict: bool) -> int:
        count = BATCH // ACTORS // ACTORS * 2
        refs = [c.burst.remote(next(numbers), count, with_dict) for c in callers]
        return sum(ray.get(refs))

    yield "actor_n_to_n", target.rate(lambda: many_to_many(False))
    yield "actor_n_to_n_dict", target.rate(lambda: many_to_many(True))

    concurrent = async_counter.remote()

    def async_actor() -> int:
        first = next(numbers)
        out = ray.get([concurrent.add.remote(first + i) for i in range(BATCH)])
        assert out == list(range(first + 1, first + 1 + BATCH))
        return BATCH

    def async_actor_dict() -> int:
        first = next(numbers)
        out = ray.get([concurrent.add_from.remote(record(first + i)) for i in range(BATCH)])
        assert out == list(range(first + 1, first + 1 + BATCH))
        return BATCH

    yield "async_actor", target.rate(async_actor)
    yield "async_actor_dict", target.rate(async_actor_dict)
    ray.shutdown()


def actors_started(target: Target) -> Iterator[tuple[str, float]]:
    """Actors a second: created, called once, all alive together."""
    target.load()
    target.init()
    ray = target.ray
    most = 200

    @ray.remote
    class Cell:
        def __init__(self, x: int) -> None:
            self.x = x

        def get(self) -> int:
            return self.x

    ray.get(Cell.remote(-1).get.remote())
    count, rate = 4, 0.0
    while True:
        began = time.perf_counter()
        cells = [Cell.remote(i) for i in range(count)]
        assert ray.get([c.get.remote() for c in cells]) == list(range(count))
        spent = time.perf_counter() - began
        rate = count / spent
        for cell in cells:
            ray.kill(cell)
        del cells
        if spent >= target.seconds / 2 or count >= most:
            break
        count = min(most, count * 4)
        time.sleep(0.2)
    yield "actors_started", rate
    ray.shutdown()
