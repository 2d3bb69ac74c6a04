"""`skate.util`: helpers on top of the core."""

from __future__ import annotations

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any


_LAZY = ("placement_group", "scheduling_strategies", "spark")
_PLACEMENT = (
    "PlacementGroup", "get_current_placement_group", "get_placement_group", "placement_group_table",
    "remove_placement_group",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "ActorPool":
        from skate.util.actor_pool import ActorPool

        return ActorPool
    if name in _PLACEMENT:
        from skate.util import placement_group

        return getattr(placement_group, name)
    if name in _LAZY:
        import importlib

        return importlib.import_module(f"skate.util.{name}")
    raise AttributeError(f"module 'skate.util' has no attribute {name!r}")


__all__ = ["ActorPool"]  # noqa: F822
