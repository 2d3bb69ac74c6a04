"""The backend itself. Imported only when joblib is there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from joblib._parallel_backends import AutoBatchingMixin, ParallelBackendBase

import skate

_LARGE = 64 * 1024  # bytes; arguments from here on are stored once for a whole Parallel() call


@skate.remote
def _run_batch(function: Any, shared: list[Any]) -> Any:
    return function(skate.get(shared)) if shared else function(())


class _Batch:
    """A batch whose large arguments travel as refs, stored once however many batches use them."""

    def __init__(self, function: Any, stored: dict[int, tuple[Any, Any]]) -> None:
        self.shared: list[Any] = []
        self._places: dict[int, int] = {}
        self._stored = stored
        self.function = function
        items = getattr(function, "items", None)
        self.items = None if items is None else [
            (call, tuple(map(self._light, args)), {k: self._light(v) for k, v in kwargs.items()})
            for call, args, kwargs in items
        ]  # fmt: skip

    def _light(self, value: Any) -> Any:
        if not _is_large(value):
            return value
        if id(value) not in self._stored:
            self._stored[id(value)] = (value, skate.put(value))  # it stays: its id is its key
        if id(value) not in self._places:
            self._places[id(value)] = len(self.shared)
            self.shared.append(self._stored[id(value)][1])
        return _Shared(self._places[id(value)])

    def task(self) -> _Task:
        """What is sent."""
        of = self.function
        context = (getattr(of, "_backend", None), getattr(of, "_n_jobs", None))
        return _Task(self.function if self.items is None else None, self.items, context)


class _Shared:
    """Stands for a large argument."""

    def __init__(self, place: int) -> None:
        self.place = place


class _Task:
    """A batch as it is sent."""

    def __init__(self, function: Any, items: Any, context: Any) -> None:
        self.function = function
        self.items = items
        self.context = context

    def __call__(self, shared: Any) -> Any:
        from joblib import parallel_config

        if self.items is None:
            return self.function()
        backend, jobs = self.context

        def full(value: Any) -> Any:
            return shared[value.place] if type(value) is _Shared else value

        with parallel_config(backend=backend, n_jobs=jobs):
            return [
                function(*map(full, args), **{key: full(value) for key, value in kwargs.items()})
                for function, args, kwargs in self.items
            ]


def _is_large(value: Any) -> bool:
    """An array, a data frame or a sparse matrix of some size."""
    if type(value).__name__ == "DataFrame" and hasattr(value, "memory_usage"):
        size = int(value.memory_usage().sum())
    elif hasattr(value, "indptr"):
        size = getattr(value.data, "nbytes", 0)
    else:
        size = getattr(value, "nbytes", 0)
    return isinstance(size, int) and size >= _LARGE


class RayBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """joblib's way to run batches. ray_remote_args: options of the tasks."""

    supports_retrieve_callback = True
    uses_threads = False
    supports_sharedmem = False

    def __init__(
        self, nesting_level: int | None = None, *args: Any,
        ray_remote_args: dict[str, Any] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(nesting_level=nesting_level, **kwargs)
        self.ray_remote_args = dict(ray_remote_args or {})
        self._stored: dict[int, tuple[Any, Any]] = {}
        self._running: set[Any] = set()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """None is 1; -1 is all CPUs of the cluster, -2 one less, and so on."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs > 0:
            return n_jobs
        if not skate.is_initialized():
            skate.init()
        cpus = int(skate.cluster_resources().get("CPU", 1))
        return max(1, cpus + 1 + n_jobs)

    def configure(
        self, n_jobs: int = 1, parallel: Any = None, prefer: Any = None, require: Any = None,
        **options: Any,
    ) -> int:  # fmt: skip
        """Before a Parallel() call: how many jobs it may have."""
        if options.get("ray_remote_args"):
            self.ray_remote_args = dict(options["ray_remote_args"])
        jobs = self.effective_n_jobs(n_jobs)
        if jobs == 1:
            from joblib._parallel_backends import FallbackToBackend, SequentialBackend

            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        return jobs

    def submit(self, func: Any, callback: Callable[[Any], Any] | None = None) -> Future[Any]:
        """A batch as a task; its future."""
        batch = _Batch(func, self._stored)
        run = _run_batch.options(**self.ray_remote_args) if self.ray_remote_args else _run_batch
        ref = run.remote(batch.task(), batch.shared)
        self._running.add(ref)
        future: Future[Any] = ref.future()
        future.add_done_callback(lambda _: self._running.discard(ref))
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """The results of a batch; raises what a call raised, as its own type."""
        try:
            return out.result()
        except skate.exceptions.RayTaskError as error:
            cause = error.cause
            if not isinstance(cause, Exception):
                raise
            raise cause from error

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """An error was raised, or the caller has had enough: what is not begun never runs."""
        for ref in list(self._running):
            skate.cancel(ref)
        self._running.clear()

    def stop_call(self) -> None:
        """After a Parallel() call."""
        self._stored.clear()

    def terminate(self) -> None:
        """Nothing is kept."""
        self._stored.clear()

    def get_nested_backend(self) -> tuple[Any, Any]:
        """For Parallel() in a task: tasks again; a task that waits lends its CPU."""
        level = (self.nesting_level or 0) + 1
        return RayBackend(nesting_level=level, ray_remote_args=self.ray_remote_args), None

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.nesting_level, self.ray_remote_args)


def _rebuild(level: int | None, options: dict[str, Any]) -> RayBackend:
    return RayBackend(nesting_level=level, ray_remote_args=options)
