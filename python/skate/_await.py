"""Waiting for refs without blocking: `await ref`, `ref.future()`, `ref._on_completed()`.

A core.Watcher tells one event loop, or the one completion thread of this process, which of the
awaited objects are here. No ref costs a thread, and a batch of results costs one wake-up.
"""

from __future__ import annotations

import asyncio
import os
import threading
from asyncio import _get_running_loop as _running_loop

from skate import _core

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from typing import Any


class _Here(threading.local):
    """The loop that this thread runs, and what watches for it."""

    loop: asyncio.AbstractEventLoop | None = None
    watcher: _core.Watcher | None = None


_here = _Here()
_lock = threading.Lock()
_attached: list[tuple[asyncio.AbstractEventLoop, _core.Watcher, int]] = []


def future_of(ref: _core.ObjectRef[Any], in_loop: bool) -> Any:
    """A future of a ref's value: of the running loop, or concurrent.futures'. Called from C."""
    return _loop_future(ref, False) if in_loop else concurrent_future(ref)


def existence_of(ref: _core.ObjectRef[Any]) -> asyncio.Future[None]:
    """A future of the running loop that is done when the object is here, whatever it is."""
    return _loop_future(ref, True)


def _loop_future(ref: _core.ObjectRef[Any], bare: bool) -> asyncio.Future[Any]:
    loop = _running_loop() or asyncio.get_event_loop()
    watcher = _here.watcher
    if _here.loop is not loop or watcher is None or not watcher.living:
        watcher = _attach(loop)
    future: asyncio.Future[Any] = loop.create_future()
    watcher.watch(ref, future, bare)
    return future


def _attach(loop: asyncio.AbstractEventLoop) -> _core.Watcher:
    """What watches for this loop; those of loops that were closed are given up."""
    with _lock:
        found = None
        for entry in _attached[:]:
            owner, watcher, bell = entry
            if owner is loop and watcher.living:
                found = watcher
            elif owner.is_closed() or not watcher.living:
                _attached.remove(entry)
                if not owner.is_closed():
                    owner.remove_reader(bell)
                watcher.close()
                os.close(bell)
        if found is None:
            bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            found = _core.Watcher(bell)
            loop.add_reader(bell, found.drain)
            _attached.append((loop, found, bell))
    _here.loop, _here.watcher = loop, found
    return found


# ---------------------------------------------------------------------------- outside of a loop


class _Completion:
    """The thread that settles concurrent futures; one in a session."""

    def __init__(self) -> None:
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.watcher = _core.Watcher(self.bell)
        threading.Thread(target=self._main, name="skate-completion", daemon=True).start()

    def _main(self) -> None:
        import select

        poll = select.poll()
        poll.register(self.bell, select.POLLIN)
        while self.watcher.living:
            poll.poll()
            self.watcher.drain()
        os.close(self.bell)


_completion: _Completion | None = None


def _completion_watcher() -> _core.Watcher:
    global _completion
    with _lock:
        if _completion is None or not _completion.watcher.living:
            _completion = _Completion()
        return _completion.watcher


def concurrent_future(ref: _core.ObjectRef[Any]) -> Future[Any]:
    """A concurrent.futures.Future of the value."""
    from concurrent.futures import Future

    future: Future[Any] = Future()
    _completion_watcher().watch(ref, future)
    return future


class _Callback:
    """What looks like a future to the Watcher, and calls a function."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def done(self) -> bool:
        """Never before its time."""
        return False

    def set_result(self, value: Any) -> None:
        """The value is here."""
        self.function(value)

    def set_exception(self, error: BaseException) -> None:
        """The task failed."""
        self.function(error)


def on_completed(ref: _core.ObjectRef[Any], function: Callable[[Any], Any]) -> None:
    """Call function(value or exception) once the object is there, on a thread of the runtime."""
    if not callable(function):
        raise TypeError(f"_on_completed() takes a function, not {function!r}")
    _completion_watcher().watch(ref, _Callback(function))
