"""The replay buffer alone: prioritised samples with updates, uniform draws, adds.

usage: replay.py [--capacity N] [--batch N] [--seconds S]

Prints rows a second of each. "sample+update" draws a batch by priority with importance weights
and writes new priorities for it. With cpprb installed (https://pypi.org/project/cpprb), its
prioritised buffer does the same beside it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from skate import _rl


def rate(call: Callable[[], object], rows: int, seconds: float) -> float:
    """Rows a second of a call that handles `rows`, in the best of three stretches."""
    best = 0.0
    for _ in range(3):
        calls, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds / 3:
            call()
            calls += 1
        best = max(best, rows * calls / (time.perf_counter() - start))
    return best


def ours(capacity: int, batch: int, seconds: float) -> None:
    """Skate's buffers."""
    rng = np.random.default_rng(0)
    columns = [("obs", 16), ("action", 4), ("reward", 4), ("new_obs", 16), ("done", 4)]
    rows, weights = np.zeros(batch, np.uint32), np.zeros(batch, np.float32)
    fresh = [rng.exponential(size=batch).astype(np.float32) + 1e-3 for _ in range(16)]
    data = {name: np.zeros(1024 * n, np.uint8) for name, n in columns}
    out = {name: np.zeros(batch * n, np.uint8) for name, n in columns}
    turn = 0

    def sample_update() -> None:
        nonlocal turn
        turn += 1
        prioritised.draw(0.4, rows, weights)
        prioritised.update(rows, fresh[turn % 16])

    def gather() -> None:
        uniform.draw(0.0, rows)
        for name, _ in columns:
            uniform.gather(name, rows, out[name])

    prioritised = _rl.Replay(capacity, columns, 0.6)
    uniform = _rl.Replay(capacity, columns)
    for _ in range(0, capacity, 1024):
        for buffer in (prioritised, uniform):
            buffer.add(data, 1024)
    for _ in range(2 * capacity // batch):  # priorities of all sizes everywhere
        sample_update()
    for name, call, n in (
        ("prioritised sample+update", sample_update, batch),
        ("uniform draws", lambda: uniform.draw(0.0, rows), batch),
        ("uniform draws, 5 columns gathered", gather, batch),
        ("uniform adds of 1,024", lambda: uniform.add(data, 1024), 1024),
        ("prioritised adds of 1,024", lambda: prioritised.add(data, 1024), 1024),
    ):
        print(f"skate  {name:35} {rate(call, n, seconds) / 1e6:8.2f} M rows/s")


def theirs(capacity: int, batch: int, seconds: float) -> None:
    """cpprb's prioritised buffer, if it is installed."""
    try:
        from cpprb import PrioritizedReplayBuffer
    except ImportError:
        print("cpprb is not installed")
        return
    rng = np.random.default_rng(0)
    shape = {"obs": {"shape": 4}, "act": {}, "rew": {}, "next_obs": {"shape": 4}, "done": {}}
    buffer = PrioritizedReplayBuffer(capacity, shape, alpha=0.6)
    n = 1024
    for _ in range(0, capacity, n):
        buffer.add(obs=np.zeros((n, 4)), act=np.zeros(n), rew=np.zeros(n),
                   next_obs=np.zeros((n, 4)), done=np.zeros(n))
    fresh = rng.exponential(size=batch) + 1e-3

    def sample_update() -> None:
        got = buffer.sample(batch, beta=0.4)
        buffer.update_priorities(got["indexes"], fresh)

    print(f"cpprb  {'prioritised sample+update':35} "
          f"{rate(sample_update, batch, seconds) / 1e6:8.2f} M rows/s (with its gather)")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--capacity", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=1.5)
    args = parser.parse_args()
    print(f"capacity {args.capacity}, batches of {args.batch}")
    ours(args.capacity, args.batch, args.seconds)
    theirs(args.capacity, args.batch, args.seconds)


if __name__ == "__main__":
    main()
