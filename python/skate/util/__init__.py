"""`skate.util`: helpers on top of the core."""

from __future__ import annotations

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any


_LAZY = (
    "actor_pool", "annotations", "check_serialize", "collective", "dask", "debug", "joblib",
    "metrics", "multiprocessing", "placement_group", "queue", "scheduling_strategies",
    "serialization", "spark",
)  # fmt: skip
_HOME = {  # name -> the module of this package that has it
    "ActorPool": "actor_pool",
    "PlacementGroup": "placement_group",
    "as_completed": "_refs",
    "deregister_serializer": "serialization",
    "disable_log_once_globally": "debug",
    "enable_periodic_logging": "debug",
    "get_current_placement_group": "placement_group",
    "get_placement_group": "placement_group",
    "inspect_serializability": "check_serialize",
    "log_once": "debug",
    "map_unordered": "_refs",
    "placement_group_table": "placement_group",
    "register_serializer": "serialization",
    "remove_placement_group": "placement_group",
}


_LAZY += ("state",)


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOME:
        return getattr(import_module(f"skate.util.{_HOME[name]}"), name)
    if name in _LAZY:
        return import_module(f"skate.util.{name}")
    raise AttributeError(f"module 'skate.util' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_LAZY})


def list_named_actors(all_namespaces: bool = False) -> list[Any]:
    """The names of the living actors of this namespace.

    all_namespaces: those of all, each as {"name": ..., "namespace": ...}.
    """
    from skate import _api, _wire

    _api.auto_init()
    _, answer = _api._call(_wire.GCS, "list", what=2)
    here = _api.namespace()
    rows = [
        row for name, row in _wire.frames(answer["frames"])
        if name == "actor_state" and row["name"] and row["state"] in (0, 1, 2)
    ]  # fmt: skip
    if all_namespaces:
        return [{"name": row["name"], "namespace": row["namespace"]} for row in rows]
    return [row["name"] for row in rows if row["namespace"] == here]


def get_node_ip_address(address: str | None = None) -> str:
    """The address under which other machines reach this one.

    address: "host:port" to find the way to when there is no session; nothing is sent.
    """
    from skate import _core

    if _core.epoch():
        return str(_core.info()["node_ip"])
    import socket

    host, _, port = (address or "8.8.8.8:53").rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, int(port)))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def get_node_instance_id() -> str:
    """The id that a cloud gave to this machine; "" here."""
    return ""


__all__ = ["get_node_instance_id", "get_node_ip_address", "list_named_actors", *_HOME]  # noqa: PLE0604
