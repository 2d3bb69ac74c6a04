"""FullyConnectedNetwork: RLlib's default net in Keras, for custom models. Needs TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from skate.rllib.models.tf.misc import normc_initializer
from skate.rllib.models.tf.tf_modelv2 import TFModelV2

layers = tf.keras.layers


class FullyConnectedNetwork(TFModelV2):
    """fcnet_hiddens of model_config, then the outputs; a value branch beside it or on top."""

    def __init__(self, obs_space: Any, action_space: Any, num_outputs: int,
                 model_config: dict[str, Any], name: str) -> None:
        super().__init__(obs_space, action_space, num_outputs, model_config, name)
        hiddens = [*model_config["fcnet_hiddens"], *model_config.get("post_fcnet_hiddens", ())]
        act = model_config["fcnet_activation"]
        free = bool(model_config.get("free_log_std"))
        rows = layers.Input((int(np.prod(obs_space.shape)),), name="observations")

        def body(label: str) -> Any:
            x = rows
            for i, width in enumerate(hiddens):
                x = layers.Dense(width, act, kernel_initializer=normc_initializer(1.0),
                                 name=f"fc_{label}{i + 1}")(x)
            return x

        def last(x: Any, width: int, label: str) -> Any:
            return layers.Dense(width, kernel_initializer=normc_initializer(0.01), name=label)(x)

        features = body("")
        values = features if model_config.get("vf_share_layers") else body("value_")
        self.base_model = tf.keras.Model(rows, [
            last(features, num_outputs // 2 if free else num_outputs, "fc_out"),
            last(values, 1, "value_out")])
        self.log_std = tf.Variable(tf.zeros(num_outputs // 2)) if free else None
        self._value_out: Any = None

    def forward(self, input_dict: dict[str, Any], state: list[Any],
                seq_lens: Any) -> tuple[Any, list[Any]]:
        """Distribution inputs of input_dict["obs_flat"]."""
        obs = tf.cast(input_dict["obs_flat"], tf.float32)
        outputs, self._value_out = self.base_model(
            tf.reshape(obs, [-1, self.base_model.input_shape[1]]))
        if self.log_std is not None:
            more = tf.broadcast_to(self.log_std, tf.shape(outputs))
            outputs = tf.concat([outputs, more], 1)
        return outputs, state

    def value_function(self) -> Any:
        """Values of the last forward()."""
        if self._value_out is None:
            raise ValueError("value_function() wants a forward() first")
        return tf.reshape(self._value_out, [-1])
