"""list_x, get_x, summarize_x: see docs/observability.md."""

from __future__ import annotations

import warnings
from typing import Any

from skate import _memory, _state, _why
from skate.util.state.common import (
    ActorState,
    JobState,
    NodeState,
    ObjectState,
    PlacementGroupState,
    RuntimeEnvState,
    StateSchema,
    TaskState,
    WorkerState,
)
from skate.util.state.exception import RayStateApiException, ServerUnavailable

Filters = list[tuple[str, str, Any]]
LIMIT, TIMEOUT_S = 100, 30.0


def _placement_groups(asked: _state.Asked) -> list[dict[str, Any]]:
    from skate.util import placement_group

    try:
        table = placement_group.placement_group_table()
    except NotImplementedError:
        return []
    return [
        {
            "placement_group_id": key,
            "name": row.get("name", ""),
            "creator_job_id": row.get("creator_job_id", ""),
            "state": row.get("state", ""),
            "bundles": [
                {"bundle_id": {"bundle_index": index}, "unit_resources": amounts,
                 "node_id": (row.get("bundles_to_node_id") or {}).get(index)}
                for index, amounts in (row.get("bundles") or {}).items()
            ],
            "is_detached": bool(row.get("is_detached", False)),
            "stats": row.get("stats"),
        }
        for key, row in table.items()
    ]  # fmt: skip


RESOURCES: dict[str, tuple[type[StateSchema], Any, str]] = {
    "actors": (ActorState, _state.actors, "actor_id"),
    "jobs": (JobState, _state.jobs, "job_id"),
    "nodes": (NodeState, _state.nodes, "node_id"),
    "objects": (ObjectState, _state.objects, "object_id"),
    "placement_groups": (PlacementGroupState, _placement_groups, "placement_group_id"),
    "runtime_envs": (RuntimeEnvState, _state.runtime_envs, "runtime_env"),
    "tasks": (TaskState, _state.tasks, "task_id"),
    "workers": (WorkerState, _state.workers, "worker_id"),
}


def _plain(value: Any) -> str:
    return str(value).lower()


def _check_filters(schema: type[StateSchema], filters: Any) -> Filters:
    out: Filters = []
    for item in filters or ():
        if not isinstance(item, (tuple, list)) or len(item) != 3:
            raise ValueError(
                f"a filter is a tuple (key, predicate, value), like (\"state\", \"=\", \"ALIVE\"), "
                f"not {item!r}"
            )
        key, predicate, value = item
        if predicate not in ("=", "!="):
            raise ValueError(f"the predicate of a filter is '=' or '!=', not {predicate!r}")
        if key not in schema.filterable_columns():
            raise RayStateApiException(
                f"there is no filter by {key!r} here; there is: "
                f"{', '.join(sorted(schema.filterable_columns()))}"
            )
        out.append((key, predicate, value))
    return out


def _matches(row: dict[str, Any], filters: Filters) -> bool:
    return all((_plain(row.get(key)) == _plain(value)) == (predicate == "=")
               for key, predicate, value in filters)  # fmt: skip


