"""DefaultModelConfig: the keys of the built-in nets as a dataclass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class DefaultModelConfig:
    """The same keys as config["model"], with their defaults."""

    fcnet_hiddens: list[int] = field(default_factory=lambda: [256, 256])
    fcnet_activation: str = "tanh"
    conv_filters: list[Any] | None = None
    conv_activation: str = "relu"
    vf_share_layers: bool = False
    free_log_std: bool = False
    use_lstm: bool = False
    max_seq_len: int = 20
    lstm_cell_size: int = 256
