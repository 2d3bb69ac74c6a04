"""Placement groups: resources of one or more nodes set aside together, all or none.

A group is a list of bundles; a bundle is a set of resources on one node. Tasks and actors run in it
with PlacementGroupSchedulingStrategy. It ends with remove_placement_group(), or with the job (and
the actor) that made it unless its lifetime is "detached".
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

    from skate._ids import PlacementGroupID

_STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
_STATES = ("PENDING", "CREATED", "RESCHEDULING", "REMOVED")
_RAW = 16  # bytes of an id inside; the rest of a PlacementGroupID is zero


class PlacementGroup:
    """A placement group, or what one knows of it: equal to all others with its id."""

    @staticmethod
    def empty() -> PlacementGroup:
        """The group that is none."""
        from skate._ids import PlacementGroupID

        return PlacementGroup(PlacementGroupID.nil())

    def __init__(
        self, id: PlacementGroupID, bundle_cache: list[dict[str, float]] | None = None
    ) -> None:
        self.id = id
        self.bundle_cache = bundle_cache
        self._asked: Any = None  # session and ref of a wait() that ended early

    @property
    def _raw(self) -> bytes:
        return self.id.binary()[:_RAW]

    @property
    def is_empty(self) -> bool:
        """Is it none?"""
        return self.id.is_nil()

    def ready(self) -> Any:
        """A ref that gives this group as soon as it is there; TaskPlacementGroupRemoved when it
        was removed."""
        from skate import _api

        _api.auto_init()
        return _ready_function(self).remote(self)

    def wait(self, timeout_seconds: float = 30) -> bool:
        """Is it there within that time?"""
        from skate import _api, _core

        if self._asked is None or self._asked[0] != _core.epoch():
            ref = self.ready()
            self._asked = (_core.epoch(), ref)
        ref = self._asked[1]
        done, _ = _api.wait([ref], timeout=timeout_seconds)
        if done:
            self._asked = None
            _api.get(ref)  # raises when it was removed
        return bool(done)

    @property
    def bundle_specs(self) -> list[dict[str, float]]:
        """The resources of each bundle."""
        if self.bundle_cache is None:
            self.bundle_cache = [] if self.is_empty else _bundles(_info(self))
        return self.bundle_cache

    @property
    def bundle_count(self) -> int:
        """How many bundles it has."""
        return len(self.bundle_specs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlacementGroup) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"PlacementGroup({self.id.hex()})"

    def __reduce__(self) -> tuple[Any, ...]:
        return PlacementGroup, (self.id, self.bundle_cache)


def _itself(group: PlacementGroup) -> PlacementGroup:
    return group


def _ready_function(group: PlacementGroup) -> Any:
    from skate._remote import RemoteFunction
    from skate.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    strategy = PlacementGroupSchedulingStrategy(group)
    return RemoteFunction(_itself, {"num_cpus": 0, "scheduling_strategy": strategy,
                                    "name": "placement_group.ready"})  # fmt: skip


# ------------------------------------------------------------------------------- making them


def placement_group(
    bundles: list[dict[str, float]],
    strategy: str = "PACK",
    name: str = "",
    lifetime: str | None = None,
    bundle_label_selector: list[dict[str, str]] | None = None,
    topology_strategy: Any = None,
) -> PlacementGroup:
    """Set resources aside: returns at once; ready() and wait() say when they are there.

    strategy: PACK (few nodes), SPREAD (many), STRICT_PACK (one node or wait), STRICT_SPREAD (a
    node each or wait). lifetime "detached": outlives the job. ValueError for bundles, strategies
    and lifetimes that make no sense; RaySystemError when the name is taken.
    """
    from skate import _api, _core, _wire
    from skate._ids import PlacementGroupID
    from skate.exceptions import RaySystemError

    checked = _check_bundles(bundles)
    if strategy not in _STRATEGIES:
        raise ValueError(
            f"Invalid placement group strategy {strategy}. Supported strategies are: "
            f"{', '.join(_STRATEGIES)}."
        )
    if lifetime not in (None, "detached"):
        raise ValueError(
            "Placement group `lifetime` argument must be either `None` or 'detached'. Got "
            f"{lifetime!r}."
        )
    if not isinstance(name, str):
        raise TypeError(f"the name of a placement group is a str, not {name!r}")
    if bundle_label_selector or topology_strategy:
        from skate import _absent

        _absent.refuse(
            "a bundle's placement by labels or topology",
            "a resource of your own on the nodes that are meant, in the bundle",
        )
    _api.auto_init()
    info = _core.info()
    raw = os.urandom(_RAW - 4) + info["job"].to_bytes(4, "little")
    _, answer = _api._call(
        _wire.GCS, "group_create", group=raw, creator=info["proc"], job=info["job"],
        strategy=_STRATEGY_NUMBERS[strategy], flags=int(lifetime == "detached"), name=name,
        namespace=_api.namespace(), bundles=_pack(checked),
    )  # fmt: skip
    if answer["status"] < 0:
        raise RaySystemError(answer["reason"])
    return PlacementGroup(PlacementGroupID(raw + b"\0\0"), checked)


_STRATEGY_NUMBERS = {"PACK": 0, "SPREAD": 1, "STRICT_PACK": 2, "STRICT_SPREAD": 3}


def _check_bundles(bundles: Any) -> list[dict[str, float]]:
    from skate import _options

    if not isinstance(bundles, list):
        raise ValueError(f"Placement group bundles must be a list, got {type(bundles)}.")
    example = "Bundles must be a non-empty list of resource dictionaries. For example: " + (
        '`[{"CPU": 1.0}, {"GPU": 1.0}]`.'
    )
    if not bundles:
        raise ValueError(f"{example} Got empty list instead.")
    out: list[dict[str, float]] = []
    for bundle in bundles:
        if not isinstance(bundle, dict):
            raise ValueError(f"{example} {bundle!r} is none.")
        for key, amount in bundle.items():
            if not isinstance(key, str) or isinstance(amount, (str, bytes, bool)):
                raise ValueError(f"{example} {bundle!r} is none.")
            check = _options._gpus if key == "GPU" else _options._number
            check(f"bundle[{key!r}]", amount)
            if not key or len(key.encode()) > 63:
                raise ValueError(f"the name of a resource has 1 to 63 bytes: {key!r}")
        checked = {key: float(amount) for key, amount in bundle.items() if amount}
        if not checked:
            raise ValueError(
                "Bundles cannot be an empty dictionary or resources with only 0 values. "
                f"Bundles: {bundles}"
            )
        if len(checked) > 32:
            raise ValueError("a bundle has at most 32 resources")
        out.append(checked)
    if len(out) > 1024:
        raise ValueError(f"a placement group has at most 1024 bundles, not {len(out)}")
    return out


def _pack(bundles: list[dict[str, float]]) -> bytes:
    from skate._wire import pack_resources

    out = bytearray()
    for index, bundle in enumerate(bundles):
        data = pack_resources(bundle)
        out += index.to_bytes(4, "little") + len(data).to_bytes(4, "little") + data
        out += bytes(-len(out) % 8)
    return bytes(out)


# --------------------------------------------------------------------------- what is there


def _info(group: PlacementGroup) -> dict[str, Any]:
    from skate import _api, _wire

    _, info = _api._call(_wire.GCS, "group_get", group=group._raw)
    return info


def _bundles(info: dict[str, Any]) -> list[dict[str, float]]:
    from skate._wire import unpack_resources

    data, at, out = info["bundles"], 0, []
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        out.append(unpack_resources(data[at + 8 : at + 8 + length]))
        at += (8 + length + 7) & ~7
    return out


def remove_placement_group(placement_group: PlacementGroup) -> None:
    """End a group: its resources are free again, what runs in it is killed."""
    from skate import _api, _wire

    if not isinstance(placement_group, PlacementGroup):
        raise AttributeError(f"{placement_group!r} is no placement group")
    _api.auto_init()
    _api._call(_wire.GCS, "group_remove", group=placement_group._raw)


def get_placement_group(placement_group_name: str) -> PlacementGroup:
    """The group of that name in this namespace. ValueError when there is none."""
    from skate import _api, _wire

    if not placement_group_name:
        raise ValueError("Please supply a non-empty value to get_placement_group")
    _api.auto_init()
    _, info = _api._call(
        _wire.GCS, "group_get", name=placement_group_name, namespace=_api.namespace()
    )
    if info["state"] == 3:
        raise ValueError(f"Failed to look up placement group with name: {placement_group_name}")
    return PlacementGroup(_id_of(info["group"]), _bundles(info))


def _id_of(raw: bytes) -> PlacementGroupID:
    from skate._ids import PlacementGroupID

    return PlacementGroupID(raw + b"\0\0")


def placement_group_table(placement_group: PlacementGroup | None = None) -> dict[str, Any]:
    """All that is known of one group, or of each (by id): name, bundles, nodes, strategy, state."""
    from skate import _api, _wire

    _api.auto_init()
    nodes = {row["node"]: (row["node_id"] + bytes(12)).hex() for row in _api._node_rows()}
    if placement_group is not None:
        if not isinstance(placement_group, PlacementGroup):
            raise AttributeError(f"{placement_group!r} is no placement group")
        info = _info(placement_group)
        return _table_row(info, nodes) if info["bundles"] else {}
    _, rows = _api._call(_wire.GCS, "list", what=4)
    return {
        _id_of(info["group"]).hex(): _table_row(info, nodes)
        for _, info in _wire.frames(rows["frames"])
    }


def _table_row(info: dict[str, Any], nodes: dict[int, str]) -> dict[str, Any]:
    bundles = dict(enumerate(_bundles(info)))
    where = info["nodes"]
    state = _STATES[info["state"]]
    return {
        "placement_group_id": _id_of(info["group"]).hex(),
        "name": info["name"],
        "bundles": bundles,
        "bundles_to_node_id": {
            i: nodes.get(where[i], "") if i < len(where) else "" for i in bundles
        },
        "strategy": _STRATEGIES[info["strategy"]],
        "state": state,
        "stats": {
            "scheduling_attempt": info["epoch"],
            "scheduling_state": "FINISHED" if state == "CREATED" else state,
        },
    }


def get_current_placement_group() -> PlacementGroup | None:
    """The group that the running task or actor is in; None in none, and in a driver."""
    from skate import _lease

    raw = _lease.group()
    return PlacementGroup(_id_of(raw)) if raw else None


def check_placement_group_index(placement_group: PlacementGroup, bundle_index: int) -> None:
    """ValueError when the group has no such bundle."""
    if placement_group.is_empty:
        if bundle_index != -1:
            raise ValueError("If placement group is not set, the value of bundle index must be -1.")
    elif not -1 <= bundle_index < placement_group.bundle_count:
        raise ValueError(
            f"placement group bundle index {bundle_index} is invalid. Valid placement group "
            f"indexes: 0-{placement_group.bundle_count - 1}, or -1 for any"
        )


class _CallableModule(ModuleType):
    """`util.placement_group` is the function in Ray, and the module of the same name."""

    def __call__(self, *args: Any, **kwargs: Any) -> PlacementGroup:
        return placement_group(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        from importlib import import_module  # what refers to the module travels, too

        return import_module, (self.__name__,)


sys.modules[__name__].__class__ = _CallableModule
