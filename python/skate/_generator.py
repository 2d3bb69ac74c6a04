"""Generators: what `.remote()` of one returns, and what their options mean."""

from __future__ import annotations

from skate import _core
from skate.exceptions import NotSupportedError

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

GENERATOR, ASYNC_GENERATOR = 0x20, 0x200  # flags of a function's code
_STREAM, _DYNAMIC, _UNREAD_SHIFT, _UNREAD_MOST = 16, 32, 16, 65535


def is_generator(function: Any) -> bool:
    """Is this a generator function, sync or async?"""
    code = getattr(function, "__code__", None)
    return code is not None and bool(code.co_flags & (GENERATOR | ASYNC_GENERATOR))


def check(what: str, generator: bool, options: dict[str, Any]) -> None:
    """ValueError when the options ask for a stream of something that is no generator."""
    returns = options.get("num_returns")
    if not generator and returns in ("streaming", "dynamic"):
        raise ValueError(
            f"num_returns={returns!r} is for generator functions only (functions with `yield`), "
            f"and {what} is none"
        )


def returns_of(what: str, generator: bool, options: dict[str, Any]) -> tuple[int, int]:
    """How many refs a call gives, and the core's flags for it."""
    check(what, generator, options)
    returns = options.get("num_returns")
    if returns is None:
        returns = "streaming" if generator else 1
    if not isinstance(returns, str):
        return returns, 0
    if returns == "dynamic":
        return 1, _DYNAMIC
    unread = options.get("_generator_backpressure_num_objects") or 0
    return 1, _STREAM | min(max(unread, 0), _UNREAD_MOST) << _UNREAD_SHIFT


class Flat:
    """A generator function each of whose yields is a tuple of `count` items."""

    def __init__(self, function: Any, count: int) -> None:
        self.function = function
        self.count = count

    def __reduce__(self) -> tuple[Any, ...]:
        return Flat, (self.function, self.count)


def flat(function: Any, count: int) -> Any:
    """The generator function that yields the items of such tuples one by one."""

    def stream(*args: Any, **kwargs: Any) -> Any:
        for items in function(*args, **kwargs):
            yield from _whole(items, count)

    async def stream_async(*args: Any, **kwargs: Any) -> Any:
        async for items in function(*args, **kwargs):
            for item in _whole(items, count):
                yield item

    code = getattr(function, "__code__", None)
    return stream_async if code and code.co_flags & ASYNC_GENERATOR else stream


def _whole(items: Any, count: int) -> Any:
    if len(items) != count:
        raise ValueError(
            f"the generator has _num_objects_per_yield={count}, but it yielded {len(items)} items"
        )
    return items


def _elsewhere(name: str) -> NotSupportedError:
    return NotSupportedError(
        f"`{name}` of an ObjectRefGenerator is not supported: the generator runs elsewhere. To end "
        "it, cancel() it or drop it"
    )


