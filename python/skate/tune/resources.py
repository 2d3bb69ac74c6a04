"""What a trial needs: a head bundle for its own actor and bundles for the actors it makes.

Tune admits a trial when the sum of its bundles is free by its own count; the head bundle is what
the trial's actor asks of the scheduler, and the actors that the trial makes ask for theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

EPSILON = 1e-6


class PlacementGroupFactory:
    """A list of bundles, the first one being the trial's own actor."""

    def __init__(self, bundles: list[dict[str, float]], strategy: str = "PACK",
                 *_args: Any, **_kwargs: Any) -> None:
        if not bundles:
            raise ValueError("Cannot initialize a ResourceRequest with zero bundles.")
        self._bundles = [check_bundle(b) for b in bundles]
        if not any(self._bundles):
            raise ValueError("Cannot initialize a ResourceRequest with an empty list of bundles.")
        self.strategy = strategy
        self._hash = hash((tuple(tuple(sorted(b.items())) for b in self._bundles), strategy))

    @property
    def bundles(self) -> list[dict[str, float]]:
        """The bundles, copied."""
        return [dict(b) for b in self._bundles]

    @property
    def head_bundle(self) -> dict[str, float]:
        """What the trial's own actor asks for."""
        return dict(self._bundles[0])

    @property
    def head_cpus(self) -> float:
        """CPUs of the trial's own actor."""
        return self._bundles[0].get("CPU", 0.0)

    @property
    def required_resources(self) -> dict[str, float]:
        """The sum of all bundles."""
        total: dict[str, float] = {}
        for bundle in self._bundles:
            for name, amount in bundle.items():
                total[name] = total.get(name, 0.0) + amount
        return total

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, PlacementGroupFactory) and self._bundles == other._bundles
                and self.strategy == other.strategy)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"PlacementGroupFactory({self._bundles!r}, strategy={self.strategy!r})"


@dataclass(frozen=True)
class Resources:
    """The elder form of a request: own resources and those of the actors it makes."""

    cpu: float = 1
    gpu: float = 0
    extra_cpu: float = 0
    extra_gpu: float = 0
    custom_resources: Mapping[str, float] | None = None

    def to_request(self) -> PlacementGroupFactory:
        """The same as bundles."""
        bundles: list[dict[str, float]] = [
            {"CPU": self.cpu, "GPU": self.gpu, **(self.custom_resources or {})}]
        if self.extra_cpu or self.extra_gpu:
            bundles.append({"CPU": self.extra_cpu, "GPU": self.extra_gpu})
        return PlacementGroupFactory(bundles)


def check_bundle(bundle: Mapping[str, Any]) -> dict[str, float]:
    """The bundle without zeros, or a typed error for what is no amount."""
    checked = {}
    for name, amount in bundle.items():
        if isinstance(amount, bool) or not isinstance(amount, (int, float)):
            raise TypeError(f"the amount of resource {name!r} must be a number, got {amount!r}")
        if not math.isfinite(amount) or amount < 0:
            raise ValueError(f"the amount of resource {name!r} must be >= 0, got {amount!r}")
        if amount:
            checked[str(name)] = float(amount)
    return checked


_SHORT = {"cpu": "CPU", "gpu": "GPU", "CPU": "CPU", "GPU": "GPU"}


def as_request(given: Any) -> PlacementGroupFactory | None:
    """Any form of a resource request as bundles; None stays None."""
    if given is None or isinstance(given, PlacementGroupFactory):
        return given
    if isinstance(given, Resources):
        return given.to_request()
    if not isinstance(given, Mapping):
        raise TypeError(
            "the resources of a trial must be a dictionary or a PlacementGroupFactory, "
            f"got {type(given).__name__}")
    head: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for name, amount in given.items():
        if name in _SHORT:
            head[_SHORT[name]] = amount
        elif name in ("extra_cpu", "extra_gpu"):
            extra[name[6:].upper()] = amount
        elif name in ("custom_resources", "extra_custom_resources"):
            (head if name == "custom_resources" else extra).update(amount or {})
        elif str(name).lower() in ("cpus", "gpus", "num_cpus", "num_gpus"):
            raise ValueError(f"the resources of a trial have no {name!r}: 'cpu' or 'gpu' is meant")
        else:
            head[name] = amount
    if "CPU" not in head:
        head["CPU"] = 1 if not head else 0
    bundles = [check_bundle(head)] + ([check_bundle(extra)] if any(extra.values()) else [])
    if not any(bundles):
        return PlacementGroupFactory([{"CPU": 1e-4}])
    return PlacementGroupFactory(bundles)


def fits(need: Mapping[str, float], used: Mapping[str, float], have: Mapping[str, float]) -> bool:
    """Whether `need` is free when `used` of `have` is taken."""
    return all(used.get(name, 0.0) + amount <= have.get(name, 0.0) + EPSILON
               for name, amount in need.items())


def with_resources(trainable: Any, resources: Any) -> Any:
    """The same trainable asking for `resources`: a dict, bundles, or a function of the config."""
    from skate.tune.registry import as_trainable_class, get_trainable_cls

    if not callable(resources) or isinstance(resources, PlacementGroupFactory):
        as_request(resources)
    base = get_trainable_cls(trainable) if isinstance(trainable, str) else trainable
    base = as_trainable_class(base)

    def request(cls: Any, config: dict[str, Any]) -> Any:
        wanted: Callable[[dict[str, Any]], Any] | Any = resources
        if callable(wanted) and not isinstance(wanted, PlacementGroupFactory):
            wanted = wanted(config)
        return as_request(wanted)

    return type(base.__name__, (base,), {
        "default_resource_request": classmethod(request), "__module__": base.__module__,
        "_resources_overridden": True})
