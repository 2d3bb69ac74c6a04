"""Callbacks under their 2.0-era path."""

from __future__ import annotations

from skate.rllib._callbacks import DefaultCallbacks
from skate.rllib._callbacks import DefaultCallbacks as RLlibCallback

__all__ = ["DefaultCallbacks", "RLlibCallback"]
