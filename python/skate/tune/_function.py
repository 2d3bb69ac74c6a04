"""Function trainables: a function that reports, run as a Trainable.

The function runs in one thread of the trial's process. report() hands a result over and waits
until the driver asks for the next one, so the function is never more than one result ahead and a
checkpoint is what the function's state was at its report. When the trial is stopped, the waiting
report() raises _Unwind (a BaseException, so `except Exception` in user code lets it through).
"""

from __future__ import annotations

import functools
import inspect
import os
import queue
import threading
from collections.abc import Callable, Generator
from typing import Any

from skate.tune import result as keys
from skate.tune import session
from skate.tune.trainable import Trainable

STOP_JOIN_S = 2.0
KEPT_PREFIX = ".reported_"


class _Unwind(BaseException):
    """Ends the user's thread from inside report()."""


class FunctionRunner(Trainable):
    """Drives the function of a subclass made by wrap_function()."""

    _function: Callable[..., Any]

    def setup(self, config: dict[str, Any]) -> None:
        """Start nothing yet: restore() may come first."""
        self._results: queue.SimpleQueue[tuple[str, Any, str | None]] = queue.SimpleQueue()
        self._go = threading.Semaphore(0)
        self._unwinding = False
        self._thread: threading.Thread | None = None
        self._last_checkpoint: str | None = None
        self.pending_checkpoint: str | None = None

    # ---- the user's thread ------------------------------------------------------------------

    def report(self, metrics: dict[str, Any], checkpoint: str | None) -> None:
        """One result out; returns when the driver wants more."""
        if self._unwinding:
            raise _Unwind
        checkpoint = checkpoint or self.pending_checkpoint
        if checkpoint is not None:
            checkpoint = self._keep(checkpoint)
        self.pending_checkpoint = None
        self._results.put(("result", metrics, checkpoint))
        self._wait_for_go()

    def checkpoint(self) -> str | None:
        """What get_checkpoint() names."""
        return self._last_checkpoint

    def _keep(self, folder: str) -> str:
        """Copy a reported checkpoint: its folder is the user's and may vanish after report()."""
        inside = os.path.commonpath([os.path.realpath(folder), os.path.realpath(self.logdir)])
        if inside == os.path.realpath(folder):
            raise ValueError(f"a checkpoint cannot be a folder that holds the results: {folder}")
        import shutil

        kept = os.path.join(self.logdir, f"{KEPT_PREFIX}{os.getpid()}_{self._iteration + 1:06d}")
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder, kept)
        if os.path.basename(folder).startswith("checkpoint_tmp_"):
            shutil.rmtree(folder, ignore_errors=True)
        return kept

    def _wait_for_go(self) -> None:
        self._go.acquire()
        if self._unwinding:
            raise _Unwind

    def _run(self) -> None:
        try:
            self._wait_for_go()
            output = self._call()
            if isinstance(output, Generator):
                for metrics in output:
                    session.report(metrics)
                output = None
            if output is not None:
                session.report(output)
            self._results.put(("end", None, None))
        except _Unwind:
            self._results.put(("end", None, None))
        except BaseException as error:
            self._results.put(("error", error, None))

    def _call(self) -> Any:
        function = type(self)._function
        arguments: dict[str, Any] = {}
        if "checkpoint_dir" in _parameters(function):
            arguments["checkpoint_dir"] = self._last_checkpoint
        return function(self.config, **arguments)

    # ---- the trial's side -------------------------------------------------------------------

    def step(self) -> dict[str, Any]:
        """Let the function run to its next report, or to its end."""
        session.enter_function(self)
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="tune-function", daemon=True)
            self._thread.start()
        self._go.release()
        kind, value, checkpoint = self._results.get()
        if kind == "error":
            raise value
        if kind == "end":
            return {keys.DONE: True, keys.DUPLICATE: True}
        value = dict(value)
        if checkpoint is not None:
            self._drop_kept()
            self._last_checkpoint = checkpoint
            value[keys.SHOULD_CHECKPOINT] = True
        return value

    def save_checkpoint(self, checkpoint_dir: str) -> str | None:
        """What the function last reported; nothing when it reported none."""
        import shutil

        if self._last_checkpoint is None:
            return None
        shutil.copytree(self._last_checkpoint, checkpoint_dir, dirs_exist_ok=True)
        return None

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Remember where get_checkpoint() points."""
        self._last_checkpoint = os.fspath(checkpoint)

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is anything to save."""
        return self._last_checkpoint is not None

    def cleanup(self) -> None:
        """Unwind the function if it waits in report(); a busy one dies with the process."""
        self._unwinding = True
        self._go.release()
        if self._thread is not None:
            self._thread.join(STOP_JOIN_S)
        session.enter_function(None)
        self._drop_kept()

    def _drop_kept(self) -> None:
        """Delete our copy of the last reported checkpoint; what was restored is not ours."""
        import shutil

        last = self._last_checkpoint
        if last is not None and os.path.basename(last).startswith(KEPT_PREFIX):
            shutil.rmtree(last, ignore_errors=True)


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return {}


def wrap_function(function: Callable[..., Any], name: str | None = None) -> type[Trainable]:
    """The Trainable class that runs `function(config)`."""
    parameters = _parameters(function)
    positional = [p for p in parameters.values()
                  if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
    if parameters and not positional:
        raise ValueError(
            f"Unknown argument found in the function {_name(function)}: a trainable function "
            "takes one argument, the config")
    required = [p for p in positional if p.default is p.empty and p.kind != p.VAR_POSITIONAL]
    if not positional or len(required) > 1:
        raise ValueError(
            f"the trainable function {_name(function)} must take one argument, the config "
            f"(it takes {len(required)})")
    return type(name or _name(function), (FunctionRunner,), {
        "_function": staticmethod(function),
        "__module__": __name__,
        "__doc__": function.__doc__,
        "_resources": getattr(function, "_resources", None),
        "default_resource_request": classmethod(_request),
    })


def _request(cls: Any, config: dict[str, Any]) -> Any:
    resources = cls._resources
    return resources(config) if callable(resources) else resources


def _name(function: Callable[..., Any]) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)
