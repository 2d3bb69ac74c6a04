"""PolicySpec: one entry of multiagent['policies']."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class PolicySpec:
    """Spaces None: those of the agents that map to the policy. `config` is laid over the
    trainer's. A policy_class is not offered: the algorithm decides."""

    policy_class: Any = None
    observation_space: Any = None
    action_space: Any = None
    config: dict[str, Any] = field(default_factory=dict)


__all__ = ["PolicySpec"]
