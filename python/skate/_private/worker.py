"""`global_worker`: facts about this process, in the words of Ray's inside."""

from __future__ import annotations

from skate import _api, _core
from skate._api import (
    LOCAL_MODE,
    SCRIPT_MODE,
    WORKER_MODE,
    get,
    init,
    is_initialized,
    kill,
    put,
    shutdown,
    wait,
)
from skate._remote import remote
from skate.exceptions import RaySystemError

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

RESTORE_WORKER_MODE, SPILL_WORKER_MODE = 3, 4


class Worker:
    """This process. Each attribute is asked anew."""

    @property
    def connected(self) -> bool:
        """Is there a session?"""
        return bool(_core.epoch())

    @property
    def mode(self) -> int | None:
        """SCRIPT_MODE in a driver, WORKER_MODE in a worker, None without a session."""
        if not _core.epoch():
            return None
        return SCRIPT_MODE if _api.info()["is_driver"] else WORKER_MODE

    @property
    def node(self) -> Any:
        """Addresses of the node, as attributes; None without a session."""
        return _Node() if _core.epoch() else None

    @property
    def core_worker(self) -> Any:
        """A stand-in for the core; it has the ids only."""
        self.check_connected()
        return self

    @property
    def namespace(self) -> str:
        """The namespace of the job."""
        return _api.namespace()

    @property
    def current_job_id(self) -> Any:
        """The id of the job."""
        return _context().job_id

    @property
    def current_node_id(self) -> Any:
        """The id of the node."""
        return _context().node_id

    @property
    def worker_id(self) -> bytes:
        """The id of this process."""
        return bytes.fromhex(_context().get_worker_id())

    @property
    def actor_id(self) -> Any:
        """The id of the actor; nil outside of one."""
        raw = _api.current_actor_raw()
        return _core._actor_from_bytes(raw, False) if raw else _core.ActorID.nil()

    @property
    def current_task_id(self) -> Any:
        """The id of the running task; nil outside of one."""
        from skate._ids import TaskID

        now = _core.current()
        return TaskID(now[1]) if now else TaskID.nil()

    @property
    def gcs_client(self) -> Any:
        """There is none to reach into."""
        raise AttributeError("gcs_client: Skate's control store has no client in Python")

    @property
    def runtime_env(self) -> str:
        """The runtime environment as JSON."""
        return _context().get_runtime_env_string()

    def get_current_job_id(self) -> Any:
        """As of Ray's core worker."""
        return self.current_job_id

    def get_actor_id(self) -> Any:
        """As of Ray's core worker."""
        return self.actor_id

    def get_worker_id(self) -> Any:
        """As of Ray's core worker."""
        from skate._ids import WorkerID

        return WorkerID(self.worker_id)

    def check_connected(self) -> None:
        """RaySystemError without a session."""
        if not _core.epoch():
            raise RaySystemError("Skate has not been started: call init() first")


class _Node:
    """Addresses of the node that this process is on."""

    @property
    def address_info(self) -> dict[str, Any]:
        """As init() gives it."""
        context = _api._session.context
        info = _api.info()
        return dict(context.address_info) if context else _api._address_info(info, "")

    @property
    def gcs_address(self) -> str:
        """Address of the control store."""
        return str(_api.info()["gcs_address"])

    address = gcs_address

    @property
    def node_ip_address(self) -> str:
        """Address of the node."""
        return str(_api.info()["node_ip"])

    @property
    def unique_id(self) -> str:
        """The id of the node."""
        return _context().get_node_id()

    node_id = unique_id

    def get_session_dir_path(self) -> str:
        """The session's folder."""
        return str(_api.info()["session_dir"])

    def get_temp_dir_path(self) -> str:
        """The folder of all sessions."""
        return _context().get_temp_dir()

    def is_head(self) -> bool:
        """Is it the head node of its cluster?"""
        mine = self.unique_id
        heads = "node:__internal_head__"
        return any(n["NodeID"] == mine and heads in n["Resources"] for n in _api.nodes())


def _context() -> Any:
    from skate.runtime_context import _context as context

    return context


global_worker = Worker()


def global_worker_mode() -> int | None:
    """The same as global_worker.mode."""
    return global_worker.mode


__all__ = [
    "LOCAL_MODE", "RESTORE_WORKER_MODE", "SCRIPT_MODE", "SPILL_WORKER_MODE", "WORKER_MODE",
    "Worker", "get", "global_worker", "init", "is_initialized", "kill", "put", "remote", "shutdown",
    "wait",
]  # fmt: skip
