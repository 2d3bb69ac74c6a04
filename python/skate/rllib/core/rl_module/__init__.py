"""RLModule: a net of the user's own in the 2.x era."""

from __future__ import annotations

from skate.rllib.core.rl_module.default_model_config import DefaultModelConfig
from skate.rllib.core.rl_module.rl_module import RLModule, RLModuleSpec

__all__ = ["DefaultModelConfig", "RLModule", "RLModuleSpec"]
