"""InputReader: where batches of experience come from."""

from __future__ import annotations

from typing import Any


class InputReader:
    """Subclass it and return one from config["input"] to bring your own data."""

    def next(self) -> Any:
        """The next SampleBatch or MultiAgentBatch; readers of files start over at their end."""
        raise NotImplementedError(f"{type(self).__name__} must define next()")


__all__ = ["InputReader"]
