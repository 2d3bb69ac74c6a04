"""Losses over a model's answers; the same formulas as src/rl/algo has for its own nets.

Each is f(pass, columns, options) -> (loss, statistics). `Pass` has what the model said of the
rows; columns are tensors of the rows that count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from skate.rllib._models.dist import Dist

Columns = dict[str, Any]


@dataclass
class Pass:
    """A forward pass: distribution inputs [B, n] and values [B] (None: no critic), in tensors of
    the framework that `ops` works on."""

    inputs: Any
    values: Any
    dist: Dist
    ops: Any


Loss = Callable[[Pass, Columns, dict[str, Any]], tuple[Any, dict[str, Any]]]


def _critic(p: Pass) -> Any:
    if p.values is None:
        raise ValueError("this algorithm needs a critic: the model must have value_function() "
                         "(TorchModelV2, TFModelV2), compute_values() (RLModule) or give "
                         "(inputs, values)")
    return p.values


def pg(p: Pass, c: Columns, o: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Williams 1992: -mean(log p * return)."""
    loss = -p.ops.mean(p.dist.logp(p.inputs, c["actions"]) * c["advantages"])
    return loss, {"policy_loss": loss}


def a2c(p: Pass, c: Columns, o: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Mnih et al. 2016; sums over the batch, as RLlib's A2C and A3C (loss_mean: means)."""
    far = _critic(p) - c["value_targets"]
    policy = -(p.dist.logp(p.inputs, c["actions"]) * c["advantages"])
    value, entropy = 0.5 * far * far, p.dist.entropy(p.inputs)
    whole = p.ops.mean if o["loss_mean"] else p.ops.total
    loss = (whole(policy) + o["vf_loss_coeff"] * whole(value)
            - o["entropy_coeff"] * whole(entropy))
    return loss, {"policy_loss": p.ops.mean(policy), "vf_loss": p.ops.mean(value),
                  "policy_entropy": p.ops.mean(entropy)}


def ppo(p: Pass, c: Columns, o: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Schulman et al. 2017: the clipped surrogate, KL penalty, clipped value loss (vf_clip_mode:
    the move from the old "value" is clipped, or the "loss")."""
    values = _critic(p)
    ratio = p.ops.exp(p.dist.logp(p.inputs, c["actions"]) - c["logp"])
    clipped = p.ops.clamp(ratio, 1.0 - o["clip_param"], 1.0 + o["clip_param"])
    surrogate = p.ops.minimum(ratio * c["advantages"], clipped * c["advantages"])
    kl = p.ops.mean(p.dist.kl(c["inputs"], p.inputs))
    entropy = p.ops.mean(p.dist.entropy(p.inputs))
    far = values - c["value_targets"]
    if o["vf_clip_mode"] == "loss":
        value = p.ops.mean(p.ops.clamp(far * far, 0.0, o["vf_clip_param"]))
    else:
        near = c["vf"] + p.ops.clamp(values - c["vf"], -o["vf_clip_param"], o["vf_clip_param"])
        near_far = near - c["value_targets"]
        value = p.ops.mean(p.ops.maximum(far * far, near_far * near_far))
    policy = -p.ops.mean(surrogate)
    loss = (policy + o["kl_coeff"] * kl + o["vf_loss_coeff"] * value
            - o["entropy_coeff"] * entropy)
    return loss, {"policy_loss": policy, "vf_loss": value, "kl": kl, "entropy": entropy}


LOSSES: dict[str, Loss] = {"PG": pg, "A2C": a2c, "A3C": a2c, "PPO": ppo}
