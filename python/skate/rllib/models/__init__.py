"""Models of the user's own: ModelCatalog and the base classes (RLlib's `rllib.models`)."""

from __future__ import annotations

from skate.rllib._config import MODEL_DEFAULTS
from skate.rllib.models.catalog import ModelCatalog
from skate.rllib.models.modelv2 import ModelV2

__all__ = ["MODEL_DEFAULTS", "ModelCatalog", "ModelV2"]
