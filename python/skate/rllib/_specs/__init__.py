"""Specs: what makes one algorithm of RLlib's names, as data.

A family's module (_specs/<family>.py) has SPECS, a list of Spec. FAMILIES says which module a name
is in, so that a name costs the import of its own family only. A name whose family is not there is
"not built"; those in LATER answer that they come later.

To add an algorithm: a Spec in its family's module, its row in docs/rllib.md, a learning test.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Config = dict[str, Any]

FAMILIES: dict[str, str] = {
    "PPO": "ppo",
    "PG": "policy_gradient", "A2C": "policy_gradient", "A3C": "asynchronous",
    "IMPALA": "asynchronous", "APPO": "asynchronous", "DDPPO": "ppo",
    "SimpleQ": "dqn", "DQN": "dqn", "APEX": "dqn", "R2D2": "dqn",
    "QMIX": "qmix",
    "DDPG": "ddpg", "TD3": "ddpg", "APEX_DDPG": "ddpg",
    "SAC": "sac", "RNNSAC": "sac", "TQC": "sac",
    "contrib/MADDPG": "maddpg",
    "BC": "offline", "MARWIL": "offline", "CQL": "offline", "IQL": "offline",
    "ES": "evolution", "ARS": "evolution",
    "contrib/LinUCB": "bandits", "contrib/LinTS": "bandits",
    "contrib/RandomAgent": "random_agent",
    "contrib/AlphaZero": "alpha_zero",
}

# RLlib's names whose algorithms come later.
LATER = frozenset({"DREAMER", "DreamerV3", "MAML", "MBMPO", "SlateQ"})

# Other spellings of a name.
ALIASES: dict[str, str] = {
    "RandomAgent": "contrib/RandomAgent", "MADDPG": "contrib/MADDPG",
    "AlphaZero": "contrib/AlphaZero", "LinTS": "contrib/LinTS", "LinUCB": "contrib/LinUCB",
    "BanditLinUCB": "contrib/LinUCB", "BanditLinTS": "contrib/LinTS",
    "ApexDQN": "APEX", "ApexDDPG": "APEX_DDPG", "Impala": "IMPALA",
}


def no_options(config: Config) -> dict[str, Any]:
    """For an algorithm whose engine takes no options."""
    return {}


def no_checks(config: Config) -> None:
    """For an algorithm without checks of its own."""


@dataclass(frozen=True)
class Spec:
    """One algorithm. `defaults` is the whole config of the 1.8 era (with_common_config(...))."""

    name: str                           # of the registry: "DQN", "contrib/LinUCB"
    defaults: Config
    plan: str                           # "module:Class" in skate.rllib._plans
    engine: str | None = None           # the algorithm in C; None: the plan has its own
    # What the newer era's XConfig sets otherwise than `defaults` (our key names).
    newer: Config = field(default_factory=dict)
    # Newer names of this algorithm's keys -> ours, besides _config.RENAMED.
    renamed: dict[str, str] = field(default_factory=dict)
    # The checked config -> options of the C algorithm (numbers, bools, lists of numbers, texts).
    options: Callable[[Config], dict[str, Any]] = no_options
    # What act() shall record beside obs and actions: of "logp", "vf", "inputs".
    columns: tuple[str, ...] = ("logp", "vf", "inputs")
    # The replay plan says when target nets move: target_network_update_freq steps sampled, by
    # engine.set("update_target", 1.0). False: the engine does by itself.
    target_by_plan: bool = False
    # Values that this algorithm takes otherwise than _config.OFFERED says: key -> values (None:
    # any value), keys of the model as "model.use_lstm".
    offered: dict[str, tuple[Any, ...] | None] = field(default_factory=dict)
    checks: Callable[[Config], None] = no_checks
    # "module:Class" below skate.rllib of a Trainer with methods of its own.
    trainer: str = ""


def names() -> list[str]:
    """All names that work here, sorted."""
    return sorted(name for name in FAMILIES if _family_is_there(FAMILIES[name])
                  and name in _family(FAMILIES[name]))


def _family_is_there(family: str) -> bool:
    from importlib.util import find_spec

    return find_spec(f"skate.rllib._specs.{family}") is not None


def _family(family: str) -> dict[str, Spec]:
    module: Any = importlib.import_module(f"skate.rllib._specs.{family}")
    return {spec.name: spec for spec in module.SPECS}


def find(name: str) -> Spec:
    """The spec of an algorithm's name. ValueError that says what there is instead."""
    name = ALIASES.get(name, name)
    if name in LATER:
        raise ValueError(f"the algorithm {name!r} comes later; there are: {', '.join(names())}")
    family = FAMILIES.get(name)
    if family is None:
        near = difflib.get_close_matches(str(name), FAMILIES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"there is no algorithm {name!r}{hint}; there are: {', '.join(names())}")
    if _family_is_there(family):
        spec = _family(family).get(name)
        if spec is not None:
            return spec
    raise ValueError(f"the algorithm {name!r} is not built; there are: {', '.join(names())}")
