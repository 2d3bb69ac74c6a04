"""The 1.8 era's estimators: one episode at a time, metrics collected by get_metrics()."""

from __future__ import annotations

from collections import namedtuple
from typing import Any, ClassVar

from skate.rllib.offline.estimators.off_policy_estimator import OffPolicyEstimator
from skate.rllib.policy.sample_batch import SampleBatch, convert_ma_batch_to_sample_batch

OffPolicyEstimate = namedtuple("OffPolicyEstimate", ["estimator_name", "metrics"])


class Estimator18:
    """Base of ImportanceSamplingEstimator and WeightedImportanceSamplingEstimator."""

    _method: ClassVar[type[OffPolicyEstimator]]
    _label: ClassVar[str]

    def __init__(self, policy: Any, gamma: float) -> None:
        self.policy, self.gamma = policy, gamma
        self.new_estimates: list[OffPolicyEstimate] = []
        self._inner = self._method(policy, gamma)

    @classmethod
    def create_from_io_context(cls, ioctx: Any) -> Estimator18:
        """For the default policy of the context's worker."""
        return cls(ioctx.worker.get_policy(), ioctx.config["gamma"])

    def action_log_likelihood(self, batch: SampleBatch) -> Any:
        """log pi(a | s) of each row under the policy."""
        import numpy as np

        return np.log(self._inner.compute_action_probs(batch))

    def estimate(self, batch: Any) -> OffPolicyEstimate:
        """The metrics of one episode.

        Raises:
            ValueError: the batch has no "action_prob".
        """
        episode = convert_ma_batch_to_sample_batch(batch)
        self._inner.check_action_prob_in_batch(episode)
        self._inner.peek_on_single_episode(episode)
        found = self._inner.estimate_on_single_episode(episode)
        before, after = float(found["v_behavior"]), float(found["v_target"])
        return OffPolicyEstimate(type(self).__name__, {
            "V_prev": before, self._label: after, "V_gain_est": after / max(1e-8, before)})

    def process(self, batch: Any) -> None:
        """Estimate each episode of a batch; get_metrics() has the results."""
        for episode in convert_ma_batch_to_sample_batch(batch).split_by_episode():
            self.new_estimates.append(self.estimate(episode))

    def get_metrics(self) -> list[OffPolicyEstimate]:
        """The estimates since the last call."""
        found, self.new_estimates = self.new_estimates, []
        return found


__all__ = ["Estimator18", "OffPolicyEstimate", "OffPolicyEstimator"]
