"""RLModule and its spec."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


class RLModule:
    """A net with forward methods over batches (dictionaries with "obs").

    Override setup(), which makes the layers from self.observation_space, self.action_space and
    self.model_config, and _forward(), which gives {"action_dist_inputs": [B, n]}; where acting and
    training differ, the three _forward_... methods. A critic is compute_values() of
    ValueFunctionAPI.
    """

    framework: str | None = None

    def __init__(self, observation_space: Any = None, action_space: Any = None, *,
                 inference_only: bool = False, learner_only: bool = False,
                 model_config: Any = None, catalog_class: Any = None, **kwargs: Any) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self.inference_only = inference_only
        self.learner_only = learner_only
        self.model_config = model_config if model_config is not None else {}
        self.catalog = None
        self.setup()

    def setup(self) -> None:
        """Make the layers."""

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        raise NotImplementedError(f"{type(self).__name__} must have _forward()")

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self._forward(batch, **kwargs)

    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self._forward(batch, **kwargs)

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self._forward(batch, **kwargs)

    def forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """For acting without exploration."""
        return self._forward_inference(batch, **kwargs)

    def forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """For acting with exploration."""
        return self._forward_exploration(batch, **kwargs)

    def forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """For learning."""
        return self._forward_train(batch, **kwargs)

    def get_initial_state(self) -> dict[str, Any]:
        """Nothing: modules with a state are not offered here."""
        return {}


@dataclass
class RLModuleSpec:
    """Which class, with which model_config, is the module: for config.rl_module(...)."""

    module_class: type | None = None
    observation_space: Any = None
    action_space: Any = None
    inference_only: bool = False
    model_config: Any = field(default_factory=dict)
    catalog_class: Any = None
    load_state_path: str | None = None
