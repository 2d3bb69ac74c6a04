"""Kinds of reductions, and backends."""

from __future__ import annotations

from enum import Enum


class ReduceOp(Enum):
    """How numbers of several ranks become one."""

    SUM = 0
    PRODUCT = 1
    MIN = 2
    MAX = 3


class Backend:
    """Names of backends; on this list all but NCCL mean the object store."""

    NCCL = "NCCL"
    GLOO = "GLOO"
    TORCH_GLOO = "TORCH_GLOO"


__all__ = ["Backend", "ReduceOp"]
