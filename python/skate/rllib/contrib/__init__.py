"""The contributed algorithms under RLlib's paths: skate.rllib.contrib.bandits.agents.LinUCBTrainer,
skate.rllib.contrib.alpha_zero.core.alpha_zero_trainer.AlphaZeroTrainer and so on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from skate.rllib import _registry


def _class(name: str) -> Callable[[], Any]:
    return lambda: _registry.trainer_class(name)


def _config(name: str) -> Callable[[], Any]:
    return lambda: _registry.trainer_class(name).get_default_config()


_UCB, _TS = "contrib/LinUCB", "contrib/LinTS"
_BANDITS = {"LinUCBTrainer": _class(_UCB), "LinTSTrainer": _class(_TS)}
_RANDOM = {"RandomAgent": _class("contrib/RandomAgent")}
_ALPHA_ZERO = {"AlphaZeroTrainer": _class("contrib/AlphaZero"),
               "DEFAULT_CONFIG": _config("contrib/AlphaZero")}
_MADDPG = {"MADDPGTrainer": _class("contrib/MADDPG"), "DEFAULT_CONFIG": _config("contrib/MADDPG")}

# Module below this package -> its names; what is made when it is first asked for.
_MODULES: dict[str, dict[str, Callable[[], Any]]] = {
    "bandits": {},
    "bandits.agents": _BANDITS,
    "bandits.agents.lin_ucb": {"LinUCBTrainer": _class(_UCB), "UCB_CONFIG": _config(_UCB)},
    "bandits.agents.lin_ts": {"LinTSTrainer": _class(_TS), "TS_CONFIG": _config(_TS)},
    "random_agent": {},
    "random_agent.random_agent": _RANDOM,
    "alpha_zero": {},
    "alpha_zero.core": {},
    "alpha_zero.core.alpha_zero_trainer": _ALPHA_ZERO,
    "maddpg": _MADDPG,
    "maddpg.maddpg": _MADDPG,
}


def _install() -> None:
    for inner, found in _MODULES.items():
        path = f"{__name__}.{inner}"
        module = _registry._Lazy(path, found, f"{inner}: see skate.rllib.contrib.")
        sys.modules[path] = module
        above, _, last = path.rpartition(".")
        setattr(sys.modules[above], last, module)


_install()
