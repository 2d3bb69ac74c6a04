"""Callbacks: the hooks of both eras, called only where a subclass overrides them.

A hook is called with the keywords of both eras; those that the override does not name are left
out, so that either era's signature works. CallbackList holds one object or several.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

# Hooks that a worker calls while it samples; the others are the trainer's.
STEP_HOOKS = ("on_episode_created", "on_episode_start", "on_episode_step", "on_episode_end")
SAMPLE_HOOKS = (*STEP_HOOKS, "on_postprocess_trajectory", "on_sample_end",
                "on_sub_environment_created", "on_environment_created")


class DefaultCallbacks:
    """Subclass and name it as config['callbacks'] (newer name: RLlibCallback).

    Keywords, by era: worker/env_runner, base_env/env, policies/rl_module, episode, env_index,
    samples, trainer/algorithm, result, metrics_logger.
    """

    def __init__(self, legacy_callbacks_dict: dict[str, Any] | None = None) -> None:
        self.legacy_callbacks = legacy_callbacks_dict or {}

    def on_algorithm_init(self, *, algorithm: Any, **kwargs: Any) -> None:
        """The trainer is built."""

    def on_sub_environment_created(self, *, worker: Any, sub_environment: Any, env_context: Any,
                                   env_index: int | None = None, **kwargs: Any) -> None:
        """A worker made one of its environments."""

    def on_environment_created(self, *, env_runner: Any, env: Any, env_context: Any,
                               **kwargs: Any) -> None:
        """The same in the newer era."""

    def on_create_policy(self, *, policy_id: str, policy: Any) -> None:
        """The trainer made a policy."""

    def on_episode_created(self, *, worker: Any = None, episode: Any, **kwargs: Any) -> None:
        """Before an episode's reset()."""

    def on_episode_start(self, *, worker: Any = None, episode: Any, **kwargs: Any) -> None:
        """After an episode's reset()."""

    def on_episode_step(self, *, worker: Any = None, episode: Any, **kwargs: Any) -> None:
        """After each step."""

    def on_episode_end(self, *, worker: Any = None, episode: Any, **kwargs: Any) -> None:
        """After the last step; episode.custom_metrics go into the result."""

    def on_postprocess_trajectory(self, *, worker: Any, episode: Any, agent_id: Any,
                                  policy_id: str, policies: Any, postprocessed_batch: Any,
                                  original_batches: Any, **kwargs: Any) -> None:
        """For the rows of each worker's fragment; may change them in place."""

    def on_sample_end(self, *, worker: Any = None, samples: Any, **kwargs: Any) -> None:
        """A worker's fragment is whole; `samples` are its columns."""

    def on_learn_on_batch(self, *, policy: Any, train_batch: Any, result: dict[str, Any],
                          **kwargs: Any) -> None:
        """Before an update; what is put into `result` is in the learner's statistics."""

    def on_train_result(self, *, trainer: Any = None, result: dict[str, Any],
                        **kwargs: Any) -> None:
        """After each iteration; may add to `result`."""

    def on_evaluate_start(self, *, algorithm: Any, **kwargs: Any) -> None:
        """Before evaluation."""

    def on_evaluate_end(self, *, algorithm: Any, evaluation_metrics: dict[str, Any],
                        **kwargs: Any) -> None:
        """After evaluation; may add to the metrics."""

    def on_checkpoint_loaded(self, *, algorithm: Any, **kwargs: Any) -> None:
        """After restore()."""


HOOKS = tuple(name for name in vars(DefaultCallbacks) if name.startswith("on_"))


class CallbackList:
    """The overridden hooks of the callback objects of a config."""

    def __init__(self, given: Any) -> None:
        """`given`: None, a class, an object, or a list of them. TypeError for others."""
        several = given if isinstance(given, (list, tuple)) else [given]
        self.objects = [made for made in (_object(one) for one in several) if made is not None]
        self._calls: dict[str, list[tuple[Callable[..., Any], frozenset[str] | None]]] = {}
        for name in HOOKS:
            calls = [(getattr(made, name), _keywords(getattr(made, name)))
                     for made in self.objects if _overrides(made, name)]
            if calls:
                self._calls[name] = calls

    def has(self, *names: str) -> bool:
        """Whether any of these hooks is overridden."""
        return any(name in self._calls for name in names)

    def call(self, hook: str, **keywords: Any) -> None:
        """Call a hook, in the order of the objects."""
        for function, names in self._calls.get(hook, ()):
            function(**(keywords if names is None else
                        {key: value for key, value in keywords.items() if key in names}))


def _object(given: Any) -> Any:
    if given is None:
        return None
    made = given() if callable(given) and not isinstance(given, DefaultCallbacks) else given
    if not hasattr(made, "on_train_result"):
        raise TypeError("callbacks must be a subclass of DefaultCallbacks, or a list of them")
    return made


def _overrides(made: Any, name: str) -> bool:
    own = getattr(type(made), name, None)
    return own is not None and own is not getattr(DefaultCallbacks, name) or name in vars(made)


def _keywords(function: Callable[..., Any]) -> frozenset[str] | None:
    """The keywords that a function takes, None if any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return frozenset(p.name for p in parameters)


def from_functions(functions: dict[str, Callable[..., Any]]) -> type[DefaultCallbacks]:
    """A class of callbacks out of functions by hook (the newer era's callbacks(on_...=f))."""
    return type("FunctionCallbacks", (DefaultCallbacks,),
                {name: staticmethod(function) for name, function in functions.items()})


class MetricsLogger:
    """What the newer era's hooks log numbers to; means of a key's values are in the result."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}

    def log_value(self, key: Any, value: Any, **_how: Any) -> None:
        """One more value of a key (a tuple of names is joined by '/')."""
        name = "/".join(key) if isinstance(key, (list, tuple)) else str(key)
        self.values.setdefault(name, []).append(float(value))

    def log_dict(self, values: dict[str, Any], **_how: Any) -> None:
        """log_value() for each."""
        for key, value in values.items():
            self.log_value(key, value)

    def take(self) -> dict[str, list[float]]:
        """All values since the last call."""
        taken, self.values = self.values, {}
        return taken
