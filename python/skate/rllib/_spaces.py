"""Spaces as plain data: how an observation becomes a row of floats, an action an index.

describe() turns a Gymnasium (or old Gym) space into a small dictionary, so that the trainer's
process need not import either; flattener() gives the function that fills the row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skate.rllib._errors import EnvAnswerError, EnvError, UnsupportedSpaceException

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
    """An action space as plain data: 'discrete' {size, start}, 'box' {size, shape, low, high} or
    'multi' {size, sizes, starts, shape}: MultiDiscrete, MultiBinary, a Tuple of Discrete."""
    kind = type(space).__name__
    if kind == "Discrete":
        return {"kind": "discrete", "size": int(space.n), "start": int(getattr(space, "start", 0))}
    if kind == "Box":
        size = 1
        for n in space.shape:
            size *= int(n)
        return {"kind": "box", "size": size, "dtype": str(space.dtype),
                "shape": [int(n) for n in space.shape],
                "low": [float(x) for x in space.low.reshape(-1)],
                "high": [float(x) for x in space.high.reshape(-1)]}
    if kind == "MultiDiscrete":
        sizes = [int(n) for n in space.nvec.reshape(-1)]
        start = getattr(space, "start", None)
        starts = [0] * len(sizes) if start is None else [int(n) for n in start.reshape(-1)]
        return {"kind": "multi", "size": len(sizes), "sizes": sizes, "starts": starts,
                "shape": [int(n) for n in space.nvec.shape], "dtype": str(space.dtype)}
    if kind == "MultiBinary":
        count = 1
        for n in space.shape:
            count *= int(n)
        return {"kind": "multi", "size": count, "sizes": [2] * count, "starts": [0] * count,
                "shape": [int(n) for n in space.shape], "dtype": "int8"}
    if kind == "Tuple" and all(type(s).__name__ == "Discrete" for s in space.spaces):
        return {"kind": "multi", "size": len(space.spaces),
                "sizes": [int(s.n) for s in space.spaces],
                "starts": [int(getattr(s, "start", 0)) for s in space.spaces],
                "shape": None, "dtype": "int64"}
    raise UnsupportedSpaceException(f"no way to draw actions of {space!r}")


def actions_for_engine(space: dict[str, Any]) -> dict[str, Any]:
    """A described action space as skate._rl.Algo takes it."""
    kind = space["kind"]
    if kind == "discrete":
        return {"kind": "discrete", "size": space["size"]}
    if kind == "multi":
        return {"kind": "multi", "sizes": list(space["sizes"])}
    return {"kind": "box", "size": space["size"], "shape": [space["size"]],
            "low": list(space["low"]), "high": list(space["high"])}


def obs_for_engine(space: dict[str, Any]) -> dict[str, Any]:
    """A described observation space as skate._rl.Algo takes it: what the flattener makes of it,
    images in their shape."""
    shape = list(space["shape"]) if space["kind"] == "box" else [space["size"]]
    return {"kind": "box", "size": space["size"],
            "shape": shape if len(shape) == 3 else [space["size"]]}


def action_rows(space: dict[str, Any], *lead: int) -> Any:
    """An array for actions as the engine gives them: [*lead] int32, or with a last axis."""
    import numpy as np

    if space["kind"] == "discrete":
        return np.zeros(lead, np.int32)
    return np.zeros((*lead, space["size"]), np.float32 if space["kind"] == "box" else np.int32)


def bounded(space: dict[str, Any]) -> bool:
    """Whether each number of a box has finite bounds."""
    return all(abs(x) < float("inf") for x in (*space["low"], *space["high"]))


CHOICES_MAX = 4096
_choices: dict[tuple[int, int], list[Any]] = {}


def choices(space: dict[str, Any]) -> list[Any]:
    """The actions of a discrete space as the environment takes them. NumPy's integers: what RLlib
    gives, and what Gymnasium's spaces are quicker with than with Python's."""
    import numpy as np

    key = space["start"], space["size"]
    if key not in _choices:
        _choices[key] = [np.int64(key[0] + i) for i in range(key[1])]
    return _choices[key]


def decoder(space: dict[str, Any], normalize: bool, clip: bool) -> Callable[[Any], Any]:
    """A function from the engine's action (a row of action_rows()) to the environment's own.

    With `normalize`, a bounded box is acted on in [-1, 1] and stretched here; with `clip`, a box
    is cut to its bounds. A stretched action never leaves them.
    """
    import numpy as np

    kind = space["kind"]
    if kind == "discrete":
        start = space["start"]
        if space["size"] <= CHOICES_MAX:
            return choices(space).__getitem__
        return lambda action: np.int64(action + start)
    shape = space["shape"]
    dtype = np.dtype(space["dtype"])
    if kind == "multi":
        starts = np.array(space["starts"], np.int64)
        if shape is None:
            return lambda action: tuple((action + starts).tolist())
        return lambda action: (action + starts).astype(dtype).reshape(shape)
    low, high = (np.array(space[name], np.float32) for name in ("low", "high"))
    if normalize and bounded(space):
        half = (high - low) / 2

        def stretch(action: Any) -> Any:
            inside = np.minimum(np.maximum(low + (action + 1.0) * half, low), high)
            return inside.astype(dtype).reshape(shape)
        return stretch
    if clip:
        return lambda action: np.clip(action, low, high).astype(dtype).reshape(shape)
    return lambda action: action.astype(dtype).reshape(shape)


def team(space: dict[str, Any], actions: dict[str, Any]) -> dict[str, Any]:
    """A team's observation (a described Tuple of Dicts {'obs', 'action_mask', 'state'}, the last
    two as the environment likes) as 'team': all 'obs', then all masks, then the state. Others are
    given back as they are. EnvError: a mask that does not fit the actions."""
    parts = space["parts"] if space["kind"] == "tuple" else []
    if not parts or not all(p["kind"] == "dict" and "obs" in p["parts"] for p in parts):
        return space
    agents = [p["parts"] for p in parts]
    masked = "action_mask" in agents[0]
    state = agents[0]["state"]["size"] if "state" in agents[0] else 0
    for i, (agent, size) in enumerate(zip(agents, actions["sizes"])):
        if ("action_mask" in agent) != masked or masked and agent["action_mask"]["size"] != size:
            raise EnvError(f"agent {i} of the team must have an action_mask of {size} numbers, "
                           "one an action, as the others")
    masks = sum(actions["sizes"]) if masked else 0
    seen = sum(agent["obs"]["size"] for agent in agents)
    return {"kind": "team", "size": seen + masks + state, "agents": agents, "seen": seen,
            "masks": masks, "state": state}


def team_options(space: dict[str, Any]) -> dict[str, Any]:
    """What the engine must know of a 'team'; {} of other spaces."""
    if space["kind"] != "team":
        return {}
    return {"action_mask": space["masks"] > 0, "state_size": space["state"]}


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
                raise EnvAnswerError(f"observation of {row.size} numbers, its space has {size}",
                                     "observation")
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
    elif kind == "team":
        flatten = _team_row(space)
    else:
        named = kind == "dict"
        parts = space["parts"].items() if named else enumerate(space["parts"])
        inner = [(key, flattener(part)) for key, part in parts]

        def flatten(obs: Any) -> Any:
            return np.concatenate([f(obs[key]) for key, f in inner])
    return flatten


def _team_row(space: dict[str, Any]) -> Flattener:
    import numpy as np

    seen = [flattener(agent["obs"]) for agent in space["agents"]]
    mask = (flattener(space["agents"][0]["action_mask"]) if space["masks"] else None)
    state = flattener(space["agents"][0]["state"]) if space["state"] else None

    def flatten(obs: Any) -> Any:
        row = [f(one["obs"]) for f, one in zip(seen, obs)]
        if mask is not None:
            row += [mask(one["action_mask"]) for one in obs]
        if state is not None:
            row.append(state(obs[0]["state"]))
        return np.concatenate(row)
    return flatten
