"""Environments: the context that a creator gets."""

from __future__ import annotations

from skate.rllib._env import EnvContext
from skate.rllib.env.multi_agent_env import MultiAgentEnv, make_multi_agent
from skate.rllib.env.vector_env import VectorEnv

__all__ = ["EnvContext", "MultiAgentEnv", "VectorEnv", "make_multi_agent"]
