"""Rows of the object store, on Skate alone: very many small objects, large ones.

Part of the rows of scale: each function is one group and has a fresh process.
"""

from __future__ import annotations

import gc
import itertools
import mmap
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import load
import numpy as np
from target import Target

SMALL, SMALL_BYTES = 1_000_000, 100
BATCH, BATCHES = 1000, 20
LARGE, TIMES = 100 * 1000 * 1000, 15
GETS = 300
HUGE, SEALS = 1000 * 1000 * 1000, 5
PAGE = 4096


def share_bytes() -> int:
    """Memory of this process and all below it; of what several share, each its part."""
    total = 0
    for pid in load.descendants(load.processes(), os.getpid()):
        try:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
                total += sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
        except OSError:
            continue
    return 1024 * total


def small_objects(target: Target) -> Iterator[tuple[str, float]]:
    """1,000,000 live objects of 100 bytes: memory beside their own, the rate of the last puts."""
    load.become_reaper()
    ray = target.load()
    target.init()
    warm = [ray.put(bytes(SMALL_BYTES)) for _ in range(2 * BATCH)]
    refs: list[Any] = [None] * SMALL
    payload = bytearray(SMALL_BYTES)
    gc.collect()
    before, spent = share_bytes(), []
    for first in range(0, SMALL, BATCH):
        began = time.perf_counter()
        for i in range(first, first + BATCH):
            payload[:4] = i.to_bytes(4, "little")
            refs[i] = ray.put(bytes(payload))
        spent.append(time.perf_counter() - began)
    yield "scale_small_rate", SMALL / sum(spent)
    early, late = (statistics.median(part) for part in (spent[1 : 1 + BATCHES], spent[-BATCHES:]))
    yield "scale_small_flat", 100 * early / late
    yield "scale_small_bytes", (share_bytes() - before) / SMALL - SMALL_BYTES
    for i in range(0, SMALL, SMALL // 100):
        assert ray.get(refs[i])[:4] == i.to_bytes(4, "little")
    del refs, warm
    ray.shutdown()


def timed(work: Callable[[], Any]) -> float:
    """Seconds of one call; what it returns goes afterwards."""
    began = time.perf_counter()
    kept = work()
    spent = time.perf_counter() - began
    del kept
    return spent


def large_objects(target: Target) -> Iterator[tuple[str, float]]:
    """100 MB put beside a memcpy into warm shared memory; what a view of it costs to get."""
    ray = target.load()
    target.init()
    numbers = itertools.count(1)
    data = np.ones(LARGE, np.uint8)
    shared = np.frombuffer(mmap.mmap(-1, LARGE), np.uint8)
    np.copyto(shared, data)

    def put() -> Any:
        data[:8] = np.frombuffer(next(numbers).to_bytes(8, "little"), np.uint8)
        return ray.put(data)

    yield "scale_first_put", LARGE / timed(put) / 1e9

    @ray.remote
    def read(refs: list[Any]) -> float:
        began = time.perf_counter()
        view = ray.get(refs[0])
        assert view[::PAGE].sum() > 0
        return time.perf_counter() - began

    ref = put()
    yield "scale_first_read", LARGE / ray.get(read.remote([ref])) / 1e9
    puts, copies = [], []
    for _ in range(TIMES):
        copies.append(timed(lambda: np.copyto(shared, data)))
        puts.append(timed(put))
    yield "scale_put_share", 100 * statistics.median(copies) / statistics.median(puts)

    small = ray.put(next(numbers))
    views, values = [], []
    for _ in range(GETS):
        values.append(timed(lambda: ray.get(small)))
        views.append(timed(lambda: ray.get(ref)))
    yield "scale_view_us", 1e6 * (statistics.median(views) - statistics.median(values))

    beyond = []
    for _ in range(SEALS):
        began = time.perf_counter()
        buffer = ray.create_buffer(HUGE)
        made = time.perf_counter()
        np.frombuffer(buffer, np.uint8)[:] = 1
        filled = time.perf_counter()
        sealed = ray.put(buffer)
        beyond.append(made - began + time.perf_counter() - filled)
        assert ray.get(sealed)[HUGE - 1] == 1
        del buffer, sealed
    yield "scale_seal_ms", 1000 * statistics.median(beyond)
    ray.shutdown()
