"""Marks on functions and classes that say how stable they are. They change nothing."""

from __future__ import annotations

from typing import Any


class RayDeprecationWarning(DeprecationWarning):
    """A part that will go."""


def _mark(*args: Any, **_options: Any) -> Any:
    """As a decorator, with or without options: gives back what it is put on."""
    if len(args) == 1 and callable(args[0]):
        return args[0]
    return lambda target: target


PublicAPI = DeveloperAPI = _mark


def Deprecated(*args: Any, **options: Any) -> Any:  # noqa: N802
    """The same, of what will go; with warning=True each call of it warns."""
    if len(args) == 1 and callable(args[0]) and not options:
        return args[0]
    if not options.get("warning"):
        return lambda target: target
    text = options.get("message") or "this is deprecated"

    def decorate(target: Any) -> Any:
        import functools
        import warnings

        @functools.wraps(target)
        def call(*call_args: Any, **call_kwargs: Any) -> Any:
            warnings.warn(f"{target.__name__}: {text}", RayDeprecationWarning, stacklevel=2)
            return target(*call_args, **call_kwargs)

        return call

    return decorate


__all__ = ["Deprecated", "DeveloperAPI", "PublicAPI", "RayDeprecationWarning"]
