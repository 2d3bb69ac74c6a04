"""A queue between tasks, actors and the driver. It lives in an actor."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterable
from typing import Any

import skate


class Empty(queue.Empty):
    """There is nothing to get."""


class Full(queue.Full):
    """There is no room."""


class _QueueActor:
    """Async, so that a get or put that waits is in nobody's way. Answers: (was it done, value)."""

    def __init__(self, maxsize: int) -> None:
        self._most = maxsize
        self._items: asyncio.Queue[Any] = asyncio.Queue(maxsize)

    async def put(self, item: Any, timeout: float | None) -> bool:
        try:
            await asyncio.wait_for(self._items.put(item), timeout)
        except TimeoutError:
            return False
        return True

    async def get(self, timeout: float | None) -> tuple[bool, Any]:
        try:
            return True, await asyncio.wait_for(self._items.get(), timeout)
        except TimeoutError:
            return False, None

    async def put_batch(self, items: list[Any]) -> bool:
        """All of them at once, or none."""
        if self._most > 0 and self._items.qsize() + len(items) > self._most:
            return False
        for item in items:
            self._items.put_nowait(item)
        return True

    async def get_batch(self, count: int) -> tuple[bool, int, list[Any]]:
        """So many at once, or none: (was it done, how many there were, the items)."""
        there = self._items.qsize()
        if count > there:
            return False, there, []
        return True, there, [self._items.get_nowait() for _ in range(count)]

    async def qsize(self) -> int:
        return self._items.qsize()


class Queue:
    """First in, first out, for any number of putters and getters in any process.

    maxsize: no bound when it is 0 or less. actor_options: options of the actor, for example a name.
    The items lie in the actor's memory and go with it. A Queue can be given to tasks and actors.
    """

    def __init__(self, maxsize: int = 0, actor_options: dict[str, Any] | None = None) -> None:
        self.maxsize = maxsize
        kind = skate.remote(_QueueActor)
        if actor_options:
            kind = kind.options(**actor_options)
        self.actor: Any = kind.remote(maxsize)

    def _there(self) -> Any:
        if self.actor is None:
            raise AttributeError("this queue was shut down")
        return self.actor

    def __len__(self) -> int:
        return self.size()

    def size(self) -> int:
        """How many items there are."""
        return int(skate.get(self._there().qsize.remote()))

    def qsize(self) -> int:
        """The same."""
        return self.size()

    def empty(self) -> bool:
        """Is there nothing to get?"""
        return self.size() == 0

    def full(self) -> bool:
        """Is there no room?"""
        return 0 < self.maxsize <= self.size()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Append an item. Waits for room, at most `timeout` seconds: then Full, or at once."""
        if not block:
            self.put_nowait(item)
            return
        _check_timeout(timeout)
        if not skate.get(self._there().put.remote(item, timeout)):
            raise Full(f"no room within {timeout} s: the queue holds {self.maxsize} items")

    async def put_async(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """put() for coroutines."""
        if block:
            _check_timeout(timeout)
            done = await self._there().put.remote(item, timeout)
        else:
            done = await self._there().put_batch.remote([item])
        if not done:
            raise Full(f"no room: the queue holds {self.maxsize} items")

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the oldest item. Waits, at most `timeout` seconds: then Empty; or not at all."""
        if not block:
            return self.get_nowait()
        _check_timeout(timeout)
        done, item = skate.get(self._there().get.remote(timeout))
        if not done:
            raise Empty(f"nothing came within {timeout} s")
        return item

    async def get_async(self, block: bool = True, timeout: float | None = None) -> Any:
        """get() for coroutines."""
        if block:
            _check_timeout(timeout)
            done, item = await self._there().get.remote(timeout)
        else:
            done, _, items = await self._there().get_batch.remote(1)
            item = items[0] if done else None
        if not done:
            raise Empty("there is nothing to get")
        return item

    def put_nowait(self, item: Any) -> None:
        """put(), or Full at once."""
        if not skate.get(self._there().put_batch.remote([item])):
            raise Full(f"no room: the queue holds {self.maxsize} items")

    def put_nowait_batch(self, items: Iterable[Any]) -> None:
        """Append all the items, or none and Full."""
        if not isinstance(items, Iterable):
            raise TypeError(f"items must be an iterable, not {items!r}")
        items = list(items)
        if not skate.get(self._there().put_batch.remote(items)):
            raise Full(f"no room for {len(items)} items: the queue holds {self.maxsize}")

    def get_nowait(self) -> Any:
        """get(), or Empty at once."""
        done, _, items = skate.get(self._there().get_batch.remote(1))
        if not done:
            raise Empty("there is nothing to get")
        return items[0]

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Take that many items, or none and Empty."""
        if not isinstance(num_items, int):
            raise TypeError(f"num_items must be an int, not {num_items!r}")
        if num_items < 0:
            raise ValueError(f"num_items must not be negative, it is {num_items}")
        done, there, items = skate.get(self._there().get_batch.remote(num_items))
        if not done:
            raise Empty(f"{num_items} items were asked for, there are {there}")
        return list(items)

    def shutdown(self, force: bool = False, grace_period_s: int = 5) -> None:
        """End the actor: after its calls, at most grace_period_s later, or with force at once.

        Calls that wait then fail with ActorDiedError.
        """
        actor, self.actor = self.actor, None
        if actor is None:
            return
        if not force:
            done, _ = skate.wait([actor.__ray_terminate__.remote()], timeout=grace_period_s)
            if done:
                return
        skate.kill(actor, no_restart=True)


def _check_timeout(timeout: float | None) -> None:
    if timeout is not None and timeout < 0:
        raise ValueError(f"timeout must not be negative, it is {timeout}")
