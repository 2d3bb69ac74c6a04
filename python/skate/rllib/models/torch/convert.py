"""Weights of the C engine's nets as a torch state_dict, and back. Needs torch.

A net of dense layers is the same function as nn.Sequential(Linear, Activation, ...) with these
weights: "policy/0/kernel" [in, out] becomes "policy.0.weight" [out, in], "policy/0/bias" becomes
"policy.0.bias".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

KERNEL, WEIGHT = "kernel", "weight"


def _name(ours: str) -> str:
    head, _, last = ours.rpartition("/")
    parts = [part for part in head.split("/") if part]
    return ".".join([*parts, WEIGHT if last == KERNEL else last])


def to_state_dict(policy: Any) -> dict[str, torch.Tensor]:
    """All weights of a policy (trainer.get_policy()), as tensors of their own."""
    return {_name(name): torch.from_numpy(np.array(array.T if name.endswith(KERNEL) else array))
            for name, array in policy.get_weights().items()}


def from_state_dict(policy: Any, state_dict: Mapping[str, torch.Tensor], net: str = "") -> None:
    """Give a policy the weights of a state_dict: to_state_dict()'s names, or any module's with
    the same shapes in the same order. `net`: only tensors whose name begins so ("policy"), in
    place of those; the others stay. ValueError names what does not fit; nothing is changed then.
    """
    own = {name: array for name, array in policy.get_weights().items() if name.startswith(net)}
    named = {_name(name): name for name in own}
    given = {key: np.asarray(tensor.detach().cpu(), np.float32)
             for key, tensor in state_dict.items()}
    if set(named) <= set(given):
        pairs = [(named[key], key) for key in named]
    elif len(given) == len(own):
        pairs = list(zip(own, given, strict=True))
    else:
        raise ValueError(f"a state_dict of {len(given)} tensors for {len(own)}: {list(named)}")
    weights = dict(policy.get_weights())
    for name, key in pairs:
        array = given[key].T if name.endswith(KERNEL) else given[key]
        if array.shape != own[name].shape:
            raise ValueError(f"{key!r} has shape {given[key].shape}, which does not fit "
                             f"{name!r} {own[name].shape} (a torch weight is its transpose)")
        weights[name] = np.ascontiguousarray(array)
    policy.set_weights(weights)
