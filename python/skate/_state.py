"""What there is in the cluster: rows about tasks, actors, objects, workers, nodes, jobs.

Nothing is kept for it anywhere: each raylet tells its processes and what they ran (the rings in
their ledgers), each process its live tasks and objects, the control store nodes, jobs and actors.
"""

from __future__ import annotations

import time
from contextlib import contextmanager

from skate import _api, _away, _core, _wire
from skate._wire import GCS
from skate.exceptions import LocalRayletDiedError

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MOST = 10_000  # rows of one kind that are ever given out
TASKS, PROCESSES, RUNS, ENVS = 1, 3, 4, 6  # state_req.what
_ENOENT = 9  # include/skate/errors.h
_NODE_BITS = 32
_AT_ONCE = 32  # questions to different processes
NIL = "f" * 48

_TASK_STATES = {
    1: "PENDING_ARGS_AVAIL", 2: "PENDING_NODE_ASSIGNMENT", 3: "SUBMITTED_TO_WORKER", 4: "RUNNING",
    5: "FINISHED", 6: "FAILED", 7: "PENDING_NODE_ASSIGNMENT", 8: "FAILED",
}  # fmt: skip
_RANK = {7: 0, 1: 1, 2: 1, 3: 2, 4: 3, 6: 4, 8: 5, 5: 6}
_TASK_TYPES = ("NORMAL_TASK", "ACTOR_TASK", "ACTOR_CREATION_TASK")
_ACTOR_STATES = ("PENDING_CREATION", "ALIVE", "RESTARTING", "DEAD", "DEAD")
_ERRORS = {
    "worker_died": "WORKER_DIED", "worker_crashed": "WORKER_DIED", "actor_died": "ACTOR_DIED",
    "actor_unavailable": "ACTOR_UNAVAILABLE", "task_cancelled": "TASK_CANCELLED",
    "dependency": "TASK_EXECUTION_EXCEPTION", "owner_died": "OWNER_DIED",
    "object_lost": "OBJECT_LOST", "node_died": "NODE_DIED", "out_of_memory": "OUT_OF_MEMORY",
    "actor_oom": "OUT_OF_MEMORY", "actor_oom_again": "OUT_OF_MEMORY",
}  # fmt: skip


class Unreachable(ConnectionError):
    """No cluster to ask, or it does not answer."""


def _only_session(base: str) -> str:
    """Nobody named a cluster, and none was started by `skate start`: that of a running program."""
    from skate import _node

    sessions = sorted(_node.local_sessions(base))
    if len(sessions) == 1:
        return sessions[0]
    if sessions:
        raise ConnectionError(
            f"several programs run here with a session of their own: name one of {sessions} "
            "(address=, --address, SKATE_ADDRESS)"
        )
    raise ConnectionError(
        "no Skate cluster runs on this machine: start one with `skate start --head`, call "
        "init(), or name another one (address=, --address, SKATE_ADDRESS)"
    )


@contextmanager
def attached(address: str | None) -> Iterator[None]:
    """A session, or for as long as this lasts a bare connection without a job."""
    if _core.epoch():
        yield
        return
    from skate import _node, _remote_driver

    try:
        base = _node.base_dir()
        found = _api._choose_address(address, base, True)
        if found is None:
            found = _only_session(base)
        path, outpost = _remote_driver.socket_of(base, found)
        try:
            _core.connect(path, 10.0)
        except BaseException:
            if outpost is not None:
                outpost.stop()
            raise
    except (OSError, ValueError, LocalRayletDiedError) as error:
        raise Unreachable(str(error)) from error
    try:
        yield
    except LocalRayletDiedError as error:  # while it was asked
        raise Unreachable(str(error)) from error
    finally:
        _core.close()
        if outpost is not None:
            outpost.stop()


