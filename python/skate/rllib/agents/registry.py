"""Algorithms by name."""

from __future__ import annotations

from skate.rllib import _registry


def get_trainer_class(alg: str, return_config: bool = False) -> object:
    """The trainer class of an algorithm, or (class, default config). ValueError if unknown."""
    found = _registry.trainer_class(alg)
    return (found, found.get_default_config()) if return_config else found


def get_algorithm_class(alg: str, return_config: bool = False) -> object:
    """The same under the newer era's name and with its defaults."""
    found = _registry.newer_class(alg)
    return (found, found.get_default_config()) if return_config else found
