"""Weighted importance sampling: weights divided by their mean over the episodes at each step."""

from __future__ import annotations

from typing import Any

import numpy as np

from skate.rllib.offline.estimators.off_policy_estimator import OffPolicyEstimator, returns_of
from skate.rllib.policy.sample_batch import SampleBatch


class WeightedImportanceSampling(OffPolicyEstimator):
    """Less variance than ImportanceSampling, for a bias that vanishes with more episodes."""

    def __init__(self, policy: Any, gamma: float = 0.0, epsilon_greedy: float = 0.0) -> None:
        """See OffPolicyEstimator."""
        super().__init__(policy, gamma, epsilon_greedy)
        self._sums = np.zeros(0)        # over episodes of the cumulative ratio at step t
        self._counts = np.zeros(0)      # episodes that reached step t

    def on_before_split_batch_by_episode(self, sample_batch: SampleBatch) -> SampleBatch:
        """A new estimate starts with no episodes."""
        self._sums, self._counts = np.zeros(0), np.zeros(0)
        return sample_batch

    def peek_on_single_episode(self, episode: SampleBatch) -> None:
        """Count the episode's weights in."""
        weights = np.cumprod(self._ratios(episode))
        more = len(weights) - len(self._sums)
        if more > 0:
            self._sums = np.concatenate([self._sums, np.zeros(more)])
            self._counts = np.concatenate([self._counts, np.zeros(more)])
        self._sums[:len(weights)] += weights
        self._counts[:len(weights)] += 1

    def estimate_on_single_episode(self, episode: SampleBatch) -> dict[str, Any]:
        """The two values of one episode that was peeked at."""
        rewards = np.asarray(episode["rewards"], np.float64)
        n = len(rewards)
        if n > len(self._sums):
            raise ValueError("peek_on_single_episode() comes before the estimate of an episode")
        weights = np.cumprod(self._ratios(episode))
        means = self._sums[:n] / self._counts[:n]
        weights = np.divide(weights, means, out=np.zeros(n), where=means > 0)
        return {"v_behavior": returns_of(rewards, self.gamma),
                "v_target": returns_of(weights * rewards, self.gamma)}

    def estimate_on_single_step_samples(self, batch: SampleBatch) -> dict[str, Any]:
        """The two values of each row."""
        rewards = np.asarray(batch["rewards"], np.float64)
        ratios = self._ratios(batch)
        mean = float(np.mean(ratios))
        return {"v_behavior": rewards,
                "v_target": ratios * rewards / mean if mean > 0 else np.zeros_like(rewards)}


__all__ = ["WeightedImportanceSampling"]