class Asked:
    """One look at the cluster: what was asked already is not asked again."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self.silent: list[str] = []  # who did not answer
        self._silent: list[int] = []
        self.cut = False  # somebody had more rows than were taken
        self._kept: dict[Any, Any] = {}

    def _left(self) -> float:
        return max(0.05, min(3.0, self._deadline - time.monotonic()))

    def ask(self, process: int, what: int) -> list[dict[str, Any]]:
        """Rows of one process or raylet; none when it does not answer."""
        key = (process, what)
        if key in self._kept:
            return list(self._kept[key])
        rows: list[dict[str, Any]] = []
        if time.monotonic() < self._deadline:
            frame = _wire.build("state_req", what=what, max=MOST * 2)
            try:
                _, answer = _wire.parse(_core.call(process, frame, self._left()))
                rows = [fields for _, fields in _wire.frames(answer["frames"])]
                self.cut = self.cut or answer["total"] > answer["count"]
            except Exception:
                self._note_silent(process)
        else:
            self._note_silent(process)
        self._kept[key] = rows
        return list(rows)

    def ask_all(self, processes: list[int], frame: bytes) -> dict[int, dict[str, Any]]:
        """The answers of those that answer in time, at once, with the rows in them parsed."""
        from concurrent.futures import ThreadPoolExecutor

        def ask(process: int) -> dict[str, Any] | None:
            left = min(max(3.0, self._timeout / 2), self._deadline - time.monotonic())
            try:
                _, answer = _wire.parse(_core.call(process, frame, max(0.05, left)))
            except Exception:
                return None
            for field in ("groups_frames", "frames"):
                if field in answer:
                    answer[field] = [fields for _, fields in _wire.frames(answer[field])]
            return answer

        with ThreadPoolExecutor(min(_AT_ONCE, len(processes) or 1)) as pool:
            answers = dict(zip(processes, pool.map(ask, processes), strict=True))
        for process, answer in answers.items():
            if answer is None:
                self._note_silent(process)
        return {process: answer for process, answer in answers.items() if answer is not None}

    def _note_silent(self, process: int) -> None:
        name = f"{process & 0xFFFFFFFF} of node {process >> _NODE_BITS}"
        if name not in self.silent:
            self.silent.append(name)
            self._silent.append(process)

    def silent_pids(self) -> list[dict[str, Any]]:
        """Who did not answer: {"pid", "what"}; the pid of a raylet is its node's."""
        pids = {p["proc"]: p["pid"] for p in self.processes()}
        for row in self.node_rows():
            pids[row["node"] << _NODE_BITS] = row["pid"]
        return [{"pid": pids.get(process, 0),
                 "what": "process" if process & 0xFFFFFFFF else "raylet",
                 "node": process >> _NODE_BITS} for process in self._silent]  # fmt: skip

    def _list(self, what: int) -> list[dict[str, Any]]:
        if ("list", what) not in self._kept:
            frame = _wire.build("list", what=what)
            try:
                _, answer = _wire.parse(_core.call(GCS, frame, self._left()))
            except TimeoutError:
                raise Unreachable(_away.TEXT) from None
            self._kept["list", what] = [row for _, row in _wire.frames(answer["frames"])]
        rows: list[dict[str, Any]] = self._kept["list", what]
        return rows

    def node_rows(self) -> list[dict[str, Any]]:
        """node_info of each node, the dead too."""
        return self._list(1)

    def actor_rows(self) -> list[dict[str, Any]]:
        """actor_state of each actor."""
        return self._list(2)

    def job_rows(self) -> list[dict[str, Any]]:
        """job_info of each job."""
        return self._list(6)

    def demand_rows(self) -> list[dict[str, Any]]:
        """demand_info of all that waits: leases, actors, bundles."""
        return self._list(7)

    def node_ids(self) -> dict[int, str]:
        """Number of a node -> its id for people."""
        return {row["node"]: (row["node_id"] + bytes(12)).hex() for row in self.node_rows()}

    def processes(self) -> list[dict[str, Any]]:
        """proc_row of each driver and worker; bare connections like ours are left out."""
        out = []
        for row in self.node_rows():
            if row["state"] == 1:
                out += self.ask(row["node"] << _NODE_BITS, PROCESSES)
        return [row for row in out if row["job"] and row["pid"]]

    def worker_id(self, process: int) -> str:
        """As get_worker_id() of that process says."""
        for row in self.node_rows():
            if row["node"] == process >> _NODE_BITS:
                return (process.to_bytes(8, "little") + row["node_id"] + bytes(4)).hex()
        return ""

    def runs(self) -> list[dict[str, Any]]:
        """task_row of what ran on each node, newest first."""
        out = []
        for row in self.node_rows():
            if row["state"] == 1:
                out += self.ask(row["node"] << _NODE_BITS, RUNS)
        return out

    def live_tasks(self) -> list[dict[str, Any]]:
        """task_row of each task that its owner still has."""
        return [row for p in self.processes() if p["state"] == 1
                for row in self.ask(p["proc"], TASKS)]  # fmt: skip


