"""The algorithms under their newer paths: skate.rllib.algorithms.ppo.PPOConfig and so on."""

from __future__ import annotations

from typing import Any

from skate.rllib import _registry
from skate.rllib._trainer import Trainer as Algorithm
from skate.rllib.algorithms.algorithm_config import AlgorithmConfig

_registry.install(_registry.ALGORITHMS)


def __getattr__(name: str) -> Any:
    """skate.rllib.algorithms.PPOConfig: each algorithm's classes without its module's name."""
    for algorithm, (_, _, _, stem) in _registry.PLACES.items():
        if name in (stem, f"{stem}Config"):
            try:
                return (_registry.newer_class(algorithm) if name == stem
                        else _registry.config_class(algorithm))
            except ValueError as error:
                raise ImportError(str(error)) from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Algorithm", "AlgorithmConfig"]
