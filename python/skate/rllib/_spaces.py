"""Spaces as plain data: how an observation becomes a row of floats, an action an index.

describe() turns a Gymnasium (or old Gym) space into a small dictionary, so that the trainer's
process need not import either; flattener() gives the function that fills the row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skate.rllib._errors import UnsupportedSpaceException

Flattener = Callable[[Any], Any]


def describe(space: Any) -> dict[str, Any]:
    """{'kind', 'size', ...} of an observation space; by name, so that either library will do."""
    kind = type(space).__name__
    if kind == "Box":
        size = 1
        for n in space.shape:
            size *= int(n)
        return {"kind": "box", "size": size, "dtype": str(space.dtype),
                "shape": [int(n) for n in space.shape]}
    if kind == "Discrete":
        return {"kind": "discrete", "size": int(space.n), "start": int(getattr(space, "start", 0))}
    if kind == "MultiBinary":
        size = 1
        for n in space.shape:
            size *= int(n)
        return {"kind": "box", "size": size, "dtype": "int8",
                "shape": [int(n) for n in space.shape]}
    if kind == "MultiDiscrete":
        widths = [int(n) for n in space.nvec.reshape(-1)]
        return {"kind": "multidiscrete", "size": sum(widths), "widths": widths}
    if kind == "Tuple":
        parts = [describe(s) for s in space.spaces]
        return {"kind": "tuple", "size": sum(p["size"] for p in parts), "parts": parts}
    if kind == "Dict":
        named = {str(k): describe(s) for k, s in space.spaces.items()}
        return {"kind": "dict", "size": sum(p["size"] for p in named.values()), "parts": named}
    raise UnsupportedSpaceException(f"no way to feed observations of {space!r} to a network")


def describe_actions(space: Any) -> dict[str, Any]:
    """{'kind': 'discrete', 'size', 'start'} of an action space."""
    if type(space).__name__ == "Discrete":
        return {"kind": "discrete", "size": int(space.n), "start": int(getattr(space, "start", 0))}
    raise UnsupportedSpaceException(
        f"PPO here has actions of Discrete spaces only, not of {space!r}")


def is_plain(space: dict[str, Any]) -> bool:
    """Whether the engine can take observations of it as they are (flat float arrays)."""
    return (space["kind"] == "box" and len(space["shape"]) == 1
            and space["dtype"] in ("float32", "float64"))


def flattener(space: dict[str, Any]) -> Flattener:
    """A function from an observation to a contiguous float32 array of space['size'] items."""
    import numpy as np

    kind, size = space["kind"], space["size"]
    if kind == "box":
        def flatten(obs: Any) -> Any:
            row = np.ascontiguousarray(np.asarray(obs, np.float32).reshape(-1))
            if row.size != size:
                raise ValueError(f"observation of {row.size} numbers, its space has {size}")
            return row
    elif kind == "discrete":
        def flatten(obs: Any) -> Any:
            row = np.zeros(size, np.float32)
            row[int(obs) - space["start"]] = 1.0
            return row
    elif kind == "multidiscrete":
        offsets = np.cumsum([0, *space["widths"][:-1]])

        def flatten(obs: Any) -> Any:
            row = np.zeros(size, np.float32)
            row[offsets + np.asarray(obs, np.int64).reshape(-1)] = 1.0
            return row
    else:
        named = kind == "dict"
        parts = space["parts"].items() if named else enumerate(space["parts"])
        inner = [(key, flattener(part)) for key, part in parts]

        def flatten(obs: Any) -> Any:
            return np.concatenate([f(obs[key]) for key, f in inner])
    return flatten
