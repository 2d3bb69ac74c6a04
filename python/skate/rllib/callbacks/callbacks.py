"""RLlibCallback: the newer name of DefaultCallbacks."""

from __future__ import annotations

from skate.rllib._callbacks import DefaultCallbacks
from skate.rllib._callbacks import DefaultCallbacks as RLlibCallback

__all__ = ["DefaultCallbacks", "RLlibCallback"]
