"""`skate.experimental`: names that libraries written for Ray import from there."""

from __future__ import annotations

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

_LAZY = ("compiled_dag_ref", "internal_kv", "tqdm_ray")
_LOCATIONS = ("get_local_object_locations", "get_object_locations")


def __getattr__(name: str) -> Any:
    import importlib

    if name in _LAZY:
        return importlib.import_module(f"skate.experimental.{name}")
    if name in _LOCATIONS:
        return getattr(importlib.import_module("skate.experimental.locations"), name)
    raise AttributeError(f"module 'skate.experimental' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_LOCATIONS})
