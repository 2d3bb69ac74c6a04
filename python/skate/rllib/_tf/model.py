"""One face for the models that users write: TFModelV2, plain keras.Model.

forward(obs rows, state, lengths, training) -> (distribution inputs, values or None, next state).
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from skate.rllib._models.spaces import restore, space_of
from skate.rllib.models.tf.tf_modelv2 import TFModelV2, named_variables

Answer = tuple[Any, Any, list[Any]]


class Face:
    """Base: rows of floats become the user's observations."""

    def __init__(self, obs_space: dict[str, Any], net: Any) -> None:
        self.net = net
        self._space = obs_space

    def initial_state(self) -> list[Any]:
        """State of one row."""
        return []

    def obs(self, rows: Any) -> Any:
        """[B, size] in the shape of the space: an array, or a dictionary or tuple of them."""
        return restore(rows, self._space, tf.reshape)

    def forward(self, rows: Any, state: list[Any], lengths: Any, training: bool) -> Answer:
        """See above."""
        raise NotImplementedError

    def variables(self) -> dict[str, Any]:
        """tf.Variables by name, those that do not train included."""
        return named_variables(self.net)

    def loss(self, loss: Any, batch: dict[str, Any]) -> Any:
        """The model's own loss, if it has one."""
        return loss

    def numbers(self) -> dict[str, float]:
        """More statistics, of the model's own."""
        return {}


class ModelV2Face(Face):
    """A TFModelV2."""

    def initial_state(self) -> list[Any]:
        """get_initial_state(), as tensors."""
        return [tf.convert_to_tensor(s, tf.float32) for s in self.net.get_initial_state()]

    def forward(self, rows: Any, state: list[Any], lengths: Any, training: bool) -> Answer:
        """forward(), then value_function()."""
        given = {"obs": self.obs(rows), "obs_flat": rows, "is_training": training}
        inputs, after = self.net.forward(given, state, lengths)
        try:
            values = self.net.value_function()
        except NotImplementedError:
            values = None
        return inputs, values, list(after)

    def loss(self, loss: Any, batch: dict[str, Any]) -> Any:
        """custom_loss() of the model; RLlib gives it the tensor itself."""
        made = self.net.custom_loss(loss, batch)
        return made[0] if isinstance(made, (list, tuple)) else made

    def numbers(self) -> dict[str, float]:
        """metrics() of the model."""
        return {k: float(v) for k, v in (self.net.metrics() or {}).items()}


class PlainFace(Face):
    """A Keras model: obs -> inputs, or -> (inputs, values); without values a net of their own."""

    def __init__(self, obs_space: dict[str, Any], net: Any, critic: Any) -> None:
        super().__init__(obs_space, net)
        self._critic = critic
        self._gives_values = False

    def forward(self, rows: Any, state: list[Any], lengths: Any, training: bool) -> Answer:
        """The model's answer; values of the critic beside it if it gives none."""
        out = (self.net(self.obs(rows)) if isinstance(self.net, tf.Module) else
               self.net(self.obs(rows), training=training))
        if isinstance(out, (tuple, list)):
            self._gives_values = True
            return out[0], out[1], []
        return out, self._critic(rows), []

    def variables(self) -> dict[str, Any]:
        """The model's, then the critic's if it is used."""
        own = named_variables(self.net, "net")
        return own if self._gives_values else {**own, **named_variables(self._critic, "critic")}


def build(model: dict[str, Any], obs_space: dict[str, Any], action_space: dict[str, Any],
          n_inputs: int) -> Face:
    """The face of a config's model, config["model"] with 'custom_model' a class or a Keras model.
    TypeError: it is neither, or makes neither."""
    made, own = model["custom_model"], dict(model.get("custom_model_config") or {})
    if isinstance(made, type) and issubclass(made, TFModelV2):
        return ModelV2Face(obs_space, made(
            space_of(obs_space), space_of(action_space), n_inputs,
            {**model, "custom_model_config": own}, "model", **own))
    if not _is_net(made):
        made = made(int(obs_space["size"]), n_inputs, **own)
    if not _is_net(made):
        raise TypeError(f"custom_model made a {type(made).__name__}, not a keras.Model (a model in "
                        "PyTorch wants framework='torch')")
    return PlainFace(obs_space, made, critic_of(model))


def _is_net(made: Any) -> bool:
    return isinstance(made, (tf.keras.layers.Layer, tf.Module)) and not isinstance(made, type)


def critic_of(model: dict[str, Any]) -> Any:
    """Values of rows [B, 1], by fcnet_hiddens."""
    from skate.rllib.models.tf.misc import normc_initializer

    hidden = [tf.keras.layers.Dense(width, model["fcnet_activation"],
                                    kernel_initializer=normc_initializer(1.0))
              for width in model["fcnet_hiddens"]]
    return tf.keras.Sequential(
        [*hidden, tf.keras.layers.Dense(1, kernel_initializer=normc_initializer(0.01))])
