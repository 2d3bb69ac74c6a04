"""Actors that run several calls at once: in threads, or as coroutines of event loops.

The main thread of such a worker stays in `_core.serve()`. Calls lie in the core, in one queue for
each concurrency group. A threaded actor has pool threads that take them; an async actor has an
event loop for each group, on a thread of its own, which the core rings when calls have come (once
for a batch) and which takes them until the group's limit is reached. Results leave from the thread
or loop that made them.
"""

from __future__ import annotations

import contextvars
import os
import sys
import threading

from skate import _core, _remote
from skate._actor import ActorExit, Terminate
from skate.exceptions import AsyncioActorExit, TaskCancelledError

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Any

DEFAULT_ASYNC = 1000  # calls at once of an async actor that does not say
_FAIR = 16  # items a generator sends before the loop's other work has its turn
_EARLY_MOST = 1024  # cancelled calls remembered that did not run: most have ended
_BATCH = 256  # calls taken before the loop's other work has its turn

current_job: contextvars.ContextVar[_core.Job | None] = contextvars.ContextVar(
    "skate_job", default=None
)


def running_job() -> _core.Job | None:
    """The call that this thread or coroutine works for. Called from C by current()."""
    return current_job.get()


def is_coroutine(function: Any) -> bool:
    """Is it an `async def`, or marked as one? Async generators are not."""
    function = getattr(function, "__func__", function)
    flags = _remote.code_flags(function)
    return bool(flags & 0x80) or getattr(function, "_is_coroutine", None) is not None


def is_async_class(cls: type) -> bool:
    """Has the class an async method or async generator? Then its actors run on event loops."""
    for base in cls.__mro__[:-1]:
        for raw in vars(base).values():
            function = getattr(raw, "__func__", raw)
            if _remote.code_flags(function) & 0x280 or is_coroutine(function):
                return True
    return False


class Grouped:
    """A class with its concurrency groups: what the worker needs to know of its decorator."""

    def __init__(self, cls: type, groups: dict[str, int]) -> None:
        self.cls = cls
        self.groups = groups

    def __reduce__(self) -> tuple[Any, ...]:
        return Grouped, (self.cls, self.groups)


class _Worker:
    """The groups of this actor, and why it ends."""

    def __init__(self) -> None:
        self.groups: list[_Threads | _Loop] = []
        self.exit: BaseException | None = None
        self.leaving: set[_core.Job] = set()  # calls that called exit_actor()
        self.cancelled: set[bytes] = set()  # calls of plain methods that were asked to stop
        self.early: dict[bytes, None] = {}  # cancelled, and not known to run here, in order


_worker = _Worker()


def leave_after_this() -> None:
    """exit_actor(): raises what ends a coroutine; returns in a plain actor.

    The call is not answered, and the actor ends, even if the exception is caught.
    """
    if not _worker.groups:
        return
    job = current_job.get()
    error = AsyncioActorExit("exit_actor() was called") if on_loop() else None
    if job is None or not job.open:  # in a task that the call has left behind
        _leave(error or ActorExit(0))
    else:
        _worker.leaving.add(job)
    if error is not None:
        raise error


def terminate() -> None:
    """__ray_terminate__ of an actor that runs several calls; returns in a plain actor."""
    if _worker.groups:
        raise Terminate(0)


def _leave(error: BaseException) -> None:
    """End the actor: its open calls are never answered."""
    if _worker.exit is None:
        _worker.exit = error
    _core.serve_end()


def _cancelled(job: _core.Job, how: str) -> TaskCancelledError:
    from skate import _ids

    return TaskCancelledError(_ids.TaskID(job.task), how)


def _answer_error(job: _core.Job, error: BaseException) -> None:
    """The call has failed, or ends the actor."""
    import asyncio

    if isinstance(error, Terminate):
        _worker.exit = _worker.exit or error
        _core.serve_drain()
        return
    if job in _worker.leaving or isinstance(error, (SystemExit, AsyncioActorExit)):
        _leave(error)
        return
    if isinstance(error, asyncio.CancelledError):
        cause, error = error, _cancelled(job, "its coroutine was cancelled")
        error.__cause__ = cause
    try:
        job.fail(error)
    except SystemExit as leaving:
        _leave(leaving)


def _stop_stream(job: _core.Job, error: BaseException) -> None:
    """An error of an async generator is its last item."""
    import asyncio

    leaving = job in _worker.leaving
    if leaving or isinstance(error, (SystemExit, AsyncioActorExit, asyncio.CancelledError)):
        _answer_error(job, error)
        return
    try:
        job.stop(error)
    except SystemExit as leaving:
        _leave(leaving)


def _answer(job: _core.Job, value: Any) -> None:
    if job in _worker.leaving:
        _leave(ActorExit(0))
        return
    try:
        job.done(value)
    except SystemExit as leaving:
        _leave(leaving)


# ---------------------------------------------------------------------------------- pool threads


