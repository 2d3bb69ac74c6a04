"""Estimators of what a policy would earn, from data of another policy."""

from __future__ import annotations

from skate.rllib.offline.estimators.direct_method import DirectMethod
from skate.rllib.offline.estimators.doubly_robust import DoublyRobust
from skate.rllib.offline.estimators.importance_sampling import ImportanceSampling
from skate.rllib.offline.estimators.off_policy_estimator import OffPolicyEstimator
from skate.rllib.offline.estimators.weighted_importance_sampling import (
    WeightedImportanceSampling,
)

__all__ = ["DirectMethod", "DoublyRobust", "ImportanceSampling", "OffPolicyEstimator",
           "WeightedImportanceSampling"]
