"""The trainers under their 1.8-era paths."""

from __future__ import annotations

from skate.rllib._config import with_common_config
from skate.rllib.agents.callbacks import DefaultCallbacks
from skate.rllib.agents.trainer import COMMON_CONFIG, Trainer

__all__ = ["COMMON_CONFIG", "DefaultCallbacks", "Trainer", "with_common_config"]