class _Threads:
    """A group of a threaded actor. There is always one idle thread more, up to the limit."""

    def __init__(self, group: int, limit: int) -> None:
        self.group = group
        self.limit = limit
        self.lock = threading.Lock()
        self.idle = self.count = 0
        self.running: set[_core.Job] = set()

    def start(self) -> None:
        """Make the first thread."""
        with self.lock:
            self._spawn()

    def _spawn(self) -> None:
        self.count += 1
        self.idle += 1
        name = f"skate-group-{self.group}-{self.count}"
        threading.Thread(target=self._main, name=name, daemon=True).start()

    def _main(self) -> None:
        while True:
            job = _core.next_job(self.group, True)
            if job is None:
                continue
            if job is False:
                return
            assert isinstance(job, _core.Job)
            with self.lock:
                self.idle -= 1
                if self.idle == 0 and self.count < self.limit:
                    self._spawn()
            self.running.add(job)
            if _worker.early and _was_early(job.task):
                _worker.cancelled.add(job.task)
            contextvars.copy_context().run(_run, job)
            self.running.discard(job)
            _worker.cancelled.discard(job.task)
            with self.lock:
                self.idle += 1

    def cancel(self, task: bytes) -> bool:
        """Mark the call, if it runs here: get_runtime_context().is_canceled() says so."""
        if not any(job.task == task for job in list(self.running)):
            return False
        if _was_early(task):
            _worker.cancelled.add(task)
        return True


def _run(job: _core.Job) -> None:
    """Call a plain method and answer."""
    current_job.set(job)
    try:
        if job.task in _worker.cancelled:
            raise _cancelled(job, "it had not started")
        value = job.call()
        if job.task in _worker.cancelled:
            raise _cancelled(job, "it was told while it ran")
    except BaseException as error:
        _answer_error(job, error)
    else:
        _answer(job, value)


# ----------------------------------------------------------------------------------- event loops


class _Loop:
    """A group of an async actor: an event loop on a thread of its own."""

    def __init__(self, group: int, limit: int) -> None:
        import asyncio

        self.group = group
        self.limit = limit
        self.loop = asyncio.new_event_loop()
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.running: dict[_core.Job, asyncio.Task[Any] | None] = {}
        self.coroutines: dict[str, bool | None] = {}  # method: what _is_coroutine_method() said
        self.paused: list[asyncio.Future[None]] = []  # generators that may not go on
        self.full = False

    def start(self) -> None:
        """Run the loop."""
        name = f"skate-loop-{self.group}"
        threading.Thread(target=self._main, name=name, daemon=True).start()

    def _main(self) -> None:
        import asyncio

        asyncio.set_event_loop(self.loop)
        self.loop.add_reader(self.bell, self._rung)
        self.loop.run_forever()

    def serve(self) -> None:
        """From now on take calls."""
        _core.group_bell(self.group, self.bell)

    def run(self, make: Callable[[], Any]) -> Any:
        """Run make(), and what it returns if that is a coroutine, on the loop; wait for it."""
        import asyncio

        outcome: list[BaseException] = []

        async def call() -> Any:
            try:
                value = make()
                return await value if asyncio.iscoroutine(value) else value
            except BaseException as error:  # a SystemExit would end the loop
                outcome.append(error)

        value = asyncio.run_coroutine_threadsafe(call(), self.loop).result()
        if outcome:
            raise outcome[0]
        return value

    def _rung(self) -> None:
        try:
            os.eventfd_read(self.bell)
        except BlockingIOError:
            pass
        if self.paused:
            paused, self.paused = self.paused, []
            for future in paused:
                if not future.done():
                    future.set_result(None)
        self._take()

    def _take(self) -> None:
        """Take the calls that wait, as many as may run."""
        left = _BATCH
        while len(self.running) < self.limit:
            job = _core.next_job(self.group, False)
            if not isinstance(job, _core.Job):
                return
            self._begin(job)
            left -= 1
            if left == 0:
                self.loop.call_soon(self._take)
                return
        self.full = True

    def _begin(self, job: _core.Job) -> None:
        """Let a call begin; in the order in which they came, whatever kind of method it is."""
        method = job.method
        coroutine = self.coroutines.get(method)
        if coroutine is None and method not in self.coroutines:
            coroutine = self.coroutines[method] = _is_coroutine_method(method)
        running = None
        if coroutine is None and job.streams:
            running = self.loop.create_task(self._stream(job))
        elif coroutine:
            running = self.loop.create_task(self._drive(job))
        else:
            self.loop.call_soon(self._plain, job, context=contextvars.copy_context())
        self.running[job] = running
        if _worker.early and _was_early(job.task):
            self._stop(job, running)

    async def _drive(self, job: _core.Job) -> None:
        current_job.set(job)
        try:
            value = await job.call()
        except BaseException as error:
            _answer_error(job, error)
        else:
            _answer(job, value)
        finally:
            self._ended(job)

    async def _stream(self, job: _core.Job) -> None:
        """Send what an async generator yields."""
        import asyncio

        current_job.set(job)
        generator, count = None, 0
        try:
            generator = job.call()
            async for item in generator:
                count += 1
                if job.send(item):
                    await self._turn(job)
                elif count % _FAIR == 0:
                    await asyncio.sleep(0)
            job.stop(None)
        except BaseException as error:
            _stop_stream(job, error)
        finally:
            self._ended(job)
            if hasattr(generator, "aclose"):
                await generator.aclose()

    async def _turn(self, job: _core.Job) -> None:
        while not job.may_send():
            future = self.loop.create_future()
            self.paused.append(future)
            await future

    def _plain(self, job: _core.Job) -> None:
        _run(job)
        _worker.cancelled.discard(job.task)
        self._ended(job)

    def _ended(self, job: _core.Job) -> None:
        del self.running[job]
        if self.full:
            self.full = False
            self._take()

    def cancel(self, task: bytes) -> bool:
        """Cancel the coroutine of the call, if it runs here. Any thread."""
        for job, running in list(self.running.items()):
            if job.task == task:
                if _was_early(task):
                    self.loop.call_soon_threadsafe(self._stop, job, running)
                return True
        return False

    def _stop(self, job: _core.Job, running: asyncio.Task[Any] | None) -> None:
        """On the loop. A coroutine that has not taken its first step never runs its `finally`."""
        if running is None:  # a plain method: it has ended, or not begun
            if job in self.running:
                _worker.cancelled.add(job.task)
            return
        running.add_done_callback(lambda _task: self._unanswered(job))
        running.cancel()

    def _unanswered(self, job: _core.Job) -> None:
        if job in self.running and job.open:
            _answer_error(job, _cancelled(job, "it had not started"))
            self._ended(job)


