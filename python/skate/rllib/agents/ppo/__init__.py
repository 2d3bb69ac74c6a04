"""PPO under its 1.8-era path."""

from __future__ import annotations

from skate.rllib._ppo import DEFAULT_CONFIG, PPOTrainer

__all__ = ["DEFAULT_CONFIG", "PPOTrainer"]
