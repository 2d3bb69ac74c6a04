"""Steps per second of CPU time of the environments in C beside Gymnasium's.

usage: envs.py [NAME ...] [--seconds S]     default: all, 0.3 s a cell, the best of 5 parts

Columns: `C one` one environment stepped in C with random actions, resets included; `C scalar`
64 of them one after the other, without vector instructions; `C many` the best of 64, 512 and
4,096 lanes; then from Python: `env` a step() of one, `vector` a step() of 1,024 lanes, both beside
Gymnasium's own (its vector entry point where there is one, else SyncVectorEnv of 64).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import gymnasium
import numpy as np

from skate import _rl
from skate.rllib.env.native import NAMES, NativeEnv, NativeVectorEnv

BARS = {"scalar": 40e6, "many": 200e6}  # of CartPole-v1


def best(call: Callable[[int], int], seconds: float) -> float:
    """Steps per second of the best of five parts; call(n) makes n rounds, returns the steps."""
    n = 1
    while True:
        start = time.process_time()
        call(n)
        spent = time.process_time() - start
        if spent > seconds / 20:
            break
        n *= 4
    n = max(1, int(n * seconds / 5 / spent))
    rates = []
    for _ in range(5):
        start = time.process_time()
        steps = call(n)
        rates.append(steps / (time.process_time() - start))
    return max(rates)


def in_c(name: str, lanes: int, seconds: float, config: str | None = None) -> float:
    """Random actions, all in C."""
    engine = _rl.Env(name, lanes, 1, config, -1, 1)
    return best(lambda n: engine.random(n, 1)[0], seconds)


def python_one(env, seconds: float) -> float:
    """step() of one environment."""
    env.reset(seed=1)
    actions = [env.action_space.sample() for _ in range(64)]

    def rounds(n: int) -> int:
        for _ in range(n):
            for action in actions:
                _, _, terminated, truncated, _ = env.step(action)
                if terminated or truncated:
                    env.reset()
        return n * 64

    return best(rounds, seconds)


def python_vector(envs, seconds: float) -> float:
    """step() of a vector."""
    envs.reset(seed=1)
    actions = envs.action_space.sample()

    def rounds(n: int) -> int:
        for _ in range(n):
            envs.step(actions)
        return n * envs.num_envs

    return best(rounds, seconds)


def gymnasium_vector(name: str):
    """Gymnasium's fastest of this name."""
    spec = gymnasium.spec(name)
    if spec.vector_entry_point:
        return gymnasium.make_vec(name, 1024, vectorization_mode="vector_entry_point")
    return gymnasium.make_vec(name, 64, vectorization_mode="sync")


def row(name: str, seconds: float) -> dict[str, float]:
    """All columns of one name."""
    found = {
        "C one": in_c(name, 1, seconds),
        "C many": max(in_c(name, lanes, seconds) for lanes in (64, 512, 4096)),
        "env": python_one(NativeEnv(name), seconds),
        "vector": python_vector(NativeVectorEnv(name, 1024, copy=False), seconds),
    }
    if name.startswith("CartPole"):
        found["C scalar"] = in_c(name, 64, seconds, '{"kernel": "scalar"}')
    if name in gymnasium.registry:
        found["gym env"] = python_one(gymnasium.make(name), seconds)
        found["gym vector"] = python_vector(gymnasium_vector(name), seconds)
    return found


def main() -> None:
    """Print the table, and CartPole's bars."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seconds", type=float, default=0.3)
    options = parser.parse_args()
    columns = ["C one", "C scalar", "C many", "env", "gym env", "vector", "gym vector"]
    print("million steps/s".ljust(26), *(c.rjust(10) for c in columns))
    found: dict[str, float] = {}
    for name in options.names or NAMES:
        np.random.seed(1)
        cells = row(name, options.seconds)
        shown = [f"{cells[c] / 1e6:.3g}" if c in cells else "" for c in columns]
        print(name.ljust(26), *(s.rjust(10) for s in shown), flush=True)
        if name == "CartPole-v1":
            found = {"scalar": cells["C scalar"], "many": cells["C many"]}
    for what, rate in found.items():
        state = "reached" if rate >= BARS[what] else "missed"
        wanted = BARS[what] / 1e6
        print(f"bar: CartPole-v1 {what}: {rate / 1e6:.0f} M/s of {wanted:.0f} M/s: {state}")


if __name__ == "__main__":
    main()
