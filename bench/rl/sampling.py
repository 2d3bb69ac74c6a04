"""Steps per second of a Python environment while a policy acts, beside the environment alone.

usage: sampling.py [--env NAME] [--seconds S] [--lanes N]

One process, seconds of CPU. `raw` is the loop of a program without a policy: env.step() with drawn
actions, reset() at each end. The others sample the same class by the workers' own code, the native
twin switched off: PPO's fused policy (256 x 256, RLlib's default, and 64 x 64) on one environment
and on --lanes of them, the tape's A2C, and PPO over a torch module of 64 x 64.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import gymnasium

FRAGMENT, ROUNDS = 2048, 9


def rate(step: Callable[[], int], seconds: float) -> float:
    """Steps per second of CPU; step() tells its steps."""
    started, steps = time.process_time(), 0
    while time.process_time() - started < seconds:
        steps += step()
    return steps / (time.process_time() - started)


def raw(name: str) -> Callable[[], int]:
    """FRAGMENT steps of the environment alone."""
    env = gymnasium.make(name)
    env.reset(seed=1)
    actions = [env.action_space.sample() for _ in range(FRAGMENT)]

    def run() -> int:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        return FRAGMENT

    return run


def trainer_of(name: str, lanes: int, algorithm: str, model: dict[str, Any]) -> Any:
    """A trainer whose own process samples Gymnasium's class."""
    from skate.rllib.agents.registry import get_trainer_class

    size = FRAGMENT if lanes == 1 else FRAGMENT // lanes
    return get_trainer_class(algorithm)(config={
        "env": name, "num_workers": 0, "native_env": False, "num_envs_per_worker": lanes,
        "rollout_fragment_length": size, "train_batch_size": size * lanes, "model": model})


def sampled(trainer: Any) -> Callable[[], int]:
    """One fragment of it."""
    plan = trainer.plan
    if hasattr(plan, "sample_batch"):
        return lambda: len(plan.sample_batch()[0]["rewards"])
    weights = trainer.get_policy().flat_weights()

    def run() -> int:
        trainer.workers.sample(weights, 0)
        return FRAGMENT

    return run


def torch_model() -> Any:
    """A class of two small nets."""
    from torch import nn, set_num_threads

    set_num_threads(1)

    class Small(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()

            def net(n: int) -> nn.Sequential:
                return nn.Sequential(nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(),
                                     nn.Linear(64, n))

            self.pi, self.vf = net(outputs), net(1)

        def forward(self, x: Any) -> Any:
            return self.pi(x), self.vf(x)

    return Small


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--lanes", type=int, default=16)
    args = parser.parse_args()
    alone = raw(args.env)
    print(f"{'':36} {'steps/s':>9} {'of raw':>8}   medians of {ROUNDS}, in turn with raw")
    small: dict[str, Any] = {"fcnet_hiddens": [64, 64]}
    rows: list[tuple[str, str, int, dict[str, Any]]] = [
        ("PPO fused 64 x 64, 1 env", "PPO", 1, small),
        (f"PPO fused 64 x 64, {args.lanes} envs", "PPO", args.lanes, small),
        ("PPO fused 256 x 256, 1 env", "PPO", 1, {}),
        (f"PPO fused 256 x 256, {args.lanes} envs", "PPO", args.lanes, {}),
        (f"A2C on the tape 64 x 64, {args.lanes} envs", "A2C", args.lanes, small)]
    try:
        rows.append((f"PPO, a torch module, {args.lanes} envs", "PPO", args.lanes,
                     {"custom_model": torch_model()}))
    except ModuleNotFoundError:
        print("torch is not installed: its row is left out")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SKATE_RESULTS_DIR"] = folder
        for label, algorithm, lanes, model in rows:
            trainer = trainer_of(args.env, lanes, algorithm, model)
            step = sampled(trainer)
            step()
            pairs = [(rate(step, args.seconds / ROUNDS), rate(alone, args.seconds / ROUNDS))
                     for _ in range(ROUNDS)]
            trainer.stop()
            shares = sorted(100 * ours / bare for ours, bare in pairs)
            print(f"{label:36} {statistics.median(ours for ours, _ in pairs):9.0f} "
                  f"{statistics.median(shares):6.1f} %   ({shares[0]:.1f} to {shares[-1]:.1f}); "
                  f"raw {statistics.median(bare for _, bare in pairs):.0f}", flush=True)


if __name__ == "__main__":
    main()
