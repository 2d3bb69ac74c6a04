"""Search spaces: domains to draw from, and grids.

All draws come from Python's `random` unless a generator is passed, so random.seed() before
tune.run() makes an experiment's configs repeatable.
"""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable, Sequence
from typing import Any


class Domain:
    """A set of values to draw from."""

    def draw(self, rng: random.Random) -> Any:
        """One value."""
        raise NotImplementedError(f"{type(self).__name__} must define draw() or sample()")

    def sample(self, config: Any = None, size: int = 1,
               random_state: random.Random | int | None = None) -> Any:
        """One value, or a list of `size` values."""
        if isinstance(random_state, random.Random):
            rng = random_state
        elif isinstance(random_state, int):
            rng = random.Random(random_state)
        else:
            rng = random  # type: ignore[assignment]
        return self.draw(rng) if size == 1 else [self.draw(rng) for _ in range(size)]

    def is_function(self) -> bool:
        """Whether the draw may look at the rest of the config."""
        return False


class Float(Domain):
    """Real numbers: uniform, log-uniform or normal, perhaps rounded to a step."""

    def __init__(self, lower: float, upper: float, *, base: float | None = None,
                 q: float | None = None) -> None:
        _check_range(lower, upper, base)
        self.lower, self.upper, self.base, self.q = float(lower), float(upper), base, q
        if q is not None:
            _check_step(lower, upper, q)

    def draw(self, rng: random.Random) -> float:
        """One number."""
        if self.base is None:
            value = rng.uniform(self.lower, self.upper)
        else:
            low, high = math.log(self.lower, self.base), math.log(self.upper, self.base)
            value = min(max(self.base ** rng.uniform(low, high), self.lower), self.upper)
        return value if self.q is None else _round(value, self.q)

    def __repr__(self) -> str:
        return f"Float({self.lower}, {self.upper}, base={self.base}, q={self.q})"


class Normal(Domain):
    """Real numbers around a mean."""

    def __init__(self, mean: float = 0.0, sd: float = 1.0, q: float | None = None) -> None:
        self.mean, self.sd, self.q = mean, sd, q

    def draw(self, rng: random.Random) -> float:
        """One number."""
        value = rng.gauss(self.mean, self.sd)
        return value if self.q is None else _round(value, self.q)


class Integer(Domain):
    """Whole numbers from lower, included, to upper, excluded (included when rounded to q)."""

    def __init__(self, lower: int, upper: int, *, base: float | None = None, q: int = 1) -> None:
        _check_range(lower, upper, base)
        if q != 1:
            _check_step(lower, upper, q)
        self.lower, self.upper, self.base, self.q = int(lower), int(upper), base, int(q)

    def draw(self, rng: random.Random) -> int:
        """One whole number."""
        last = self.upper if self.q != 1 else self.upper - 1
        if self.base is None:
            value = rng.randint(self.lower, max(last, self.lower))
        else:
            low, high = math.log(self.lower, self.base), math.log(self.upper, self.base)
            value = min(max(int(self.base ** rng.uniform(low, high)), self.lower), last)
        return value if self.q == 1 else int(round(value / self.q) * self.q)

    def __repr__(self) -> str:
        return f"Integer({self.lower}, {self.upper}, base={self.base}, q={self.q})"


class Categorical(Domain):
    """One of a list."""

    def __init__(self, categories: Sequence[Any]) -> None:
        self.categories = list(categories)
        if not self.categories:
            raise ValueError("tune.choice() needs at least one value")

    def draw(self, rng: random.Random) -> Any:
        """One of the values."""
        return rng.choice(self.categories)

    def __repr__(self) -> str:
        return f"Categorical({self.categories!r})"


class Spec:
    """What a sample_from function sees: the config so far, as attributes or items.

    Both `spec.config.lr` and `config["lr"]` work. A value that is not known yet raises
    NotYetResolved, and the function is called again when more is known.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Any:
        if name == "config" and "config" not in self._config:
            return self
        try:
            value = self._config[name]
        except KeyError:
            raise KeyError(f"{name!r} is not in the config") from None
        if isinstance(value, Domain) or is_grid(value):
            raise NotYetResolved(name)
        return Spec(value) if isinstance(value, dict) else value

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or the default."""
        try:
            return self[name]
        except KeyError:
            return default

    def __contains__(self, name: str) -> bool:
        return name in self._config


