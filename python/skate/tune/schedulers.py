"""Trial schedulers: only first in, first out. (Others plug into the same two methods.)"""

from __future__ import annotations

from typing import Any

from skate.tune.error import TuneError
from skate.tune.trial import Trial

_LATER = frozenset(
    ("ASHAScheduler", "AsyncHyperBandScheduler", "HyperBandScheduler", "HyperBandForBOHB",
     "MedianStoppingRule", "PopulationBasedTraining", "PopulationBasedTrainingReplay", "PB2",
     "DistributeResources", "ResourceChangingScheduler")
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LATER:
        from skate import _absent

        _absent.refuse(
            f"the scheduler {name}", "FIFOScheduler, with stop={...} for trials that do not get on"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class TrialScheduler:
    """Decides, after each result, whether a trial goes on."""

    CONTINUE = "CONTINUE"
    PAUSE = "PAUSE"
    STOP = "STOP"

    def on_trial_result(self, trial: Trial, result: dict[str, Any]) -> str:
        """CONTINUE or STOP."""
        return self.CONTINUE

    def debug_string(self) -> str:
        """A line for the status block."""
        return f"Using {type(self).__name__}."


class FIFOScheduler(TrialScheduler):
    """Trials in the order in which they were made, each to its end."""

    def debug_string(self) -> str:
        """A line for the status block."""
        return "Using FIFO scheduling algorithm."


def make_scheduler(given: Any) -> TrialScheduler:
    """What tune.run() takes as `scheduler`."""
    if given is None or (isinstance(given, str) and given.lower() in ("fifo", "fifoscheduler")):
        return FIFOScheduler()
    if isinstance(given, TrialScheduler):
        return given
    raise TuneError(f"Unknown scheduler {given!r}: only 'fifo' and FIFOScheduler exist so far")
