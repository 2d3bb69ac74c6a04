"""TorchModelV2: the base of PyTorch models of the 1.8 era.

    class MyModel(TorchModelV2, nn.Module):
        def __init__(self, obs_space, action_space, num_outputs, model_config, name):
            TorchModelV2.__init__(self, obs_space, action_space, num_outputs, model_config, name)
            nn.Module.__init__(self)
"""

from __future__ import annotations

from typing import Any

from skate.rllib.models.modelv2 import ModelV2


class TorchModelV2(ModelV2):
    """To be inherited together with torch.nn.Module."""

    def __init__(self, obs_space: Any, action_space: Any, num_outputs: int,
                 model_config: dict[str, Any], name: str) -> None:
        # nn.Module's __setattr__ needs its own state first, whichever is initialised first.
        import torch

        if isinstance(self, torch.nn.Module) and "_parameters" not in self.__dict__:
            torch.nn.Module.__init__(self)
        ModelV2.__init__(self, obs_space, action_space, num_outputs, model_config, name, "torch")

    def variables(self, as_dict: bool = False) -> Any:
        """The parameters, as a list or by name."""
        named = dict(self.named_parameters())  # type: ignore[attr-defined]
        return named if as_dict else list(named.values())
