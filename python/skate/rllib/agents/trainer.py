"""Trainer and the common config under their 1.8-era path."""

from __future__ import annotations

from skate.rllib._config import COMMON_CONFIG, MODEL_DEFAULTS, with_common_config
from skate.rllib._trainer import Trainer

__all__ = ["COMMON_CONFIG", "MODEL_DEFAULTS", "Trainer", "with_common_config"]