class StateApiClient:
    """Questions about one cluster: the session's, or the one at `address` of this machine."""

    def __init__(
        self, address: str | None = None, cookies: Any = None, headers: Any = None
    ) -> None:
        self._address = address

    def list(
        self, resource: str, filters: Any = None, limit: int = LIMIT, timeout: float = TIMEOUT_S,
        detail: bool = False, raise_on_missing_output: bool = True,
    ) -> list[Any]:  # fmt: skip
        """Rows of a resource: "tasks", "actors", "objects", "workers", "nodes", "jobs", ..."""
        schema, _, _ = _known(resource)
        if not 0 < limit <= _state.MOST:
            raise RayStateApiException(
                f"limit is 1 to {_state.MOST}, not {limit}: use filters to see the rest"
            )
        wanted = _check_filters(schema, filters)
        ids = [f[2] for f in wanted if f[:2] == ("object_id", "=")]
        rows, asked = self._rows(resource, timeout, *ids[:1])
        rows = [row for row in rows if _matches(row, wanted)]
        self._complain(asked, len(rows), limit, raise_on_missing_output)
        columns = schema.columns() if detail else schema.base_columns()
        return [schema(**{k: v for k, v in row.items() if k in columns}) for row in rows[:limit]]

    def get(self, resource: str, id: str, timeout: float = TIMEOUT_S) -> Any:  # noqa: A002
        """All that is known of one; None when there is none. A list for tasks that were retried."""
        schema, _, key = _known(resource)
        rows, asked = self._rows(resource, timeout, *([id] if resource == "objects" else []))
        found = [schema(**row) for row in rows if row[key] == id]
        if not found and asked.silent:
            self._complain(asked, 0, 1, True)
        if resource == "objects":
            return found
        return found[0] if len(found) == 1 else found or None

    def summary(self, resource: str, timeout: float = TIMEOUT_S) -> dict[str, Any]:
        """Counts: {"cluster": {"summary": {group: {...}}, "total_...": n, "summary_by": ...}}."""
        rows, asked = self._rows("object_sums" if resource == "objects" else resource, timeout)
        self._complain(asked, 0, 1, True)
        make = {"tasks": _sum_tasks, "actors": _sum_actors, "objects": _sum_objects}[resource]
        return {"cluster": make(rows)}

    def _rows(
        self, resource: str, timeout: float, *object_id: str
    ) -> tuple[list[dict[str, Any]], _state.Asked]:
        """object_id: rows about this object only."""
        asked = _state.Asked(float(timeout))
        try:
            with _state.attached(self._address):
                if resource == "object_sums":
                    return _memory.sums(asked), asked
                if object_id:
                    return _state.objects(asked, _why.raw_of(object_id[0])), asked
                return _known(resource)[1](asked), asked
        except _state.Unreachable as error:
            raise ServerUnavailable(str(error)) from error

    @staticmethod
    def _complain(asked: _state.Asked, found: int, limit: int, strict: bool) -> None:
        if asked.silent:
            text = (f"{len(asked.silent)} processes did not answer in time (process "
                    f"{', '.join(asked.silent[:5])}): what they have is missing")  # fmt: skip
            if strict:
                raise RayStateApiException(
                    f"{text}. Ask again, with a larger timeout, or with "
                    "raise_on_missing_output=False"
                )
            warnings.warn(text, stacklevel=4)
        if found > limit:
            warnings.warn(
                f"{found} rows, the first {limit} of them are given: use filters or a larger limit",
                stacklevel=4,
            )
        if asked.cut:
            warnings.warn("there are more rows than a process gives out", stacklevel=4)


def _known(resource: str) -> tuple[type[StateSchema], Any, str]:
    name = getattr(resource, "value", resource)
    name = str(name).replace("-", "_")
    if name not in RESOURCES:
        raise ValueError(f"there is no resource {resource!r}; there are: {', '.join(RESOURCES)}")
    return RESOURCES[name]


def _count(counts: dict[str, int], key: Any, times: int = 1) -> None:
    counts[str(key)] = counts.get(str(key), 0) + times


def _sum_tasks(rows: list[dict[str, Any]]) -> dict[str, Any]:
    groups: dict[str, dict[str, Any]] = {}
    totals = {"NORMAL_TASK": 0, "ACTOR_TASK": 0, "ACTOR_CREATION_TASK": 0}
    for row in rows:
        group = groups.setdefault(
            row["func_or_class_name"],
            {"func_or_class_name": row["func_or_class_name"], "type": row["type"],
             "state_counts": {}},
        )  # fmt: skip
        _count(group["state_counts"], row["state"])
        totals[row["type"]] += 1
    return {
        "summary": groups, "total_tasks": totals["NORMAL_TASK"],
        "total_actor_tasks": totals["ACTOR_TASK"],
        "total_actor_scheduled": totals["ACTOR_CREATION_TASK"], "summary_by": "func_name",
    }  # fmt: skip


