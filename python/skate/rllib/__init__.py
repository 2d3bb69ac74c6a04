"""RLlib's names on the C engine: trainers, configs, environments.

`skate.rllib.agents.ppo.PPOTrainer` is the 1.8-era face, `skate.rllib.algorithms.ppo.PPOConfig` the
newer one; both are the same trainer. Nothing heavy is imported until a trainer is built.
"""

from __future__ import annotations

from skate.rllib._errors import EnvError, UnsupportedSpaceException

__all__ = ["EnvError", "UnsupportedSpaceException"]
