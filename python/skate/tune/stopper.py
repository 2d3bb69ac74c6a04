"""When to end a trial, or the whole experiment."""

from __future__ import annotations

import math
import re
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

from skate.tune import result as keys
from skate.tune.error import TuneError

DEFAULT_STEPS_MAX = 500_000
_REWARD = re.compile(r"(^|/|_)(reward|return)(_|$)")


class Stopper:
    """Called with every result; stop_all() ends the experiment.

    A method that a subclass does not define is found out when it is called.
    """

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        raise NotImplementedError(f"{type(self).__name__} must define __call__()")

    def stop_all(self) -> bool:
        """Whether every trial shall end now."""
        raise NotImplementedError(f"{type(self).__name__} must define stop_all()")


class NoopStopper(Stopper):
    """Never."""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        """False."""
        return False


class FunctionStopper(Stopper):
    """A function (trial_id, result) -> bool."""

    def __init__(self, function: Callable[[str, dict[str, Any]], bool]) -> None:
        self._function = function

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return bool(self._function(trial_id, result))

    def stop_all(self) -> bool:
        """False."""
        return False


class MaximumIterationStopper(Stopper):
    """After so many results of a trial."""

    def __init__(self, max_iter: int) -> None:
        self._max_iter = max_iter
        self._count: dict[str, int] = defaultdict(int)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self._count[trial_id] += 1
        return self._count[trial_id] >= self._max_iter

    def stop_all(self) -> bool:
        """False."""
        return False


class TimeoutStopper(Stopper):
    """The whole experiment after some time (seconds or a timedelta)."""

    def __init__(self, timeout: Any) -> None:
        seconds = timeout.total_seconds() if hasattr(timeout, "total_seconds") else timeout
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise ValueError(
                f"the time budget must be a number of seconds or a timedelta, got {timeout!r}")
        if seconds < 0:
            raise ValueError(f"the time budget must not be negative, got {timeout!r}")
        self._seconds = float(seconds)
        self._start: float | None = None

    def start(self) -> None:
        """Begin to count (again)."""
        self._start = time.monotonic()

    def remaining(self) -> float:
        """Seconds left; negative when it is over."""
        if self._start is None:
            self.start()
        return self._seconds - (time.monotonic() - (self._start or 0.0))

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        """Whether the time is over."""
        return self.remaining() <= 0


class TrialPlateauStopper(Stopper):
    """A trial whose metric no longer moves."""

    def __init__(self, metric: str, std: float = 0.01, num_results: int = 4,
                 grace_period: int = 4, metric_threshold: float | None = None,
                 mode: str | None = None) -> None:
        if metric_threshold is not None and mode not in ("min", "max"):
            raise ValueError(f"with a metric_threshold, mode must be 'min' or 'max', got {mode!r}")
        self._metric, self._std, self._mode = metric, std, mode
        self._num_results, self._grace = num_results, grace_period
        self._threshold = metric_threshold
        self._seen: dict[str, int] = defaultdict(int)
        self._window: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=num_results))

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        value = keys.lookup(result, self._metric)
        window = self._window[trial_id]
        window.append(value)
        self._seen[trial_id] += 1
        if self._seen[trial_id] < self._grace or len(window) < self._num_results:
            return False
        if self._threshold is not None:
            short = value > self._threshold if self._mode == "min" else value < self._threshold
            if short:
                return False
        mean = sum(window) / len(window)
        spread = math.sqrt(sum((v - mean) ** 2 for v in window) / len(window))
        return spread <= self._std

    def stop_all(self) -> bool:
        """False."""
        return False


class CombinedStopper(Stopper):
    """Any of several."""

    def __init__(self, *stoppers: Stopper) -> None:
        self._stoppers = stoppers

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return any([stopper(trial_id, result) for stopper in self._stoppers])

    def stop_all(self) -> bool:
        """Whether any says so."""
        return any([stopper.stop_all() for stopper in self._stoppers])


class DictStopper(Stopper):
    """{'metric': bound}: a trial ends when any metric reaches its bound.

    A dictionary that bounds only rewards also gets a limit of environment steps, because a reward
    that is out of reach would otherwise keep the trial for ever. A key that the first result of a
    trial does not have is an error: it would never stop anything.
    """

    def __init__(self, bounds: Mapping[str, Any]) -> None:
        for key in bounds:
            if not isinstance(key, str):
                raise TypeError(f"the keys of `stop` must be metric names, got {key!r}")
        bounds = keys.flatten(bounds)
        for key, bound in bounds.items():
            if isinstance(bound, bool) and key == keys.DONE:
                continue
            if isinstance(bound, bool) or not hasattr(bound, "__float__"):
                raise TypeError(f"`stop` must give a number for {key!r}, got {bound!r}")
            if math.isnan(float(bound)):
                raise ValueError(f"`stop` gives no number (nan) for {key!r}")
        self.bounds = dict(bounds)
        self.default_steps_max: int | None = None
        if bounds and all(is_reward(key) for key in bounds):
            self.default_steps_max = DEFAULT_STEPS_MAX
        self._checked: set[str] = set()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        if trial_id not in self._checked:
            self._check_names(result)
            self._checked.add(trial_id)
        for key, bound in self.bounds.items():
            value = keys.lookup(result, key)
            if value is not None and value >= bound:
                return True
        if self.default_steps_max is not None:
            steps = keys.lookup(result, keys.TIMESTEPS_TOTAL)
            return steps is not None and steps >= self.default_steps_max
        return False

    def _check_names(self, result: dict[str, Any]) -> None:
        flat = keys.flatten({k: v for k, v in result.items() if k != keys.CONFIG})
        for key in self.bounds:
            if key != keys.DONE and not keys.has(result, key):
                numbers = sorted(k for k, v in flat.items()
                                 if isinstance(v, (int, float)) and not isinstance(v, bool))
                raise TuneError(
                    f"Stopping criterion {key!r} is not provided in the results of the trials; "
                    f"what they provide: {', '.join(numbers)}")

    def stop_all(self) -> bool:
        """False."""
        return False

    def describe(self) -> str:
        """The bounds in words."""
        parts = [f"{key} >= {bound:,}" if isinstance(bound, (int, float)) else f"{key} {bound}"
                 for key, bound in self.bounds.items()]
        if self.default_steps_max is not None:
            parts.append(f"{keys.TIMESTEPS_TOTAL} >= {self.default_steps_max:,} a trial (default "
                         "limit, as `stop` names only a reward)")
        return " or ".join(parts)


def is_reward(key: str) -> bool:
    """Whether a metric's name is that of an episode's reward or return."""
    return bool(_REWARD.search(key))


def make_stopper(stop: Any) -> Stopper:
    """Whatever tune.run() takes as `stop`, or a typed error at once."""
    if stop is None:
        return NoopStopper()
    if isinstance(stop, Stopper):
        return stop
    if isinstance(stop, Mapping):
        return DictStopper(stop)
    if isinstance(stop, (list, tuple)):
        if not all(isinstance(item, Stopper) for item in stop):
            raise ValueError("a list given as `stop` may only hold Stopper objects")
        return CombinedStopper(*stop)
    if callable(stop) and not isinstance(stop, type):
        return FunctionStopper(stop)
    raise ValueError(
        "Invalid stop criteria: must be a dictionary, a function (trial_id, result) -> bool or a "
        f"Stopper, got {stop!r}")