def _sum_actors(rows: list[dict[str, Any]]) -> dict[str, Any]:
    groups: dict[str, dict[str, Any]] = {}
    for row in rows:
        group = groups.setdefault(
            row["class_name"], {"class_name": row["class_name"], "state_counts": {}}
        )
        _count(group["state_counts"], row["state"])
    return {"summary": groups, "total_actors": len(rows), "summary_by": "class"}


def _sum_objects(sums: list[dict[str, Any]]) -> dict[str, Any]:
    groups: dict[str, dict[str, Any]] = {}
    places: dict[str, tuple[set[int], set[str]]] = {}
    for row in sums:
        key, count = row["call_site"], row["count"]
        group = groups.setdefault(key, {
            "total_objects": 0, "total_size_mb": 0.0, "total_num_workers": 0, "total_num_nodes": 0,
            "task_state_counts": {}, "task_attempt_number_counts": {}, "ref_type_counts": {},
        })  # fmt: skip
        pids, ips = places.setdefault(key, (set(), set()))
        pids.add(row["process"])
        ips.add(row["ip"])
        group["total_objects"] += count
        group["total_size_mb"] += row["bytes"] / 2**20
        group["total_num_workers"], group["total_num_nodes"] = len(pids), len(ips)
        _count(group["task_state_counts"], row["task_status"], count)
        _count(group["task_attempt_number_counts"], 1, count)
        _count(group["ref_type_counts"], row["reference_type"], count)
    return {
        "summary": groups, "total_objects": sum(row["count"] for row in sums),
        "total_size_mb": sum(row["bytes"] for row in sums) / 2**20,
        "callsite_enabled": "disabled" not in groups, "summary_by": "callsite",
    }  # fmt: skip


def _lister(resource: str) -> Any:
    def function(
        address: str | None = None, filters: Any = None, limit: int = LIMIT,
        timeout: float = TIMEOUT_S, detail: bool = False, raise_on_missing_output: bool = True,
        _explain: bool = False,
    ) -> list[Any]:  # fmt: skip
        return StateApiClient(address).list(
            resource, filters, limit, timeout, detail, raise_on_missing_output
        )

    function.__name__ = function.__qualname__ = f"list_{resource}"
    function.__doc__ = (
        f"Rows about {resource.replace('_', ' ')}. filters: tuples (key, '=' or '!=', value), all "
        "of which hold; detail: fill all columns. Raises RayStateApiException when a process does "
        "not answer (a warning with raise_on_missing_output=False), ServerUnavailable without a "
        "cluster, ValueError for a filter that is none."
    )
    return function


def _getter(resource: str, name: str) -> Any:
    def function(
        id: str, address: str | None = None, timeout: float = TIMEOUT_S, _explain: bool = False,  # noqa: A002
    ) -> Any:  # fmt: skip
        return StateApiClient(address).get(resource, id, timeout)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"The row of {resource} with this id, with all columns; None: there is none."
    return function


def _summer(resource: str) -> Any:
    def function(
        address: str | None = None, timeout: float = TIMEOUT_S,
        raise_on_missing_output: bool = True, _explain: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        return StateApiClient(address).summary(resource, timeout)

    function.__name__ = function.__qualname__ = f"summarize_{resource}"
    function.__doc__ = f"Counts of {resource} by group and state."
    return function


list_actors, list_jobs, list_nodes = _lister("actors"), _lister("jobs"), _lister("nodes")
list_objects, list_tasks, list_workers = _lister("objects"), _lister("tasks"), _lister("workers")
list_placement_groups = _lister("placement_groups")
list_runtime_envs = _lister("runtime_envs")
get_actor, get_job = _getter("actors", "get_actor"), _getter("jobs", "get_job")
get_node, get_objects = _getter("nodes", "get_node"), _getter("objects", "get_objects")
get_placement_group = _getter("placement_groups", "get_placement_group")
get_task, get_worker = _getter("tasks", "get_task"), _getter("workers", "get_worker")
summarize_actors, summarize_objects = _summer("actors"), _summer("objects")
summarize_tasks = _summer("tasks")
