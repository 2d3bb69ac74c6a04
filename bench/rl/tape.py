"""One update of a net (forward, backward, Adam) on the tape, and by torch where it is installed.

usage: tape.py [--updates N]

Prints microseconds an update at the median of seven rounds, on one thread, for nets of two hidden
layers (tanh) and several batches, and the floating-point rate of the tape counted over products.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np

from skate import _rl

OBS, OUT, TANH, ROUNDS = 8, 4, 2, 7


def data(hidden: int, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observations, targets and weights to start from."""
    rng = np.random.default_rng(0)
    n = OBS * hidden + hidden + hidden * hidden + hidden + hidden * OUT + OUT
    return (rng.normal(size=(batch, OBS)).astype(np.float32),
            rng.normal(size=(batch, OUT)).astype(np.float32),
            (rng.normal(size=n) * 0.05).astype(np.float32))


def ours(hidden: int, batch: int, updates: int) -> float:
    """Seconds an update on the tape."""
    x, y, weights = data(hidden, batch)
    losses = np.zeros(updates, np.float32)
    return statistics.median(
        _rl.net_fit((OBS, hidden, hidden, OUT), TANH, x, y, weights, losses, 1e-4) / updates
        for _ in range(ROUNDS))


def by_torch(torch: Any, hidden: int, batch: int, updates: int) -> float:
    """Seconds an update as users of torch write it."""
    x, y, _ = (torch.tensor(a) for a in data(hidden, batch))
    nn = torch.nn
    net = nn.Sequential(nn.Linear(OBS, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(),
                        nn.Linear(hidden, OUT))
    adam = torch.optim.Adam(net.parameters(), lr=1e-4)
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(updates):
            loss = ((net(x) - y) ** 2).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        times.append((time.perf_counter() - start) / updates)
    return statistics.median(times)


def flop(hidden: int, batch: int) -> float:
    """Multiplications and additions of the products of one update."""
    return 2.0 * batch * (2 * OBS * hidden + 3 * hidden * hidden + 3 * hidden * OUT)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--updates", type=int, default=200)
    args = parser.parse_args()
    try:
        import torch

        torch.set_num_threads(1)
    except ImportError:
        torch = None
    print(f"kernels: {_rl.kernels()}, torch: {getattr(torch, '__version__', 'not installed')}")
    print("hidden  batch   tape us   GFLOP/s   torch us   ratio")
    for hidden in (64, 256):
        for batch in (1, 32, 64, 128, 256):
            mine = ours(hidden, batch, args.updates)
            line = (f"{hidden:6d} {batch:6d} {mine * 1e6:9.1f} "
                    f"{flop(hidden, batch) / mine * 1e-9:9.1f}")
            if torch is not None:
                other = by_torch(torch, hidden, batch, args.updates)
                line += f" {other * 1e6:10.1f} {other / mine:7.1f}"
            print(line)


if __name__ == "__main__":
    main()
