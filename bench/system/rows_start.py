"""Rows that are a whole session: from import to the first result, and the shutdown."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from target import Target


def start_and_stop(target: Target) -> Iterator[tuple[str, float]]:
    """`import_to_first_result` and `shutdown`, in seconds; the interpreter has just started."""
    number = random.randrange(1 << 30)
    began = time.perf_counter()
    ray = target.load()
    target.init()

    @ray.remote
    def first(x: int) -> int:
        return x + 1

    assert ray.get(first.remote(number)) == number + 1
    yield "import_to_first_result", time.perf_counter() - began

    ray.get([first.remote(i) for i in range(20)])
    began = time.perf_counter()
    ray.shutdown()
    yield "shutdown", time.perf_counter() - began
