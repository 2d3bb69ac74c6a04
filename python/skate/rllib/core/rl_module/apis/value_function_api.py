"""ValueFunctionAPI: a module that judges observations."""

from __future__ import annotations

import abc
from typing import Any


class ValueFunctionAPI(abc.ABC):
    """To be inherited beside TorchRLModule."""

    @abc.abstractmethod
    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Any:
        """Values [B] of batch["obs"]; `embeddings`: what forward_train() gave under that name."""
