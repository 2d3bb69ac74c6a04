"""IOContext: what a reader or writer may want to know of the worker it belongs to."""

from __future__ import annotations

import os
from typing import Any


class IOContext:
    """`log_dir`, `config`, `worker_index` (0: the trainer's own) and `worker`."""

    def __init__(self, log_dir: str | None = None, config: Any = None, worker_index: int = 0,
                 worker: Any = None) -> None:
        self.log_dir = log_dir or os.getcwd()
        self.config: dict[str, Any] = dict(config) if config else {}
        self.worker_index = worker_index
        self.worker = worker

    @property
    def input_config(self) -> dict[str, Any]:
        """config["input_config"]."""
        return self.config.get("input_config") or {}

    @property
    def output_config(self) -> dict[str, Any]:
        """config["output_config"]."""
        return self.config.get("output_config") or {}

    def default_sampler_input(self) -> Any:
        """The worker's own sampler, or None."""
        return getattr(self.worker, "sampler", None)


__all__ = ["IOContext"]
