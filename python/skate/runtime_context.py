"""Where am I? Ids and names of the job, node, task and actor that run this code."""

from __future__ import annotations

from skate import _api, _core
from skate._ids import ActorID, JobID, NodeID, TaskID, WorkerID

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

    from skate.runtime_env import RuntimeEnv

_TASK, _METHOD, _CONSTRUCTOR = 0, 1, 2


class RuntimeContext:
    """What get_runtime_context() gives; asks anew at each call."""

    def get_job_id(self) -> str:
        """The id of the job, 8 hexadecimal digits."""
        return self.job_id.hex()

    def get_node_id(self) -> str:
        """The id of this node, 56 hexadecimal digits."""
        return self.node_id.hex()

    def get_worker_id(self) -> str:
        """The id of this process, 56 hexadecimal digits."""
        info = _api.info()
        return WorkerID(info["proc"].to_bytes(8, "little") + info["node_id"] + bytes(4)).hex()

    def get_task_id(self) -> str | None:
        """The id of the running task, or None."""
        now = _core.current()
        return now[1].hex() if now else None

    def get_actor_id(self) -> str | None:
        """The id of the actor, or None outside of one."""
        raw = _api.current_actor_raw()
        return raw.hex() if raw else None

    def get_task_name(self) -> str | None:
        """The name of the running task, or None."""
        now = _core.current()
        if now is None:
            return None
        kind, _, _, name, method, _, _, cls, actor_name, _ = now
        if kind == _CONSTRUCTOR:
            return f"{actor_name}:{cls}.__init__" if actor_name else f"{cls}.__init__"
        return name or method

    def get_task_function_name(self) -> str | None:
        """The function of the running task, with its module, or None."""
        from skate import _worker

        return _worker.function_name()

    def get_actor_name(self) -> str | None:
        """The name of the actor; "" for an anonymous one, None outside of one."""
        from skate import _worker

        return _worker.actor_name() if _api.current_actor_raw() else None

    def get_assigned_resources(self) -> dict[str, float]:
        """What the running task or actor holds."""
        from skate import _worker

        if _api.info()["is_driver"]:
            raise AssertionError("get_assigned_resources() is for tasks and actors, not drivers")
        return _worker.assigned_resources()

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """Ids of the accelerators of this task or actor, by kind."""
        from skate import _lease

        others = ("TPU", "NPU", "HPU", "neuron_cores", "RBLN")
        return {"GPU": _lease.gpus(), **{kind: [] for kind in others}}

    def get_node_labels(self) -> dict[str, str]:
        """Labels of this node."""
        mine = self.get_node_id()
        return next((n["Labels"] for n in _api.nodes() if n["NodeID"] == mine), {})

    def get_placement_group_id(self) -> str | None:
        """The id of the placement group that this runs in, or None."""
        from skate.util.placement_group import get_current_placement_group

        group = get_current_placement_group()
        return group.id.hex() if group is not None else None

    def get_runtime_env_string(self) -> str:
        """The runtime environment as JSON."""
        return self.runtime_env.serialize()

    def get_session_name(self) -> str:
        """The last part of the session's folder."""
        return _api.info()["session_dir"].rstrip("/").rpartition("/")[2]

    def get_temp_dir(self) -> str:
        """The folder that holds the session's folder."""
        return _api.info()["session_dir"].rstrip("/").rpartition("/")[0]

    def is_canceled(self) -> bool:
        """Was the running task or call cancelled? For code that looks now and then.

        RuntimeError in a coroutine: that one is cancelled as asyncio does it.
        """
        import sys

        calls = sys.modules.get("skate._async")
        job = calls.running_job() if calls is not None else None
        if calls is None or job is None:
            return _core.cancelled()
        if calls.on_loop():
            raise RuntimeError(
                "is_canceled() is not for async actors: a cancelled call gets "
                "asyncio.CancelledError where it awaits"
            )
        return bool(calls.is_cancelled(job.task))

    @property
    def current_actor(self) -> Any:
        """A weak handle of the actor that runs this."""
        if not _api.current_actor_raw():
            raise RuntimeError("current_actor is for code that runs in an actor")
        from skate import _worker

        return _worker.own_handle()

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Has this actor been restarted?"""
        if _api.info()["is_driver"]:
            raise AssertionError("was_current_actor_reconstructed is for actors, not drivers")
        if not _api.current_actor_raw():
            raise RuntimeError("was_current_actor_reconstructed is for code that runs in an actor")
        from skate import _worker

        return _worker.restarted()

    @property
    def namespace(self) -> str:
        """The namespace of the job."""
        return _api.namespace()

    @property
    def gcs_address(self) -> str:
        """Address of the global control store."""
        return _api.info()["gcs_address"]

    @property
    def runtime_env(self) -> RuntimeEnv:
        """The runtime environment of this process, as it was merged."""
        from skate import _runtime_env
        from skate.runtime_env import RuntimeEnv

        _api.info()
        return RuntimeEnv(_validate=False, **_runtime_env.visible(_runtime_env.here.spec))

    @property
    def should_capture_child_tasks_in_placement_group(self) -> bool:
        """Do the children of this task or actor run in its placement group?"""
        from skate import _lease

        return _lease.captures()

    @property
    def job_id(self) -> JobID:
        """The id of the job."""
        return JobID.from_int(_api.info()["job"])

    @property
    def node_id(self) -> NodeID:
        """The id of this node."""
        return NodeID(_api.info()["node_id"] + bytes(12))

    @property
    def task_id(self) -> TaskID | None:
        """The id of the running task, or None."""
        now = _core.current()
        return TaskID(now[1]) if now else None

    @property
    def actor_id(self) -> ActorID | None:
        """The id of the actor, or None."""
        raw = _api.current_actor_raw()
        return _core._actor_from_bytes(raw, False) if raw else None

    @property
    def worker_id(self) -> str:
        """The id of this process."""
        return self.get_worker_id()

    def get(self) -> dict[str, Any]:
        """The ids as a dict, as old programs ask for them."""
        out: dict[str, Any] = {"job_id": self.job_id, "node_id": self.node_id,
                               "namespace": self.namespace}  # fmt: skip
        if self.task_id is not None:
            out["task_id"] = self.task_id
        if self.actor_id is not None:
            out["actor_id"] = self.actor_id
        return out


_context = RuntimeContext()


def get_runtime_context() -> RuntimeContext:
    """Where this code runs; starts a session when there is none."""
    _api.auto_init()
    return _context
