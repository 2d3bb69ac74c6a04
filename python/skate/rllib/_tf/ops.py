"""skate.rllib._models.array_ops on TensorFlow tensors."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

exp, minimum, maximum = tf.exp, tf.minimum, tf.maximum
clamp, total, mean = tf.clip_by_value, tf.reduce_sum, tf.reduce_mean


def log_softmax(x: Any) -> Any:
    """[B, n], along rows."""
    return tf.nn.log_softmax(x, 1)


def pick(x: Any, index: Any) -> Any:
    """[B]: of each row of x [B, n] the number at index [B]."""
    return tf.gather(x, tf.cast(tf.reshape(index, [-1]), tf.int32), axis=1, batch_dims=1)


def split(x: Any, sizes: list[int]) -> list[Any]:
    """Columns of x in parts."""
    return list(tf.split(x, sizes, 1))


def row_sum(x: Any) -> Any:
    """[B] of [B, n]."""
    return tf.reduce_sum(x, 1)
