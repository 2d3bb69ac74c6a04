"""Importance sampling under its 1.8-era path."""

from __future__ import annotations

from skate.rllib.offline.estimators.importance_sampling import ImportanceSampling
from skate.rllib.offline.off_policy_estimator import Estimator18


class ImportanceSamplingEstimator(Estimator18):
    """estimate(episode) -> metrics V_prev, V_step_IS, V_gain_est."""

    _method, _label = ImportanceSampling, "V_step_IS"


__all__ = ["ImportanceSampling", "ImportanceSamplingEstimator"]
