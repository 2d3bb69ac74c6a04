"""Where a task or actor is to run: the options scheduling_strategy and placement_group, checked and
put into the core's terms."""

from __future__ import annotations

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

DEFAULT, SPREAD, HARD, SOFT, SOFT_SPILL, HARD_NOW = range(6)
_NOWHERE = 0xFFFFFFFF << 32  # a node that no cluster has


class Place:
    """Strategy, node (the number of its raylet's process), placement group, bundle, capture."""

    __slots__ = ("strategy", "node", "group", "bundle", "capture", "from_lease", "labels")

    def __init__(self, strategy: int = DEFAULT, node: int = 0) -> None:
        self.strategy = strategy
        self.node = node
        self.group = b""
        self.bundle = -1
        self.capture = False
        self.from_lease = False
        self.labels = ""


def check_strategy(name: str, value: Any) -> None:
    """TypeError or ValueError for what is no scheduling strategy."""
    if value is None or value in ("DEFAULT", "SPREAD"):
        return
    if isinstance(value, str):
        raise ValueError(
            f"Invalid {name} value {value}. Valid values are \"DEFAULT\", \"SPREAD\" and the "
            "objects of skate.util.scheduling_strategies"
        )
    from skate.util import scheduling_strategies as known

    kinds = (
        known.PlacementGroupSchedulingStrategy, known.NodeAffinitySchedulingStrategy,
        known.NodeLabelSchedulingStrategy,
    )  # fmt: skip
    if not isinstance(value, kinds):
        raise TypeError(f"{name} must be a str or a strategy object, not {value!r}")


def check_group(name: str, value: Any) -> None:
    """TypeError for what is no placement group."""
    if value is None or isinstance(value, str):
        if isinstance(value, str) and value != "default":
            raise ValueError(f"{name} is a placement group, None or \"default\", not {value!r}")
        return
    from skate.util.placement_group import PlacementGroup

    if not isinstance(value, PlacementGroup):
        raise TypeError(f"{name} must be a placement group, not {value!r}")


def check_together(options: dict[str, Any]) -> None:
    """ValueError for options that exclude each other."""
    if options.get("scheduling_strategy") is None:
        return
    if options.get("placement_group", "default") not in (None, "default"):
        raise ValueError(
            "Placement groups should be specified via the scheduling_strategy option. The "
            "placement_group option is deprecated: give one of the two"
        )


def resolve(options: dict[str, Any], wanted: dict[str, float], what: str) -> Place:
    """The place that options name for a task or actor that wants these resources. ValueError when
    the bundle does not exist, or can never hold it."""
    place = _resolve(options, wanted, what)
    if any(options.get(name) for name in ("label_selector", "fallback_strategy")) or hasattr(
        options.get("scheduling_strategy"), "hard"
    ):
        from skate import _labels

        place.labels = _labels.selector_of(options)
    return place


def _resolve(options: dict[str, Any], wanted: dict[str, float], what: str) -> Place:
    chosen = options.get("scheduling_strategy")
    if chosen == "SPREAD":
        return Place(SPREAD)
    if chosen == "DEFAULT":
        return Place()
    group: Any = options.get("placement_group", "default")
    bundle = options.get("placement_group_bundle_index", -1)
    capture = options.get("placement_group_capture_child_tasks")
    if chosen is not None:
        if hasattr(chosen, "node_id"):
            return _affinity(chosen)
        if hasattr(chosen, "hard"):
            return Place()
        group = chosen.placement_group
        bundle = chosen.placement_group_bundle_index
        capture = chosen.placement_group_capture_child_tasks
    return _in_group(group, -1 if bundle is None else bundle, capture, wanted, what)


def _in_group(group: Any, bundle: int, capture: Any, wanted: dict[str, float], what: str) -> Place:
    from skate import _lease

    place = Place()
    inherits = _lease.captures()
    if group == "default":
        place.from_lease = True
        group = None
        if inherits:
            place.group = _lease.group() or b""
    if group is not None:
        from skate.util.placement_group import PlacementGroup, check_placement_group_index

        assert isinstance(group, PlacementGroup), f"not a placement group: {group!r}"
        check_placement_group_index(group, bundle)
        if not group.is_empty:
            _check_fit(group, bundle, wanted, what)
            place.group = group._raw
    elif bundle != -1:
        raise ValueError("If placement group is not set, the value of bundle index must be -1.")
    if place.group:
        place.bundle = bundle
        place.capture = inherits if capture is None else bool(capture)
        place.from_lease |= capture is None
    return place


def _check_fit(group: Any, bundle: int, wanted: dict[str, float], what: str) -> None:
    specs = group.bundle_specs
    for index, have in enumerate(specs):
        if bundle not in (-1, index):
            continue
        if all(have.get(name, 0.0) + 1e-9 >= amount for name, amount in wanted.items()):
            return
    where = "any bundles" if bundle == -1 else f"bundle {bundle}"
    raise ValueError(
        f"Cannot schedule {what} with the placement group because the resource request {wanted} "
        f"cannot fit into {where} for the placement group, {specs}."
    )


def _affinity(chosen: Any) -> Place:
    from skate import _api

    number = _api.raylet_of(chosen.node_id)
    if chosen.soft:
        strategy = SOFT_SPILL if chosen._spill_on_unavailable else SOFT
    else:
        strategy = HARD_NOW if chosen._fail_on_unavailable else HARD
    return Place(strategy, _NOWHERE if number is None else number)
