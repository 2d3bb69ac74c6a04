"""What setup_ray_cluster() was asked for, checked. Pure: no Spark, no process, no clock.

`make_plan` turns the arguments (with Ray's names, and Ray's old names with a warning) into a
frozen `Plan`, or raises what Ray raises. What depends on the Spark cluster (how many slots there
are, how many CPUs an executor has) is filled in later by `_cluster.py`.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
_USED = frozenset(
    {"resources", "labels", "object_spilling_directory", "system_config", "node_name",
     "node_manager_port"}
)  # fmt: skip
_WITHOUT_MEANING = frozenset(
    {
        "autoscaling_config", "dashboard_agent_grpc_port", "dashboard_grpc_port", "dashboard_port",
        "disable_usage_stats", "enable_object_reconstruction", "gcs_server_port",
        "include_dashboard", "include_log_monitor", "log_color", "log_style",
        "max_worker_port", "metrics_export_port", "min_worker_port", "no_monitor",
        "no_redirect_output", "object_manager_port",
        "plasma_directory", "plasma_store_socket_name",
        "ray_client_server_port", "ray_debugger_external", "raylet_socket_name",
        "runtime_env_agent_port", "tracing_startup_hook", "verbose",
        "worker_port_list", "labels_file", "redis_password", "redis_username",
        "redis_shard_ports",
    }
)  # fmt: skip
# Of those, what somebody may miss: set-up says that it has no effect.
_MISSED = frozenset(
    {
        "autoscaling_config", "cgroup_path", "dashboard_port", "enable_resource_isolation",
        "labels_file", "metrics_export_port", "plasma_directory", "proxy_server_url",
        "redis_password", "system_reserved_cpu", "system_reserved_memory", "tracing_startup_hook",
        "worker_port_list",
    }
)  # fmt: skip

_RENAMED = {
    "num_cpus_per_node": "num_cpus_worker_node",
    "num_gpus_per_node": "num_gpus_worker_node",
    "object_store_memory_per_node": "object_store_memory_worker_node",
}
MODES = ("exclusive", "shared")
WAITS = ("min", "first", "none")
TLS = ("off", "psk")
HEADS = ("driver", "executor", "auto")
NICENESS = {"exclusive": 0, "shared": 5}
NODE_TYPE = "ray.worker"  # the one kind of node, by the name that it has in Ray
_LEAST_IDLE_S = 1.0
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
    name: str | None = None
    port: int = 0  # 0: the kernel chooses


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
    is_global: bool = False
    mode: str = "exclusive"
    niceness: int = 0
    wait: str = "min"
    forward: tuple[str, ...] = ()
    upscaling_speed: float = 1.0
    idle_timeout_s: float = 60.0
    idle_shutdown_s: float = 0.0
    tls: bool = False  # demanded within one machine, too
    head_at: str = "driver"
    missed: tuple[str, ...] = ()  # options that have no effect, and whose user may think otherwise

    @property
    def is_elastic(self) -> bool:
        """Do nodes come and go with what waits for them?"""
        return self.min_nodes is not None and self.min_nodes < self.max_nodes

    def first_nodes(self, most: int) -> int:
        """How many nodes are asked for at once, of `most` that there may be."""
        return int(self.min_nodes or 0) if self.is_elastic else most

    def awaited(self, first: int) -> int:
        """How many of the first nodes set-up waits for."""
        return {"min": first, "first": min(1, first), "none": 0}[self.wait]


def make_plan(
    arguments: dict[str, Any],
    extra: dict[str, Any],
    environment: Mapping[str, str] | None = None,
    is_global: bool = False,
) -> Plan:
    """Check the keyword arguments of setup_ray_cluster(); `extra` are those it does not name.

    environment: of this process, which forward_env= names variables of. is_global: the arguments
    are those of setup_global_ray_cluster(), whose head offers what this machine has.
    """
    ours = {"mode": None, "wait": None, "forward_env": None, "tls": None, "head": None}
    a = {**ours, "idle_shutdown_minutes": 0, **arguments}
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
    for name in ("ray_temp_root_dir", "collect_log_to_path"):
        if a[name] is not None and not isinstance(a[name], str):
            raise ValueError(f"Argument `{name}` must be a path. Got {a[name]!r}.")
    mode = _one_of(a, "mode", MODES)
    node = _shape(a, "worker", node_options)
    idle_minutes = _rate(a, "autoscale_idle_timeout_minutes")
    return Plan(
        max_nodes=max_nodes,
        min_nodes=min_nodes,
        node=node,
        head=_head_shape(a, head_options, is_global),
        temp_root=a["ray_temp_root_dir"],
        strict=bool(a["strict_mode"]),
        logs_to=_folder(a["collect_log_to_path"]),
        start_timeout_s=float(timeout),
        is_global=is_global,
        mode=mode,
        niceness=_niceness(node.system, mode),
        wait=_one_of(a, "wait", WAITS),
        forward=_forwarded(a["forward_env"], environment or {}),
        upscaling_speed=_rate(a, "autoscale_upscaling_speed"),
        idle_timeout_s=max(_LEAST_IDLE_S, 60 * idle_minutes),
        idle_shutdown_s=60 * _rate(a, "idle_shutdown_minutes"),
        tls=_one_of(a, "tls", TLS) == "psk",
        head_at=_head_place(a),
        missed=tuple(sorted(_MISSED & (set(node_options) | set(head_options)))),
    )


def _shape(a: dict[str, Any], which: str, options: dict[str, Any]) -> NodeShape:
    port = options.get("node_manager_port", 0)
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 65536:
        raise ValueError(f"{which}_node_options: node_manager_port must be a port. Got {port!r}.")
    name = options.get("node_name")
    if name is not None and not (isinstance(name, str) and _plain(name) and len(name) < 100):
        raise ValueError(
            f"{which}_node_options: node_name must be a short text without tab, comma, colon "
            f"and '='. Got {name!r}."
        )
    return NodeShape(
        cpus=_amount(a, f"num_cpus_{which}_node", least=1 if which == "worker" else 0),
        gpus=_amount(a, f"num_gpus_{which}_node"),
        memory=_amount(a, f"memory_{which}_node", least=1),
        object_store_memory=_amount(a, f"object_store_memory_{which}_node", least=1),
        resources=_resources(options.get("resources")),
        labels=_labels(options.get("labels")),
        spills_to=options.get("object_spilling_directory"),
        system=_table(options.get("system_config"), "system_config"),
        name=name,
        port=port,
    )


def _head_shape(a: dict[str, Any], options: dict[str, Any], is_global: bool) -> NodeShape:
    """The head takes no tasks unless asked to, or when it serves everybody on this machine (then
    None stands for what the machine has)."""
    shape = _shape(a, "head", options)
    if is_global:
        return shape
    return replace(shape, cpus=shape.cpus or 0, gpus=shape.gpus or 0)


def _one_of(a: dict[str, Any], name: str, known: tuple[str, ...]) -> str:
    value = known[0] if a[name] is None else a[name]
    if value not in known:
        raise ValueError(f"Argument `{name}` is one of {', '.join(known)}. Got {value!r}.")
    return str(value)


def _head_place(a: dict[str, Any]) -> str:
    place = _one_of(a, "head", HEADS)
    if place != "driver" and (a["num_cpus_head_node"] or a["num_gpus_head_node"]):
        raise ValueError(
            f"head={place!r}: a head on an executor holds no slot of Spark, so it has no CPUs and "
            "GPUs to offer. Leave out num_cpus_head_node and num_gpus_head_node, or use "
            "head='driver'."
        )
    return place


def _rate(a: dict[str, Any], name: str) -> float:
    value = a[name]
    if value is None:
        value = 0.0 if name == "idle_shutdown_minutes" else 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ValueError(f"Argument `{name}` value must be a number >= 0. Got {a[name]!r}.")
    return float(value)


def _niceness(system: dict[str, Any], mode: str) -> int:
    value = system.get("worker_niceness", NICENESS[mode])
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 19:
        raise ValueError(f"worker_niceness is a whole number from 0 to 19. Got {value!r}.")
    return value


def _forwarded(names: Any, environment: Mapping[str, str]) -> tuple[str, ...]:
    if names is None:
        return ()
    if isinstance(names, str) or not isinstance(names, list | tuple | set | frozenset):
        raise ValueError(f"Argument `forward_env` is a list of names of variables. Got {names!r}.")
    for name in names:
        if not isinstance(name, str) or not name or any(c in name for c in "=,\0\n"):
            raise ValueError(f"forward_env: {name!r} is not the name of a variable.")
        if name not in environment:
            raise ValueError(
                f"forward_env: the environment variable '{name}' is not set in this process. Set "
                "it before the cluster is set up, or leave its name out."
            )
    return tuple(sorted(names))


def _folder(path: str | None) -> str | None:
    """Where logs go to, as every machine must see it: a file: URI is a path, others are not."""
    if path is None:
        return None
    if path.startswith("file:"):
        path = "/" + path[len("file:") :].lstrip("/")
    if "://" in path or path.startswith("dbfs:"):
        raise ValueError(
            f"Argument `collect_log_to_path` is a folder of a file system that driver and "
            f"executors have mounted (on Databricks '/dbfs/...'), not {path!r}."
        )
    return os.path.abspath(os.path.expanduser(path))


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


def check_limits(least: Any, most: Any) -> None:
    """ValueError unless these are numbers of nodes, the first no more than the second."""
    for value in (least, most):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"scale() takes numbers of nodes >= 0. Got {value!r}.")
    if least > most:
        raise ValueError(f"scale(): min={least} is more than max={most}.")


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
        if key not in _USED | _WITHOUT_MEANING | _MISSED:
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
