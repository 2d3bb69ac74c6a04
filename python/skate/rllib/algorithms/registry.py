"""Algorithms by name, under the newer era's path."""

from __future__ import annotations

from skate.rllib.agents.registry import get_algorithm_class, get_trainer_class

__all__ = ["get_algorithm_class", "get_trainer_class"]
