"""OutputWriter: where batches of experience go."""

from __future__ import annotations

from typing import Any


class OutputWriter:
    """Subclass it and return one from config["output"] to store experience your own way."""

    def write(self, sample_batch: Any) -> None:
        """Store one SampleBatch or MultiAgentBatch."""
        raise NotImplementedError(f"{type(self).__name__} must define write()")

    def close(self) -> None:
        """Finish what is open."""


class NoopOutput(OutputWriter):
    """Stores nothing."""

    def write(self, sample_batch: Any) -> None:
        """Nothing."""


__all__ = ["NoopOutput", "OutputWriter"]
