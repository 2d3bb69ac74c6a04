"""Callbacks under their 1.8-era path."""

from __future__ import annotations

from skate.rllib._callbacks import DefaultCallbacks

__all__ = ["DefaultCallbacks"]
