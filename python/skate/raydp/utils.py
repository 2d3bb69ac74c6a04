"""Helpers of RayDP that programs use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skate.util.spark import _hosted_plan

__all__ = ["parse_memory_size", "random_split"]


def parse_memory_size(memory_size: str | int) -> int:
    """Bytes of "1g", "500M", "0.5 GB". ValueError, TypeError."""
    return _hosted_plan.memory_bytes("memory_size", memory_size)


def random_split(df: Any, weights: Sequence[float], seed: int | None = None) -> list[Any]:
    """df.randomSplit()."""
    return list(df.randomSplit(list(weights), seed))
