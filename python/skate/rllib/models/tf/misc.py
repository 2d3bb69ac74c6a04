"""Start values of models of the 1.8 era. Needs TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def normc_initializer(std: float = 1.0) -> Callable[..., Any]:
    """Weights [in, out] in which each unit's incoming weights have length `std`."""

    def made(shape: Any, dtype: Any = None, **_ignored: Any) -> Any:
        drawn = tf.random.normal(shape, dtype=dtype or tf.float32)
        return drawn * (std / tf.sqrt(tf.reduce_sum(drawn * drawn, 0, keepdims=True)))

    return made
