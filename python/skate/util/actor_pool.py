"""A fixed set of actors that take turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import skate


class ActorPool:
    """Gives each value to an idle actor; results come in order, or as they end.

    What finds no idle actor waits here and is submitted when a result is taken.
    """

    def __init__(self, actors: Iterable[Any]) -> None:
        self._idle = list(actors)
        self._running: dict[Any, tuple[int, Any]] = {}  # ref -> (number, actor)
        self._by_number: dict[int, Any] = {}  # in the order of submission
        self._next_submit = 0
        self._waiting: list[tuple[Callable[[Any, Any], Any], Any]] = []

    def map(self, fn: Callable[[Any, Any], Any], values: Iterable[Any]) -> Iterator[Any]:
        """fn(actor, value) for each value, begun at once; results in order.

        What was submitted before and nobody took is waited for and dropped.
        """
        self._begin(fn, values)
        return self._results(self.get_next)

    def map_unordered(self, fn: Callable[[Any, Any], Any], values: Iterable[Any]) -> Iterator[Any]:
        """The same; results as they end."""
        self._begin(fn, values)
        return self._results(self.get_next_unordered)

    def _begin(self, fn: Callable[[Any, Any], Any], values: Iterable[Any]) -> None:
        while self.has_next():
            try:
                self.get_next_unordered()
            except Exception:
                pass  # nobody has asked for it
        for value in values:
            self.submit(fn, value)

    def _results(self, take: Callable[[], Any]) -> Iterator[Any]:
        while self.has_next():
            yield take()

    def submit(self, fn: Callable[[Any, Any], Any], value: Any) -> None:
        """fn(actor, value), which returns a ref, on an idle actor; or later."""
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

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """The next result in the order of submission; raises what its call raised.

        StopIteration when nothing is outstanding, TimeoutError when the time is over; with
        ignore_if_timedout that call is forgotten then, and its actor taken for idle.
        """
        self._refuse_empty()
        return self._take(next(iter(self._by_number.values())), timeout, ignore_if_timedout)

    def get_next_unordered(
        self, timeout: float | None = None, ignore_if_timedout: bool = False
    ) -> Any:
        """Whichever result comes first; otherwise as get_next."""
        self._refuse_empty()
        ready, rest = skate.wait(list(self._running), timeout=timeout)
        return self._take((ready or rest)[0], 0 if not ready else None, ignore_if_timedout)

    def _refuse_empty(self) -> None:
        if not self.has_next():
            raise StopIteration("no more results: submit() something first")

    def _take(self, ref: Any, timeout: float | None, forget: bool) -> Any:
        late = timeout is not None and not skate.wait([ref], timeout=timeout)[0]
        if late and not forget:
            raise TimeoutError(f"no result is ready after {timeout} s")
        number, actor = self._running.pop(ref)
        del self._by_number[number]
        self._return(actor)
        if late:
            raise TimeoutError(f"no result is ready after {timeout} s; {ref} is forgotten")
        return skate.get(ref)

    def _return(self, actor: Any) -> None:
        self._idle.append(actor)
        if self._waiting:
            self.submit(*self._waiting.pop(0))

    def push(self, actor: Any) -> None:
        """One more actor. ValueError when it is in the pool already."""
        if actor in self._idle or any(actor == busy for _, busy in self._running.values()):
            raise ValueError(f"{actor!r} is in this pool already")
        self._return(actor)

    def pop_idle(self) -> Any:
        """Take an idle actor out, or None."""
        return self._idle.pop() if self.has_free() else None
