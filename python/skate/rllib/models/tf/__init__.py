"""Base classes and layers for models in TensorFlow."""

from __future__ import annotations

from typing import Any

from skate.rllib.models.tf.tf_modelv2 import TFModelV2

__all__ = ["FullyConnectedNetwork", "TFModelV2"]


def __getattr__(name: str) -> Any:
    """FullyConnectedNetwork, which needs TensorFlow, when it is asked for."""
    if name != "FullyConnectedNetwork":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from skate.rllib.models.tf.fcnet import FullyConnectedNetwork

    return FullyConnectedNetwork
