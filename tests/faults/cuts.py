"""What is the same in both kinds of networks: who does not hear whom."""

from __future__ import annotations


class Cuts:
    """names: the machines by port; deaf: of each, those that it does not hear."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.deaf: dict[int, set[int]] = {}

    def drop(self, source: int, target: int) -> None:
        """target hears nothing of source any more; the other way is as it was."""
        self.deaf[target].add(source)

    def cut(self, one: int, other: int) -> None:
        """Neither hears the other."""
        self.drop(one, other)
        self.drop(other, one)

    def isolate(self, port: int) -> None:
        """A machine off the net."""
        for other in self.names:
            if other != port:
                self.cut(port, other)
