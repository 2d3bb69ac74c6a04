"""Program 1: a task graph that shares one large array without copying it.

    driver ── put ──> [ array in the object store ] <── read in place ── every task
       │
       └─ analyse ──┬─ block_moments  0 ─┐
                    ├─ block_moments  1 ─┴─ merge ─┐
                    ├─ block_moments  2 ─┐         ├─ merge ──> mean, variance, min, max
                    └─ block_moments  3 ─┴─ merge ─┘

The driver puts an array into the object store once. `analyse` is a remote task that calls other
remote tasks: it fans out one task for each block of the array, then combines their results two by
two in a tree whose edges are refs, so that no process waits in the middle of the graph. Each task
reports where the array lies in its memory; the program checks that it is the same file at the same
offset everywhere (one copy on the machine), and that the answer equals numpy's own.

    python examples/task_graph.py --help
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import numpy as np

import skate as ray


def where_in_memory(array: np.ndarray) -> tuple[str, int, int]:
    """The file behind the array's memory: (device, inode, offset); an inode of 0 is private memory.

    Two processes that report the same triple look at the same physical bytes.
    """
    address = array.__array_interface__["data"][0]
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
        for line in maps:
            span, _, offset, device, inode = line.split(maxsplit=5)[:5]
            start, end = (int(part, 16) for part in span.split("-"))
            if start <= address < end:
                return device, int(inode), int(offset, 16) + address - start
    raise RuntimeError(f"no mapping holds address {address:#x}")


def private_megabytes() -> float:
    """Memory of this process that it shares with nobody: a copy of the array would show here."""
    with open("/proc/self/smaps_rollup", encoding="ascii") as rollup:
        for line in rollup:
            if line.startswith("Anonymous:"):
                return int(line.split()[1]) / 1024
    raise RuntimeError("no Anonymous line in /proc/self/smaps_rollup")


@ray.remote
def block_moments(array: np.ndarray, index: int, blocks: int, seconds: float) -> dict[str, Any]:
    """Count, mean, sum of squared deviations, min and max of one block of the array.

    `array` was given as a ref: it arrives as a read-only view of the object store.
    """
    deadline = time.monotonic() + seconds
    bounds = np.linspace(0, len(array), blocks + 1).astype(int)
    block = array[bounds[index] : bounds[index + 1]]
    while True:
        mean = float(block.mean())
        squares = float(np.dot(block, block)) - len(block) * mean * mean
        moments = {
            "count": len(block),
            "mean": mean,
            "m2": squares,
            "min": float(block.min()),
            "max": float(block.max()),
        }
        if time.monotonic() >= deadline:
            break
    moments["seen"] = [
        {
            "pid": os.getpid(),
            "where": where_in_memory(array),
            "writable": bool(array.flags.writeable),
            "private_mb": private_megabytes(),
        }
    ]
    return moments


@ray.remote
def merge(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    """Moments of two blocks taken together (the pairwise update of mean and variance)."""
    count = left["count"] + right["count"]
    delta = right["mean"] - left["mean"]
    return {
        "count": count,
        "mean": left["mean"] + delta * right["count"] / count,
        "m2": left["m2"] + right["m2"] + delta * delta * left["count"] * right["count"] / count,
        "min": min(left["min"], right["min"]),
        "max": max(left["max"], right["max"]),
        "seen": left["seen"] + right["seen"],
    }


@ray.remote
def analyse(array_in_list: list[Any], blocks: int, seconds: float) -> dict[str, Any]:
    """A task that calls tasks. A ref inside a list stays a ref: here it is only handed on."""
    [array] = array_in_list
    leaves = [block_moments.remote(array, i, blocks, seconds) for i in range(blocks)]

    level = list(leaves)
    while len(level) > 1:
        odd = level[len(level) // 2 * 2 :]
        level = [merge.remote(*level[i : i + 2]) for i in range(0, len(level) - 1, 2)] + odd

    waiting = leaves
    while waiting:
        done, waiting = ray.wait(waiting, num_returns=min(len(waiting), max(1, blocks // 4)))
        print(f"{blocks - len(waiting)} of {blocks} blocks done", flush=True)
    return ray.get(level[0])


def check(result: dict[str, Any], array: np.ndarray) -> None:
    """Stop the program if the graph's answer differs from numpy's, or if anybody made a copy."""
    variance = result["m2"] / result["count"]
    assert result["count"] == len(array)
    assert np.isclose(result["mean"], array.mean(), rtol=1e-9, atol=1e-9)
    assert np.isclose(variance, array.var(), rtol=1e-6)
    assert result["min"] == array.min() and result["max"] == array.max()

    shared = where_in_memory(array)
    assert shared[1] != 0, "the driver's view is private memory"
    for seen in result["seen"]:
        assert not seen["writable"], "a task got a writable view of shared memory"
        assert tuple(seen["where"]) == shared, f"{seen['where']} is not {shared}: a copy was made"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=200, help="size of the shared array")
    parser.add_argument("--blocks", type=int, default=16, help="tasks that the array is cut into")
    parser.add_argument("--step-seconds", type=float, default=0.0, help="least length of a task")
    parser.add_argument("--num-cpus", type=int, default=2, help="CPUs of the local cluster")
    parser.add_argument("--seed", type=int, default=1, help="seed of the data")
    args = parser.parse_args()
    if args.megabytes < 1 or args.blocks < 1:
        parser.error("--megabytes and --blocks must be at least 1")

    started = time.perf_counter()
    ray.init(num_cpus=args.num_cpus)
    print(f"[1/4] cluster of {args.num_cpus} CPUs up in {time.perf_counter() - started:.3f} s")

    generator = np.random.default_rng(args.seed)
    data = generator.standard_normal(args.megabytes * 1024 * 1024 // 8)
    began = time.perf_counter()
    ref = ray.put(data)
    seconds = time.perf_counter() - began
    speed = data.nbytes / seconds / 1e9
    print(f"[2/4] {args.megabytes} MB put once in {seconds:.3f} s ({speed:.1f} GB/s)")
    del data

    began = time.perf_counter()
    result = ray.get(analyse.remote([ref], args.blocks, args.step_seconds))
    graph_seconds = time.perf_counter() - began
    tasks = 2 * args.blocks
    print(f"[3/4] graph of {tasks} tasks done in {graph_seconds:.3f} s")

    check(result, ray.get(ref))
    workers = {seen["pid"] for seen in result["seen"]}
    private = max(seen["private_mb"] for seen in result["seen"])
    print("[4/4] checked: equals numpy, one copy of the array, read-only in every task")

    print()
    print(f"  array        {args.megabytes} MB, mean {result['mean']:+.6f}, "
          f"variance {result['m2'] / result['count']:.6f}")
    print(f"  range        {result['min']:.4f} .. {result['max']:.4f}")
    print(f"  shared by    {len(workers)} workers, each with at most {private:.0f} MB of its own")
    print(f"  total        {time.perf_counter() - started:.2f} s")
    ray.shutdown()


if __name__ == "__main__":
    main()
