"""Names for trainables and environments.

The registry belongs to the process that fills it, usually the driver. What its user registered
travels to each trial's actor with the trial (export_entries / install_entries), so that a name
means the same everywhere. RLlib's algorithms are found by their own registry, on demand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skate.tune.error import TuneError

TRAINABLE_CLASS = "trainable_class"
ENV_CREATOR = "env_creator"
RLLIB_MODEL = "rllib_model"
RLLIB_PREPROCESSOR = "rllib_preprocessor"
RLLIB_ACTION_DIST = "rllib_action_dist"
RLLIB_INPUT = "rllib_input"
CATEGORIES = frozenset({
    TRAINABLE_CLASS, ENV_CREATOR, RLLIB_MODEL, RLLIB_PREPROCESSOR, RLLIB_ACTION_DIST, RLLIB_INPUT,
})


class Registry:
    """(category, name) -> value."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Any] = {}

    def register(self, category: str, key: str, value: Any) -> None:
        """Set an entry, replacing one of the same name."""
        if category not in CATEGORIES:
            raise TuneError(f"Unknown category {category!r} not among {sorted(CATEGORIES)}")
        self._entries[category, key] = value

    def unregister(self, category: str, key: str) -> None:
        """Forget an entry, if there is one."""
        self._entries.pop((category, key), None)

    def contains(self, category: str, key: str) -> bool:
        """Whether there is such an entry."""
        return (category, key) in self._entries

    def get(self, category: str, key: str) -> Any:
        """The entry's value."""
        try:
            return self._entries[category, key]
        except KeyError:
            raise ValueError(
                f"Registry value for {category}/{key} doesn't exist (known: "
                f"{self.names(category)})") from None

    def names(self, category: str) -> list[str]:
        """All names of a category."""
        return sorted(key for kind, key in self._entries if kind == category)

    def export_entries(self) -> dict[tuple[str, str], Any]:
        """What a trial's process must know: everything but trainables."""
        return {k: v for k, v in self._entries.items() if k[0] != TRAINABLE_CLASS}

    def install_entries(self, entries: dict[tuple[str, str], Any]) -> None:
        """Take over another process's entries."""
        self._entries.update(entries)


_global_registry = Registry()


def register_trainable(name: str, trainable: type | Callable[..., Any], warn: bool = True) -> None:
    """Let `tune.run(name)` mean this class or function."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a trainable must be a string, got {type(name).__name__}")
    _global_registry.register(TRAINABLE_CLASS, name, as_trainable_class(trainable))


def register_env(name: str, env_creator: Callable[[Any], Any]) -> None:
    """Let the env `name` in an RLlib config mean `env_creator(env_config)`."""
    if not callable(env_creator):
        raise TypeError(f"Second argument must be callable. {env_creator!r}")
    _global_registry.register(ENV_CREATOR, name, env_creator)


def get_env_creator(name: str) -> Callable[[Any], Any] | None:
    """The creator registered under `name`, or None."""
    if _global_registry.contains(ENV_CREATOR, name):
        return _global_registry.get(ENV_CREATOR, name)
    return None


def as_trainable_class(trainable: Any) -> type:
    """The Trainable class that runs `trainable`: itself, or a wrapper around a function."""
    from skate.tune._function import wrap_function
    from skate.tune.trainable import Trainable

    if isinstance(trainable, type):
        if not issubclass(trainable, Trainable):
            raise TypeError(
                f"{trainable.__name__} is a class but no subclass of tune.Trainable")
        return trainable
    if callable(trainable):
        return wrap_function(trainable)
    raise TypeError(
        "a trainable must be a subclass of tune.Trainable, a function or a registered name, "
        f"got {trainable!r}")


def get_trainable_cls(name: str) -> type:
    """The class that a trainable's name means: a registered one, else an RLlib algorithm."""
    if _global_registry.contains(TRAINABLE_CLASS, name):
        return _global_registry.get(TRAINABLE_CLASS, name)
    try:
        from skate.rllib.agents.registry import get_trainer_class
    except ImportError as error:
        if not (error.name or "").startswith("skate.rllib"):
            raise
        raise TuneError(f"Unknown trainable: {name}") from None
    try:
        return get_trainer_class(name)
    except (ValueError, KeyError, TuneError) as error:
        known = _global_registry.names(TRAINABLE_CLASS)
        hint = f" Registered names: {', '.join(known)}." if known else ""
        raise TuneError(f"Unknown trainable: {name}.{hint} ({error})") from None
