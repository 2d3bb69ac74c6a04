"""Placement groups are not supported yet; their names say so when they are called."""

from __future__ import annotations

import sys
from types import ModuleType

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any, NoReturn


def _refuse(*_args: Any, **_kwargs: Any) -> NoReturn:
    raise NotImplementedError("placement groups are not supported yet")


class PlacementGroup:
    """Cannot be made yet."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        _refuse()


def get_current_placement_group() -> None:
    """The group of the running task or actor: none."""


placement_group = get_placement_group = placement_group_table = _refuse
remove_placement_group = check_placement_group_index = _refuse


class _CallableModule(ModuleType):
    """`util.placement_group` is the function in Ray, and the module of the same name."""

    def __call__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        _refuse()


sys.modules[__name__].__class__ = _CallableModule
