"""The operations that dist.py and losses.py are written in, on numpy arrays.

_torch/ops.py and _tf/ops.py have the same names on their tensors; rows are the first axis.
"""

from __future__ import annotations

from typing import Any

import numpy as np

exp, minimum, maximum = np.exp, np.minimum, np.maximum


def log_softmax(x: Any) -> Any:
    """[B, n], along rows."""
    shifted = x - x.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def pick(x: Any, index: Any) -> Any:
    """[B]: of each row of x [B, n] the number at index [B]."""
    return np.take_along_axis(x, np.asarray(index, np.int64).reshape(-1, 1), 1)[:, 0]


def split(x: Any, sizes: list[int]) -> list[Any]:
    """Columns of x in parts."""
    return np.split(x, np.cumsum(sizes)[:-1], 1)


def row_sum(x: Any) -> Any:
    """[B] of [B, n]."""
    return x.sum(1)


def total(x: Any) -> Any:
    """The sum of all."""
    return x.sum()


def mean(x: Any) -> Any:
    """The mean of all."""
    return x.mean()


def clamp(x: Any, low: Any, high: Any) -> Any:
    """Between two numbers."""
    return np.clip(x, low, high)