def task_hex(raw: bytes, job: int) -> str:
    """The id of a task for people."""
    sequence = int.from_bytes(raw[8:], "little") & ~0xFFFF
    head = raw[:8] + sequence.to_bytes(8, "little") + bytes(4)
    return (head + job.to_bytes(4, "little")).hex()


def job_hex(job: int) -> str:
    """The id of a job for people."""
    return job.to_bytes(4, "little").hex()


def _ms(ns: int) -> int | None:
    return ns // 1_000_000 if ns else None


def demands(asked: Asked) -> list[dict[str, Any]]:
    """What waits for resources in the cluster and why, as the GCS knows it.

    kind: "task" (`count` leases that wait at node number `node`), "actor" or "bundle" (of the
    placement group `id`). never: no node can ever hold it. strategy, affinity: as in a lease
    request, or of the group.
    """
    kinds = ("task", "actor", "bundle")
    return [{
        "kind": kinds[row["kind"]], "id": row["id"], "labels": row["labels"],
        "resources": _wire.unpack_resources(row["resources"]),
        "count": row["count"], "job": row["job"], "node": row["node"],
        "strategy": row["strategy"], "affinity": row["affinity"],
        "name": f"actor {row['name']}" if row["kind"] == 1 else row["name"],
        "never": row["status"] == -_ENOENT, "reason": row["reason"],
    } for row in asked.demand_rows()]  # fmt: skip


def runtime_envs(asked: Asked) -> list[dict[str, Any]]:
    """A row for each runtime environment that a task or actor asked for, on each node."""
    out = []
    for node in asked.node_rows():
        for row in asked.ask(node["node"] << _NODE_BITS, ENVS) if node["state"] == 1 else ():
            out.append({
                "runtime_env": _core.unpack(row["env"]), "success": True,
                "node_id": (node["node_id"] + bytes(12)).hex(), "ref_cnt": row["refs"],
            })  # fmt: skip
    return out


def tasks(asked: Asked) -> list[dict[str, Any]]:
    """A row for each attempt of each task that is remembered."""
    best: dict[tuple[bytes, int], dict[str, Any]] = {}
    created: dict[bytes, int] = {}
    pids = {p["proc"]: p["pid"] for p in asked.processes()}
    alive = {row["actor"] for row in asked.actor_rows() if row["state"] == 1}
    names = {row["actor"]: row["name"] for row in asked.actor_rows() if row["name"]}
    drivers = {p["proc"] for p in asked.processes() if p["role"] != 1}
    for row in [*asked.live_tasks(), *asked.runs()]:
        if row["state"] == 7:
            created[row["task"]] = row["begin_ns"]
        key = (row["task"], row["attempt"])
        old = best.get(key)
        if old is None or _RANK.get(row["state"], 0) > _RANK.get(old["state"], 0):
            best[key] = row
    ids = asked.node_ids()
    out = []
    for row in best.values():
        state, kind = row["state"], min(row["kind"], 2)
        if kind == 2 and state == 2 and row["actor"] in alive:
            state = 5  # its creator keeps the constructor's arguments for restarts
        process = row["proc"]
        if state in (1, 2, 7, 8) and not row["error"].startswith("worker_died"):
            process = 0
        error = "TASK_EXECUTION_EXCEPTION" if state == 6 else None
        if state == 8:
            error = _ERRORS.get(row["error"], row["error"].upper() or "TASK_EXECUTION_EXCEPTION")
        ran = state in (4, 5, 6)
        out.append({
            "task_id": task_hex(row["task"], row["job"]),
            "attempt_number": row["attempt"],
            "name": f"{names[row['actor']]}:{row['name']}"
            if kind == 2 and row["actor"] in names else row["name"],
            "state": _TASK_STATES.get(state, "NIL"),
            "job_id": job_hex(row["job"]),
            "actor_id": row["actor"].hex() if kind else None,
            "type": _TASK_TYPES[kind],
            "func_or_class_name": row["name"],
            "parent_task_id": NIL[:40] + job_hex(row["job"])
            if int.from_bytes(row["task"][:8], "little") in drivers else NIL,
            "node_id": ids.get(process >> _NODE_BITS) if process else None,
            "worker_id": asked.worker_id(process) if process else None,
            "worker_pid": (row["pid"] or pids.get(process)) if process else None,
            "error_type": error,
            "language": "PYTHON",
            "creation_time_ms": _ms(created.get(row["task"], 0)) or _ms(row["begin_ns"]),
            "start_time_ms": _ms(row["begin_ns"]) if ran else None,
            "end_time_ms": _ms(row["end_ns"]),
            "error_message": row["error"] or None,
        })  # fmt: skip
    return sorted(out, key=lambda r: (r["task_id"], r["attempt_number"]))


