"""The typed errors under their RLlib path."""

from __future__ import annotations

from skate.rllib._errors import EnvError, UnsupportedConfigError, UnsupportedSpaceException

__all__ = ["EnvError", "UnsupportedConfigError", "UnsupportedSpaceException"]
