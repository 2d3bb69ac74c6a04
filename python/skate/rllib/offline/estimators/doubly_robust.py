"""Doubly robust estimation: a fitted Q function, corrected by importance-weighted errors."""

from __future__ import annotations

from typing import Any

import numpy as np

from skate.rllib.offline.estimators.direct_method import DirectMethod
from skate.rllib.offline.estimators.off_policy_estimator import returns_of
from skate.rllib.policy.sample_batch import SampleBatch


class DoublyRobust(DirectMethod):
    """From the last step to the first: V = v(s) + ratio (r + gamma V' - q(s, a))."""

    def estimate_on_single_episode(self, episode: SampleBatch) -> dict[str, Any]:
        """The two values of one episode."""
        rewards = np.asarray(episode["rewards"], np.float64)
        q, v = self._values(episode)
        ratios, target = self._ratios(episode), 0.0
        for t in range(len(rewards) - 1, -1, -1):
            target = v[t] + ratios[t] * (rewards[t] + self.gamma * target - q[t])
        return {"v_behavior": returns_of(rewards, self.gamma), "v_target": float(target)}

    def estimate_on_single_step_samples(self, batch: SampleBatch) -> dict[str, Any]:
        """The two values of each row."""
        rewards = np.asarray(batch["rewards"], np.float64)
        q, v = self._values(batch)
        return {"v_behavior": rewards, "v_target": v + self._ratios(batch) * (rewards - q)}

    def _values(self, batch: SampleBatch) -> tuple[Any, Any]:
        q = np.asarray(self.model.estimate_q(batch), np.float64)
        v = np.asarray(self.model.estimate_v(batch), np.float64)
        for name, value in (("estimate_q", q), ("estimate_v", v)):
            if value.shape != (batch.count,):
                raise ValueError(f"{name}() must give one number a row, shape ({batch.count},), "
                                 f"got {value.shape}")
        return q, v


__all__ = ["DoublyRobust"]
