"""Rows of memory and of process starts: idle workers, queued tasks, actors a second."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator

from target import CPUS, Target

QUEUED = 100_000
ACTORS_MAX = 200


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


def idle_worker(target: Target) -> Iterator[tuple[str, float]]:
    """Private MB of a worker that has run a few tasks and waits for the next."""
    target.load()
    target.init()
    ray = target.ray

    @ray.remote
    def who(x: int) -> int:
        time.sleep(0.02)
        return os.getpid()

    pids: set[int] = set()
    deadline = time.monotonic() + 20
    while len(pids) < CPUS and time.monotonic() < deadline:
        pids |= set(ray.get([who.remote(i) for i in range(4 * CPUS)]))
    time.sleep(0.5)
    yield "idle_worker_mb", statistics.median(private_mb(pid) for pid in pids)
    ray.shutdown()


def queued_tasks(target: Target) -> Iterator[tuple[str, float]]:
    """Growth of the driver, in MB, by 100,000 tasks that wait behind others."""
    target.load()
    target.init()
    ray = target.ray

    @ray.remote
    def block(path: str) -> None:
        while not os.path.exists(path):
            time.sleep(0.02)

    @ray.remote
    def add(x: int, y: float) -> float:
        return x + y

    ray.get([add.remote(i, 1.0) for i in range(100)])
    with tempfile.TemporaryDirectory() as folder:
        gate = os.path.join(folder, "gate")
        blockers = [block.remote(gate) for _ in range(CPUS)]
        refs = []
        before = resident_mb()
        for i in range(QUEUED):
            refs.append(add.remote(i, 0.5))
        yield "queued_100k_mb", resident_mb() - before
        with open(gate, "w", encoding="ascii"):
            pass
        ray.get(blockers)
        if target.name == "skate":
            assert ray.get(refs[-1]) == QUEUED - 0.5
    ray.shutdown()


def actors(target: Target) -> Iterator[tuple[str, float]]:
    """Actors a second: created, called once, all alive together."""
    target.load()
    target.init()
    ray = target.ray

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
        if spent >= target.seconds / 2 or count >= ACTORS_MAX:
            break
        count = min(ACTORS_MAX, count * 4)
        time.sleep(0.2)
    yield "actors_started", rate
    ray.shutdown()
