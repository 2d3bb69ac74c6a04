"""Layers that models of the 1.8 era are made of. Needs torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU, "sigmoid": nn.Sigmoid, "swish": nn.SiLU,
    "silu": nn.SiLU, "gelu": nn.GELU, "leaky_relu": nn.LeakyReLU,
}


def normc_initializer(std: float = 1.0) -> Callable[[torch.Tensor], None]:
    """Fills weights [out, in] so that each unit's incoming weights have length `std`."""

    def fill(tensor: torch.Tensor) -> None:
        with torch.no_grad():
            tensor.normal_(0.0, 1.0)
            tensor *= std / tensor.square().sum(1, keepdim=True).sqrt()

    return fill


def activation(name: Any) -> nn.Module | None:
    """The layer of an activation's name, or of a class; None for "linear"."""
    if name is None or name == "linear":
        return None
    if isinstance(name, str):
        if name.lower() not in ACTIVATIONS:
            raise ValueError(f"no activation {name!r}; there are: linear, "
                             f"{', '.join(ACTIVATIONS)}")
        return ACTIVATIONS[name.lower()]()
    made: nn.Module = name()
    return made


class SlimFC(nn.Module):
    """A dense layer with start values and an activation."""

    def __init__(self, in_size: int, out_size: int, initializer: Any = None,
                 activation_fn: Any = None, use_bias: bool = True, bias_init: float = 0.0) -> None:
        super().__init__()
        layer = nn.Linear(in_size, out_size, bias=use_bias)
        (initializer or nn.init.xavier_uniform_)(layer.weight)
        if use_bias:
            nn.init.constant_(layer.bias, bias_init)
        act = activation(activation_fn)
        self._model = nn.Sequential(layer, *([act] if act is not None else []))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, in] -> [B, out]."""
        made: torch.Tensor = self._model(x)
        return made


class AppendBiasLayer(nn.Module):
    """Appends free parameters to each row: a log standard deviation that no observation moves."""

    def __init__(self, num_bias_vars: int) -> None:
        super().__init__()
        self.log_std = nn.Parameter(torch.zeros(num_bias_vars))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, n] -> [B, n + num_bias_vars]."""
        return torch.cat([x, self.log_std.expand(len(x), -1)], 1)
