"""What a program may ask of the autoscaler. Ray's names: `ray.autoscaler.sdk`."""

from __future__ import annotations

import json

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

KEY = "autoscaler:request"
_MOST = 100_000


def request_resources(
    num_cpus: int | None = None,
    bundles: list[dict[str, float]] | None = None,
    bundle_label_selectors: list[dict[str, str]] | None = None,
) -> None:
    """Ask for a cluster that can hold these bundles of resources at the same time, from now on.

    The autoscaler starts nodes at once, up to its limits, and keeps them even when they are idle.
    Each call replaces the one before; request_resources(num_cpus=0) ends the wish. The call returns
    at once, and does nothing where no autoscaler runs.

    Args:
        num_cpus: so many bundles of one CPU each.
        bundles: resources like {"CPU": 4, "GPU": 1}, each to be held by one node.
        bundle_label_selectors: for each bundle, labels that its node must have.

    Raises:
        TypeError, ValueError: an argument that is not as said above.
    """
    from skate import _api
    from skate._wire import GCS

    wanted = _checked(num_cpus, bundles, bundle_label_selectors)
    value = json.dumps(wanted).encode()
    _, answer = _api._call(GCS, "kv_put", key=KEY, value=value, overwrite=1)
    if answer["status"] < 0:
        raise RuntimeError(answer["reason"])


def _checked(num_cpus: Any, bundles: Any, selectors: Any) -> list[dict[str, Any]]:
    """[{"resources": ..., "labels": ...}, ...]."""
    if num_cpus is not None and (isinstance(num_cpus, bool) or not isinstance(num_cpus, int)):
        raise TypeError("num_cpus should be of type int.")
    if num_cpus is not None and not 0 <= num_cpus <= _MOST:
        raise ValueError(f"num_cpus must be from 0 to {_MOST}, it is {num_cpus}")
    bundles = [] if bundles is None else bundles
    if not isinstance(bundles, list) or not all(isinstance(b, dict) and b for b in bundles):
        raise TypeError("bundles should be of type List[Dict[str, float]], each with a resource.")
    for name, amount in (pair for bundle in bundles for pair in bundle.items()):
        good = isinstance(amount, int | float) and not isinstance(amount, bool)
        if not isinstance(name, str) or not good:
            raise TypeError("each bundle should be of type Dict[str, float].")
        if not 0 <= amount < 1e9:
            raise ValueError(f"{name}: {amount} is no amount of a resource")
    if selectors is not None and len(selectors) != len(bundles):
        raise ValueError("bundle_label_selectors must have one entry for each bundle")
    if len(bundles) > _MOST:
        raise ValueError(f"at most {_MOST} bundles can be requested, not {len(bundles)}")
    labels = selectors or [{}] * len(bundles)
    wanted = [{"resources": {"CPU": 1.0}, "labels": {}}] * (num_cpus or 0)
    return wanted + [{"resources": b, "labels": dict(s)}
                     for b, s in zip(bundles, labels, strict=True)]  # fmt: skip
