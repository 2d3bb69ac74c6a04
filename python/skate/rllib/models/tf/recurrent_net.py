"""RecurrentNetwork: a TFModelV2 that sees sequences. Needs TensorFlow when it runs."""

from __future__ import annotations

from typing import Any

from skate.rllib.models.tf.tf_modelv2 import TFModelV2


class RecurrentNetwork(TFModelV2):
    """Override forward_rnn(), value_function() and get_initial_state()."""

    def forward(self, input_dict: dict[str, Any], state: list[Any],
                seq_lens: Any) -> tuple[Any, list[Any]]:
        """Rows in sequences to forward_rnn(), its outputs in rows."""
        import tensorflow as tf

        rows = input_dict["obs_flat"]
        sequences = tf.reshape(rows, [tf.shape(seq_lens)[0], -1, rows.shape[-1]])
        outputs, after = self.forward_rnn(sequences, state, seq_lens)
        return tf.reshape(outputs, [-1, self.num_outputs]), list(after)

    def forward_rnn(self, inputs: Any, state: list[Any],
                    seq_lens: Any) -> tuple[Any, list[Any]]:
        """(outputs [B, T, num_outputs], the next state) of inputs [B, T, size], padded behind
        seq_lens [B] steps."""
        raise NotImplementedError("a recurrent model must have forward_rnn()")
