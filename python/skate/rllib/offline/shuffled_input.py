"""ShuffledInput: the batches of another reader in random order, from a buffer."""

from __future__ import annotations

import random
from typing import Any

from skate.rllib.offline.input_reader import InputReader


class ShuffledInput(InputReader):
    """Keeps `n` batches of `child` and gives one of them at random, each time."""

    def __init__(self, child: Any, n: int = 0, seed: int | None = None) -> None:
        """`n` 0: no shuffling."""
        if isinstance(n, bool) or not isinstance(n, int) or n < 0:
            raise ValueError(f"the shuffle buffer holds n >= 0 batches, got {n!r}")
        self.child, self.n = child, n
        self.buffer: list[Any] = []
        self._random = random.Random(seed)

    def next(self) -> Any:
        """One of the next batches."""
        if self.n <= 1:
            return self.child.next()
        while len(self.buffer) < self.n:
            self.buffer.append(self.child.next())
        at = self._random.randrange(self.n)
        picked, self.buffer[at] = self.buffer[at], self.child.next()
        return picked


__all__ = ["ShuffledInput"]
