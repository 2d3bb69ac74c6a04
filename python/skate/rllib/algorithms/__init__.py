"""The algorithms under their newer paths."""

from __future__ import annotations

from skate.rllib._trainer import Trainer as Algorithm
from skate.rllib.algorithms.algorithm_config import AlgorithmConfig

__all__ = ["Algorithm", "AlgorithmConfig"]
