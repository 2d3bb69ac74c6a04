"""Results: episode statistics over a window, and the dictionary of one iteration in both eras'
names (so that either era's stop= and metric= work)."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

DEFAULT_POLICY = "default_policy"


# What PPO's fused learner says of an update.
PPO_STATS = ("cur_kl_coeff", "cur_lr", "total_loss", "policy_loss", "vf_loss",
             "vf_explained_var", "kl", "entropy")
# A statistic of a learner -> its newer name; others keep theirs.
NEWER_STATS = {"kl": "mean_kl_loss", "cur_kl_coeff": "curr_kl_coeff",
               "cur_lr": "default_optimizer_learning_rate", "mean_q": "qf_mean",
               "max_q": "qf_max", "min_q": "qf_min", "mean_td_error": "td_error_mean"}


@dataclass
class Episodes:
    """The episodes that ended, in their order."""

    rewards: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    # multi-agent: policy id -> the sums of its agents' rewards
    policy_rewards: dict[str, list[float]] = field(default_factory=dict)
    # what callbacks noted: name -> values
    custom: dict[str, list[float]] = field(default_factory=dict)
    hist: dict[str, list[float]] = field(default_factory=dict)
    # what hooks logged with a MetricsLogger: key -> values
    logged: dict[str, list[float]] = field(default_factory=dict)
    # what an observation filter saw (a _filter.RunningStat), for the trainer
    noted: Any = None

    def extend(self, more: Episodes) -> None:
        """Take those of `more`."""
        self.rewards += more.rewards
        self.lengths += more.lengths
        for mine, theirs in ((self.policy_rewards, more.policy_rewards),
                             (self.custom, more.custom), (self.hist, more.hist),
                             (self.logged, more.logged)):
            for name, values in theirs.items():
                mine.setdefault(name, []).extend(values)

    def note(self, custom: dict[str, Any], hist: dict[str, Any]) -> None:
        """What callbacks left in an episode that ended."""
        for name, value in custom.items():
            self.custom.setdefault(name, []).append(float(value))
        for name, values in hist.items():
            self.hist.setdefault(name, []).extend(float(v) for v in values)

    def keep(self, count: int) -> None:
        """The first `count` episodes only."""
        del self.rewards[count:], self.lengths[count:]


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


def episodes_of(fragments: list[Any]) -> Episodes:
    """The episodes that ended in these fragments of the recorder."""
    from skate.rllib._fragment import Fragment

    found = Episodes()
    for array in fragments:
        fragment = Fragment(array)
        found.rewards += fragment.episode_rewards.tolist()
        found.lengths += fragment.episode_lengths.tolist()
    return found


def more_of(episodes: Episodes) -> dict[str, Any]:
    """policy_reward_* and custom_metrics of an iteration's episodes."""
    told: dict[str, Any] = {}
    if episodes.policy_rewards:
        for name, of in (("max", max), ("min", min), ("mean", _mean)):
            told[f"policy_reward_{name}"] = {
                policy: of(values) for policy, values in episodes.policy_rewards.items() if values}
    if episodes.custom:
        told["custom_metrics"] = {
            f"{name}_{kind}": of(values)
            for name, values in episodes.custom.items() if values
            for kind, of in (("mean", _mean), ("min", min), ("max", max))}
    return told


def also(result: dict[str, Any], episodes: Episodes) -> None:
    """What hooks logged and gathered, into a result: means of logged values under the newer
    era's place, lists of hist_data beside the rewards'."""
    for name, values in episodes.logged.items():
        at = result["env_runners"]
        *groups, last = name.split("/")
        for group in groups:
            at = at.setdefault(group, {})
        at[last] = _mean(values)
    if episodes.hist:
        result["hist_stats"] = {**result["hist_stats"], **episodes.hist}


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def learner_info(stats: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """info['learner'] as RLlib 1.8 nests it; `stats` by policy."""
    return {policy: {"learner_stats": dict(numbers), "custom_metrics": {}, "model": {}}
            for policy, numbers in stats.items()}


def newer_names(result: dict[str, Any], stats: dict[str, dict[str, Any]]) -> dict[str, Any]:
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
            policy: {NEWER_STATS.get(name, name): value for name, value in numbers.items()
                     if name != "entropy_coeff"}
            for policy, numbers in stats.items()
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
