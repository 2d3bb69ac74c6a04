"""The description of a cluster that grows: Ray's cluster YAML, as far as a local provider goes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

PROVIDERS = ("local", "fake_multinode")
_KNOWN = {
    "cluster_name", "max_workers", "upscaling_speed", "idle_timeout_minutes", "provider",
    "available_node_types", "head_node_type",
}  # fmt: skip
# Of Ray's file, for machines that a cloud makes: without a meaning here, and said so.
_CLOUD = {
    "auth", "docker", "file_mounts", "cluster_synced_files", "file_mounts_sync_continuously",
    "rsync_exclude", "rsync_filter", "initialization_commands", "setup_commands",
    "head_setup_commands", "worker_setup_commands", "head_start_ray_commands",
    "worker_start_ray_commands", "head_node", "worker_nodes", "no_restart",
}  # fmt: skip


_MACHINES = ("head_ip", "worker_ips", "coordinator_address")  # of Ray's local provider


@dataclass(frozen=True)
class NodeType:
    """A kind of node that can be started."""

    name: str
    resources: dict[str, float]
    labels: dict[str, str] = field(default_factory=dict)
    min_workers: int = 0
    max_workers: int = 0
    object_store_memory: int | None = None


@dataclass(frozen=True)
class Config:
    """What the autoscaler may do."""

    name: str
    types: dict[str, NodeType]
    head_type: str | None
    max_workers: int
    upscaling_speed: float = 1.0
    idle_timeout_s: float = 300.0
    ignored: tuple[str, ...] = ()


def load(path: str) -> Any:
    """What is in a file: JSON, or YAML where PyYAML is installed. OSError, ValueError."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        return json.loads(text)
    except ValueError as error:
        if path.endswith(".json"):
            raise ValueError(f"{path} is not JSON: {error}") from None
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError:
        raise ValueError(
            f"{path} is not JSON, and PyYAML, which reads YAML, is not installed: "
            "`pip install pyyaml`, or write the file as JSON"
        ) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{path} is neither JSON nor YAML: {said}") from None


def check(found: Any) -> Config:
    """The description in a dict. ValueError says what is wrong with it."""
    if not isinstance(found, dict):
        raise ValueError("a cluster is described by names and values")
    unknown = sorted(set(found) - _KNOWN - _CLOUD)
    if unknown:
        raise ValueError(f"unknown: {', '.join(unknown)}; known are {', '.join(sorted(_KNOWN))}")
    provider = found.get("provider") or {"type": "local"}
    far = isinstance(provider, dict) and any(key in provider for key in _MACHINES)
    if not isinstance(provider, dict) or provider.get("type") not in PROVIDERS or far:
        raise ValueError(
            'provider must be {"type": "local"}: nodes on this machine. For other machines run '
            "`skate start --address=...` on each"
        )
    most = _whole(found, "max_workers", 2)
    types = found.get("available_node_types")
    if not isinstance(types, dict) or not types:
        raise ValueError("available_node_types must name at least one type of node")
    head = found.get("head_node_type")
    if head is not None and head not in types:
        raise ValueError(f"head_node_type {head!r} is not among available_node_types")
    made = {str(name): _type(str(name), value, most, name == head) for name, value in types.items()}
    return Config(
        name=str(found.get("cluster_name", "default")), types=made, head_type=head,
        max_workers=most, upscaling_speed=_number(found, "upscaling_speed", 1.0),
        idle_timeout_s=60 * _number(found, "idle_timeout_minutes", 5.0),
        ignored=tuple(sorted(set(found) & _CLOUD)),
    )  # fmt: skip


def _number(found: dict[str, Any], key: str, default: float) -> float:
    value = found.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"{key} must be a number from 0 on, not {value!r}")
    return float(value)


def _whole(found: dict[str, Any], key: str, default: int) -> int:
    value = _number(found, key, default)
    if value != int(value):
        raise ValueError(f"{key} must be a whole number, not {value!r}")
    return int(value)


def _type(name: str, found: Any, most: int, head: bool) -> NodeType:
    if not isinstance(found, dict):
        raise ValueError(f"the node type {name} must have resources")
    unknown = set(found) - {"resources", "labels", "min_workers", "max_workers", "node_config",
                            "object_store_memory", "worker_setup_commands", "docker"}  # fmt: skip
    if unknown:
        raise ValueError(f"the node type {name}: unknown: {', '.join(sorted(unknown))}")
    resources = found.get("resources")
    if not isinstance(resources, dict):
        raise ValueError(f'the node type {name} must have resources, like {{"CPU": 4}}')
    for key in resources:
        _number(resources, key, 0)
    low, high = _whole(found, "min_workers", 0), _whole(found, "max_workers", 0 if head else most)
    if low > high:
        raise ValueError(f"the node type {name}: min_workers {low} is more than max_workers {high}")
    store = found.get("object_store_memory", resources.get("object_store_memory"))
    return NodeType(
        name=name, resources={k: float(v) for k, v in resources.items() if v},
        labels={str(k): str(v) for k, v in (found.get("labels") or {}).items()},
        min_workers=low, max_workers=high, object_store_memory=int(store) if store else None,
    )  # fmt: skip
