"""Frameworks by RLlib's names, imported when a program asks for them."""

from __future__ import annotations

import importlib
from typing import Any

TensorType = Any


def try_import_tf(error: bool = False) -> tuple[Any, Any, int | None]:
    """(tensorflow.compat.v1, tensorflow, 2), or three times None where it is missing. ImportError:
    it is, and `error` is set."""
    try:
        from skate.rllib import _tf  # noqa: F401 (keeps TensorFlow quiet)

        tf = importlib.import_module("tensorflow")
    except ImportError:
        if error:
            raise
        return None, None, None
    return tf.compat.v1, tf, 2


def try_import_torch(error: bool = False) -> tuple[Any, Any]:
    """(torch, torch.nn), or twice None where it is missing. ImportError as above."""
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        if error:
            raise
        return None, None
    return torch, torch.nn
