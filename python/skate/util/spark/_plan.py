"""What setup_ray_cluster() was asked for, checked. Pure: no Spark, no process, no clock.

`make_plan` turns the arguments (with Ray's names, and Ray's old names with a warning) into a
frozen `Plan`, or raises what Ray raises. What depends on the Spark cluster (how many slots there
are, how many CPUs an executor has) is filled in later by `_cluster.py`.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from typing import Any

MAX_NUM_WORKER_NODES = -1

# Options that Ray on Spark refuses, with the argument that takes their place (None: nothing does).
_HEAD_FORBIDDEN: dict[str, str | None] = {
    "temp_dir": "ray_temp_root_dir",
    "num_cpus": "num_cpus_head_node",
    "num_gpus": "num_gpus_head_node",
    "memory": "memory_head_node",
    "object_store_memory": "object_store_memory_head_node",
    "block": None,
    "head": None,
    "node_ip_address": None,
    "port": None,
    "dashboard_host": None,
    "dashboard_agent_listen_port": None,
}
_WORKER_FORBIDDEN: dict[str, str | None] = {
    "temp_dir": "ray_temp_root_dir",
    "num_cpus": "num_cpus_worker_node",
    "num_gpus": "num_gpus_worker_node",
    "memory": "memory_worker_node",
    "object_store_memory": "object_store_memory_worker_node",
    "block": None,
    "head": None,
    "address": None,
    "dashboard_agent_listen_port": None,
    "min_worker_port": None,
    "max_worker_port": None,
}
# Options of `start` that mean something to a node here, and those that are taken in silence
# because Skate has no such thing (one port a node, no dashboard process, no usage statistics).
_USED = frozenset({"resources", "labels", "object_spilling_directory", "system_config"})
_WITHOUT_MEANING = frozenset(
    {
        "autoscaling_config", "dashboard_agent_grpc_port", "dashboard_grpc_port", "dashboard_port",
        "disable_usage_stats", "enable_object_reconstruction", "gcs_server_port",
        "include_dashboard", "include_log_monitor", "log_color", "log_style",
        "max_worker_port", "metrics_export_port", "min_worker_port", "no_monitor",
        "no_redirect_output", "node_manager_port", "node_name", "object_manager_port",
        "plasma_directory", "plasma_store_socket_name",
        "ray_client_server_port", "ray_debugger_external", "raylet_socket_name",
        "runtime_env_agent_port", "tracing_startup_hook", "verbose",
        "worker_port_list",
    }
)  # fmt: skip

_RENAMED = {
    "num_cpus_per_node": "num_cpus_worker_node",
    "num_gpus_per_node": "num_gpus_worker_node",
    "object_store_memory_per_node": "object_store_memory_worker_node",
}
_REMOVED = {
    "num_worker_nodes": "set 'max_worker_nodes' and 'min_worker_nodes' instead",
    "autoscale": "set 'min_worker_nodes' to less than 'max_worker_nodes' instead",
}


@dataclass(frozen=True)
class NodeShape:
    """What one node offers. None: to be measured where the node starts."""

    cpus: int | None = None
    gpus: int | None = None
    memory: int | None = None
    object_store_memory: int | None = None
    resources: dict[str, float] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    spills_to: str | None = None
    system: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A checked request for a cluster. `max_nodes` is MAX_NUM_WORKER_NODES or positive."""

    max_nodes: int
    min_nodes: int | None
    node: NodeShape
    head: NodeShape
    temp_root: str | None
    strict: bool
    logs_to: str | None
    start_timeout_s: float


def make_plan(arguments: dict[str, Any], extra: dict[str, Any]) -> Plan:
    """Check the keyword arguments of setup_ray_cluster(); `extra` are those it does not name."""
    a = dict(arguments)
    _take_old_names(a, extra)
    node_options = _check_options(a["worker_node_options"], _WORKER_FORBIDDEN, "worker")
    head_options = _check_options(a["head_node_options"], _HEAD_FORBIDDEN, "head")
    max_nodes, min_nodes = _check_counts(a["max_worker_nodes"], a["min_worker_nodes"])
    if a["num_cpus_worker_node"] is None and a["num_gpus_worker_node"] is not None:
        raise ValueError(
            "'num_gpus_worker_node' needs 'num_cpus_worker_node' beside it: Spark must be told "
            "both to give a node its share of an executor."
        )
    timeout = a["start_timeout_s"]
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout <= 0:
        raise ValueError(f"Argument `start_timeout_s` value must be > 0. Got {timeout!r}.")
    for name in ("autoscale_upscaling_speed", "autoscale_idle_timeout_minutes"):
        if a[name] is not None and (not isinstance(a[name], int | float) or a[name] < 0):
            raise ValueError(f"Argument `{name}` value must be a number >= 0. Got {a[name]!r}.")
    for name in ("ray_temp_root_dir", "collect_log_to_path"):
        if a[name] is not None and not isinstance(a[name], str):
            raise ValueError(f"Argument `{name}` must be a path. Got {a[name]!r}.")
    return Plan(
        max_nodes=max_nodes,
        min_nodes=min_nodes,
        node=NodeShape(
            cpus=_amount(a, "num_cpus_worker_node", least=1),
            gpus=_amount(a, "num_gpus_worker_node"),
            memory=_amount(a, "memory_worker_node", least=1),
            object_store_memory=_amount(a, "object_store_memory_worker_node", least=1),
            resources=_resources(node_options.get("resources")),
            labels=_labels(node_options.get("labels")),
            spills_to=node_options.get("object_spilling_directory"),
            system=_table(node_options.get("system_config"), "system_config"),
        ),
        head=NodeShape(
            cpus=_amount(a, "num_cpus_head_node") or 0,
            gpus=_amount(a, "num_gpus_head_node") or 0,
            memory=_amount(a, "memory_head_node", least=1),
            object_store_memory=_amount(a, "object_store_memory_head_node", least=1),
            resources=_resources(head_options.get("resources")),
            labels=_labels(head_options.get("labels")),
            spills_to=head_options.get("object_spilling_directory"),
            system=_table(head_options.get("system_config"), "system_config"),
        ),
        temp_root=a["ray_temp_root_dir"],
        strict=bool(a["strict_mode"]),
        logs_to=a["collect_log_to_path"],
        start_timeout_s=float(timeout),
    )


