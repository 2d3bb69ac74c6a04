"""with_parameters(): constant arguments that are too large to sit in a config."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

# Below this many pickled bytes an object travels with the trial instead of the object store.
INLINE_BYTES_MAX = 4096


class _Stored:
    """One parameter: its reference in the object store, or itself."""

    def __init__(self, value: Any) -> None:
        import cloudpickle

        import skate as ray

        self._ref: Any = None
        self._inline: bytes | None = None
        data = None if _is_large(value) else cloudpickle.dumps(value)
        if data is not None and len(data) <= INLINE_BYTES_MAX:
            self._inline = data
        else:
            self._ref = ray.put(value)

    def get(self) -> Any:
        """The value, in the trial's process."""
        import cloudpickle

        import skate as ray

        return cloudpickle.loads(self._inline) if self._inline is not None else ray.get(self._ref)


def _is_large(value: Any) -> bool:
    size = getattr(value, "nbytes", 0)
    return isinstance(size, int) and size > INLINE_BYTES_MAX


def with_parameters(trainable: Any, **kwargs: Any) -> Any:
    """The trainable with `kwargs` given to its function or to its setup() in every trial."""
    from skate.tune.trainable import Trainable

    if not callable(trainable):
        raise ValueError("tune.with_parameters() takes a function or a Trainable class, "
                         f"got {trainable!r}")
    if not kwargs:
        return trainable
    stored = {key: _Stored(value) for key, value in kwargs.items()}
    if isinstance(trainable, type):
        if not issubclass(trainable, Trainable):
            raise TypeError(f"{trainable.__name__} is no subclass of tune.Trainable")
        return _with_setup(trainable, stored)
    return _with_arguments(trainable, stored)


def _with_setup(base: type, stored: dict[str, _Stored]) -> type:
    def setup(self: Any, config: dict[str, Any]) -> None:
        base.setup(self, config, **{key: item.get() for key, item in stored.items()})

    return type(base.__name__, (base,), {"setup": setup, "__module__": base.__module__})


def _with_arguments(function: Callable[..., Any], stored: dict[str, _Stored]) -> Callable[..., Any]:
    if "checkpoint_dir" in inspect.signature(function).parameters:
        def bound(config: dict[str, Any], checkpoint_dir: Any = None) -> Any:
            values = {key: item.get() for key, item in stored.items()}
            return function(config, checkpoint_dir=checkpoint_dir, **values)
    else:
        def bound(config: dict[str, Any]) -> Any:
            return function(config, **{key: item.get() for key, item in stored.items()})
    bound = functools.wraps(function)(bound)
    # inspect must see the outer form, which takes only the config.
    del bound.__wrapped__  # type: ignore[attr-defined]
    return bound
