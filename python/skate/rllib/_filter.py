"""Observation filters: 'NoFilter' and 'MeanStdFilter', kept in step over all workers.

A worker filters with what the trainer knew last and notes what it has seen since; the trainer
joins the notes of all workers and sends the sum with the next order to sample.
"""

from __future__ import annotations

from typing import Any

NAMES = ("NoFilter", "MeanStdFilter", "ConcurrentMeanStdFilter")


class RunningStat:
    """Count, mean and sum of squared deviations of rows."""

    def __init__(self, size: int) -> None:
        import numpy as np

        self.count = 0
        self.mean = np.zeros(size, np.float64)
        self.squares = np.zeros(size, np.float64)

    def push(self, row: Any) -> None:
        """One more row."""
        self.count += 1
        off = row - self.mean
        self.mean += off / self.count
        self.squares += off * (row - self.mean)

    def join(self, other: RunningStat) -> None:
        """The rows of another (Chan et al.)."""
        if other.count == 0:
            return
        count = self.count + other.count
        off = other.mean - self.mean
        self.mean = self.mean + off * (other.count / count)
        self.squares = self.squares + other.squares + off * off * (
            self.count * other.count / count)
        self.count = count

    def copy(self) -> RunningStat:
        """An independent one."""
        made = RunningStat(len(self.mean))
        made.join(self)
        return made

    def state(self) -> dict[str, Any]:
        """Plain data."""
        return {"count": self.count, "mean": self.mean.tolist(), "squares": self.squares.tolist()}

    @classmethod
    def of(cls, state: dict[str, Any]) -> RunningStat:
        """What state() gave."""
        import numpy as np

        made = cls(len(state["mean"]))
        made.count = int(state["count"])
        made.mean = np.array(state["mean"], np.float64)
        made.squares = np.array(state["squares"], np.float64)
        return made


class MeanStdFilter:
    """(row - mean) / (deviation + 1e-8), within +-10, of the rows seen by all workers."""

    CLIP = 10.0

    def __init__(self, size: int) -> None:
        self.known = RunningStat(size)      # all rows, this worker's latest among them
        self.noted = RunningStat(size)      # this worker's since the last flush()

    def __call__(self, row: Any, update: bool = True) -> Any:
        import numpy as np

        if update:
            self.known.push(row)
            self.noted.push(row)
        n = self.known.count
        spread = np.sqrt(self.known.squares / (n - 1)) if n > 1 else np.abs(self.known.mean)
        out = (row - self.known.mean) / (spread + 1e-8)
        return np.clip(out, -self.CLIP, self.CLIP).astype(np.float32)

    def flush(self) -> RunningStat:
        """What was noted, for the trainer."""
        noted, self.noted = self.noted, RunningStat(len(self.noted.mean))
        return noted

    def sync(self, known: RunningStat) -> None:
        """What the trainer knows."""
        self.known = known.copy()


def make_filter(name: Any, size: int) -> MeanStdFilter | None:
    """The filter of a config's 'observation_filter'."""
    return MeanStdFilter(size) if name in NAMES[1:] else None
