"""PPO at Stable-Baselines3's defaults on CartPole-v1 to a mean of 475: Skate beside SB3.

usage: PYTHONPATH=.venv/lib/python3.11/site-packages PYTHON bench/rl/ppo_sb3.py [--seeds N]

PYTHON has torch, stable_baselines3 and Gymnasium; without them only Skate's side runs. Both sides:
one environment, 2,048 steps an update, minibatches of 64, 10 epochs, nets of 64 x 64, one thread; a
run is over when the last 100 episodes' mean is 475 after an update. Seconds of the training loop
alone (no imports, no start), wall and CPU. Wall times of a shared machine say little: look at CPU.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from typing import Any, NamedTuple

SOLVED, LIMIT = 475.0, 400_000
SAME = {"num_workers": 0, "rollout_fragment_length": 2048, "train_batch_size": 2048,
        "sgd_minibatch_size": 64, "num_sgd_iter": 10, "lr": 3e-4, "gamma": 0.99, "lambda": 0.95,
        "clip_param": 0.2, "vf_clip_param": 1e6, "vf_loss_coeff": 0.5, "kl_coeff": 0.0,
        "entropy_coeff": 0.0, "grad_clip": 0.5, "model": {"fcnet_hiddens": [64, 64]}}


class Run(NamedTuple):
    """One run to the end."""

    steps: int
    wall: float
    cpu: float
    reward: float


def skate_run(seed: int) -> Run:
    """PPO of Skate."""
    from skate.rllib.agents.ppo import PPOTrainer

    trainer = PPOTrainer(env="CartPole-v1", config={**SAME, "seed": seed})
    wall, cpu = time.perf_counter(), time.process_time()
    while True:
        result = trainer.train()
        steps, reward = result["timesteps_total"], result["episode_reward_mean"]
        if (reward >= SOLVED and result["episodes_total"] >= 100) or steps >= LIMIT:
            break
    run = Run(steps, time.perf_counter() - wall, time.process_time() - cpu, reward)
    trainer.stop()
    return run


def sb3_run(seed: int) -> Run:
    """PPO of Stable-Baselines3, its defaults."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback

    torch.set_num_threads(1)

    class Stop(BaseCallback):
        """Looks at the last 100 episodes after each rollout."""

        reward = 0.0

        def _on_step(self) -> bool:
            return True

        def _on_rollout_start(self) -> None:
            last = [e["r"] for e in self.model.ep_info_buffer or []]
            if last:
                self.reward = statistics.fmean(last)
            if len(last) == 100 and self.reward >= SOLVED:
                raise StopIteration

    model = PPO("MlpPolicy", "CartPole-v1", seed=seed, device="cpu")
    stop = Stop()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        model.learn(LIMIT, callback=stop)
    except StopIteration:
        pass
    return Run(model.num_timesteps, time.perf_counter() - wall, time.process_time() - cpu,
               stop.reward)


def show(name: str, seed: int, run: Run) -> None:
    """A line of the table."""
    print(f"{name:<6} seed {seed}: {run.steps:>7} steps, {run.wall:7.2f} s, {run.cpu:7.2f} CPU-s, "
          f"mean {run.reward:.1f}", flush=True)


def middle(runs: list[Run]) -> dict[str, float]:
    """Medians."""
    fields: dict[str, Any] = {key: [getattr(r, key) for r in runs] for key in Run._fields}
    return {key: statistics.median(values) for key, values in fields.items()}


def main() -> int:
    """Run both; exit status 1 where a seed of Skate's is not solved or the bars are missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", choices=("skate", "sb3"))
    args = parser.parse_args()
    sides = {"skate": skate_run, "sb3": sb3_run}
    runs: dict[str, list[Run]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SKATE_RESULTS_DIR"] = folder
        for name, play in sides.items():
            if args.only not in (None, name):
                continue
            try:
                for seed in range(args.seeds):
                    runs.setdefault(name, []).append(play(seed))
                    show(name, seed, runs[name][-1])
            except ModuleNotFoundError as error:
                print(f"{name}: {error}", file=sys.stderr)
    good = all(r.reward >= SOLVED for r in runs.get("skate", []))
    if len(runs) == 2:
        ours, theirs = middle(runs["skate"]), middle(runs["sb3"])
        cpu, steps = theirs["cpu"] / ours["cpu"], ours["steps"] / theirs["steps"]
        print(f"medians: {theirs['wall'] / ours['wall']:.0f} x the speed in seconds, {cpu:.0f} x "
              f"in CPU-seconds, {steps:.2f} x the steps")
        good = good and cpu >= 50
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
