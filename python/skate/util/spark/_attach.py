"""attach(): what a UDF calls to use the cluster from inside Spark's Python worker.

init(address) in a UDF starts a program of its own on some node of the machine. attach() joins the
job of the Spark driver, on the node of the UDF's own executor, and may be called again and again:
Spark gives the same Python worker to one task after the other, and every batch of every task runs
the UDF.

Whose job it is, is known from what the UDF's closure has captured (refs, actor handles, and the
pair that setup_ray_cluster() returned carry it: skate._core.carried), or else from the cluster,
where the driver's init() has left it (_driver_job.py). Before that there is none: then the UDF is a
program of its own.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from skate.util.spark._executor import NODE, cluster_here, executor_pid

_alone: tuple[int, int] = (0, -1)  # session that attach() made a program of its own, Spark's task
_over: set[tuple[str, int]] = set()  # cluster, job: this process has heard that it has ended


def attach(address: str | tuple[str, str] | None = None) -> None:
    """Make this process a member of the Spark driver's job, unless it is one already.

    address: that of setup_ray_cluster(), or the pair it returned; None: RAY_ADDRESS, the cluster of
    the refs in the UDF's closure, or that whose node serves this executor. When the
    job of an earlier call is over (Spark may use this process for longer than a cluster, or a
    session of the driver, lives) that session is ended and the new one joined. Without a node on
    this executor another node of the machine serves. ConnectionError: none does.
    """
    from skate import _api, _core, _node

    resolved = _node.resolve(_address(address))
    wanted = _carried_job(resolved)
    if _core.epoch():
        if _may_stay(resolved, wanted):
            return
        _api.shutdown()
    base = _node.base_dir()
    own = choose(_node.cluster_nodes(base, resolved), executor_pid(), _task_attempt() >= 0)
    socket_path = own["socket"] if own else _node.find_raylet(base, resolved)
    try:
        _join(socket_path, resolved, wanted)
    except BaseException:
        if _core.epoch():
            _core.close()
        raise
    if own and own.get("shared") and own.get("executor") == executor_pid():
        _core.lend(True)


def _address(given: str | tuple[str, str] | None) -> str:
    from skate import _core, _node

    if isinstance(given, tuple):
        given = given[0]
    carried = _core.carried()
    found = given or os.environ.get("SKATE_ADDRESS") or os.environ.get("RAY_ADDRESS")
    found = found or (carried[0] if carried else "") or cluster_here(_node.base_dir())
    if not found:
        raise ConnectionError(
            "attach() was given no address, RAY_ADDRESS is not set and no node serves this "
            "executor: is there a cluster? Call setup_ray_cluster() on the Spark driver before the "
            "UDF is defined."
        )
    return found


def _carried_job(address: str) -> int:
    """The job that the closure belongs to; 0: it says nothing of this cluster."""
    from skate import _core, _node

    carried = _core.carried()
    if carried and carried[0] and _node.resolve(carried[0]) == address:
        return carried[1] if (address, carried[1]) not in _over else 0
    return 0


def _announced(address: str) -> int:
    """The job that the driver's init() has left word of; 0: none, or it is over."""
    from skate.util.spark import _driver_job

    found = _driver_job.find(executor_pid())
    return found if (address, found) not in _over else 0


def _may_stay(address: str, wanted: int) -> bool:
    """Is the session that this process has the right one?"""
    from skate import _api, _core, _member

    if _core.alive() is not None or _api.info()["gcs_address"] != address:
        return False
    if _member.is_member():
        return wanted in (0, _api.info()["job"])
    session, task = _alone
    if session != _core.epoch() or task == _task_attempt():
        return True  # the UDF's own init(), or its refs are in use
    return not (wanted or _announced(address))


def _join(socket_path: str, address: str, wanted: int) -> None:
    """Be a member of the wanted job, or of the driver's; else a program of its own."""
    from skate import _api, _core, _member

    global _alone
    _core.connect(socket_path, _api._CALL_TIMEOUT_S)
    if wanted:
        if _member.become(wanted):
            return
        _over.add((address, wanted))
        _core.carry("", 0)  # that job is over
    found = _announced(address)
    if found:
        if _member.become(found):
            return
        _over.add((address, found))
    _api._join(None, socket_path, _api._program_config(None, None, None), True)
    _alone = _core.epoch(), _task_attempt()


def _task_attempt() -> int:
    pyspark: Any = sys.modules.get("pyspark")
    context = pyspark.TaskContext.get() if pyspark else None
    return int(context.taskAttemptId()) if context else -1


def choose(
    records: list[dict[str, Any]], executor: int, in_task: bool = True
) -> dict[str, Any] | None:
    """The record of this executor's node; else of another executor's; else any.

    An executor of init_spark() is no node's: its actor has left word on which node it runs. What
    runs beside Spark's driver (the commit of a data source) is in no task: the head is its node,
    since a node on an executor may die without it.
    """
    told = os.environ.get(NODE)
    for wanted in (
        lambda record: executor and record.get("executor") == executor,
        lambda record: told and record.get("socket") == told,
        lambda record: in_task == bool(record.get("executor")),
        lambda record: True,
    ):
        for record in records:
            if wanted(record):
                return record
    return None


def carried_pair(pair: tuple[str, str], job: int) -> tuple[str, str]:
    """What the handle of a cluster is in a UDF: the plain pair; attach() remembers the job."""
    from skate import _core

    if job:
        _core.carry(pair[0], job)
    return pair
