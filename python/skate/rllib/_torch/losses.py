"""Losses over a model's answers; the same formulas as src/rl/algo has for its own nets.

Each is f(pass, columns, options) -> (loss, statistics). `Pass` has what the model said of the
rows; columns are tensors of the rows that count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from skate.rllib._torch.dist import Dist

Tensor = torch.Tensor
Columns = dict[str, Tensor]


@dataclass
class Pass:
    """A forward pass: distribution inputs [B, n] and values [B] (None: no critic)."""

    inputs: Tensor
    values: Tensor | None
    dist: Dist


Loss = Callable[[Pass, Columns, dict[str, Any]], tuple[Tensor, dict[str, Tensor]]]


def _critic(p: Pass) -> Tensor:
    if p.values is None:
        raise ValueError("this algorithm needs a critic: the model must have value_function() "
                         "(TorchModelV2), compute_values() (RLModule) or give (inputs, values)")
    return p.values


def pg(p: Pass, c: Columns, o: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    """Williams 1992: -mean(log p * return)."""
    loss = -(p.dist.logp(p.inputs, c["actions"]) * c["advantages"]).mean()
    return loss, {"policy_loss": loss}


def a2c(p: Pass, c: Columns, o: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    """Mnih et al. 2016; sums over the batch, as RLlib's A2C and A3C."""
    values = _critic(p)
    policy = -(p.dist.logp(p.inputs, c["actions"]) * c["advantages"]).sum()
    value = 0.5 * (values - c["value_targets"]).square().sum()
    entropy = p.dist.entropy(p.inputs).sum()
    rows = len(values)
    loss = policy + o["vf_loss_coeff"] * value - o["entropy_coeff"] * entropy
    return loss, {"policy_loss": policy / rows, "vf_loss": value / rows,
                  "policy_entropy": entropy / rows}


def ppo(p: Pass, c: Columns, o: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    """Schulman et al. 2017: the clipped surrogate, KL penalty, clipped value loss."""
    values = _critic(p)
    ratio = (p.dist.logp(p.inputs, c["actions"]) - c["logp"]).exp()
    clipped = ratio.clamp(1.0 - o["clip_param"], 1.0 + o["clip_param"])
    surrogate = torch.minimum(ratio * c["advantages"], clipped * c["advantages"])
    kl = p.dist.kl(c["inputs"], p.inputs).mean()
    entropy = p.dist.entropy(p.inputs).mean()
    near = c["vf"] + (values - c["vf"]).clamp(-o["vf_clip_param"], o["vf_clip_param"])
    value = torch.maximum((values - c["value_targets"]).square(),
                          (near - c["value_targets"]).square()).mean()
    policy = -surrogate.mean()
    loss = (policy + o["kl_coeff"] * kl + o["vf_loss_coeff"] * value
            - o["entropy_coeff"] * entropy)
    return loss, {"policy_loss": policy, "vf_loss": value, "kl": kl, "entropy": entropy}


LOSSES: dict[str, Loss] = {"PG": pg, "A2C": a2c, "A3C": a2c, "PPO": ppo}
