"""`skate.util.state`: lists and sums of what there is in the cluster. Needs no dashboard."""

from __future__ import annotations

from skate.util.state.api import (
    StateApiClient,
    get_actor,
    get_job,
    get_node,
    get_objects,
    get_placement_group,
    get_task,
    get_worker,
    list_actors,
    list_jobs,
    list_nodes,
    list_objects,
    list_placement_groups,
    list_runtime_envs,
    list_tasks,
    list_workers,
    summarize_actors,
    summarize_objects,
    summarize_tasks,
)

__all__ = [
    "StateApiClient", "get_actor", "get_job", "get_node", "get_objects", "get_placement_group",
    "get_task", "get_worker", "list_actors", "list_jobs", "list_nodes", "list_objects",
    "list_placement_groups", "list_runtime_envs", "list_tasks", "list_workers", "summarize_actors",
    "summarize_objects", "summarize_tasks",
]  # fmt: skip
