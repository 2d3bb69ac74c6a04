"""Ids at the border, in Ray's lengths. ObjectRef and ActorID are made in C (skate._core)."""

from __future__ import annotations

import os

from skate._core import ActorID, ObjectRef


class BaseID:
    """Some bytes with a name; compared and hashed by value."""

    SIZE = 28
    __slots__ = ("_bytes",)

    def __init__(self, value: bytes) -> None:
        if not isinstance(value, bytes):
            raise TypeError(f"a {type(self).__name__} is made of bytes, not {value!r}")
        if len(value) != self.SIZE:
            raise ValueError(f"a {type(self).__name__} has {self.SIZE} bytes, not {value!r}")
        self._bytes = value

    @classmethod
    def nil(cls) -> BaseID:
        """The id of nothing."""
        return cls(b"\xff" * cls.SIZE)

    @classmethod
    def from_random(cls) -> BaseID:
        """A new one."""
        return cls(os.urandom(cls.SIZE))

    @classmethod
    def from_binary(cls, value: bytes) -> BaseID:
        """From what binary() gave."""
        return cls(value)

    @classmethod
    def from_hex(cls, text: str) -> BaseID:
        """From what hex() gave."""
        return cls(bytes.fromhex(text))

    @classmethod
    def size(cls) -> int:
        """Bytes of an id."""
        return cls.SIZE

    def binary(self) -> bytes:
        """The bytes."""
        return self._bytes

    def hex(self) -> str:
        """The bytes as hexadecimal text."""
        return self._bytes.hex()

    def is_nil(self) -> bool:
        """Is it the id of nothing?"""
        return self._bytes == b"\xff" * self.SIZE

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._bytes == other._bytes  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hex()})"

    def __reduce__(self) -> tuple[type, tuple[bytes]]:
        return type(self), (self._bytes,)


class UniqueID(BaseID):
    """Any 28 bytes."""

    __slots__ = ()

    @classmethod
    def from_hex(cls, text: str) -> BaseID:
        """From what hex() gave; not of a UniqueID itself, which says nothing of what it names
        (as in Ray, where it is not to be had either)."""
        if cls is UniqueID:
            raise NotImplementedError("from_hex() of a UniqueID: use NodeID, WorkerID, ...")
        return cls(bytes.fromhex(text))


class NodeID(UniqueID):
    """A node."""

    __slots__ = ()


class WorkerID(UniqueID):
    """A worker or driver process."""

    __slots__ = ()


class FunctionID(UniqueID):
    """A remote function."""

    __slots__ = ()


class ActorClassID(UniqueID):
    """An actor class."""

    __slots__ = ()


class ClusterID(UniqueID):
    """A cluster."""

    __slots__ = ()


class TaskID(BaseID):
    """A task; the first bytes of the ids of its results."""

    SIZE = 24
    __slots__ = ()


class JobID(BaseID):
    """A job: one driver's work."""

    SIZE = 4
    __slots__ = ()

    @classmethod
    def from_int(cls, number: int) -> JobID:
        """From the number of the job."""
        return cls(number.to_bytes(4, "little"))

    def int(self) -> int:
        """The number of the job."""
        return int.from_bytes(self._bytes, "little")


class PlacementGroupID(BaseID):
    """A placement group."""

    SIZE = 18
    __slots__ = ()


ObjectID = ObjectRef

__all__ = [
    "ActorClassID", "ActorID", "BaseID", "ClusterID", "FunctionID", "JobID", "NodeID",
    "ObjectID", "ObjectRef", "PlacementGroupID", "TaskID", "UniqueID", "WorkerID",
]  # fmt: skip
