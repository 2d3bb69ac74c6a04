"""Importance sampling, step by step: rewards weighted by the ratio of probabilities so far."""

from __future__ import annotations

from typing import Any

import numpy as np

from skate.rllib.offline.estimators.off_policy_estimator import OffPolicyEstimator, returns_of
from skate.rllib.policy.sample_batch import SampleBatch


class ImportanceSampling(OffPolicyEstimator):
    """V = sum over t of (product of ratios up to t) gamma^t r_t."""

    def estimate_on_single_episode(self, episode: SampleBatch) -> dict[str, Any]:
        """The two values of one episode."""
        weights = np.cumprod(self._ratios(episode))
        rewards = np.asarray(episode["rewards"], np.float64)
        return {"v_behavior": returns_of(rewards, self.gamma),
                "v_target": returns_of(weights * rewards, self.gamma)}

    def estimate_on_single_step_samples(self, batch: SampleBatch) -> dict[str, Any]:
        """The two values of each row."""
        rewards = np.asarray(batch["rewards"], np.float64)
        return {"v_behavior": rewards, "v_target": self._ratios(batch) * rewards}


__all__ = ["ImportanceSampling"]
