"""The direct method: the value of the first state under a fitted Q function."""

from __future__ import annotations

from typing import Any

import numpy as np

from skate.rllib.offline.estimators.fqe import make_model
from skate.rllib.offline.estimators.off_policy_estimator import OffPolicyEstimator, returns_of
from skate.rllib.policy.sample_batch import SampleBatch, convert_ma_batch_to_sample_batch


class DirectMethod(OffPolicyEstimator):
    """Fits Q of the policy by train(); biased by the fit, with little variance."""

    def __init__(self, policy: Any, gamma: float = 0.0, epsilon_greedy: float = 0.0,
                 q_model_config: dict[str, Any] | None = None) -> None:
        """`q_model_config`: keywords of fqe.FQEModel, or {"type": your class, ...}; it needs
        train(batch), estimate_q(batch) and estimate_v(batch)."""
        super().__init__(policy, gamma, epsilon_greedy)
        self.model = make_model(policy, gamma, q_model_config)

    def estimate_on_single_episode(self, episode: SampleBatch) -> dict[str, Any]:
        """The two values of one episode."""
        value = np.asarray(self.model.estimate_v(episode[:1]), np.float64)
        return {"v_behavior": returns_of(episode["rewards"], self.gamma),
                "v_target": float(value.reshape(-1)[0])}

    def estimate_on_single_step_samples(self, batch: SampleBatch) -> dict[str, Any]:
        """The two values of each row."""
        return {"v_behavior": np.asarray(batch["rewards"], np.float64),
                "v_target": np.asarray(self.model.estimate_v(batch), np.float64)}

    def train(self, batch: Any) -> dict[str, Any]:
        """Fit Q; {"loss": its mean squared error}."""
        losses = self.model.train(convert_ma_batch_to_sample_batch(batch))
        return {"loss": float(np.mean(losses))}


__all__ = ["DirectMethod"]
