"""EnvContext under its own path."""

from __future__ import annotations

from skate.rllib._env import EnvContext

__all__ = ["EnvContext"]
