"""Results: episode statistics over a window, and the dictionary of one iteration in both eras'
names (so that either era's stop= and metric= work)."""

from __future__ import annotations

import math
import time
from typing import Any

DEFAULT_POLICY = "default_policy"


class EpisodeHistory:
    """The last `window` episodes, with which an iteration of fewer is filled up."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.rewards: list[float] = []
        self.lengths: list[int] = []
        self.total = 0

    def add(self, rewards: list[float], lengths: list[int]) -> dict[str, Any]:
        """Take the episodes that ended in this iteration; the statistics of the window."""
        missing = max(0, self.window - len(rewards))
        if missing:
            window_rewards = self.rewards[-missing:] + rewards
            window_lengths = self.lengths[-missing:] + lengths
        else:
            window_rewards, window_lengths = rewards, lengths
        self.rewards = window_rewards[-self.window:]
        self.lengths = window_lengths[-self.window:]
        self.total += len(rewards)
        return {**summary(window_rewards, window_lengths), "episodes_this_iter": len(rewards)}

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"rewards": self.rewards, "lengths": self.lengths, "total": self.total}

    def restore(self, state: dict[str, Any]) -> None:
        """What state() gave."""
        self.rewards = [float(x) for x in state["rewards"]]
        self.lengths = [int(x) for x in state["lengths"]]
        self.total = int(state["total"])


def summary(rewards: list[float], lengths: list[int]) -> dict[str, Any]:
    """The keys that describe a set of episodes; NaN where there is none."""
    some = bool(rewards)
    return {
        "episode_reward_max": max(rewards) if some else math.nan,
        "episode_reward_min": min(rewards) if some else math.nan,
        "episode_reward_mean": math.fsum(rewards) / len(rewards) if some else math.nan,
        "episode_len_mean": math.fsum(lengths) / len(lengths) if some else math.nan,
        "episode_media": {},
        "hist_stats": {"episode_reward": list(rewards), "episode_lengths": list(lengths)},
        "policy_reward_min": {}, "policy_reward_max": {}, "policy_reward_mean": {},
        "custom_metrics": {},
    }


def episodes_of(fragments: list[Any]) -> tuple[list[float], list[int]]:
    """The episodes that ended in these fragments, in their order."""
    from skate.rllib._fragment import Fragment

    rewards: list[float] = []
    lengths: list[int] = []
    for array in fragments:
        fragment = Fragment(array)
        rewards += fragment.episode_rewards.tolist()
        lengths += fragment.episode_lengths.tolist()
    return rewards, lengths


def learner_info(stats: dict[str, Any], entropy_coeff: float) -> dict[str, Any]:
    """info['learner'] as RLlib 1.8 nests it."""
    names = ("cur_kl_coeff", "cur_lr", "total_loss", "policy_loss", "vf_loss",
             "vf_explained_var", "kl", "entropy")
    learner_stats = {name: stats[name] for name in names}
    learner_stats["entropy_coeff"] = entropy_coeff
    return {DEFAULT_POLICY: {"learner_stats": learner_stats, "custom_metrics": {}, "model": {}}}


def newer_names(result: dict[str, Any], stats: dict[str, Any]) -> dict[str, Any]:
    """The same numbers under the newer era's names."""
    return {
        "env_runners": {
            "episode_return_mean": result["episode_reward_mean"],
            "episode_return_max": result["episode_reward_max"],
            "episode_return_min": result["episode_reward_min"],
            "episode_len_mean": result["episode_len_mean"],
            "num_episodes": result["episodes_this_iter"],
            "num_episodes_lifetime": result["episodes_total"],
            "num_env_steps_sampled": result["timesteps_this_iter"],
            "num_env_steps_sampled_lifetime": result["timesteps_total"],
        },
        "learners": {
            DEFAULT_POLICY: {
                "policy_loss": stats["policy_loss"], "vf_loss": stats["vf_loss"],
                "total_loss": stats["total_loss"],
                "vf_explained_var": stats["vf_explained_var"],
                "mean_kl_loss": stats["kl"], "entropy": stats["entropy"],
                "curr_kl_coeff": stats["cur_kl_coeff"],
                "default_optimizer_learning_rate": stats["cur_lr"],
            },
        },
        "num_env_steps_sampled_lifetime": result["timesteps_total"],
        "num_env_steps_trained_lifetime": result["info"]["num_steps_trained"],
    }


class SystemUsage:
    """CPU and memory of this machine since the last call, from /proc."""

    def __init__(self) -> None:
        self._last = self._cpu()

    @staticmethod
    def _cpu() -> tuple[int, int]:
        try:
            with open("/proc/stat", encoding="ascii") as source:
                ticks = [int(x) for x in source.readline().split()[1:9]]
        except (OSError, ValueError):
            return 0, 0
        return sum(ticks), ticks[3] + ticks[4]

    def read(self) -> dict[str, float]:
        """{'cpu_util_percent', 'ram_util_percent'}; empty where /proc does not say."""
        total, idle = self._cpu()
        span = total - self._last[0]
        busy = 100.0 * (1.0 - (idle - self._last[1]) / span) if span > 0 else 0.0
        self._last = (total, idle)
        memory: dict[str, int] = {}
        try:
            with open("/proc/meminfo", encoding="ascii") as source:
                for line in source:
                    name, _, rest = line.partition(":")
                    memory[name] = int(rest.split()[0])
            used = 100.0 * (1.0 - memory["MemAvailable"] / memory["MemTotal"])
        except (OSError, KeyError, ValueError, IndexError):
            return {}
        return {"cpu_util_percent": round(max(0.0, busy), 1), "ram_util_percent": round(used, 1)}


class Stopwatch:
    """Seconds by name, of the last iteration and in all."""

    def __init__(self) -> None:
        self.last: dict[str, float] = {}
        self.total: dict[str, float] = {}
        self._since = time.perf_counter()

    def start(self) -> None:
        """A new iteration."""
        self.last = {}
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        """What passed since the last call belongs to `name`."""
        now = time.perf_counter()
        self.last[name] = self.last.get(name, 0.0) + now - self._since
        self.total[name] = self.total.get(name, 0.0) + now - self._since
        self._since = now