def _take_old_names(a: dict[str, Any], extra: dict[str, Any]) -> None:
    for name, value in extra.items():
        if name in _REMOVED:
            raise ValueError(f"'{name}' argument is removed: {_REMOVED[name]}.")
        if name not in _RENAMED:
            raise TypeError(f"setup_ray_cluster() got an unexpected keyword argument '{name}'")
        new = _RENAMED[name]
        if a[new] is not None:
            raise ValueError(f"'{name}' is the old name of '{new}': set only '{new}'.")
        warnings.warn(
            f"'{name}' argument is deprecated, please use '{new}' argument instead.",
            DeprecationWarning,
            stacklevel=4,
        )
        a[new] = value


def _check_counts(most: Any, least: Any) -> tuple[int, int | None]:
    if isinstance(most, bool) or not isinstance(most, int):
        raise ValueError(
            "The value of 'max_worker_nodes' argument must be either a positive integer or "
            f"MAX_NUM_WORKER_NODES. Got {most!r}."
        )
    if most == MAX_NUM_WORKER_NODES:
        if least is not None:
            raise ValueError(
                "With 'max_worker_nodes' set to MAX_NUM_WORKER_NODES every slot is taken: "
                "'min_worker_nodes' cannot be set."
            )
        return most, None
    if most <= 0:
        raise ValueError(
            "The value of 'max_worker_nodes' argument must be either a positive integer or "
            f"MAX_NUM_WORKER_NODES. Got {most}."
        )
    if least is None:
        return most, most
    if isinstance(least, bool) or not isinstance(least, int) or not 0 <= least <= most:
        raise ValueError(
            "The value of 'min_worker_nodes' argument must be an integer >= 0 and <= "
            f"'max_worker_nodes'. Got {least!r}."
        )
    return most, least


def _amount(a: dict[str, Any], name: str, least: int = 0) -> int | None:
    value = a[name]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        bound = "> 0" if least else ">= 0"
        raise ValueError(
            f"Argument `{name}` value must be {bound} and whole. Current value is {value!r}."
        )
    return value


def _check_options(options: Any, forbidden: dict[str, str | None], which: str) -> dict[str, Any]:
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise ValueError(f"Argument `{which}_node_options` must be a dict. Got {options!r}.")
    for key in options:
        if not isinstance(key, str) or "-" in key:
            raise ValueError(
                f"{which}_node_options: write the option '--foo-bar' as 'foo_bar' (got {key!r})."
            )
        if key in forbidden:
            instead = forbidden[key]
            hint = f"Set the argument '{instead}'." if instead else "Set-up decides it."
            raise ValueError(
                f"Setting the option '{key}' for {which} nodes on Spark is not allowed. {hint}"
            )
        if key not in _USED and key not in _WITHOUT_MEANING:
            raise ValueError(f"{which}_node_options: there is no option '{key}'.")
    return options


def _resources(given: Any) -> dict[str, float]:
    table = _table(given, "resources")
    for name, amount in table.items():
        if name in ("CPU", "GPU", "memory", "object_store_memory"):
            raise ValueError(f"resources: '{name}' has an argument of its own.")
        if isinstance(amount, bool) or not isinstance(amount, int | float) or amount < 0:
            raise ValueError(f"resources: the amount of '{name}' must be >= 0. Got {amount!r}.")
    return {name: float(amount) for name, amount in table.items()}


def _labels(given: Any) -> dict[str, str]:
    if isinstance(given, str) and "=" in given and not given.lstrip().startswith("{"):
        given = dict(pair.split("=", 1) for pair in given.split(",") if "=" in pair)
    return {name: str(value) for name, value in _table(given, "labels").items()}


def _table(given: Any, what: str) -> dict[str, Any]:
    if given is None:
        return {}
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            raise ValueError(f"{what}: not JSON: {given!r}") from None
    if not isinstance(given, dict) or not all(_plain(name) for name in given):
        raise ValueError(f"{what} must be a dict of names. Got {given!r}.")
    return given


def _plain(name: Any) -> bool:
    """Can this name stand in a line of settings, which tabs, commas and '=' divide?"""
    return isinstance(name, str) and name != "" and not any(c in name for c in "\t\n,=:")
