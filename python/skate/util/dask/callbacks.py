"""What a program may hear of a Dask graph that runs on the cluster."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_active: list[RayDaskCallback] = []


class RayDaskCallback:
    """Subclass it and override some of the hooks; then `with MyCallback(): x.compute()`.

    The hooks may also be given to the constructor, by their names without the leading underscore.
    """

    _HOOKS = ("presubmit", "postsubmit", "pretask", "posttask", "postsubmit_all", "finish")

    def __init__(self, **hooks: Any) -> None:
        for name, hook in hooks.items():
            if name.removeprefix("ray_") not in self._HOOKS:
                raise TypeError(f"there is no hook {name!r}; there are: ray_presubmit, "
                                "ray_postsubmit, ray_pretask, ray_posttask, ray_postsubmit_all, "
                                "ray_finish")  # fmt: skip
            setattr(self, f"_{name}", hook)

    def __enter__(self) -> RayDaskCallback:
        _active.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _active.remove(self)

    def _ray_presubmit(self, task: Any, key: Any, deps: Any) -> Any:
        """Before a task is submitted. What it gives, if not None, is taken as the result."""

    def _ray_postsubmit(self, task: Any, key: Any, deps: Any, object_ref: Any) -> None:
        """After a task was submitted."""

    def _ray_pretask(self, key: Any, object_refs: Any) -> Any:
        """In the task, before it runs. What it gives goes to _ray_posttask."""

    def _ray_posttask(self, key: Any, result: Any, pre_state: Any) -> None:
        """In the task, after it ran."""

    def _ray_postsubmit_all(self, object_refs: Any, dsk: Any) -> None:
        """After all tasks were submitted."""

    def _ray_finish(self, result: Any) -> None:
        """After all results are there."""


class Hooks:
    """The callbacks of one run, by hook; those of the class itself do nothing and are left out."""

    def __init__(self, callbacks: list[Any]) -> None:
        for name in RayDaskCallback._HOOKS:
            full = f"_ray_{name}"
            own = getattr(RayDaskCallback, full)
            hooks = [getattr(c, full) for c in callbacks]
            setattr(self, name, [h for h in hooks if getattr(h, "__func__", h) is not own])


@contextmanager
def hooks_of(more: Any) -> Iterator[Hooks]:
    """The hooks of the callbacks that are active, and of `more`."""
    yield Hooks([*_active, *(more or ())])


class ProgressBarCallback(RayDaskCallback):
    """A line on stderr that says how many tasks of the graph are done."""

    def _ray_postsubmit_all(self, object_refs: Any, dsk: Any) -> None:
        import skate

        rest, count, begin = list(dict.fromkeys(object_refs)), len(object_refs), time.monotonic()
        while rest:
            _, rest = skate.wait(rest, num_returns=min(len(rest), 10), timeout=0.5)
            done = count - len(rest)
            bar = "#" * (30 * done // count)
            seconds = time.monotonic() - begin
            sys.stderr.write(f"\r[{bar:<30}] {done}/{count} tasks, {seconds:.1f} s")
            sys.stderr.flush()
        sys.stderr.write("\n")
