"""skate.rllib._models.array_ops on torch tensors."""

from __future__ import annotations

import torch

Tensor = torch.Tensor

exp, minimum, maximum = torch.exp, torch.minimum, torch.maximum
clamp, total, mean = torch.clamp, torch.sum, torch.mean


def log_softmax(x: Tensor) -> Tensor:
    """[B, n], along rows."""
    return torch.log_softmax(x, 1)


def pick(x: Tensor, index: Tensor) -> Tensor:
    """[B]: of each row of x [B, n] the number at index [B]."""
    return x.gather(1, index.long().reshape(-1, 1)).squeeze(1)


def split(x: Tensor, sizes: list[int]) -> list[Tensor]:
    """Columns of x in parts."""
    return list(x.split(sizes, 1))


def row_sum(x: Tensor) -> Tensor:
    """[B] of [B, n]."""
    return x.sum(1)
