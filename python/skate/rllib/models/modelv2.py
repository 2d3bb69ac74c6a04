"""ModelV2: the base of models of the 1.8 era."""

from __future__ import annotations

from typing import Any


class ModelV2:
    """A net with forward() and value_function().

    Arguments: the spaces, `num_outputs` (columns of the action distribution's inputs: n of a
    Discrete space, 2 * size of a Box), the config's "model" dictionary, a name.
    """

    def __init__(self, obs_space: Any, action_space: Any, num_outputs: int,
                 model_config: dict[str, Any], name: str, framework: str = "torch") -> None:
        self.obs_space = obs_space
        self.action_space = action_space
        self.num_outputs = num_outputs
        self.model_config = model_config
        self.name = name
        self.framework = framework

    def forward(self, input_dict: dict[str, Any], state: list[Any],
                seq_lens: Any) -> tuple[Any, list[Any]]:
        """(distribution inputs [B, num_outputs], the next state) for input_dict["obs"]."""
        raise NotImplementedError("a model must have forward()")

    def value_function(self) -> Any:
        """Values [B] of the observations of the last forward()."""
        raise NotImplementedError("a model must have value_function() to train with a critic")

    def get_initial_state(self) -> list[Any]:
        """Tensors of one row's state; none by default."""
        return []

    def custom_loss(self, policy_loss: Any, loss_inputs: dict[str, Any]) -> Any:
        """The loss to take in place of policy_loss."""
        return policy_loss

    def metrics(self) -> dict[str, float]:
        """More numbers for the result, after custom_loss()."""
        return {}
