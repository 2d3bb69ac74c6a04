"""Rows of scale, on Skate alone: how much one node holds, with the time and the memory it takes.

Each function is one group and has a fresh process. Memory is the driver's for queued tasks, and
for the others the private memory of all processes of the session, less what it was before.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import load
from rows_memory import drained, private_mb, submitted
from rows_store import large_objects, small_objects
from target import Target

ACTORS = 2000
ARGUMENTS = 10_000
RETURNS = 3000
DEPTH = 1000
REFS = 10_000


def session_mb() -> float:
    """Private memory of this process and all below it."""
    total = 0.0
    for pid in load.descendants(load.processes(), os.getpid()):
        try:
            total += private_mb(pid)
        except OSError:
            continue
    return total


def begin(target: Target) -> float:
    """Start a session and one worker; the memory then."""
    load.become_reaper()
    ray = target.load()
    target.init()

    @ray.remote
    def nothing() -> None:
        return None

    ray.get(nothing.remote())
    return session_mb()


def measured(
    target: Target, name: str, before: float, work: Callable[[], Any]
) -> Iterator[tuple[str, float]]:
    """The time of this work, and the memory while what it returns is alive; ends the session."""
    began = time.perf_counter()
    kept = work()
    yield f"scale_{name}_s", time.perf_counter() - began
    yield f"scale_{name}_mb", session_mb() - before
    del kept
    target.ray.shutdown()


def queue(target: Target, count: int) -> Iterator[tuple[str, float]]:
    """That many tasks wait behind others."""
    target.load()
    target.init()
    gc.freeze()
    refs, spent, grown, gate = submitted(target, count)
    yield f"scale_queue_{count}_s", spent
    yield f"scale_queue_{count}_mb", grown
    done, spent = drained(target, refs, gate, 600.0)
    assert done == count
    yield f"scale_queue_{count}_drain_s", spent
    target.ray.shutdown()


def actors(target: Target) -> Iterator[tuple[str, float]]:
    """Python actors, all alive together, each called."""
    before = begin(target)
    ray = target.ray

    @ray.remote
    class Cell:
        def __init__(self, x: int) -> None:
            self.x = x

        def get(self, more: int) -> int:
            return self.x + more

    began = time.perf_counter()
    cells = [Cell.remote(i) for i in range(ACTORS)]
    assert ray.get([c.get.remote(1) for c in cells]) == list(range(1, ACTORS + 1))
    yield "scale_actors_s", time.perf_counter() - began
    assert ray.get([c.get.remote(2) for c in cells]) == list(range(2, ACTORS + 2))
    yield "scale_actors_mb", session_mb() - before
    ray.shutdown()


def arguments(target: Target) -> Iterator[tuple[str, float]]:
    """One task with ten thousand refs as its arguments."""
    before = begin(target)
    ray = target.ray

    @ray.remote
    def total(*numbers: int) -> int:
        return sum(numbers)

    refs = [ray.put(i) for i in range(ARGUMENTS)]

    def work() -> None:
        assert ray.get(total.remote(*refs)) == ARGUMENTS * (ARGUMENTS - 1) // 2

    yield from measured(target, "arguments", before, work)


def returns(target: Target) -> Iterator[tuple[str, float]]:
    """One task with three thousand results."""
    before = begin(target)
    ray = target.ray

    @ray.remote(num_returns=RETURNS)
    def numbers(first: int) -> list[int]:
        return list(range(first, first + RETURNS))

    def work() -> Any:
        refs = numbers.remote(7)
        assert ray.get(refs) == list(range(7, RETURNS + 7))
        return refs

    yield from measured(target, "returns", before, work)


def recursion(target: Target) -> Iterator[tuple[str, float]]:
    """Tasks that wait for tasks, all alive when the deepest one runs."""
    before = begin(target)
    ray = target.ray

    @ray.remote
    def deep(depth: int) -> int:
        return 1 + ray.get(deep.remote(depth - 1)) if depth else 0

    def work() -> None:
        assert ray.get(deep.remote(DEPTH)) == DEPTH

    yield from measured(target, "recursion", before, work)


def one_get(target: Target) -> Iterator[tuple[str, float]]:
    """Ten thousand refs, results of tasks, in one get."""
    before = begin(target)
    ray = target.ray

    @ray.remote
    def add(x: int, y: float) -> float:
        return x + y

    refs = [add.remote(i, 0.5) for i in range(REFS)]
    ray.wait(refs, num_returns=REFS)

    def work() -> None:
        assert sum(ray.get(refs)) == REFS * REFS / 2

    yield from measured(target, "get", before, work)


GROUPS: dict[str, Callable[[Target], Iterator[tuple[str, Any]]]] = {
    **{
        f"scale_queue_{n}": (lambda target, n=n: queue(target, n))
        for n in (1_000, 10_000, 100_000, 1_000_000)
    },
    "scale_actors": actors,
    "scale_arguments": arguments,
    "scale_returns": returns,
    "scale_recursion": recursion,
    "scale_get": one_get,
    "scale_small_objects": small_objects,
    "scale_large_objects": large_objects,
}