class ObjectRefGenerator:
    """The items of a generator task, as refs, each as soon as it exists.

    Iterate it with `for` or `async for`. An exception of the generator is its last item: a ref
    whose get() raises. It belongs to this process and cannot be sent or stored. Dropping it frees
    the items that were not taken; the task runs on to its end.
    """

    __slots__ = ("__weakref__", "_generator_ref", "_stream")

    def __init__(self, ref: _core.ObjectRef[Any], stream: _core.Stream) -> None:
        self._generator_ref = ref
        self._stream = stream

    def __class_getitem__(cls, item: Any) -> Any:
        return cls  # for annotations; its type for checkers is in _typed.pyi

    def __iter__(self) -> ObjectRefGenerator:
        return self

    def __next__(self) -> _core.ObjectRef[Any]:
        ref = self._stream.take(None)
        assert ref is not None
        return ref

    def __aiter__(self) -> ObjectRefGenerator:
        return self

    async def __anext__(self) -> _core.ObjectRef[Any]:
        return await self._next_async()

    def send(self, value: Any) -> Any:
        """Not possible: the generator runs elsewhere."""
        raise _elsewhere("send")

    def throw(self, value: Any) -> Any:
        """Not possible: the generator runs elsewhere."""
        raise _elsewhere("throw")

    def close(self) -> Any:
        """Not possible: drop it, or use cancel()."""
        raise _elsewhere("close")

    async def asend(self, value: Any) -> Any:
        """Not possible: the generator runs elsewhere."""
        raise _elsewhere("asend")

    async def athrow(self, value: Any) -> Any:
        """Not possible: the generator runs elsewhere."""
        raise _elsewhere("athrow")

    async def aclose(self) -> Any:
        """Not possible: drop it, or use cancel()."""
        raise _elsewhere("aclose")

    def completed(self) -> _core.ObjectRef[Any]:
        """A ref that is ready when the task has ended; get() of it raises if the task failed."""
        return self._generator_ref

    def next_ready(self) -> bool:
        """Is the next item there? False also when there are no more: see is_finished()."""
        try:
            return self._stream.peek()[0]
        except StopIteration:
            return False

    def is_finished(self) -> bool:
        """Have all items been taken?"""
        try:
            self._stream.peek()
        except StopIteration:
            return True
        return False

    def _next_sync(self, timeout_s: float | None = None) -> _core.ObjectRef[Any]:
        """The next item's ref; the nil ref when the time is over."""
        ref = self._stream.take(timeout_s)
        return _core.ObjectRef.nil() if ref is None else ref

    async def _next_async(self, timeout_s: float | None = None) -> _core.ObjectRef[Any]:
        """The same without blocking the event loop."""
        while True:
            try:
                ref = self._stream.take(0)
                if ref is not None:
                    return ref
                ready, ref = self._stream.peek()
            except StopIteration:
                raise StopAsyncIteration from None
            if ready:
                continue
            import asyncio

            from skate import _await

            try:
                await asyncio.wait_for(_await.existence_of(ref), timeout_s)
            except TimeoutError:
                return _core.ObjectRef.nil()

    def _peek(self) -> _core.ObjectRef[Any] | None:
        """The ref of the next item, there or not; None when there are no more."""
        try:
            return self._stream.peek()[1]
        except StopIteration:
            return None

    def __reduce__(self) -> Any:
        raise TypeError(
            "an ObjectRefGenerator cannot be passed to another task, returned or stored: only the "
            "process that called the generator can take its items; pass the refs it gives"
        )

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({self._generator_ref.task_id().hex()})"


class DynamicObjectRefGenerator:
    """What get() gives for num_returns="dynamic": the refs of all items. Iterating uses it up."""

    def __init__(self, refs: list[_core.ObjectRef[Any]]) -> None:
        self._refs = list(refs)

    def __iter__(self) -> Iterator[_core.ObjectRef[Any]]:
        while self._refs:
            yield self._refs.pop(0)

    def __len__(self) -> int:
        return len(self._refs)


def wait(
    waitables: list[Any], num_returns: int, timeout: float | None, fetch_local: bool
) -> tuple[list[Any], list[Any]]:
    """wait() of a list in which there are generators: they are ready when their next item is."""
    for one in waitables:
        if type(one) not in (ObjectRefGenerator, _core.ObjectRef):
            raise TypeError(f"wait() takes refs and generators, not {one!r}")
    if len({id(one) for one in waitables}) < len(waitables):
        raise ValueError("wait() takes each ref and each generator once only")
    ready: set[int] = set()
    places: dict[Any, int] = {}
    for i, one in enumerate(waitables):
        ref = one._peek() if type(one) is ObjectRefGenerator else one
        if ref is None:
            ready.add(i)  # it has ended: nothing to wait for
        else:
            places[ref] = i
    missing = num_returns - len(ready)
    if missing > 0 and places:
        done, _ = _core.wait(list(places), min(missing, len(places)), timeout, fetch_local)
        ready.update(places[ref] for ref in done)
    chosen = sorted(ready)[:num_returns]
    rest = set(range(len(waitables))) - set(chosen)
    return [waitables[i] for i in chosen], [waitables[i] for i in sorted(rest)]
