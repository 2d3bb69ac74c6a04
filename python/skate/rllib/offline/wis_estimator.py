"""Weighted importance sampling under its 1.8-era path."""

from __future__ import annotations

from skate.rllib.offline.estimators.weighted_importance_sampling import (
    WeightedImportanceSampling,
)
from skate.rllib.offline.off_policy_estimator import Estimator18


class WeightedImportanceSamplingEstimator(Estimator18):
    """estimate(episode) -> metrics V_prev, V_step_WIS, V_gain_est; the weights are averaged over
    all episodes it has seen."""

    _method, _label = WeightedImportanceSampling, "V_step_WIS"


__all__ = ["WeightedImportanceSampling", "WeightedImportanceSamplingEstimator"]
