"""TorchRLModule: an RLModule that is a torch.nn.Module. Needs torch."""

from __future__ import annotations

from typing import Any

from torch import nn

from skate.rllib.core.rl_module.rl_module import RLModule


class TorchRLModule(nn.Module, RLModule):
    """The base of modules in PyTorch; layers are made in setup()."""

    framework = "torch"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        nn.Module.__init__(self)
        RLModule.__init__(self, *args, **kwargs)

    def forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The module as a function: _forward()."""
        return self._forward(batch, **kwargs)