def _is_coroutine_method(name: str) -> bool | None:
    """Is it a coroutine function? None for an async generator function."""
    from skate import _worker as worker

    try:
        method = worker.find_method(name)
    except AttributeError:
        return False
    if _remote.code_flags(getattr(method, "__func__", method)) & 0x200:
        return None
    return is_coroutine(method)


# ------------------------------------------------------------------------------- what others call


def construct(
    cls: type, make: Callable[[], Any], concurrency: int, groups: dict[str, int]
) -> bool:
    """Make the instance; True when its calls are run here, False for a plain actor.

    make: makes the instance (or returns a coroutine that does). concurrency: of the default group.
    """
    is_async = is_async_class(cls)
    if not is_async and concurrency <= 1 and not groups:
        make()
        return False
    limits = [concurrency, *groups.values()]
    kind = _Loop if is_async else _Threads
    made = [kind(i, limit) for i, limit in enumerate(limits)]
    if isinstance(made[0], _Loop):
        for group in made:
            group.start()
        made[0].run(make)
    else:
        make()
    _worker.groups = made
    _core.groups(len(made))
    return True


def serve() -> None:
    """The main thread of such an actor. Returns at its quiet end; raises what ends it."""
    for group in _worker.groups:
        if isinstance(group, _Loop):
            group.serve()
        else:
            group.start()
    _core.serve()
    if _worker.exit is not None:
        raise _worker.exit


def cancel_running(task: bytes) -> bool:
    """Ask a running call to stop; False when it does not run here (yet: it is remembered).

    task: the 24 bytes of the task's id. A coroutine is cancelled as asyncio does it; a plain
    method is marked, and may ask get_runtime_context().is_canceled().
    """
    # First noted, then looked for; who begins a call does it the other way round. Whoever takes
    # the note away is the one who cancels: a coroutine must not be cancelled twice.
    early = _worker.early
    early[task] = None
    if any(group.cancel(task) for group in _worker.groups):
        return True
    if len(early) > _EARLY_MOST:
        early.pop(list(early)[0], None)
    return False


def _was_early(task: bytes) -> bool:
    """Was it cancelled before it was known to run? True once."""
    return _worker.early.pop(task, True) is None


def on_loop() -> bool:
    """Is this an actor whose calls run on event loops?"""
    return bool(_worker.groups) and isinstance(_worker.groups[0], _Loop)


def is_cancelled(task: bytes) -> bool:
    """Was the call of a plain method asked to stop?"""
    return task in _worker.cancelled


def warn_blocking() -> None:
    """Called from C at the first blocking call of an actor that runs several calls at once."""
    if not on_loop() or not threading.current_thread().name.startswith("skate-loop-"):
        return
    for name in ("SKATE_WARN_BLOCKING_GET_INSIDE_ASYNC", "RAY_WARN_BLOCKING_GET_INSIDE_ASYNC"):
        if os.environ.get(name) == "0":
            return
    print(
        "[skate] warning: a blocking get() or wait() inside an async actor stops its event loop, "
        "and with it all its calls: await the refs instead (asyncio.gather for several)",
        file=sys.stderr,
    )
