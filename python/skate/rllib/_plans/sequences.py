"""Replay of sequences, for recurrent nets (R2D2): a row of the buffer is burn_in + max_seq_len
steps of one episode with the net's state before the first of them.

train_batch_size counts steps, so that a draw is train_batch_size // length sequences; the buffer's
capacity counts sequences. All else is as in replay.py.
"""

from __future__ import annotations

from typing import Any

from skate.rllib._plans._batch import Batch
from skate.rllib._plans.replay import ReplayPlan


class SequencePlan(ReplayPlan):
    """R2D2."""

    def build(self, about: dict[str, Any], workers: Any) -> None:
        """As ReplayPlan, with the length of a sequence."""
        super().build(about, workers)
        self._burn_in = int(self.config.get("burn_in", 0))
        self._length = self._burn_in + int(self.config["model"]["max_seq_len"])

    def stored(self) -> tuple[str, ...]:
        """The columns of a sequence."""
        return ("obs", "actions", "rewards", "terminateds", "mask", "state_in")

    def store(self, worker: int, columns: dict[str, Any], ragged: bool = False) -> None:
        """Cut a fragment into sequences that overlap by the burn-in, and store them. Fragments of
        any shape (`ragged`) say by 'cuts' where their rows do not go on."""
        import numpy as np

        from skate import _rl

        ends = columns["terminateds"] + columns["truncateds"] + columns["cuts"] > 0
        if not len(ends):
            return
        ends[:-1] |= columns["eps_id"][1:] != columns["eps_id"][:-1]
        block = _rl.sequences(ends.astype(np.uint8), self._length, self._burn_in)
        steps = np.frombuffer(block, np.int32).reshape(-1, self._length)
        inside = steps >= 0
        first = steps[np.arange(len(steps)), inside.argmax(axis=1)]
        rows: dict[str, Any] = {"mask": inside.astype(np.float32),
                                "state_in": columns["state_in"][first]}
        for name in ("obs", "actions", "rewards", "terminateds"):
            column = columns[name][steps]
            column[~inside] = 0
            rows[name] = column
        if self._replay is None:
            self._open(rows)
        self._replay.add({name: np.ascontiguousarray(rows[name]) for name in self.stored()},
                         len(steps))

    def _arrays(self, n: int) -> None:
        import numpy as np

        drawn = max(1, n // self._length)
        self._rows = np.zeros(drawn, np.uint32)
        self._batch = {name: np.zeros((drawn, *shape), dtype)
                       for name, (shape, dtype) in self._layout.items()}
        self._learned = {name: array if name == "state_in" else
                         array.reshape(drawn * self._length, *array.shape[2:])
                         for name, array in self._batch.items()}
        if self.opts["alpha"] > 0:
            self._drawn_weights = np.ones(drawn, np.float32)
            self._learned["weights"] = np.ones(drawn * self._length, np.float32)
            self._learned["td_errors"] = np.zeros(drawn, np.float32)

    def draw(self) -> Batch:
        """Sequences out of the buffer; each step has its sequence's weight."""
        import numpy as np

        if self.opts["alpha"] > 0:
            self._replay.draw(self._beta(), self._rows, self._drawn_weights)
            self._learned["weights"][:] = np.repeat(self._drawn_weights, self._length)
        else:
            self._replay.draw(self._beta(), self._rows)
        for name, array in self._batch.items():
            self._replay.gather(name, self._rows, array)
        return Batch(self._learned, len(self._rows) * self._length, self._length)


__all__ = ["SequencePlan"]
