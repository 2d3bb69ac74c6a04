"""Program 3: PPO on CartPole-v0 under Tune, three learning rates.

    driver ── tune.run ── trial (actor): learner on all CPUs of the trial
                             │   ▲
              weights (put)  ▼   │  fragments (one array each, through the object store)
                          3 rollout workers (actors) ── an environment in C each

tune.run() is called as the article does. Each trial's trainer puts its weights into the object
store once an iteration, its three rollout workers step CartPole with them (Gymnasium's, to the bit,
in C) and return what they saw, and the C engine learns. On a machine with fewer than 4 CPUs the
trials are scaled so that one fits. Then this program looks at what came out: the best trial, its
files on the disk, and the trained policy from its last checkpoint, playing.

    python examples/tune_cartpole.py [--games N]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from typing import Any

from skate import tune

SOLVED = 200


def train() -> Any:
    """The experiment."""
    rates = [0.01, 0.003, 0.001]
    settings = {"env": "CartPole-v0", "num_workers": 3, "lr": tune.grid_search(rates)}
    return tune.run("PPO", config=settings, stop={"episode_reward_mean": SOLVED})


def show_trials(analysis: Any) -> None:
    """The final table."""
    print(f"\n{'lr':>8} {'reward':>8} {'iterations':>11} {'steps':>8} {'seconds':>8} "
          f"{'sampling':>9} {'learning':>9}")
    for trial in analysis.trials:
        r = trial.last_result
        print(f"{trial.config['lr']:>8} {r['episode_reward_mean']:>8.1f} "
              f"{r['training_iteration']:>11} {r['timesteps_total']:>8} {r['time_total_s']:>8.1f} "
              f"{r['timers']['sample_time_total_s']:>8.1f}s "
              f"{r['timers']['learn_time_total_s']:>8.1f}s")


def show_files(folder: str) -> None:
    """What Tune wrote for one trial; each file is opened, so that a missing one fails here."""
    with open(os.path.join(folder, "progress.csv"), newline="", encoding="utf-8") as source:
        rows = list(csv.DictReader(source))
    with open(os.path.join(folder, "result.json"), encoding="utf-8") as source:
        results = [json.loads(line) for line in source]
    events = [name for name in os.listdir(folder) if name.startswith("events.out.tfevents")]
    assert len(rows) == len(results) and events
    curve = [float(row["episode_reward_mean"]) for row in rows]
    print(f"\nfiles in {folder}:")
    print(f"  progress.csv  {len(rows)} rows, reward {curve[0]:.0f} -> {curve[-1]:.0f}")
    print(f"  result.json   {len(results)} results")
    print(f"  {events[0]}  for TensorBoard")


def play(checkpoint: str, config: dict[str, Any], games: int) -> list[float]:
    """Rewards of some games played by the policy of a checkpoint, without a cluster."""
    import gymnasium

    from skate.rllib.agents.ppo import PPOTrainer

    trainer = PPOTrainer(config={**config, "num_workers": 0}, env="CartPole-v0")
    trainer.restore(checkpoint)
    env = gymnasium.make("CartPole-v1", max_episode_steps=SOLVED)
    rewards = []
    for game in range(games):
        obs, _info = env.reset(seed=game)
        total, over = 0.0, False
        while not over:
            action = trainer.compute_single_action(obs, explore=False)
            obs, reward, terminated, truncated, _info = env.step(action)
            total += float(reward)
            over = terminated or truncated
        rewards.append(total)
    env.close()
    trainer.stop()
    return rewards


def main() -> int:
    """Train, look, play; exit status 1 if the article's promise does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--games", type=int, default=5, help="games played at the end")
    games = parser.parse_args().games

    started = time.monotonic()
    analysis = train()
    seconds = time.monotonic() - started

    show_trials(analysis)
    best = analysis.best_trial
    print(f"\nbest trial: {best}, lr {best.config['lr']}")
    show_files(best.logdir)
    checkpoint = analysis.best_checkpoint.path
    print(f"  checkpoint    {os.path.basename(checkpoint)}: "
          f"{', '.join(sorted(n for n in os.listdir(checkpoint) if not n.startswith('.')))}")
    rewards = play(checkpoint, best.config, games)
    print(f"\n{games} games by the policy of that checkpoint: {rewards}")

    solved = [t.config["lr"] for t in analysis.trials
              if t.last_result["episode_reward_mean"] >= SOLVED]
    learning = sum(t.last_result["timers"]["learn_time_total_s"] for t in analysis.trials)
    print(f"\nsummary: {len(solved)} of {len(analysis.trials)} learning rates reached a mean "
          f"reward of {SOLVED} in {seconds:.1f} s, {learning:.1f} s of them in the learner")
    return 0 if 0.001 in solved and min(rewards) >= 100 else 1


if __name__ == "__main__":
    sys.exit(main())
