"""What IMPALA and APPO keep of batches they have seen: replay, and passes that take turns.

Both are RLlib 1.8's: MixIn adds old fragments to new ones, Ring has each train batch learned from
several times, with others between. Both draw from a generator of their own, and are kept in
checkpoints, as plain arrays.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

Columns = dict[str, Any]


class MixIn:
    """The last `slots` fragments; `proportion` of them comes with each new one on the average."""

    def __init__(self, slots: int, proportion: float, seed: int) -> None:
        import numpy as np

        self._slots, self._proportion = slots, proportion
        self._kept: list[Columns] = []
        self._next = 0
        self._rng = np.random.default_rng([seed, 11])

    def __call__(self, columns: Columns) -> list[Columns]:
        """The fragment, and what is replayed with it (which may be itself)."""
        out, more = [columns], self._proportion
        if more <= 0:
            return out
        kept = {name: array if array.flags.writeable else array.copy()      # not in the store
                for name, array in columns.items()}
        if len(self._kept) < self._slots:
            self._kept.append(kept)
        else:
            self._kept[self._next] = kept
            self._next = (self._next + 1) % self._slots
        while self._rng.random() < more:
            more -= 1
            out.append(self._kept[int(self._rng.integers(len(self._kept)))])
        return out

    def state(self) -> dict[str, Any]:
        """Plain data; arrays() has the rest."""
        return {"next": self._next, "rng": self._rng.bit_generator.state}

    def arrays(self) -> list[Columns]:
        """The fragments."""
        return self._kept

    def restore(self, state: dict[str, Any], arrays: list[Columns]) -> None:
        """What state() and arrays() gave."""
        self._next, self._kept = int(state["next"]), arrays
        self._rng.bit_generator.state = state["rng"]


class Ring:
    """`size` train batches, each given out up to `passes` times in turns with the others. The
    first batches are given out 1, 2, ... times, so that not all end together."""

    def __init__(self, size: int, passes: int) -> None:
        self._passes, self._given = passes, 1       # given: how often the next new one will be
        self._slots: list[Columns | None] = [None] * size
        self._left = [0] * size
        self._at = 0

    def turns(self, take: Callable[[], Columns]) -> list[Columns]:
        """One new batch, and all that is to be learned from before the next one is wanted."""
        out: list[Columns] = []
        taken = False
        while True:
            batch = self._slots[self._at]
            if batch is None:
                if taken:
                    return out
                batch, taken = take(), True
                self._slots[self._at], self._left[self._at] = batch, self._given
                self._given = min(self._given + 1, self._passes)
            out.append(batch)
            self._left[self._at] -= 1
            if self._left[self._at] <= 0:
                self._slots[self._at] = None
            self._at = (self._at + 1) % len(self._slots)

    def state(self) -> dict[str, Any]:
        """Plain data; arrays() has the rest."""
        return {"given": self._given, "at": self._at, "left": list(self._left)}

    def arrays(self) -> list[Columns]:
        """The batches that are not done with, in order of their slots."""
        return [batch for batch in self._slots if batch is not None]

    def restore(self, state: dict[str, Any], arrays: list[Columns]) -> None:
        """What state() and arrays() gave."""
        rest = iter(arrays)
        self._given, self._at, self._left = state["given"], state["at"], list(state["left"])
        self._slots = [next(rest, None) if left > 0 else None for left in self._left]


def pack(batches: list[Columns]) -> bytes:
    """Batches as one block of plain arrays."""
    import numpy as np

    out = io.BytesIO()
    np.savez(out, **{f"{i}/{name}": array for i, batch in enumerate(batches)
                     for name, array in batch.items()})
    return out.getvalue()


def unpack(block: bytes) -> list[Columns]:
    """What pack() was given."""
    import numpy as np

    batches: dict[int, Columns] = {}
    with np.load(io.BytesIO(block), allow_pickle=False) as told:
        for key in told.files:
            number, _, name = key.partition("/")
            batches.setdefault(int(number), {})[name] = told[key]
    return [batches[i] for i in sorted(batches)]
