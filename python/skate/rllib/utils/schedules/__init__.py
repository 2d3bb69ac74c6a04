"""Schedules: a number as a function of the timestep, under RLlib's names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def _linear(left: float, right: float, share: float) -> float:
    return left + share * (right - left)


class Schedule:
    """Base: value(t), or the object called with t. `framework` is accepted and means nothing."""

    def __init__(self, framework: str | None = None) -> None:
        self.framework = framework

    def value(self, t: float) -> float:
        """The number at timestep t."""
        raise NotImplementedError

    def __call__(self, t: float) -> float:
        return self.value(t)


class ConstantSchedule(Schedule):
    """The same always."""

    def __init__(self, value: float, framework: str | None = None) -> None:
        super().__init__(framework)
        self._value = float(value)

    def value(self, t: float) -> float:
        """The constant."""
        return self._value


class PolynomialSchedule(Schedule):
    """From initial_p to final_p in schedule_timesteps steps, by (1 - t/steps) ** power."""

    def __init__(self, schedule_timesteps: int, final_p: float, framework: str | None = None,
                 initial_p: float = 1.0, power: float = 2.0) -> None:
        super().__init__(framework)
        if schedule_timesteps <= 0:
            raise ValueError(f"schedule_timesteps must be > 0, got {schedule_timesteps!r}")
        self.schedule_timesteps = schedule_timesteps
        self.initial_p, self.final_p, self.power = float(initial_p), float(final_p), power

    def value(self, t: float) -> float:
        """At timestep t; final_p from schedule_timesteps on."""
        left = 1.0 - min(max(t, 0), self.schedule_timesteps) / self.schedule_timesteps
        return self.final_p + (self.initial_p - self.final_p) * float(left ** self.power)


class LinearSchedule(PolynomialSchedule):
    """A straight line from initial_p to final_p."""

    def __init__(self, schedule_timesteps: int, final_p: float, framework: str | None = None,
                 initial_p: float = 1.0) -> None:
        super().__init__(schedule_timesteps, final_p, framework, initial_p, power=1.0)


class ExponentialSchedule(Schedule):
    """initial_p * decay_rate ** (t / schedule_timesteps)."""

    def __init__(self, schedule_timesteps: int, framework: str | None = None,
                 initial_p: float = 1.0, decay_rate: float = 0.1) -> None:
        super().__init__(framework)
        if schedule_timesteps <= 0:
            raise ValueError(f"schedule_timesteps must be > 0, got {schedule_timesteps!r}")
        self.schedule_timesteps = schedule_timesteps
        self.initial_p, self.decay_rate = float(initial_p), float(decay_rate)

    def value(self, t: float) -> float:
        """At timestep t."""
        return self.initial_p * float(self.decay_rate ** (t / self.schedule_timesteps))


class PiecewiseSchedule(Schedule):
    """Between (timestep, value) points by `interpolation`, outside them outside_value or, if that
    is None, the last value."""

    def __init__(self, endpoints: Sequence[tuple[float, float]], framework: str | None = None,
                 interpolation: Callable[[float, float, float], float] = _linear,
                 outside_value: float | None = None) -> None:
        super().__init__(framework)
        self.endpoints = [(float(t), float(v)) for t, v in endpoints]
        if not self.endpoints or [t for t, _ in self.endpoints] != sorted(
                t for t, _ in self.endpoints):
            raise ValueError(f"endpoints must have growing timesteps, got {endpoints!r}")
        self.interpolation = interpolation
        self.outside_value = outside_value

    def value(self, t: float) -> float:
        """At timestep t."""
        for (left_t, left), (right_t, right) in zip(self.endpoints, self.endpoints[1:]):
            if left_t <= t < right_t:
                return float(self.interpolation(left, right, (t - left_t) / (right_t - left_t)))
        if self.outside_value is not None:
            return float(self.outside_value)
        return self.endpoints[0][1] if t < self.endpoints[0][0] else self.endpoints[-1][1]


def schedule_of(given: Any) -> Schedule:
    """A Schedule from one, from a number, from [[t, value], ...] points or from a dictionary
    {'type': class or name, keyword: value}."""
    if isinstance(given, Schedule):
        return given
    if isinstance(given, dict):
        keywords = dict(given)
        kind = keywords.pop("type", "LinearSchedule")
        if isinstance(kind, str):
            name = kind.rpartition(".")[2]
            if not isinstance(globals().get(name), type):
                raise ValueError(f"there is no schedule {kind!r}; there are: {', '.join(__all__)}")
            kind = globals()[name]
        return kind(**keywords)             # type: ignore[no-any-return]
    if isinstance(given, (list, tuple)):
        return PiecewiseSchedule(given)
    return ConstantSchedule(given)


__all__ = ["ConstantSchedule", "ExponentialSchedule", "LinearSchedule", "PiecewiseSchedule",
           "PolynomialSchedule", "Schedule"]
