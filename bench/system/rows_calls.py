"""Rows of calls and objects: tasks, actor calls, put, get, wait. Values differ on each call."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from target import Target

BATCH = 1000
PUT_BYTES = 100 * 1000 * 1000


def tasks(target: Target) -> Iterator[tuple[str, float]]:
    """Tasks one at a time, a thousand at a time without and with arguments, and in a chain."""
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

    def sync() -> int:
        for _ in range(10):
            i = next(numbers)
            assert ray.get(add.remote(i, 0.5)) == i + 0.5
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

    def chain() -> int:
        first = next(numbers)
        ref: Any = first
        for i in range(100):
            ref = add.remote(ref, i)
        assert ray.get(ref) == first + 4950
        return 100

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
    yield "tasks_async", target.rate(without_arguments)
    yield "tasks_async_args", target.rate(with_arguments)
    yield "tasks_chain_100", target.rate(chain)
    yield "wait_1000", target.rate(wait_one_by_one)


def actor_calls(target: Target) -> Iterator[tuple[str, float]]:
    """Calls of actors that live already: one at a time, pipelined to one, pipelined to four."""
    ray = target.ray

    @ray.remote
    class Counter:
        def __init__(self) -> None:
            self.value = 0

        def add(self, x: int) -> int:
            self.value += x
            return self.value

    numbers = itertools.count(1)
    actors = [Counter.remote() for _ in range(4)]
    ray.get([a.add.remote(0) for a in actors])

    def sync() -> int:
        for _ in range(10):
            ray.get(actors[0].add.remote(next(numbers)))
        return 10

    def one_to_one() -> int:
        out = ray.get([actors[0].add.remote(next(numbers)) for _ in range(BATCH)])
        assert out == sorted(out) and len(set(out)) == BATCH
        return BATCH

    def one_to_four() -> int:
        refs = [a.add.remote(next(numbers)) for _ in range(BATCH // 4) for a in actors]
        out = ray.get(refs)
        assert out[::4] == sorted(out[::4])
        return BATCH

    yield "actor_sync", target.rate(sync)
    yield "actor_async", target.rate(one_to_one)
    yield "actor_async_1_to_4", target.rate(one_to_four)


def objects(target: Target) -> Iterator[tuple[str, float]]:
    """put and get of small values, put of 100 MB."""
    ray = target.ray
    numbers = itertools.count()

    def put_small() -> int:
        kept = [ray.put((next(numbers), "text")) for _ in range(BATCH)]
        return len(kept)

    yield "put_small", target.rate(put_small)

    spent, done = 0.0, 0
    while spent < target.seconds:
        first = next(numbers)
        refs = [ray.put((first, i)) for i in range(BATCH)]
        began = time.perf_counter()
        for i, ref in enumerate(refs):
            assert ray.get(ref) == (first, i)
        spent += time.perf_counter() - began
        done += BATCH
    yield "get_small", done / spent

    data = np.zeros(PUT_BYTES, dtype=np.uint8)

    def put_large() -> int:
        data[:8] = np.frombuffer(next(numbers).to_bytes(8, "little"), np.uint8)
        ref = ray.put(data)
        del ref
        return PUT_BYTES

    for _ in range(2):
        put_large()
    yield "put_100mb", target.rate(put_large) / 1e9


def calls(target: Target) -> Iterator[tuple[str, float]]:
    """All rows of this file in one session."""
    target.load()
    target.init()
    yield from tasks(target)
    yield from actor_calls(target)
    yield from objects(target)
    target.ray.shutdown()
