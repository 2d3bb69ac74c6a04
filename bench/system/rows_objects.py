"""Rows of objects: put, get. Values differ on each call."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from target import Target, record

BATCH = 1000
PUT_BYTES = 100 * 1000 * 1000
REFS_INSIDE = 10_000


def get_rate(target: Target, make: Callable[[int], Any]) -> float:
    """Gets a second of objects that were put just before; only the gets are timed."""
    ray, numbers = target.ray, itertools.count()
    spent, done = 0.0, 0
    while spent < target.seconds:
        values = [make(next(numbers)) for _ in range(BATCH)]
        refs = [ray.put(value) for value in values]
        began = time.perf_counter()
        for ref, value in zip(refs, values, strict=True):
            assert ray.get(ref) == value
        spent += time.perf_counter() - began
        done += BATCH
    return done / spent


def objects(target: Target) -> Iterator[tuple[str, float]]:
    """put and get of small values, of dicts, of an object full of refs, of 100 MB."""
    target.load()
    target.init()
    ray = target.ray
    numbers = itertools.count()

    def put_small() -> int:
        return len([ray.put((next(numbers), "text")) for _ in range(BATCH)])

    def put_dict() -> int:
        return len([ray.put(record(next(numbers))) for _ in range(BATCH)])

    yield "put_small", target.rate(put_small)
    yield "put_small_dict", target.rate(put_dict)
    yield "get_small", get_rate(target, lambda i: (i, "text"))
    yield "get_small_dict", get_rate(target, record)

    @ray.remote
    def many(first: int) -> list[Any]:
        return [ray.put(first + i) for i in range(REFS_INSIDE)]

    holders = [many.remote(next(numbers))]

    def get_many() -> int:
        assert len(ray.get(holders[0])) == REFS_INSIDE
        return 1

    yield "get_10k_refs", target.rate(get_many)
    holders.clear()

    data = np.zeros(PUT_BYTES, dtype=np.uint8)

    def put_large() -> int:
        data[:8] = np.frombuffer(next(numbers).to_bytes(8, "little"), np.uint8)
        ref = ray.put(data)
        del ref
        return PUT_BYTES

    for _ in range(2):
        put_large()
    yield "put_100mb", target.rate(put_large) / 1e9
    ray.shutdown()
