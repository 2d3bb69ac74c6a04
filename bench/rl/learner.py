"""The learner alone, and what bounds it.

usage: learner.py [--updates N] [--threads N ...]

Prints, for each number of threads, the median time of one PPO update at RLlib's defaults (4,000
rows, 30 epochs of 128, 256 x 256), sample-epochs per second, and the floating-point rate counted
over the products alone.
"""

from __future__ import annotations

import argparse
import os
import statistics

import numpy as np

from skate import _rl

ROWS, EPOCHS, MINIBATCH, OBS, ACTIONS, HIDDEN = 4000, 30, 128, 4, 2, (256, 256)


def fragment() -> np.ndarray:
    """A fragment of random observations and rewards."""
    rng = np.random.default_rng(0)
    policy = _rl.Policy(OBS, ACTIONS, HIDDEN)
    rollout = _rl.Rollout(policy, ROWS, 1, 200)
    buffer = np.zeros(_rl.frag_bytes(ROWS, 1, OBS, ACTIONS), np.uint8)
    rollout.begin(buffer)
    for row in rng.normal(size=(ROWS, OBS)).astype(np.float32):
        rollout.act()
        rollout.step(0, row, 1.0, False, False)
    rollout.finish()
    return buffer


def flop_per_sample() -> float:
    """Multiplications and additions of the products, both nets, forward and backward."""
    total = 0.0
    for last in (ACTIONS, 1):
        dims = [OBS, *HIDDEN, last]
        for i in range(len(dims) - 1):
            # forward, gradient of the weights, gradient of the input (not of the observation)
            total += 2.0 * dims[i] * dims[i + 1] * (3 if i else 2)
    return total


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--updates", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="*",
                        default=[1, len(os.sched_getaffinity(0))])
    args = parser.parse_args()
    batch = [fragment()]
    print(f"kernels: {_rl.kernels()}")
    for threads in args.threads:
        policy = _rl.Policy(OBS, ACTIONS, HIDDEN)
        learner = _rl.Learner(policy, threads=threads, epochs=EPOCHS, minibatch=MINIBATCH)
        times = [learner.update(batch)["seconds"] for _ in range(args.updates)]
        samples = (ROWS // MINIBATCH) * MINIBATCH * EPOCHS
        median, best = statistics.median(times), min(times)
        print(f"threads {threads}: median {1e3 * median:7.1f} ms, best {1e3 * best:7.1f} ms; "
              f"{samples / median:10.0f} sample-epochs/s, "
              f"{samples * flop_per_sample() / median * 1e-9:6.1f} GFLOP/s")


if __name__ == "__main__":
    main()
