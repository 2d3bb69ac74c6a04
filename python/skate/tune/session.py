"""What code inside a trial may ask and say: report(), get_checkpoint(), who and where am I.

The trial's actor sets one TrialContext per process before it builds the trainable. A function
trainable runs in a thread of that process; its reports pass through the Reporter that the
function runner installed (see _function.py). Everything here is per process, not per thread:
a process runs one trial at a time.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from skate.tune import result as keys
from skate.tune.checkpoint import Checkpoint


@dataclass
class TrialContext:
    """The facts about the running trial, as the driver sent them."""

    trial_id: str
    trial_name: str
    logdir: str
    experiment_name: str
    resources: Any = None
    node_ip: str = "127.0.0.1"
    extra: dict[str, Any] = field(default_factory=dict)

    def get_trial_id(self) -> str:
        """The trial's id."""
        return self.trial_id

    def get_trial_name(self) -> str:
        """The trial's name."""
        return self.trial_name

    def get_trial_dir(self) -> str:
        """The trial's folder."""
        return self.logdir

    def get_trial_resources(self) -> Any:
        """What the trial was given."""
        return self.resources

    def get_experiment_name(self) -> str:
        """The experiment's name."""
        return self.experiment_name

    # World of one: a trial that is not distributed training.
    def get_world_rank(self) -> int:
        """Always 0 here."""
        return 0

    def get_world_size(self) -> int:
        """Always 1 here."""
        return 1


class Reporter(Protocol):
    """Where report() goes: the function runner."""

    def report(self, metrics: dict[str, Any], checkpoint: str | None) -> None:
        """Hand over one result and wait until the driver wants another."""

    def checkpoint(self) -> str | None:
        """The folder to resume from, if any."""


_trial: TrialContext | None = None
_reporter: Reporter | None = None
_endings: list[Callable[[bool], None]] = []

logger = logging.getLogger("skate.tune")


def current_trial() -> TrialContext | None:
    """The running trial's facts, or None outside a trial."""
    return _trial


def enter_trial(trial: TrialContext | None) -> None:
    """Set the running trial of this process (called by the trial's actor)."""
    global _trial
    _trial = trial


def at_trial_end(call: Callable[[bool], None]) -> None:
    """Have call(failed) called once, in this process, when the running trial ends."""
    _endings.append(call)


def end_trial(failed: bool) -> None:
    """Call what waits for the trial's end (called by the trial's actor); errors are only logged."""
    while _endings:
        try:
            _endings.pop()(failed)
        except Exception as error:
            logger.warning("At the end of the trial: %s: %s", type(error).__name__, error)


def enter_function(reporter: Reporter | None) -> None:
    """Set where this process's reports go (called by the function runner)."""
    global _reporter
    _reporter = reporter


def is_session_enabled() -> bool:
    """Whether report() would reach a Tune run."""
    return _reporter is not None


def _need_reporter(what: str) -> Reporter:
    if _reporter is None:
        raise RuntimeError(f"tune.{what} can only be called inside a function that Tune runs")
    return _reporter


def report(_metrics: Any = None, *, checkpoint: Any = None, metrics: Any = None,
           **kwargs: Any) -> None:
    """Report metrics: `report({"loss": 1}, checkpoint=...)` or, as once, `report(loss=1)`."""
    reporter = _need_reporter("report()")
    given = _metrics if _metrics is not None else metrics
    if given is None:
        values: dict[str, Any] = {}
    elif isinstance(given, dict):
        values = dict(given)
    else:
        values = {keys.DEFAULT_METRIC: given}
    values.update(kwargs)
    path = None
    if checkpoint is not None:
        path = os.fspath(getattr(checkpoint, "path", checkpoint))
    reporter.report(values, path)


def get_checkpoint() -> Checkpoint | None:
    """The checkpoint that this trial resumes from, or its own latest one."""
    path = _need_reporter("get_checkpoint()").checkpoint()
    return Checkpoint(path) if path else None


@contextmanager
def checkpoint_dir(step: int) -> Iterator[str]:
    """A folder to write a checkpoint into; it travels with the next report()."""
    import shutil
    import tempfile

    reporter = _need_reporter("checkpoint_dir()")
    root = _trial.logdir if _trial else tempfile.gettempdir()
    folder = os.path.join(root, f"checkpoint_tmp_{int(step):06d}")
    os.makedirs(folder, exist_ok=True)
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    reporter.pending_checkpoint = folder  # type: ignore[attr-defined]


def get_context() -> TrialContext:
    """The running trial's facts."""
    if _trial is None:
        raise RuntimeError("tune.get_context() can only be called inside a trial")
    return _trial


def get_trial_id() -> str | None:
    """The running trial's id; None outside a trial."""
    return _trial.trial_id if _trial else None


def get_trial_name() -> str | None:
    """The running trial's name; None outside a trial."""
    return _trial.trial_name if _trial else None


def get_trial_dir() -> str | None:
    """The running trial's folder; None outside a trial."""
    return _trial.logdir if _trial else None


def get_trial_resources() -> Any:
    """The running trial's resources; None outside a trial."""
    return _trial.resources if _trial else None


TuneContext = TrialContext
