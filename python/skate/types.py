"""`skate.types`: the names of Ray's module."""

from skate._core import ObjectRef

__all__ = ["ObjectRef"]
