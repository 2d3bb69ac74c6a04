"""The standard library's Pool on actors: one actor is one process of the pool.

The driver hands out chunks of calls; an actor answers one with the list of its results, in which
a failed call is a PoolTaskError. Thread-safe. Tests: tests/compat/test_compat_pool.py.
"""

from __future__ import annotations

import abc
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import TimeoutError
from typing import Any

import skate
from skate.exceptions import RayActorError

_CALL, _STAR = 0, 1  # fn(item); fn(*item[0], **item[1])


class PoolTaskError(Exception):
    """A call of a pool that failed; what it raised is in `underlying`."""

    def __init__(self, underlying: BaseException, text: str = "") -> None:
        super().__init__(underlying)
        self.underlying = underlying
        self.text = text

    def __reduce__(self) -> tuple[Any, ...]:
        return PoolTaskError, (self.underlying, self.text)

    def original(self) -> BaseException:
        """What the call raised, with the traceback of its process as the cause."""
        if self.text and self.underlying.__cause__ is None:
            self.underlying.__cause__ = _RemoteTraceback(self.text)
        return self.underlying


class _RemoteTraceback(Exception):  # noqa: N818
    """The traceback of another process, as text."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


def _failed(error: Exception) -> PoolTaskError:
    import cloudpickle

    from skate._serialize import traceback_text

    text = traceback_text(error)
    try:
        cloudpickle.loads(cloudpickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error} (it cannot be pickled)")
    return PoolTaskError(error.with_traceback(None), text)


@skate.remote(num_cpus=0)
class PoolActor:
    """One process of a pool."""

    def __init__(self, initializer: Callable[..., Any] | None, initargs: Iterable[Any]) -> None:
        if initializer is not None:
            initializer(*initargs)

    def ping(self) -> None:
        """Is the initializer done?"""

    def run(self, function: Callable[..., Any], kind: int, items: list[Any]) -> list[Any]:
        """A chunk of calls."""
        out: list[Any] = []
        for item in items:
            try:
                out.append(function(item) if kind == _CALL else function(*item[0], **item[1]))
            except Exception as error:
                out.append(_failed(error))
        return out


def _seconds_left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


class AsyncResult:
    """What the *_async methods return: results that may not be there yet."""

    def __init__(
        self,
        chunk_object_refs: list[Any],
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[Any], Any] | None = None,
        single_result: bool = False,
    ) -> None:
        self._refs = list(chunk_object_refs)
        self._single = single_result
        self._callbacks = (callback, error_callback)
        self._outcome: tuple[bool, Any] | None = None  # (is it right, the value or the error)
        if callback is not None or error_callback is not None:
            threading.Thread(target=self._call_back, name="skate-pool", daemon=True).start()

    def _collect(self) -> tuple[bool, Any]:
        """The outcome; blocks until it is there."""
        if self._outcome is None:
            try:
                values = list(itertools.chain.from_iterable(skate.get(self._refs)))
            except Exception as error:  # the actor is gone, or a result cannot be sent
                self._outcome = (False, error)
                return self._outcome
            wrong = next((v for v in values if isinstance(v, PoolTaskError)), None)
            if wrong is not None:
                self._outcome = (False, wrong)
            else:
                self._outcome = (True, values[0] if self._single else values)
        return self._outcome

    def _call_back(self) -> None:
        right, value = self._collect()
        function = self._callbacks[0 if right else 1]
        if function is not None:
            if not right and not isinstance(value, PoolTaskError):
                value = PoolTaskError(value)
            function(value)

    def wait(self, timeout: float | None = None) -> None:
        """Until all calls have ended, or the time is over."""
        if self._refs and self._outcome is None:
            skate.wait(self._refs, num_returns=len(self._refs), timeout=timeout)

    def get(self, timeout: float | None = None) -> Any:
        """The result, or the list of results; raises what the first failed call raised.

        multiprocessing.TimeoutError when the time is over.
        """
        self.wait(timeout)
        if timeout is not None and not self.ready():
            raise TimeoutError(f"the result is not there after {timeout} s")
        right, value = self._collect()
        if right:
            return value
        raise value.original() if isinstance(value, PoolTaskError) else value

    def ready(self) -> bool:
        """Have all calls ended?"""
        if self._outcome is not None or not self._refs:
            return True
        ready, _ = skate.wait(self._refs, num_returns=len(self._refs), timeout=0)
        return len(ready) == len(self._refs)

    def successful(self) -> bool:
        """Has no call failed? ValueError while one is running."""
        if not self.ready():
            raise ValueError(f"{self!r} is not ready")
        return self._collect()[0]


class IMapIterator(abc.ABC):
    """Results of imap: takes items only as fast as its results are taken."""

    def __init__(
        self, pool: Pool, function: Callable[..., Any], items: Iterable[Any], chunksize: int | None
    ) -> None:
        size = 1 if chunksize is None else chunksize
        if size < 1:
            raise ValueError(f"chunksize must be at least 1, it is {chunksize!r}")
        self._pool = pool
        self._function = skate.put(function)
        self._chunks = _chunks(iter(items), size)
        self._pending: deque[Any] = deque()
        self._results: deque[Any] = deque()
        self._lock = threading.RLock()
        for _ in range(2 * pool._size):
            self._submit()

    def _submit(self) -> None:
        chunk = next(self._chunks, None)
        if chunk is not None:
            self._pending.append(self._pool._submit(self._function, _CALL, chunk))

    @abc.abstractmethod
    def _take(self, timeout: float | None) -> Any:
        """The chunk whose results come next: the two subclasses differ in it."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """The next result; raises what its call raised.

        StopIteration after the last one; multiprocessing.TimeoutError when the time is over.
        """
        with self._lock:
            while not self._results:
                if not self._pending:
                    raise StopIteration
                ref = self._take(timeout)
                self._pending.remove(ref)
                self._submit()
                self._results.extend(skate.get(ref))
            value = self._results.popleft()
        if isinstance(value, PoolTaskError):
            raise value.original()
        return value


class OrderedIMapIterator(IMapIterator):
    """Results in the order of the items."""

    def _take(self, timeout: float | None) -> Any:
        if not skate.wait([self._pending[0]], timeout=timeout)[0]:
            raise TimeoutError(f"the next result is not there after {timeout} s")
        return self._pending[0]


class UnorderedIMapIterator(IMapIterator):
    """Results as they come."""

    def _take(self, timeout: float | None) -> Any:
        ready, _ = skate.wait(list(self._pending), timeout=timeout)
        if not ready:
            raise TimeoutError(f"no result is there after {timeout} s")
        return ready[0]


def _chunks(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while chunk := list(itertools.islice(items, size)):
        yield chunk


class _Process:
    """An actor, and what it was given."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.given = 0
        self.running: deque[Any] = deque()


