"""A fixed set of actors that take turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import skate


class ActorPool:
    """Gives each value to an idle actor; results come in order, or as they end."""

    def __init__(self, actors: Iterable[Any]) -> None:
        self._idle = list(actors)
        self._running: dict[Any, tuple[int, Any]] = {}  # ref -> (number, actor)
        self._by_number: dict[int, Any] = {}
        self._next_submit = 0
        self._next_return = 0
        self._waiting: list[tuple[Callable[[Any, Any], Any], Any]] = []

    def map(self, fn: Callable[[Any, Any], Any], values: Iterable[Any]) -> Iterator[Any]:
        """fn(actor, value) for each value; results in order."""
        for value in values:
            self.submit(fn, value)
        while self.has_next():
            yield self.get_next()

    def map_unordered(self, fn: Callable[[Any, Any], Any], values: Iterable[Any]) -> Iterator[Any]:
        """fn(actor, value) for each value; results as they end."""
        for value in values:
            self.submit(fn, value)
        while self.has_next():
            yield self.get_next_unordered()

    def submit(self, fn: Callable[[Any, Any], Any], value: Any) -> None:
        """fn(actor, value) on an idle actor, or later."""
        if not self._idle:
            self._waiting.append((fn, value))
            return
        actor = self._idle.pop()
        ref = fn(actor, value)
        self._running[ref] = (self._next_submit, actor)
        self._by_number[self._next_submit] = ref
        self._next_submit += 1

    def has_next(self) -> bool:
        """Is a result outstanding?"""
        return bool(self._running)

    def has_free(self) -> bool:
        """Is an actor idle, and nothing waiting for it?"""
        return bool(self._idle) and not self._waiting

    def get_next(self, timeout: float | None = None) -> Any:
        """The next result in the order of submission."""
        if not self.has_next():
            raise StopIteration("no more results")
        ref = self._by_number[self._next_return]
        if timeout is not None and not skate.wait([ref], timeout=timeout)[0]:
            raise TimeoutError("the next result is not ready")
        del self._by_number[self._next_return]
        self._next_return += 1
        self._free(ref)
        return skate.get(ref)

    def get_next_unordered(self, timeout: float | None = None) -> Any:
        """Whichever result comes first."""
        if not self.has_next():
            raise StopIteration("no more results")
        ready, _ = skate.wait(list(self._running), timeout=timeout)
        if not ready:
            raise TimeoutError("no result is ready")
        number, _ = self._running[ready[0]]
        del self._by_number[number]
        self._next_return = max(self._next_return, number + 1)
        self._free(ready[0])
        return skate.get(ready[0])

    def _free(self, ref: Any) -> None:
        _, actor = self._running.pop(ref)
        self._idle.append(actor)
        if self._waiting:
            self.submit(*self._waiting.pop(0))

    def push(self, actor: Any) -> None:
        """One more actor."""
        self._idle.append(actor)
        if self._waiting:
            self.submit(*self._waiting.pop(0))

    def pop_idle(self) -> Any:
        """Take an idle actor out, or None."""
        return self._idle.pop() if self.has_free() else None
