"""fan_out(): a loop over items, on all cores of the cluster and on this one.

How the work is divided. The caller begins with the first items itself; what is done within
`inline_below_ms` costs no task at all. Then tasks take slices from the end of the list, and the
caller goes on from its beginning, one item after the other, until they meet. A slice is sized by
what items have taken so far, and has a time: when that is over the task returns what it has not
begun, so that items that grow, shrink or vary cannot leave a core without work. The time shrinks
with the work that is left, down to 20 ms. Each worker has one slice running and one waiting.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any

SLICE_S = 0.020  # of work, at least; a task costs some 0.1 to 0.5 ms
SLICE_MOST_S = 0.250
LOOK_S = 0.005  # between looks at what the tasks have done
WORKERS_S = 5.0  # how long the number of cores is taken for known

_workers: tuple[int, float, int] = (0, 0.0, 0)  # session, when, how many
_warned = False


def fan_out(
    fn: Callable[..., Any],
    items: Iterable[Any],
    *,
    broadcast: tuple[Any, ...] | list[Any] = (),
    chunk: int | str = "auto",
    inline_below_ms: float = 30,
) -> list[Any]:
    """[fn(item, *broadcast) for item in items], on the cores of the cluster and on this one.

    broadcast: values (or refs of values) that every call gets; each goes to the cluster once, not
    once a task, and arrays are mapped there, read-only. chunk: how many items go into one task;
    "auto": as the time that they take demands. inline_below_ms: what is done within this time is
    done here. Without a session all is done here (in a UDF of Spark there is one: attach()).

    An error of fn is raised as in a loop: that of the first item that fails, with its own type and
    traceback and a note that tells the item; later items may have run. ValueError, TypeError: an
    argument that cannot be meant.
    """
    items = list(items)
    broadcast = _checked(fn, broadcast, chunk, inline_below_ms)
    workers = _count_workers() if len(items) > 1 else 0
    run = _Run(fn, items, broadcast, 0 if chunk == "auto" else int(chunk), workers)
    return run.all(inline_below_ms / 1000)


def _checked(fn: Any, broadcast: Any, chunk: Any, inline_below_ms: Any) -> tuple[Any, ...]:
    from skate import _core

    if isinstance(fn, _core.Call) or not callable(fn):
        raise TypeError(f"fan_out() takes a plain function, not {fn!r}")
    if not isinstance(broadcast, (tuple, list)):
        raise TypeError(
            f"broadcast is a tuple of values, not {type(broadcast).__name__}: for one value, "
            "broadcast=(value,)"
        )
    number = isinstance(chunk, int) and not isinstance(chunk, bool)
    if chunk != "auto" and not (number and chunk > 0):
        raise ValueError(f'chunk is "auto" or a number of items, not {chunk!r}')
    if not isinstance(inline_below_ms, (int, float)) or not inline_below_ms >= 0:
        raise ValueError(f"inline_below_ms is a number of milliseconds, not {inline_below_ms!r}")
    return tuple(broadcast)


def _count_workers() -> int:
    """How many tasks of one CPU the cluster runs at once; 0 without a session."""
    global _warned, _workers
    from skate import _api, _core, _member

    if not _core.epoch() and not _member.attached():
        if not _warned:
            _warned = True
            print(
                "[skate] fan_out(): this process is in no session, so all items run here, one "
                "after the other; call init(), or attach() in a UDF",
                file=sys.stderr,
            )
        return 0
    epoch, when, count = _workers
    now = time.monotonic()
    if epoch != _core.epoch() or now - when > WORKERS_S:
        count = int(_api.cluster_resources().get("CPU", 0))
        _workers = _core.epoch(), now, count
    return count


def run_slice(
    work: tuple[Callable[..., Any]], items: list[Any], seconds: float, *broadcast: Any
) -> tuple[list[Any], dict[str, Any] | None, float]:
    """The task: results of the first items, as many as the time allows; what the one behind them
    failed with; how long it took."""
    began = time.perf_counter()
    out: list[Any] = []
    for item in items:
        try:
            out.append(work[0](item, *broadcast))
        except Exception as error:
            return out, _payload(error, work[0]), time.perf_counter() - began
        if seconds and time.perf_counter() - began > seconds:
            break
    return out, None, time.perf_counter() - began


def _payload(error: Exception, fn: Any) -> dict[str, Any]:
    from skate import _serialize

    name = getattr(fn, "__name__", type(fn).__name__)
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next  # without run_slice()
    return {**_serialize.error_payload(error), "function": name, "proctitle": f"ray::{name}"}


class _Left:
    """The items that nobody has taken: a middle part, and what tasks gave back."""

    def __init__(self, count: int) -> None:
        self.begin, self.end = 0, count
        self.back: list[range] = []

    def count(self) -> int:
        return self.end - self.begin + sum(map(len, self.back))

    def first(self) -> int:
        """The next for the caller; -1: none is left."""
        if self.begin < self.end:
            self.begin += 1
            return self.begin - 1
        taken = self.slice(1)
        return taken[0] if taken else -1

    def slice(self, most: int) -> range:
        """So many for a task, or fewer; those that came back go first."""
        if self.back:
            part = self.back.pop()
            if len(part) > most:
                self.back.append(part[most:])
            return part[:most]
        begin = max(self.begin, self.end - most)
        part, self.end = range(begin, self.end), begin
        return part

    def cut(self, limit: int) -> None:
        """Nothing from this one on is wanted."""
        self.end = max(self.begin, min(self.end, limit))
        self.back = [r for r in (range(r.start, min(r.stop, limit)) for r in self.back) if r]


class _Run:
    """One call of fan_out(). The timer's thread and the caller's take turns by the lock."""

    def __init__(
        self, fn: Any, items: list[Any], broadcast: tuple[Any, ...], chunk: int, workers: int
    ) -> None:
        self.fn, self.items, self.chunk, self.workers = fn, items, chunk, workers
        self.broadcast = broadcast
        self.results: list[Any] = [None] * len(items)
        self.left = _Left(len(items))
        self.cost = 0.0  # seconds of an item, as of late; 0: nobody knows
        self.open: dict[Any, range] = {}  # ref of a task: its items
        self.failed = len(items)  # the first item that failed, and with what
        self.error: BaseException | None = None
        self.lock = threading.RLock()
        self.over = False
        self.task: Any = None
        self.sent: tuple[Any, ...] = ()

    def all(self, inline_s: float) -> list[Any]:
        timer = None
        try:
            if self.workers and inline_s and self.items:
                timer = threading.Timer(inline_s, self._fill_meanwhile)
                timer.daemon = True
                timer.start()
            elif self.workers:
                self.fill()
            self._own(time.perf_counter() + inline_s)
            if timer is not None:
                timer.cancel()
            self._rest()
        finally:
            if timer is not None:
                timer.cancel()
            self._close()
        if self.error is not None:
            raise self.error
        return self.results

    # ------------------------------------------------------------------ the caller's own

    def _own(self, inline_until: float) -> None:
        """Items one after the other, with a look at the tasks in between, until none is left."""
        values = self._values()
        look = inline_until
        while True:
            with self.lock:
                at = self.left.first()
            if at < 0:
                return
            began = time.perf_counter()
            try:
                self.results[at] = self.fn(self.items[at], *values)
            except Exception as error:
                self._fail(at, error)
            now = time.perf_counter()
            self._learn(now - began, 1)
            if self.workers and now >= look:
                look = now + LOOK_S
                self._collect(0)
                self.fill()

    def _values(self) -> list[Any]:
        import skate

        refs = skate.ObjectRef
        return [skate.get(b) if isinstance(b, refs) else b for b in self.broadcast]

    def _learn(self, seconds: float, count: int) -> None:
        if count == 0:
            return
        weight = 1 - 0.8**count
        new = seconds / count
        self.cost = new if self.cost == 0 else self.cost + weight * (new - self.cost)

    # -------------------------------------------------------------------------- the tasks

    def _fill_meanwhile(self) -> None:
        """The timer's: the caller is still in its first items."""
        try:
            self.fill()
        except Exception:
            pass  # the caller meets it, too

    def fill(self) -> None:
        """Give each worker a slice to run and one to wait."""
        with self.lock:
            while not self.over and len(self.open) < 2 * self.workers and self.left.count():
                seconds, most = self._size()
                part = self.left.slice(most)
                try:
                    if not self.task:
                        self._begin()
                    mine = [self.items[i] for i in part]
                    ref = self.task.remote(self.sent[0], mine, seconds, *self.sent[1:])
                except BaseException:
                    self.left.back.append(part)  # nobody has taken it
                    raise
                self.open[ref] = part

    def _size(self) -> tuple[float, int]:
        """For how long a task may run, and how many items it gets."""
        if self.chunk:
            return 0.0, self.chunk
        left = self.left.count()
        share = left * self.cost / (2 * (self.workers + 1))
        seconds = min(SLICE_MOST_S, max(SLICE_S, share))
        if self.cost == 0:
            return seconds, 1
        return seconds, max(1, min(int(2 * seconds / self.cost), -(-left // (self.workers + 1))))

    def _begin(self) -> None:
        import skate

        name = getattr(self.fn, "__name__", type(self.fn).__name__)
        try:
            self.sent = (skate.put((self.fn,)), *map(_put_once, self.broadcast))
        except TypeError as error:
            raise TypeError(
                f"fan_out() cannot send {name}(), or what broadcast= says, to a task: {error}"
            ) from error
        self.task = skate.remote(run_slice).options(name=name)

    def _collect(self, timeout: float | None) -> None:
        """Take what tasks have done; with None, wait until one has."""
        import skate

        with self.lock:
            refs = list(self.open)
        if not refs:
            return
        ready = skate.wait(refs, num_returns=1 if timeout is None else len(refs), timeout=timeout)
        for ref in ready[0]:
            with self.lock:
                part = self.open.pop(ref)
            self._take(ref, part)

    def _take(self, ref: Any, part: range) -> None:
        import skate
        from skate import _serialize

        try:
            out, failed, seconds = skate.get(ref)
        except skate.exceptions.RayError as error:
            self._fail(part.start, error, part)
            return
        self.results[part.start : part.start + len(out)] = out
        self._learn(seconds, len(out))
        rest = part[len(out) :]
        if failed is not None:
            self._fail(rest[0], _serialize.task_error(failed))
        elif rest:
            with self.lock:
                self.left.back.append(rest)
                self.left.cut(self.failed)

    def _rest(self) -> None:
        """The caller has nothing left to do but wait, and what tasks give back."""
        while True:
            with self.lock:
                self.open = {r: part for r, part in self.open.items() if self._wanted(r, part)}
                if not self.open and not self.left.count():
                    return
            self._collect(None)
            self.fill()
            if self.left.count():
                self._own(0.0)

    def _wanted(self, ref: Any, part: range) -> bool:
        import skate

        if part.start < self.failed:
            return True
        skate.cancel(ref)
        return False

    def _fail(self, at: int, error: BaseException, part: range | None = None) -> None:
        with self.lock:
            if at >= self.failed:
                return
            which = f"item {at}" if part is None or len(part) == 1 else f"items {at} to {part[-1]}"
            error.add_note(f"fan_out(): {which} of {len(self.items)}")
            self.failed, self.error = at, error
            self.left.cut(at)

    def _close(self) -> None:
        import skate

        with self.lock:
            self.over = True
            unread, self.open = list(self.open), {}
        for ref in unread:
            skate.cancel(ref)


# ---------------------------------------------------------------------------------- broadcast

_kept: dict[int, tuple[int, Any, Any]] = {}  # id of a living value: session, weak ref to it, ref


def _put_once(value: Any) -> Any:
    """A ref of the value; the same one again for the same value, if that cannot have changed."""
    import skate
    from skate import _core

    if isinstance(value, skate.ObjectRef):
        return value
    if not _is_fixed(value):
        return skate.put(value)
    key, epoch = id(value), _core.epoch()
    known = _kept.get(key)
    if known is not None and known[0] == epoch and known[1]() is value:
        return known[2]
    ref = skate.put(value)
    _kept[key] = epoch, weakref.ref(value, lambda gone: _forget(key, gone)), ref
    return ref


def _forget(key: int, gone: Any) -> None:
    if key in _kept and _kept[key][1] is gone:
        del _kept[key]


def _is_fixed(value: Any) -> bool:
    """Is it of a kind that nobody changes? An array is when it is read-only down to its base."""
    kind = type(value)
    if kind.__module__ == "pyarrow.lib":
        return kind.__name__ in ("Table", "RecordBatch", "ChunkedArray")
    if kind.__module__ != "numpy" or kind.__name__ != "ndarray":
        return False
    while type(value) is kind:
        if value.flags.writeable or value.dtype.hasobject:
            return False
        value = value.base
    return value is None or type(value) is bytes or type(value).__module__ == "pyarrow.lib"
