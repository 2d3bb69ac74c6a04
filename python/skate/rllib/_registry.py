"""The classes of all algorithms, made from their specs on demand, and the modules they are in.

RLlib has a package for each algorithm, in both eras. Here PLACES says where each name's classes
are found, install() puts such modules in place, and a class is made when it is first asked for:
skate.rllib.agents.dqn.DQNTrainer, skate.rllib.algorithms.dqn.DQN and DQNConfig.
"""

from __future__ import annotations

import copy
import importlib
import sys
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import Any

from skate.rllib import _specs

# Name -> (module below agents, stem there, module below algorithms, stem there).
PLACES: dict[str, tuple[str, str, str, str]] = {
    "PPO": ("ppo", "PPO", "ppo", "PPO"),
    "APPO": ("ppo", "APPO", "appo", "APPO"),
    "DDPPO": ("ppo", "DDPPO", "ddppo", "DDPPO"),
    "PG": ("pg", "PG", "pg", "PG"),
    "A2C": ("a3c", "A2C", "a2c", "A2C"),
    "A3C": ("a3c", "A3C", "a3c", "A3C"),
    "IMPALA": ("impala", "Impala", "impala", "IMPALA"),
    "DQN": ("dqn", "DQN", "dqn", "DQN"),
    "SimpleQ": ("dqn", "SimpleQ", "simple_q", "SimpleQ"),
    "APEX": ("dqn", "Apex", "apex_dqn", "ApexDQN"),
    "R2D2": ("dqn", "R2D2", "r2d2", "R2D2"),
    "QMIX": ("qmix", "QMix", "qmix", "QMix"),
    "DDPG": ("ddpg", "DDPG", "ddpg", "DDPG"),
    "TD3": ("ddpg", "TD3", "td3", "TD3"),
    "APEX_DDPG": ("ddpg", "ApexDDPG", "apex_ddpg", "ApexDDPG"),
    "SAC": ("sac", "SAC", "sac", "SAC"),
    "RNNSAC": ("sac", "RNNSAC", "rnnsac", "RNNSAC"),
    "TQC": ("tqc", "TQC", "tqc", "TQC"),
    "MARWIL": ("marwil", "MARWIL", "marwil", "MARWIL"),
    "BC": ("marwil", "BC", "bc", "BC"),
    "CQL": ("cql", "CQL", "cql", "CQL"),
    "IQL": ("iql", "IQL", "iql", "IQL"),
    "ES": ("es", "ES", "es", "ES"),
    "ARS": ("ars", "ARS", "ars", "ARS"),
    "contrib/MADDPG": ("maddpg", "MADDPG", "maddpg", "MADDPG"),
    "contrib/AlphaZero": ("alpha_zero", "AlphaZero", "alpha_zero", "AlphaZero"),
    "contrib/LinUCB": ("bandit", "LinUCB", "bandit", "BanditLinUCB"),
    "contrib/LinTS": ("bandit", "LinTS", "bandit", "BanditLinTS"),
    "contrib/RandomAgent": ("random_agent", "RandomAgent", "random_agent", "RandomAgent"),
    "DREAMER": ("dreamer", "DREAMER", "dreamer", "Dreamer"),
    "DreamerV3": ("dreamerv3", "DreamerV3", "dreamerv3", "DreamerV3"),
    "MAML": ("maml", "MAML", "maml", "MAML"),
    "MBMPO": ("mbmpo", "MBMPO", "mbmpo", "MBMPO"),
    "SlateQ": ("slateq", "SlateQ", "slateq", "SlateQ"),
}
AGENTS, ALGORITHMS = "skate.rllib.agents", "skate.rllib.algorithms"
_made: dict[tuple[str, str], type] = {}


def _once(kind: str, name: str, make: Callable[[_specs.Spec], type]) -> type:
    name = _specs.ALIASES.get(name, name)
    if (kind, name) not in _made:
        _made[kind, name] = make(_specs.find(name))
    return _made[kind, name]


def trainer_class(name: str) -> Any:
    """The class of the 1.8 era, `<stem>Trainer`. ValueError: there is no such algorithm."""
    return _once("trainer", name, _make_trainer)


