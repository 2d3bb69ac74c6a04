"""Steps of the environment and seconds until an algorithm solves a task: Skate's engine beside
Stable-Baselines3, both at Stable-Baselines3's hyperparameters, one thread each. A third side,
`fast`, is Skate with nets of 64 x 64, which are enough for this task.

    PYTHONPATH=.../site-packages python bench/rl/parity_continuous.py --algo sac --seeds 2

needs a Python with torch, stable_baselines3 and Gymnasium besides skate. A run is over when the
mean of the last `window` episodes is at `solved`. The engine is driven from here, step by step, so
that both do the same: one environment, one update a step after learning_starts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Case(NamedTuple):
    """One algorithm on one environment."""

    engine: str                 # the algorithm in C
    options: dict[str, Any]     # of the engine, as Stable-Baselines3 has them
    sb3: str                    # class in stable_baselines3
    sb3_options: dict[str, Any]
    env: str = "Pendulum-v1"
    solved: float = -200.0
    window: int = 10
    limit: int = 20_000         # steps, then the run counts as not solved
    batch: int = 256
    starts: int = 100
    noise: float = 0.0          # of a deterministic policy, in [-1, 1]


ADAM = {"adam_epsilon": 1e-8, "torch_init": True}
TD3_NETS = {"actor_hiddens": [400, 300], "critic_hiddens": [400, 300]}
SAC_NETS = {"actor_hiddens": [256, 256], "critic_hiddens": [256, 256]}
FAST = {"actor_hiddens": [64, 64], "critic_hiddens": [64, 64]}
CASES: dict[str, Case] = {
    "sac": Case("SAC", {**ADAM, **SAC_NETS, "lr": 1e-3, "tau": 0.005, "use_huber": False,
                        "log_std_min": -20.0}, "SAC", {"learning_rate": 1e-3}),
    "td3": Case("DDPG", {**ADAM, **TD3_NETS, "actor_lr": 1e-3, "critic_lr": 1e-3, "tau": 0.005,
                         "l2_reg": 0.0, "twin_q": True, "policy_delay": 2, "delay_targets": True,
                         "smooth_target_policy": True},
                "TD3", {"learning_rate": 1e-3}, noise=0.1),
    "ddpg": Case("DDPG", {**ADAM, **TD3_NETS, "actor_lr": 1e-3, "critic_lr": 1e-3, "tau": 0.005,
                          "l2_reg": 0.0}, "DDPG", {"learning_rate": 1e-3}, noise=0.1),
}


class Run(NamedTuple):
    """How one run ended; steps None: not solved."""

    steps: int | None
    seconds: float              # of the wall
    cpu: float                  # seconds of this process


class Clock:
    """Time since it was made."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def run(self, steps: int | None) -> Run:
        """The end of a run."""
        return Run(steps, time.perf_counter() - self.wall, time.process_time() - self.cpu)


