"""FullyConnectedNetwork: RLlib's default net in PyTorch, to build custom models on. Needs torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from skate.rllib.models.torch.misc import AppendBiasLayer, SlimFC, normc_initializer
from skate.rllib.models.torch.torch_modelv2 import TorchModelV2


class FullyConnectedNetwork(TorchModelV2, nn.Module):
    """fcnet_hiddens of model_config, then the outputs; a value branch beside it or on top."""

    def __init__(self, obs_space: Any, action_space: Any, num_outputs: int,
                 model_config: dict[str, Any], name: str) -> None:
        TorchModelV2.__init__(self, obs_space, action_space, num_outputs, model_config, name)
        hiddens = [*model_config["fcnet_hiddens"], *model_config.get("post_fcnet_hiddens", ())]
        act = model_config["fcnet_activation"]
        self._free = bool(model_config.get("free_log_std"))
        size = int(np.prod(obs_space.shape))

        def body() -> nn.Module:
            widths = [size, *hiddens]
            return nn.Sequential(*(
                SlimFC(a, b, normc_initializer(1.0), act)
                for a, b in zip(widths[:-1], widths[1:], strict=True)))

        wide = hiddens[-1] if hiddens else size
        self._hidden_layers = body()
        self._logits = SlimFC(wide, num_outputs // 2 if self._free else num_outputs,
                              normc_initializer(0.01))
        self._append_free_log_std = AppendBiasLayer(num_outputs // 2) if self._free else None
        self._value_branch_separate = (None if model_config.get("vf_share_layers") else body())
        self._value_branch = SlimFC(wide, 1, normc_initializer(0.01))
        self._features: torch.Tensor | None = None
        self._last_flat_in: torch.Tensor | None = None

    def forward(self, input_dict: dict[str, Any], state: list[Any],
                seq_lens: Any) -> tuple[torch.Tensor, list[Any]]:
        """Distribution inputs of input_dict["obs_flat"]."""
        obs = input_dict["obs_flat"].float()
        self._last_flat_in = obs.reshape(len(obs), -1)
        self._features = self._hidden_layers(self._last_flat_in)
        logits = self._logits(self._features)
        if self._append_free_log_std is not None:
            logits = self._append_free_log_std(logits)
        return logits, state

    def value_function(self) -> torch.Tensor:
        """Values of the last forward()."""
        if self._features is None:
            raise ValueError("value_function() wants a forward() first")
        features = self._features
        if self._value_branch_separate is not None:
            features = self._value_branch_separate(self._last_flat_in)
        made: torch.Tensor = self._value_branch(features).squeeze(1)
        return made