def _make_trainer(spec: _specs.Spec) -> type:
    from skate.rllib._trainer import Trainer

    base: Any = Trainer
    if spec.trainer:
        module, _, attribute = spec.trainer.partition(":")
        base = getattr(importlib.import_module(f"skate.rllib.{module}"), attribute)
    module, stem, _, _ = PLACES[spec.name]
    return type(f"{stem}Trainer", (base,), {
        "__module__": f"{AGENTS}.{module}", "_name": spec.name, "_spec": spec,
        "_default_config": spec.defaults,
        "__doc__": f"{spec.name} with RLlib's keys and the 1.8 era's defaults."})


def newer_class(name: str) -> Any:
    """The class of the newer era: the same algorithm with its defaults."""
    return _once("newer", name, _make_newer)


def _make_newer(spec: _specs.Spec) -> type:
    _, _, module, stem = PLACES[spec.name]
    return type(stem, (trainer_class(spec.name),), {
        "__module__": f"{ALGORITHMS}.{module}",
        "_default_config": {**copy.deepcopy(spec.defaults), **copy.deepcopy(spec.newer)},
        "__doc__": f"{spec.name} with RLlib's keys and the newer era's defaults."})


def config_class(name: str) -> Any:
    """The newer era's builder of configs."""
    return _once("config", name, _make_config)


def _make_config(spec: _specs.Spec) -> type:
    from skate.rllib.algorithms.algorithm_config import AlgorithmConfig

    _, _, module, stem = PLACES[spec.name]

    def made(self: Any, algo_class: type | None = None) -> None:
        AlgorithmConfig.__init__(self, algo_class or newer_class(spec.name))

    return type(f"{stem}Config", (AlgorithmConfig,), {
        "__module__": f"{ALGORITHMS}.{module}", "__init__": made,
        "__doc__": f"The keys of {spec.name}: {stem}Config().environment(...).build_algo()."})


class _Lazy(types.ModuleType):
    """A module whose names are looked up when they are asked for."""

    def __init__(self, name: str, found: dict[str, Callable[[], Any]], doc: str) -> None:
        super().__init__(name, doc)
        self.__spec__ = ModuleSpec(name, None, is_package=True)
        self.__path__: list[str] = []
        self.__package__ = name
        self.__all__ = sorted(found)
        self._found = found

    def __getattr__(self, name: str) -> Any:
        make = self.__dict__.get("_found", {}).get(name)
        if make is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        try:
            value = make()
        except ValueError as error:         # not built, or comes later: say so, not "cannot import"
            raise ImportError(str(error)) from None
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.__all__]


def install(package: str) -> None:
    """Put the modules of all algorithms below `package` (AGENTS or ALGORITHMS) in place."""
    modules: dict[str, dict[str, Callable[[], Any]]] = {}
    for name, (agents, old, algorithms, new) in PLACES.items():
        if package == AGENTS:
            found: dict[str, Callable[[], Any]] = {
                f"{old}Trainer": lambda n=name: trainer_class(n),
                "DEFAULT_CONFIG": lambda n=name: trainer_class(n)._default_config}
            inner = f"{agents}.{old.lower()}"
            modules[inner] = found
            whole = modules.setdefault(agents, {})
            # the package's DEFAULT_CONFIG is that of the algorithm it is called after
            whole.update({key: make for key, make in found.items()
                          if key not in whole or inner == f"{agents}.{agents}"})
        else:
            found = {new: lambda n=name: newer_class(n),
                     f"{new}Config": lambda n=name: config_class(n)}
            if new.isupper() and new == "IMPALA":
                found.update({"Impala": found[new], "ImpalaConfig": found[f"{new}Config"]})
            modules.setdefault(algorithms, {}).update(found)
            modules[f"{algorithms}.{algorithms}"] = modules[algorithms]
    for inner, found in modules.items():
        path = f"{package}.{inner}"
        if path not in sys.modules:
            sys.modules[path] = _Lazy(path, found, f"{inner}: see skate.rllib._registry.")
    for inner in modules:
        above, _, last = f"{package}.{inner}".rpartition(".")
        if above in sys.modules:
            setattr(sys.modules[above], last, sys.modules[f"{package}.{inner}"])
