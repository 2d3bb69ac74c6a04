"""How values of a class are sent, when pickle does not know or should not do it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skate import _serialize


def register_serializer(
    cls: type, *, serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any]
) -> None:
    """Send values of exactly this class as serializer(value), rebuilt by deserializer(that).

    It holds for what this process sends; the deserializer travels with the values. A second call
    for the same class takes the place of the first.
    """
    _serialize.set_custom(cls, serializer, deserializer)


def deregister_serializer(cls: type) -> None:
    """Forget what register_serializer() said of the class, if anything."""
    _serialize.drop_custom(cls)


__all__ = ["deregister_serializer", "register_serializer"]
