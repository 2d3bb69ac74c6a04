"""Rows of what waiting costs: idle processes, a stack that does nothing, queued tasks."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from target import CPUS, Target

QUEUED = 100_000
DRAIN_S = 8.0  # Ray takes a minute for all of them
SETTLE_S, IDLE_S = 2.0, 5.0
STEP = 1000


def private_mb(pid: int) -> float:
    """Memory that only this process has: what one more of it costs the machine."""
    total = 0
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
        for line in rollup:
            if line.startswith("Private_"):
                total += int(line.split()[1])
    return total / 1024


def resident_mb() -> float:
    """Resident memory of this process, shared pages included."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS line")


def cpu_seconds(pids: set[int]) -> float:
    """Time on a CPU of all living threads of these processes, to the nanosecond."""
    total = 0
    for pid in pids:
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as stat:
                    total += int(stat.read().split()[0])
        except OSError:
            continue
    return total / 1e9


def idle(target: Target) -> Iterator[tuple[str, float]]:
    """Private MB of a worker and of an actor that wait; CPU of the whole session meanwhile."""
    import load

    load.become_reaper()  # the daemons stay below us
    target.load()
    target.init()
    ray = target.ray

    @ray.remote
    def who(x: int) -> int:
        time.sleep(0.02)
        return os.getpid()

    @ray.remote
    class Cell:
        def __init__(self, x: int) -> None:
            self.x = x

        def pid(self, more: int) -> int:
            self.x += more
            return os.getpid()

    pids: set[int] = set()
    deadline = time.monotonic() + 20
    while len(pids) < CPUS and time.monotonic() < deadline:
        pids |= set(ray.get([who.remote(i) for i in range(4 * CPUS)]))
    time.sleep(0.5)
    yield "idle_worker_mb", statistics.median(private_mb(pid) for pid in pids)

    cells = [Cell.remote(i) for i in range(3)]
    for i in range(20):
        actors = ray.get([cell.pid.remote(i) for cell in cells])
    time.sleep(SETTLE_S)
    yield "idle_actor_mb", statistics.median(private_mb(pid) for pid in actors)

    before = cpu_seconds(load.descendants(load.processes(), os.getpid()))
    began = time.perf_counter()
    time.sleep(IDLE_S)
    spent = time.perf_counter() - began
    after = cpu_seconds(load.descendants(load.processes(), os.getpid()))
    yield "idle_cpu", 100 * max(after - before, 0.0) / spent
    ray.shutdown()


def submitted(target: Target, count: int) -> tuple[list[Any], float, float, str]:
    """(refs, seconds, MB of the driver, gate) of tasks that wait behind blocked workers."""
    ray = target.ray

    @ray.remote
    def block(path: str) -> None:
        while not os.path.exists(path):
            time.sleep(0.02)

    @ray.remote
    def add(x: int, y: float) -> float:
        return x + y

    ray.get([add.remote(i, 1.0) for i in range(100)])
    gate = os.path.join(tempfile.mkdtemp(dir=target.temp_dir), "gate")
    for _ in range(CPUS):
        block.remote(gate)
    refs: list[Any] = []
    keep = refs.append
    before = resident_mb()
    began = time.perf_counter()
    for i in range(count):
        keep(add.remote(i, 0.5))
    spent = time.perf_counter() - began
    return refs, spent, resident_mb() - before, gate


def drained(target: Target, refs: list[Any], gate: str, limit_s: float) -> tuple[int, float]:
    """(results read, seconds) from the moment that the gate opens, until all or the limit."""
    began = time.perf_counter()
    with open(gate, "w", encoding="ascii"):
        pass
    done, spent = 0, 0.0
    while done < len(refs) and spent < limit_s:
        out = target.ray.get(refs[done : done + STEP])
        assert out[0] == done + 0.5 and out[-1] == done + len(out) - 0.5
        done += len(out)
        spent = time.perf_counter() - began
    return done, spent


def queued_tasks(target: Target) -> Iterator[tuple[str, float]]:
    """100,000 tasks that wait behind others: how fast, how much memory, how fast they drain."""
    target.load()
    target.init()
    refs, spent, grown, gate = submitted(target, QUEUED)
    yield "submit_100k", QUEUED / spent
    yield "queued_100k_mb", grown
    done, spent = drained(target, refs, gate, DRAIN_S)
    yield "drain_100k", done / spent
    target.ray.shutdown()