class NotYetResolved(Exception):
    """A sample_from function looked at a value that has not been drawn yet."""


class Function(Domain):
    """A function that makes a value, perhaps out of the rest of the config."""

    def __init__(self, func: Callable[..., Any]) -> None:
        if not callable(func):
            raise TypeError(f"tune.sample_from() takes a function, got {func!r}")
        self.func = func
        try:
            self.takes_spec = bool(inspect.signature(func).parameters)
        except (TypeError, ValueError):
            self.takes_spec = True

    def resolve(self, config: dict[str, Any]) -> Any:
        """The value for this config."""
        return self.func(Spec(config)) if self.takes_spec else self.func()

    def draw(self, rng: random.Random) -> Any:
        """The value for an empty config."""
        return self.resolve({})

    def sample(self, config: Any = None, size: int = 1, random_state: Any = None) -> Any:
        """One value or several, for `config`."""
        values = [self.resolve(config or {}) for _ in range(size)]
        return values[0] if size == 1 else values

    def is_function(self) -> bool:
        """True."""
        return True


def _round(value: float, q: float) -> float:
    """To a multiple of q, without the noise of binary fractions (0.30000000000000004)."""
    return float(format(round(value / q) * q, ".12g"))


def _check_range(lower: float, upper: float, base: float | None) -> None:
    for bound in (lower, upper):
        if isinstance(bound, bool) or not isinstance(bound, (int, float)):
            raise TypeError(f"the bounds of a range must be numbers, got {bound!r}")
    if base is not None and lower <= 0:
        raise ValueError(
            f"a logarithmic range needs a lower bound greater than 0, got {lower}")
    if lower > upper:
        raise ValueError(f"the lower bound {lower} is above the upper bound {upper}")


def _check_step(lower: float, upper: float, q: float) -> None:
    if q <= 0:
        raise ValueError(f"the step q must be greater than 0, got {q}")
    for bound in (lower, upper):
        if abs(bound / q - round(bound / q)) > 1e-6:
            raise ValueError(f"the bound {bound} is no multiple of the step {q}")


def is_grid(value: Any) -> bool:
    """Whether a value is a grid_search() marker."""
    return isinstance(value, dict) and set(value) == {"grid_search"}


def grid_search(values: Sequence[Any]) -> dict[str, list[Any]]:
    """Try every one of `values`, in all combinations with other grids."""
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise TypeError(f"tune.grid_search() takes a list of values, got {values!r}")
    return {"grid_search": list(values)}


def sample_from(func: Callable[..., Any]) -> Function:
    """Call `func(spec)` for each trial; spec.config.x is another value of the config."""
    return Function(func)


def choice(categories: Sequence[Any]) -> Categorical:
    """One of the list."""
    return Categorical(categories)


def uniform(lower: float, upper: float) -> Float:
    """A real number between the bounds."""
    return Float(lower, upper)


def quniform(lower: float, upper: float, q: float) -> Float:
    """A real number between the bounds, rounded to multiples of q; upper included."""
    return Float(lower, upper, q=q)


def loguniform(lower: float, upper: float, base: float = 10) -> Float:
    """A real number whose logarithm is uniform."""
    return Float(lower, upper, base=base)


def qloguniform(lower: float, upper: float, q: float, base: float = 10) -> Float:
    """The same, rounded to multiples of q."""
    return Float(lower, upper, base=base, q=q)


def randint(lower: int, upper: int) -> Integer:
    """A whole number, upper excluded."""
    return Integer(lower, upper)


def qrandint(lower: int, upper: int, q: int = 1) -> Integer:
    """A whole number rounded to multiples of q; upper included (unless q is 1)."""
    return Integer(lower, upper, q=q)


def lograndint(lower: int, upper: int, base: float = 10) -> Integer:
    """A whole number whose logarithm is uniform, upper excluded."""
    return Integer(lower, upper, base=base)


def qlograndint(lower: int, upper: int, q: int, base: float = 10) -> Integer:
    """The same, rounded to multiples of q; upper included."""
    return Integer(lower, upper, base=base, q=q)


def randn(mean: float = 0.0, sd: float = 1.0) -> Normal:
    """A normally distributed number."""
    return Normal(mean, sd)


def qrandn(mean: float, sd: float, q: float) -> Normal:
    """The same, rounded to multiples of q."""
    return Normal(mean, sd, q)
