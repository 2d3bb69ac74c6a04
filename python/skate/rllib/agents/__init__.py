"""The trainers under their 1.8-era paths: skate.rllib.agents.ppo.PPOTrainer and so on."""

from __future__ import annotations

from skate.rllib import _registry
from skate.rllib._config import with_common_config
from skate.rllib.agents.callbacks import DefaultCallbacks
from skate.rllib.agents.trainer import COMMON_CONFIG, Trainer

_registry.install(_registry.AGENTS)

__all__ = ["COMMON_CONFIG", "DefaultCallbacks", "Trainer", "with_common_config"]