class Watch:
    """Rewards of the last episodes."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.rewards: list[float] = []

    def solved(self, reward: float) -> bool:
        """Whether it is enough after an episode of this reward."""
        self.rewards = [*self.rewards, reward][-self.case.window:]
        return (len(self.rewards) == self.case.window
                and statistics.fmean(self.rewards) >= self.case.solved)


def run_skate(case: Case, seed: int) -> Run:
    """The engine's algorithm and replay, driven from here."""
    import gymnasium

    from skate import _rl

    env = gymnasium.make(case.env)
    obs_size, act_size = env.observation_space.shape[0], env.action_space.shape[0]
    low, high = env.action_space.low, env.action_space.high
    far = [3e38] * obs_size
    algo = _rl.Algo(case.engine, {"kind": "box", "size": obs_size, "shape": [obs_size],
                                  "low": [-x for x in far], "high": far},
                    {"kind": "box", "size": act_size, "shape": [act_size],
                     "low": [-1.0] * act_size, "high": [1.0] * act_size},
                    {"gamma": 0.99, "normalize_actions": True, **case.options}, seed)
    widths = {"obs": obs_size, "new_obs": obs_size, "actions": act_size, "rewards": 1,
              "terminateds": 1}
    replay = _rl.Replay(case.limit, [(name, 4 * width) for name, width in widths.items()],
                        seed=seed)
    rows = np.empty(case.batch, np.uint32)
    batch = {name: np.empty((case.batch, width), np.float32) for name, width in widths.items()}
    row = {name: np.empty((1, width), np.float32) for name, width in widths.items()}
    random = np.random.default_rng(seed)
    watch, total, clock = Watch(case), 0.0, Clock()
    obs, _ = env.reset(seed=seed)
    for step in range(case.limit):
        row["obs"][0] = obs
        if step < case.starts:
            row["actions"][:] = random.uniform(-1, 1, (1, act_size))
        else:
            algo.act(1, {"obs": row["obs"], "actions": row["actions"]}, explore=True,
                     noise=case.noise)
        action = low + (row["actions"][0] + 1) / 2 * (high - low)
        obs, reward, terminated, truncated, _ = env.step(action.astype(np.float32))
        row["new_obs"][0], row["rewards"][0], row["terminateds"][0] = obs, reward, terminated
        replay.add(row, 1)
        total += float(reward)
        if terminated or truncated:
            obs, _ = env.reset()
            if watch.solved(total):
                return clock.run(step + 1)
            total = 0.0
        if step >= case.starts:
            replay.draw(0.0, rows)
            for name, array in batch.items():
                replay.gather(name, rows, array)
            algo.learn(case.batch, 1, {name: array[:, 0] if widths[name] == 1 and name != "actions"
                                       else array for name, array in batch.items()})
    return clock.run(None)


def run_fast(case: Case, seed: int) -> Run:
    """Skate with small nets."""
    return run_skate(case._replace(options={**case.options, **FAST}), seed)


def run_sb3(case: Case, seed: int) -> Run:
    """Stable-Baselines3's own loop."""
    import stable_baselines3
    import torch
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.noise import NormalActionNoise

    torch.set_num_threads(1)
    watch = Watch(case)

    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            ended = [info["episode"]["r"] for info in self.locals["infos"] if "episode" in info]
            return not any([watch.solved(reward) for reward in ended])

    options = dict(case.sb3_options)
    if case.noise:
        options["action_noise"] = NormalActionNoise(np.zeros(1), case.noise * np.ones(1))
    model = getattr(stable_baselines3, case.sb3)(
        "MlpPolicy", case.env, seed=seed, batch_size=case.batch, learning_starts=case.starts,
        buffer_size=case.limit, train_freq=1, gradient_steps=1, device="cpu", **options)
    clock = Clock()
    model.learn(case.limit, callback=Stop())
    return clock.run(model.num_timesteps if model.num_timesteps < case.limit else None)


def main() -> None:
    """Print a row for each run and the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algo", choices=sorted(CASES), action="append")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", choices=["skate", "fast", "sb3"])
    args = parser.parse_args()
    sides: dict[str, Callable[[Case, int], Run]] = {"skate": run_skate, "fast": run_fast,
                                                      "sb3": run_sb3}
    for name in args.algo or sorted(CASES):
        for side in [args.only] if args.only else sides:
            runs = [sides[side](CASES[name], seed) for seed in range(1, args.seeds + 1)]
            for seed, run in enumerate(runs, 1):
                print(f"{name:6} {side:6} seed {seed}: {run.steps or 'not solved'!s:>10} steps "
                      f"{run.seconds:7.1f} s wall {run.cpu:7.1f} s cpu", flush=True)
            steps = [run.steps for run in runs if run.steps]
            if steps:
                low, mid, high = np.percentile(steps, [25, 50, 75])
                print(f"{name:6} {side:6} median: {mid:.0f} steps ({low:.0f} to {high:.0f}), "
                      f"{statistics.median(run.cpu for run in runs):.1f} s cpu", flush=True)


if __name__ == "__main__":
    main()
