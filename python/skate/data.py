"""Not here yet: see skate._absent. Libraries import it (Modin does), so that the import works."""

from __future__ import annotations

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any, NoReturn


def from_pandas_refs(*_args: Any, **_kwargs: Any) -> NoReturn:
    """Not here yet."""
    __getattr__("from_pandas_refs")


def __getattr__(name: str) -> NoReturn:
    if name.startswith("_"):
        raise AttributeError(f"module 'skate.data' has no attribute {name!r}")
    from skate._absent import refuse_module

    refuse_module(f"data.{name}")
