"""Batches for learn(): rows as they are, or sequences for a recurrent net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Batch:
    """`rows` rows of columns in sequences of `steps`; 'state_in' has one row a sequence."""

    columns: dict[str, Any]
    rows: int
    steps: int


def sequences(columns: dict[str, Any], steps: int, fragment: int) -> Batch:
    """Rows as sequences of `steps`, each with its own first row of 'state_in'.

    `fragment` is the number of steps of each environment in the rows, 0 where it differs. Where
    fragments are made of whole sequences nothing is moved (a sequence may then go over an
    episode's end, where the engine starts from no state, as the sampler did).
    """
    import numpy as np

    rows = len(columns["rewards"])
    if fragment == 0 or fragment % steps or rows % fragment:
        return chop(columns, steps)
    return Batch({**columns, "state_in": np.ascontiguousarray(columns["state_in"][::steps])},
                 rows, steps)


def floats(columns: dict[str, Any]) -> dict[str, Any]:
    """Observations that were sampled as bytes in the engine's numbers; the rest as it is."""
    import numpy as np

    return {name: array.astype(np.float32) if name in ("obs", "new_obs")
            and array.dtype == np.uint8 else array for name, array in columns.items()}


# Columns that are for the plan, not for the engine's learn().
PLAN_COLUMNS = frozenset({"eps_id", "t"})


def for_engine(engine: Any, columns: dict[str, Any], max_seq_len: int, fragment: int) -> Batch:
    """The batch as learn() takes it: sequences of max_seq_len for a recurrent net."""
    if int(engine.state_size):
        batch = (chop(columns, max_seq_len) if getattr(engine, "chops", False)
                 else sequences(columns, max_seq_len, fragment))
    else:
        batch = Batch(columns, len(columns["rewards"]), 1)
    batch.columns = {k: v for k, v in batch.columns.items() if k not in PLAN_COLUMNS}
    return batch


def chop(columns: dict[str, Any], steps: int) -> Batch:
    """Sequences of at most `steps` rows that never cross an episode or a fragment, padded with
    zeros; 'mask' is 0 there. Each starts with its own row of 'state_in'."""
    import numpy as np

    n = len(columns["rewards"])
    first = np.ones(n, bool)                # whether a row starts a sequence
    first[1:] = (columns["cuts"][:-1] != 0) | (columns["eps_id"][1:] != columns["eps_id"][:-1])
    starts = np.nonzero(first)[0]
    lengths = np.diff(np.append(starts, n))
    inside = np.arange(n) - np.repeat(starts, lengths)
    place_in = inside % steps
    begins = np.nonzero(place_in == 0)[0]
    place = (np.cumsum(place_in == 0) - 1) * steps + place_in
    total = len(begins) * steps
    padded: dict[str, Any] = {}
    for name, array in columns.items():
        if name == "state_in":
            padded[name] = np.ascontiguousarray(array[begins])
            continue
        wide = np.zeros((total, *array.shape[1:]), array.dtype)
        wide[place] = array
        padded[name] = wide
    padded["mask"] = np.zeros(total, np.float32)
    padded["mask"][place] = 1.0
    return Batch(padded, total, steps)
