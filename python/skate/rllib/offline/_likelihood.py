"""log pi(a | s) of given actions, from the inputs of a policy's action distribution."""

from __future__ import annotations

from typing import Any

import numpy as np


def log_likelihoods(policy: Any, actions: Any, obs: Any) -> Any:
    """float64 [rows]; `policy` has compute_actions() and `action_space` as _spaces describes it.

    Raises:
        ValueError: its distribution is neither categorical nor a diagonal Gaussian.
    """
    space = policy.action_space
    _actions, _state, extra = policy.compute_actions(obs, explore=False)
    inputs = np.asarray(extra["action_dist_inputs"], np.float64)
    rows = len(inputs)
    if space["kind"] == "box":
        size = space["size"]
        if getattr(policy, "squashed", False) or inputs.shape[1] != 2 * size:
            raise ValueError("log probabilities of given actions are known of categorical and "
                             "Gaussian policies only")
        mean, log_std = inputs[:, :size], inputs[:, size:]
        z = (np.asarray(actions, np.float64).reshape(rows, size) - mean) / np.exp(log_std)
        return (-0.5 * z ** 2 - log_std - 0.5 * np.log(2 * np.pi)).sum(axis=1)
    discrete = space["kind"] == "discrete"
    sizes = [space["size"]] if discrete else space["sizes"]
    starts = [space["start"]] if discrete else space["starts"]
    picked = np.asarray(actions).astype(np.int64).reshape(rows, len(sizes)) - starts
    total, at = np.zeros(rows), 0
    for part, size in enumerate(sizes):
        logits = inputs[:, at:at + size]
        top = logits.max(axis=1)
        norm = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        total += logits[np.arange(rows), picked[:, part]] - norm
        at += size
    return total
