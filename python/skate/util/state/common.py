"""Rows of the state API: dataclasses that also answer to row["key"]."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any


def _column(filterable: bool = True, detail: bool = False) -> Any:
    metadata = {"filterable": filterable, "detail": detail}
    return field(default=None, metadata=metadata)


class StateSchema:
    """A row: attributes, row["key"], row.get("key"), asdict()."""

    @classmethod
    def columns(cls) -> set[str]:
        """All names."""
        return {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]

    @classmethod
    def base_columns(cls) -> set[str]:
        """The names that are filled without detail=True."""
        return {f.name for f in dataclasses.fields(cls)  # type: ignore[arg-type]
                if not f.metadata["detail"]}  # fmt: skip

    @classmethod
    def filterable_columns(cls) -> set[str]:
        """The names that filters may use."""
        return {f.name for f in dataclasses.fields(cls)  # type: ignore[arg-type]
                if f.metadata["filterable"]}  # fmt: skip

    @classmethod
    def detail_columns(cls) -> set[str]:
        """The names that are filled with detail=True."""
        return cls.columns()

    def asdict(self) -> dict[str, Any]:
        """As a plain dict."""
        return dataclasses.asdict(self)  # type: ignore[call-overload,no-any-return]

    def get(self, key: str, default: Any = None) -> Any:
        """As of a dict."""
        return getattr(self, key, default)

    def __getitem__(self, key: str) -> Any:
        try:
            return getattr(self, key)
        except AttributeError:
            raise KeyError(key) from None


@dataclass
class TaskState(StateSchema):
    """One attempt of a task."""

    task_id: str = _column()
    attempt_number: int = _column()
    name: str = _column()
    state: str = _column()
    job_id: str = _column()
    actor_id: str | None = _column()
    type: str = _column()
    func_or_class_name: str = _column()
    parent_task_id: str = _column()
    node_id: str | None = _column()
    worker_id: str | None = _column()
    worker_pid: int | None = _column()
    error_type: str | None = _column()
    language: str | None = _column(detail=True)
    required_resources: dict[str, float] | None = _column(False, True)
    runtime_env_info: dict[str, Any] | None = _column(False, True)
    placement_group_id: str | None = _column(detail=True)
    events: list[dict[str, Any]] | None = _column(False, True)
    profiling_data: dict[str, Any] | None = _column(False, True)
    creation_time_ms: int | None = _column(False, True)
    start_time_ms: int | None = _column(False, True)
    end_time_ms: int | None = _column(False, True)
    task_log_info: dict[str, Any] | None = _column(False, True)
    error_message: str | None = _column(False, True)
    is_debugger_paused: bool | None = _column(detail=True)
    call_site: str | None = _column(False, True)


@dataclass
class ActorState(StateSchema):
    """An actor."""

    actor_id: str = _column()
    class_name: str = _column()
    state: str = _column()
    job_id: str = _column()
    name: str | None = _column()
    node_id: str | None = _column()
    pid: int | None = _column()
    ray_namespace: str | None = _column()
    serialized_runtime_env: str | None = _column(False, True)
    required_resources: dict[str, float] | None = _column(False, True)
    death_cause: dict[str, Any] | None = _column(False, True)
    is_detached: bool | None = _column(False, True)
    placement_group_id: str | None = _column(detail=True)
    repr_name: str | None = _column(detail=True)
    num_restarts: int | None = _column(False, True)
    call_site: str | None = _column(False, True)


@dataclass
class ObjectState(StateSchema):
    """An object as one process sees it. With detail: who else holds it, and where it lies."""

    object_id: str = _column()
    object_size: int = _column()
    task_status: str = _column()
    attempt_number: int = _column()
    reference_type: str = _column()
    call_site: str = _column()
    type: str = _column()
    pid: int = _column()
    ip: str = _column()
    owner_pid: int | None = _column(detail=True)
    node_id: str | None = _column(detail=True)
    where: str | None = _column(detail=True)
    age_s: float | None = _column(False, True)
    local_refs: int | None = _column(detail=True)
    pins: int | None = _column(detail=True)
    used_by_tasks: int | None = _column(detail=True)
    running_here: bool | None = _column(detail=True)
    captured_in: int | None = _column(detail=True)
    borrower_pids: list[int] | None = _column(False, True)


@dataclass
class WorkerState(StateSchema):
    """A driver or worker process."""

    worker_id: str = _column()
    is_alive: bool = _column()
    worker_type: str = _column()
    exit_type: str | None = _column()
    node_id: str = _column()
    ip: str = _column()
    pid: int = _column()
    exit_detail: str | None = _column(False, True)
    start_time_ms: int | None = _column(False, True)
    end_time_ms: int | None = _column(False, True)


@dataclass
class NodeState(StateSchema):
    """A node."""

    node_id: str = _column()
    node_ip: str = _column()
    is_head_node: bool = _column()
    state: str = _column()
    state_message: str | None = _column(False)
    node_name: str = _column()
    resources_total: dict[str, float] = _column(False)
    labels: dict[str, str] = _column(False)
    start_time_ms: int | None = _column(False, True)
    end_time_ms: int | None = _column(False, True)


@dataclass
class DriverInfo(StateSchema):
    """The driver of a job."""

    id: str = _column()
    node_ip_address: str = _column()
    pid: str = _column()


@dataclass
class JobState(StateSchema):
    """A job: one driver's work."""

    job_id: str | None = _column()
    submission_id: str | None = _column()
    entrypoint: str = _column()
    type: str = _column()
    status: str = _column()
    message: str | None = _column(False)
    error_type: str | None = _column(False)
    start_time: int | None = _column(False)
    end_time: int | None = _column(False)
    metadata: dict[str, str] | None = _column(False, True)
    runtime_env: dict[str, Any] | None = _column(False, True)
    driver_info: DriverInfo | None = _column(False)
    driver_node_id: str | None = _column(False, True)


@dataclass
class PlacementGroupState(StateSchema):
    """A placement group."""

    placement_group_id: str = _column()
    name: str = _column()
    creator_job_id: str = _column()
    state: str = _column()
    bundles: list[dict[str, Any]] | None = _column(False, True)
    is_detached: bool | None = _column(detail=True)
    stats: dict[str, Any] | None = _column(False, True)


@dataclass
class RuntimeEnvState(StateSchema):
    """A runtime environment."""

    runtime_env: dict[str, Any] = _column()
    success: bool = _column()
    node_id: str = _column()
    creation_time_ms: float | None = _column(False, True)
    ref_cnt: int | None = _column(False, True)
    error: str | None = _column(detail=True)
