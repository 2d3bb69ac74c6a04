"""PPO under its newer path: PPOConfig().environment(...).training(...).build_algo()."""

from __future__ import annotations

from skate.rllib._ppo import PPO
from skate.rllib.algorithms.algorithm_config import AlgorithmConfig


class PPOConfig(AlgorithmConfig):
    """PPO's keys and defaults."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class or PPO)


__all__ = ["PPO", "PPOConfig"]
