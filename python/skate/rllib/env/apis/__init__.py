"""Interfaces that environments may have."""

from __future__ import annotations

from skate.rllib.env.apis.task_settable_env import TaskSettableEnv

__all__ = ["TaskSettableEnv"]
