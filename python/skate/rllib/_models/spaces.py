"""Observations and spaces as a model sees them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np


def restore(rows: Any, space: dict[str, Any], reshape: Any) -> Any:
    """Rows [B, size] of any framework as what the space holds, as skate.rllib._spaces flattened
    it: an array, or a dictionary or tuple of them. reshape(tensor, shape) is the framework's."""
    kind = space["kind"]
    if kind in ("dict", "tuple"):
        named = isinstance(space["parts"], dict)
        parts = space["parts"].items() if named else enumerate(space["parts"])
        made, at = {}, 0
        for name, part in parts:
            made[name] = restore(rows[:, at:at + part["size"]], part, reshape)
            at += part["size"]
        return made if named else tuple(made.values())
    if kind == "box" and len(space["shape"]) != 1:
        return reshape(rows, (-1, *space["shape"]))
    return rows


def space_of(space: dict[str, Any]) -> Any:
    """A space object for a model's constructor: Gymnasium's, or a stand-in with shape and n where
    Gymnasium is not installed."""
    kind = space["kind"]
    try:
        from gymnasium import spaces
    except ImportError:
        return SimpleNamespace(shape=tuple(space.get("shape") or (space["size"],)),
                               n=space["size"])
    if kind == "discrete":
        return spaces.Discrete(space["size"], start=space["start"])
    if kind == "multi":
        return spaces.MultiDiscrete(space["sizes"])
    if kind == "box" and "low" in space:
        shape = tuple(space["shape"])
        return spaces.Box(np.reshape(space["low"], shape).astype(np.float32),
                          np.reshape(space["high"], shape).astype(np.float32), dtype=np.float32)
    shape = tuple(space["shape"]) if kind == "box" else (int(space["size"]),)
    return spaces.Box(-np.inf, np.inf, shape, np.float32)
