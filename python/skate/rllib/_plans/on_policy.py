"""On-policy: sample train_batch_size steps with the weights there are, learn from them once.

Advantages, epochs and minibatches are the engine's, by its options.
"""

from __future__ import annotations

from typing import Any

from skate.rllib import _config, _metrics
from skate.rllib._plans import EnginePlan, Step
from skate.rllib._sampler import concat


class OnPolicyPlan(EnginePlan):
    """PG, A2C, PPO through the tape."""

    def train_once(self) -> Step:
        """Sample, then one learn()."""
        columns, fragment, episodes = self.sample_batch()
        rows = len(columns["rewards"])
        self.watch.lap("sample")
        stats = self.absorb([(0, columns)], rows, fragment)
        self.watch.lap("learn")
        return Step({_metrics.DEFAULT_POLICY: stats}, rows, episodes)

    def absorb(self, parts: list[tuple[int, dict[str, Any]]], steps: int, fragment: int
               ) -> dict[str, Any]:
        """One learn() of all parts together."""
        columns = concat([part for _worker, part in parts])
        self.schedules()
        stats = self.learn(self.for_learning(columns, fragment))
        self.counters["sampled"] += steps
        self.counters["trained"] += steps
        stats.setdefault("cur_lr", self.scheduled("lr"))
        return stats

    def steps_per_train(self) -> tuple[int, int]:
        """(steps to ask of each environment at once, steps of all that are learned from)."""
        steps, length = _config.fragment_steps(self.config)
        whole = self.config["batch_mode"] == "complete_episodes"
        return length if whole else steps, self.config["train_batch_size"]

    def sample_batch(self) -> tuple[dict[str, Any], int, _metrics.Episodes]:
        """(train_batch_size rows of all workers, steps of a fragment, episodes that ended)."""
        steps, length = _config.fragment_steps(self.config)
        whole = self.config["batch_mode"] == "complete_episodes"
        parts: list[dict[str, Any]] = []
        episodes = _metrics.Episodes()
        rows = 0
        while not parts or (whole and rows < self.config["train_batch_size"]):
            for columns, ended in self.collect(length if whole else steps):
                parts.append(columns)
                episodes.extend(ended)
                rows += len(columns["rewards"])
        return concat(parts), 0 if whole else steps, episodes