class Pool:
    """A pool of processes as in the standard library; its processes are actors.

    processes: how many, by default one for each CPU of the cluster. initializer(*initargs) runs
    first in each; an error of it is raised here. maxtasksperchild: after so many chunks a process
    gives place to a new one. ray_address: the cluster to join when there is no session yet.
    ray_remote_args: options of the actors, for example {"num_cpus": 1}.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] | None = None,
        maxtasksperchild: int | None = None,
        context: Any = None,
        ray_address: str | None = None,
        ray_remote_args: dict[str, Any] | None = None,
    ) -> None:
        if processes is not None:
            if isinstance(processes, bool) or not isinstance(processes, int):
                raise TypeError(f"processes must be an int, not {processes!r}")
            if processes <= 0:
                raise ValueError(f"a pool has at least one process, not {processes}")
        if context is not None:
            import warnings

            warnings.warn("the processes of this pool are actors: context has no effect",
                          stacklevel=2)  # fmt: skip
        self._size = _start(processes, ray_address)
        self._initializer = initializer
        self._initargs = tuple(initargs or ())
        self._most = maxtasksperchild or None
        # They hold no CPU, so that nothing else would keep them from lying on one node all.
        self._options = dict(ray_remote_args or {})
        if not self._options.keys() & {"scheduling_strategy", "placement_group"}:
            self._options["scheduling_strategy"] = "SPREAD"
        self._lock = threading.Lock()
        self._closed = False
        self._processes = [self._new_process() for _ in range(self._size)]
        skate.get([p.actor.ping.remote() for p in self._processes])

    def _new_process(self) -> _Process:
        made = PoolActor.options(**self._options).remote(self._initializer, self._initargs)
        return _Process(made)

    # ------------------------------------------------------------------------- handing out

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("this pool is not running: it was closed")

    def _submit(self, function: Any, kind: int, items: list[Any]) -> Any:
        """A chunk to the process with the least to do."""
        with self._lock:
            if not self._processes:
                raise ValueError("this pool is not running: it was terminated")
            index = self._least_busy()
            process = self._processes[index]
            if self._most is not None and process.given >= self._most:
                # The old one ends when what it has is done: nobody holds its handle any more.
                process = self._processes[index] = self._new_process()
            process.given += 1
            ref = process.actor.run.remote(function, kind, items)
            process.running.append(ref)
            return ref

    def _least_busy(self) -> int:
        counts = [len(p.running) for p in self._processes]
        if min(counts) > 0:  # look again who has finished
            for index, process in enumerate(self._processes):
                ready, rest = skate.wait(
                    list(process.running), num_returns=len(process.running), timeout=0
                )
                process.running = deque(rest)
                if ready and _is_dead(ready):
                    self._processes[index] = self._new_process()
            counts = [len(p.running) for p in self._processes]
        return counts.index(min(counts))

    def _map(
        self, function: Callable[..., Any], kind: int, items: Iterable[Any], chunksize: int | None
    ) -> list[Any]:
        self._check_open()
        if chunksize is not None and chunksize < 1:
            raise ValueError(f"chunksize must be at least 1, it is {chunksize!r}")
        items = list(items)
        if kind == _STAR:
            items = [(tuple(item), {}) for item in items]
        if chunksize is None:  # four chunks for each process, so that an early end is no idle one
            chunksize = max(1, -(-len(items) // (4 * self._size)))
        shared = skate.put(function)
        return [self._submit(shared, kind, chunk) for chunk in _chunks(iter(items), chunksize)]

    # ------------------------------------------------------------------------------- calls

    def apply(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """func(*args, **kwargs) in a process of the pool: its result."""
        return self.apply_async(func, args, kwargs).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[Any], Any] | None = None,
    ) -> AsyncResult:
        """The same, at once. callback gets the result, error_callback a PoolTaskError."""
        self._check_open()
        ref = self._submit(func, _STAR, [(tuple(args or ()), dict(kwargs or {}))])
        return AsyncResult([ref], callback, error_callback, single_result=True)

    def map(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """[func(x) for x in iterable], chunksize items to a process at a time."""
        return self.map_async(func, iterable, chunksize).get()

    def map_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], Any] | None = None,
        error_callback: Callable[[Any], Any] | None = None,
    ) -> AsyncResult:
        """The same, at once. callback gets the list, error_callback a PoolTaskError."""
        return AsyncResult(self._map(func, _CALL, iterable, chunksize), callback, error_callback)

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[Any]:
        """[func(*x) for x in iterable]."""
        return AsyncResult(self._map(func, _STAR, iterable, chunksize)).get()

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        callback: Callable[[list[Any]], Any] | None = None,
        error_callback: Callable[[Any], Any] | None = None,
        chunksize: int | None = None,
    ) -> AsyncResult:
        """The same, at once."""
        return AsyncResult(self._map(func, _STAR, iterable, chunksize), callback, error_callback)

    def imap(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = 1
    ) -> OrderedIMapIterator:
        """An iterator of func(x), in order; iterable is read as results are taken."""
        self._check_open()
        return OrderedIMapIterator(self, func, iterable, chunksize)

    def imap_unordered(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = 1
    ) -> UnorderedIMapIterator:
        """The same, as results come."""
        self._check_open()
        return UnorderedIMapIterator(self, func, iterable, chunksize)

    # --------------------------------------------------------------------------------- end

    def close(self) -> None:
        """Take no more calls; those that there are go on."""
        self._closed = True

    def terminate(self) -> None:
        """End the processes at once; results that are not there yet never come."""
        self._closed = True
        with self._lock:
            processes, self._processes = self._processes, []
        for process in processes:
            skate.kill(process.actor)

    def join(self) -> None:
        """Wait until all calls have ended. ValueError before close() or terminate()."""
        if not self._closed:
            raise ValueError("this pool is still running: close() or terminate() it first")
        with self._lock:
            processes, self._processes = self._processes, []
        refs = [ref for process in processes for ref in process.running]
        if refs:
            skate.wait(refs, num_returns=len(refs))

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.terminate()

    def __reduce__(self) -> Any:
        raise NotImplementedError("a pool cannot be sent to another process: make one there")


def _start(processes: int | None, address: str | None) -> int:
    """Be in a session; the number of processes."""
    import os

    if not skate.is_initialized():
        where = address or os.environ.get("SKATE_ADDRESS") or os.environ.get("RAY_ADDRESS")
        if where:
            skate.init(where)
        else:
            skate.init(num_cpus=processes)
    there = int(skate.cluster_resources().get("CPU", 0))
    if processes is None:
        return max(1, there)
    if processes > there:
        raise ValueError(
            f"a pool of {processes} processes was asked for, but the cluster has {there} CPUs"
        )
    return processes


def _is_dead(refs: list[Any]) -> bool:
    """Did the actor of these finished calls die?"""
    try:
        skate.get(refs[-1], timeout=0)
    except RayActorError:
        return True
    except Exception:
        return False
    return False
