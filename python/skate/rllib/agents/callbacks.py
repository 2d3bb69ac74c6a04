"""Callbacks: what a trainer calls besides its own work."""

from __future__ import annotations

from typing import Any


class DefaultCallbacks:
    """Subclass and name it as config['callbacks']."""

    def __init__(self, legacy_callbacks_dict: dict[str, Any] | None = None) -> None:
        self.legacy_callbacks = legacy_callbacks_dict or {}

    def on_train_result(self, *, trainer: Any = None, result: dict[str, Any],
                        **kwargs: Any) -> None:
        """After each iteration; may add to `result`."""
