"""Program 3's grid over several seeds, beside the learner's own floor.

usage: grid.py [--seeds N] [--repeat] [--fast] [--python-env]

Each seed is a fresh process (start of the cluster and imports included) that runs the three
learning rates to a mean reward of 200. The floor is the time inside the learner's updates, measured
in the same run. --repeat runs the first seed again and compares the curves. --fast takes the small
config of docs/tune_rllib.md, and the time is from the start of the process to the printed table.
--python-env steps Gymnasium's CartPole instead of its twin in C.
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

RATES = [0.01, 0.001, 0.0001]
FAST_RATES = [0.01, 0.003, 0.001]
FAST = {"num_workers": 0, "num_envs_per_worker": 16, "rollout_fragment_length": 32,
        "train_batch_size": 512, "num_sgd_iter": 8, "lambda": 0.95, "kl_coeff": 0.0,
        "model": {"fcnet_hiddens": [64, 64]}}


def child(seed: int, fast: bool, native: bool) -> None:
    """One grid; prints a line of JSON."""
    started = time.perf_counter()
    from skate import tune

    config = FAST if fast else {"num_gpus": 0, "num_workers": 3}
    analysis = tune.run(
        "PPO", stop={"episode_reward_mean": 200}, verbose=int(fast),
        config={"env": "CartPole-v0", "seed": seed, "native_env": "auto" if native else False,
                "lr": tune.grid_search(FAST_RATES if fast else RATES), **config})
    seconds = time.perf_counter() - started
    trials = []
    for trial in analysis.trials:
        with open(f"{trial.logdir}/result.json", encoding="utf-8") as source:
            curve = [json.loads(line)["episode_reward_mean"] for line in source]
        last = trial.last_result
        trials.append({"lr": trial.config["lr"], "reward": last["episode_reward_mean"],
                       "iterations": last["training_iteration"], "curve": curve,
                       "learn": last["timers"]["learn_time_total_s"],
                       "sample": last["timers"]["sample_time_total_s"]})
    print("RESULT " + json.dumps({"seconds": seconds, "trials": trials}), flush=True)


def run(seed: int, args: argparse.Namespace) -> dict:
    """One grid in a process of its own."""
    flags = ["--fast"] * args.fast + ["--python-env"] * args.python_env
    with tempfile.TemporaryDirectory(prefix="skate-grid-") as folder:
        started = time.perf_counter()
        with subprocess.Popen(
                [sys.executable, __file__, "--child", str(seed), *flags], text=True,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env={**os.environ, "SKATE_RESULTS_DIR": folder}) as process:
            assert process.stdout is not None
            line = next(x for x in process.stdout if x.startswith("RESULT "))
            seconds = time.perf_counter() - started
    result = json.loads(line[7:])
    if args.fast:
        result["seconds"] = seconds
    return result


def main() -> int:
    """Run all and print a table; exit status 1 when a bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--repeat", action="store_true")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--python-env", action="store_true")
    parser.add_argument("--child", type=int)
    args = parser.parse_args()
    rates = FAST_RATES if args.fast else RATES
    if args.child is not None:
        child(args.child, args.fast, not args.python_env)
        return 0
    runs = []
    for seed in range(args.seeds):
        r = run(seed, args)
        floor = sum(t["learn"] for t in r["trials"])
        sampling = sum(t["sample"] for t in r["trials"])
        runs.append(r | {"floor": floor})
        print(f"seed {seed}: {r['seconds']:6.2f} s, learner {floor:6.2f} s, "
              f"sampling {sampling:5.2f} s, ratio {r['seconds'] / floor:.2f}; " + ", ".join(
                  f"lr {t['lr']}: {t['reward']:.0f} in {t['iterations']}" for t in r["trials"]),
              flush=True)
    solved = {lr: sum(t["reward"] >= 200 for r in runs for t in r["trials"] if t["lr"] == lr)
              for lr in rates}
    seconds = statistics.median(r["seconds"] for r in runs)
    ratio = statistics.median(r["seconds"] / r["floor"] for r in runs)
    print(f"median {seconds:.2f} s, ratio to the learner's floor {ratio:.2f}; "
          f"reached 200: {solved}")
    if args.fast:
        good = seconds <= 1.5 and all(solved[lr] == args.seeds for lr in rates)
    else:
        good = (solved[0.001] == solved[0.0001] == args.seeds and solved[0.01] >= 0.6 * args.seeds
                and seconds <= 30 and ratio <= 1.3)
    if args.repeat:
        again = run(0, args)
        same = [t["curve"] for t in again["trials"]] == [t["curve"] for t in runs[0]["trials"]]
        print(f"seed 0 again: {'the same curves' if same else 'OTHER CURVES'}")
        good = good and same
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
