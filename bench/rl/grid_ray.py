"""A grid over PPO's learning rate on CartPole, Skate beside RLlib 2.60, one process a run.

usage: grid_ray.py [--seeds N] [--ray PYTHON]

--ray names an interpreter that has ray[rllib,tune]==2.60.0, torch and pillow; else only Skate runs.
The article's grid asks for three workers a trial, which RLlib cannot place on two cores: here each
trial samples in its own process (no workers) on both sides, so two trials run at a time. The rest
is RLlib's default on both: 4,000 steps an iteration, 30 epochs of 128, nets of 256 x 256, until the
mean reward is 200. The two take turns; seconds are from the start of the process to its end.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

RATES = [0.01, 0.001, 0.0001]
BAR = 8.0
LIMIT = 200                     # iterations of a trial


def skate_child(seed: int) -> list[dict[str, Any]]:
    """The grid on Skate."""
    from skate import tune

    analysis = tune.run(
        "PPO", stop={"episode_reward_mean": 200, "training_iteration": LIMIT}, verbose=0,
        config={"env": "CartPole-v1", "num_workers": 0, "seed": seed,
                "lr": tune.grid_search(RATES)})
    return [{"lr": t.config["lr"], "reward": t.last_result["episode_reward_mean"],
             "iterations": t.last_result["training_iteration"]} for t in analysis.trials]


def ray_child(seed: int) -> list[dict[str, Any]]:
    """The same on RLlib 2.60."""
    import ray
    from ray import tune
    from ray.rllib.algorithms.ppo import PPOConfig

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    config = (PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=0)
              .debugging(seed=seed)
              .training(lr=tune.grid_search(RATES), train_batch_size_per_learner=4000,
                        num_epochs=30, minibatch_size=128))
    name = "env_runners/episode_return_mean"
    results = tune.Tuner(
        "PPO", param_space=config.to_dict() | {"lr": tune.grid_search(RATES)},
        run_config=tune.RunConfig(stop={name: 200, "training_iteration": LIMIT}, verbose=0,
                                  storage_path=os.environ["GRID_FOLDER"])).fit()
    return [{"lr": r.config["lr"], "reward": r.metrics["env_runners"]["episode_return_mean"],
             "iterations": r.metrics["training_iteration"]} for r in results]


def run(side: str, python: str, seed: int) -> dict[str, Any]:
    """One grid of one side in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="grid-") as folder:
        started = time.perf_counter()
        done = subprocess.run(
            [python, __file__, "--child", side, "--seed", str(seed)], capture_output=True,
            text=True, check=False, cwd=folder,
            env={**os.environ, "SKATE_RESULTS_DIR": folder, "RAY_AUTH_MODE": "disabled",
                 "RAY_TMPDIR": "/tmp", "GRID_FOLDER": folder})
        seconds = time.perf_counter() - started
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            return {"seconds": seconds, "trials": json.loads(line[7:])}
    raise SystemExit(f"{side}, seed {seed}: {done.stdout[-2000:]}{done.stderr[-3000:]}")


def main() -> int:
    """Run and print; exit status 1 when the bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ray", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", choices=["skate", "ray"])
    args = parser.parse_args()
    if args.child:
        trials = skate_child(args.seed) if args.child == "skate" else ray_child(args.seed)
        print("RESULT " + json.dumps(trials), flush=True)
        return 0
    sides = {"skate": sys.executable, **({"ray": args.ray} if args.ray else {})}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for seed in range(args.seeds):
        for side, python in sides.items():
            found = run(side, python, seed)
            seconds[side].append(found["seconds"])
            print(f"{side:6} seed {seed}: {found['seconds']:7.2f} s; " + ", ".join(
                f"lr {t['lr']}: {t['reward']:.0f} in {t['iterations']}" for t in found["trials"]),
                flush=True)
    for side, all_of in seconds.items():
        print(f"{side:6} median {statistics.median(all_of):.2f} s "
              f"({min(all_of):.2f} to {max(all_of):.2f})")
    if "ray" not in seconds:
        return 0
    ratios = [r / s for s, r in zip(seconds["skate"], seconds["ray"], strict=True)]
    ratio = statistics.median(ratios)
    print(f"ratio of a pair: median {ratio:.1f} ({min(ratios):.1f} to {max(ratios):.1f}); "
          f"bar {BAR:g}: {'reached' if ratio >= BAR else 'missed'}")
    return 0 if ratio >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
