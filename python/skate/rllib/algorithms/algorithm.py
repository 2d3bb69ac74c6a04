"""Algorithm: the newer name of Trainer."""

from __future__ import annotations

from skate.rllib._trainer import Trainer as Algorithm

__all__ = ["Algorithm"]