def actors(asked: Asked) -> list[dict[str, Any]]:
    """A row for each actor, the dead that are remembered too."""
    ids = asked.node_ids()
    out = []
    for row in asked.actor_rows():
        dead = row["state"] >= 3
        out.append({
            "actor_id": row["actor"].hex(),
            "class_name": row["cls"],
            "state": _ACTOR_STATES[min(row["state"], 4)],
            "job_id": job_hex(row["job"]),
            "name": row["name"],
            "node_id": ids.get(row["node"]) if row["node"] else None,
            "pid": row["pid"],
            "ray_namespace": row["namespace"],
            "required_resources": _wire.unpack_resources(row["resources"]),
            "death_cause": {"error_message": row["reason"]} if dead else None,
            "is_detached": bool(row["flags"] & 1),
            "placement_group_id": None,
            "repr_name": "",
            "num_restarts": row["restarts"],
        })  # fmt: skip
    known = {row["actor_id"] for row in out}
    for row in asked.live_tasks():  # their creators still wait for an argument
        if row["kind"] == 2 and row["state"] == 1 and row["actor"].hex() not in known:
            out.append({
                "actor_id": row["actor"].hex(), "class_name": row["name"].partition(".")[0],
                "state": "DEPENDENCIES_UNREADY", "job_id": job_hex(row["job"]), "name": "",
                "node_id": None, "pid": 0, "ray_namespace": "", "required_resources": {},
                "death_cause": None, "is_detached": False, "placement_group_id": None,
                "repr_name": "", "num_restarts": 0,
            })  # fmt: skip
    return out


def objects(asked: Asked, only: bytes = b"") -> list[dict[str, Any]]:
    """A row for each object in each process that holds or borrows it, the largest first; `only`:
    of the object with this raw id."""
    from skate import _memory

    memory = _memory.Memory(asked, MOST, None, only)
    rows = memory.rows()
    asked.cut = asked.cut or (not only and memory.total() > len(rows))
    return rows


def workers(asked: Asked) -> list[dict[str, Any]]:
    """A row for each driver and worker that lives."""
    nodes = {row["node"]: row for row in asked.node_rows()}
    ids = asked.node_ids()
    return [
        {
            "worker_id": asked.worker_id(p["proc"]),
            "is_alive": p["state"] < 2,
            "worker_type": "WORKER" if p["role"] == 1 else "DRIVER",
            "exit_type": None,
            "node_id": ids[p["proc"] >> _NODE_BITS],
            "ip": nodes[p["proc"] >> _NODE_BITS]["ip"],
            "pid": p["pid"],
        }
        for p in asked.processes()
    ]


def nodes(asked: Asked) -> list[dict[str, Any]]:
    """A row for each node, the dead too."""
    return [
        {
            "node_id": (row["node_id"] + bytes(12)).hex(),
            "node_ip": row["ip"],
            "is_head_node": bool(row["is_head"]),
            "state": "ALIVE" if row["state"] == 1 else "DEAD",
            "state_message": row["reason"] or None,
            "node_name": row["name"],
            "resources_total": _wire.unpack_resources(row["total"]),
            "labels": _api._labels(row["labels"]),
        }
        for row in asked.node_rows()
        if not row["outpost"]  # a driver's machine
    ]


def jobs(asked: Asked) -> list[dict[str, Any]]:
    """A row for each job, the ended too."""
    from skate.util.state.common import DriverInfo

    ips = {row["node"]: row["ip"] for row in asked.node_rows()}
    ids = asked.node_ids()
    return [
        {
            "job_id": job_hex(row["job"]),
            "submission_id": None,
            "entrypoint": row["entrypoint"],
            "type": "DRIVER",
            "status": "SUCCEEDED" if row["ended"] else "RUNNING",
            "message": None,
            "driver_info": DriverInfo(job_hex(row["job"]), ips.get(row["driver"] >> _NODE_BITS, ""),
                                      str(row["pid"])),
            "driver_node_id": ids.get(row["driver"] >> _NODE_BITS),
        }
        for row in asked.job_rows()
    ]
