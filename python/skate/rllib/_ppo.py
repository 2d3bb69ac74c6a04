"""PPO: the trainer class under both eras' names."""

from __future__ import annotations

from typing import Any

from skate.rllib import _config
from skate.rllib._trainer import Trainer

DEFAULT_CONFIG: dict[str, Any] = _config.PPO_DEFAULTS


class PPOTrainer(Trainer):
    """Proximal policy optimisation (clip and adaptive KL) on the C engine."""

    _name = "PPO"
    _default_config = _config.PPO_DEFAULTS


class PPO(PPOTrainer):
    """The same under its newer name."""
