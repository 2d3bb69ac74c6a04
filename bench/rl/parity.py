"""Steps to a threshold, and wall time, beside Stable-Baselines3 at its own defaults.

usage: parity.py [--algo dqn] [--seeds N] [--steps N] [--threshold R] [--sb3 PYTHON]

--sb3 names an interpreter that has stable_baselines3; without it only Skate runs. Each seed is a
process of its own with one thread. A run is `steps` steps of CartPole-v1; "reached" is the step at
which the mean of the last 20 training episodes first came to the threshold. Both sides have SB3's
hyperparameters: nets, start values, exploration, buffer, target updates.
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

WINDOW = 20


def skate_dqn(seed: int, steps: int) -> list[float]:
    """Lengths of the training episodes of Skate's DQN at SB3's defaults."""
    from skate.rllib.agents.dqn import DQNTrainer

    trainer = DQNTrainer(config={
        "env": "CartPole-v1", "seed": seed, "lr": 1e-4, "gamma": 0.99, "train_batch_size": 32,
        "buffer_size": 1_000_000, "learning_starts": 100, "rollout_fragment_length": 4,
        "target_network_update_freq": 10_000, "grad_clip": 10, "prioritized_replay": False,
        "double_q": False, "dueling": False, "hiddens": [], "torch_init": True,
        "model": {"fcnet_hiddens": [64, 64], "fcnet_activation": "relu"},
        "exploration_config": {"type": "EpsilonGreedy", "initial_epsilon": 1.0,
                               "final_epsilon": 0.05, "epsilon_timesteps": steps // 10},
        "timesteps_per_iteration": 1000, "metrics_smoothing_episodes": 1000})
    return episodes(trainer, steps)


def skate_a2c(seed: int, steps: int) -> list[float]:
    """Lengths of the training episodes of Skate's A2C at SB3's defaults."""
    from skate.rllib.agents.a3c import A2CTrainer

    trainer = A2CTrainer(config={
        "env": "CartPole-v1", "seed": seed, "num_workers": 0, "lr": 7e-4, "gamma": 0.99,
        "rollout_fragment_length": 5, "train_batch_size": 5, "lambda": 1.0, "grad_clip": 0.5,
        "vf_loss_coeff": 0.5, "entropy_coeff": 0.0, "opt_type": "rmsprop", "epsilon": 1e-5,
        "loss_mean": True, "ortho_init": True, "model": {"fcnet_hiddens": [64, 64]},
        "timesteps_per_iteration": 1000, "min_iter_time_s": 0,
        "metrics_smoothing_episodes": 1000})
    return episodes(trainer, steps)


def sb3_a2c(seed: int, steps: int) -> list[float]:
    """The same of Stable-Baselines3."""
    import gymnasium
    import torch
    from stable_baselines3 import A2C
    from stable_baselines3.common.monitor import Monitor

    torch.set_num_threads(1)
    env = Monitor(gymnasium.make("CartPole-v1"))
    A2C("MlpPolicy", env, seed=seed, device="cpu").learn(steps)
    return [float(n) for n in env.get_episode_lengths()]


def episodes(trainer: Any, steps: int) -> list[float]:
    """Trains for so many steps; the lengths of all episodes."""
    lengths: list[float] = []
    while True:
        result = trainer.train()
        new = result["episodes_this_iter"]
        lengths += result["hist_stats"]["episode_lengths"][-new:] if new else []
        if result["timesteps_total"] >= steps:
            break
    trainer.stop()
    return lengths


def sb3_dqn(seed: int, steps: int) -> list[float]:
    """The same of Stable-Baselines3."""
    import gymnasium
    import torch
    from stable_baselines3 import DQN
    from stable_baselines3.common.monitor import Monitor

    torch.set_num_threads(1)
    env = Monitor(gymnasium.make("CartPole-v1"))
    DQN("MlpPolicy", env, seed=seed, device="cpu").learn(steps)
    return [float(n) for n in env.get_episode_lengths()]


RUNS: dict[str, dict[str, Any]] = {"dqn": {"skate": skate_dqn, "sb3": sb3_dqn},
                                  "a2c": {"skate": skate_a2c, "sb3": sb3_a2c}}


def reached(lengths: list[float], threshold: float) -> int | None:
    """The step at which the mean of the last WINDOW episodes first was `threshold`."""
    total = 0.0
    for i, n in enumerate(lengths):
        total += n
        if i + 1 >= WINDOW and sum(lengths[i + 1 - WINDOW:i + 1]) / WINDOW >= threshold:
            return int(total)
    return None


def child(args: argparse.Namespace) -> None:
    """One seed of one side; prints a line of JSON."""
    started = time.perf_counter(), time.process_time()
    lengths = RUNS[args.algo][args.child](args.seed, args.steps)
    print("RESULT " + json.dumps({
        "reached": reached(lengths, args.threshold), "episodes": len(lengths),
        "last": statistics.mean(lengths[-WINDOW:]), "wall": time.perf_counter() - started[0],
        "cpu": time.process_time() - started[1]}), flush=True)


def one(side: str, python: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One seed in a process of its own."""
    command = [python, __file__, "--child", side, "--seed", str(seed), "--algo", args.algo,
               "--steps", str(args.steps), "--threshold", str(args.threshold)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={
            **os.environ, "SKATE_RESULTS_DIR": folder, "OMP_NUM_THREADS": "1"})
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            found: dict[str, Any] = json.loads(line[7:])
            return found
    raise SystemExit(f"{side}, seed {seed}: {done.stderr[-2000:]}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--algo", default="dqn", choices=sorted(RUNS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=60_000)
    parser.add_argument("--threshold", type=float, default=100.0)
    parser.add_argument("--sb3", default="")
    parser.add_argument("--child", choices=["skate", "sb3"])
    args = parser.parse_args()
    if args.child:
        child(args)
        return
    sides = {"skate": sys.executable, **({"sb3": args.sb3} if args.sb3 else {})}
    print(f"{args.algo}, CartPole-v1, {args.steps} steps, threshold {args.threshold:g}")
    for side, python in sides.items():
        runs = [one(side, python, seed, args) for seed in range(args.seeds)]
        for seed, r in enumerate(runs):
            print(f"{side:6} seed {seed}: reached {r['reached']}, last {WINDOW} episodes "
                  f"{r['last']:6.1f}, {r['wall']:6.2f} s wall, {r['cpu']:6.2f} s CPU", flush=True)
        steps = sorted(r["reached"] if r["reached"] is not None else args.steps for r in runs)
        quartiles = statistics.quantiles(steps, n=4) if len(steps) > 1 else [steps[0]] * 3
        print(f"{side:6} steps to {args.threshold:g}: median {statistics.median(steps):.0f}, "
              f"quartiles {quartiles[0]:.0f} to {quartiles[2]:.0f}, reached by "
              f"{sum(r['reached'] is not None for r in runs)} of {len(runs)}; median "
              f"{statistics.median(r['cpu'] for r in runs):.2f} s CPU, "
              f"{statistics.median(r['wall'] for r in runs):.2f} s wall")


if __name__ == "__main__":
    main()
