"""What Spark has to offer, read from its own tables through py4j: executors, cores, sessions."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from skate.util.spark import _guards

EXECUTORS_TIMEOUT_S = 30.0
EXECUTORS_SLOW_S = 4.0


@dataclass(frozen=True)
class Executor:
    """An executor that takes tasks."""

    id: str
    host: str
    cores: int


def active_context() -> Any:
    """The SparkContext of this process, for a session of Spark Connect its Place, or an error that
    says what is missing."""
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise RuntimeError(
            "Skate on Spark needs pyspark 3.4 or later: pip install pyspark"
        ) from error
    session = SparkSession.getActiveSession()
    if session is None:  # one is active in one thread only
        connect = sys.modules.get("pyspark.sql.connect.session")
        session = connect.SparkSession._default_session if connect else None
    if session is None:
        from pyspark import SparkContext

        made = SparkContext._active_spark_context
        if made is not None:
            return made
        raise RuntimeError(_guards.why_no_session(os.environ, _guards.find_java()))
    from skate.util.spark import _connect

    return _connect.place(session) or session.sparkContext


def is_local(context: Any) -> bool:
    """Do tasks run inside the driver's own JVM?"""
    return bool(context.master == "local" or context.master.startswith("local["))


def task_cpus(context: Any) -> int:
    """Cores that an ordinary task of this application takes."""
    return int(context.getConf().get("spark.task.cpus", "1"))


def executors(context: Any) -> list[Executor]:
    """The executors registered now; in local mode the driver is the one executor."""
    if hasattr(context, "connect_executors"):
        return [Executor(*row) for row in context.connect_executors()]
    rows = context._jsc.sc().statusStore().executorList(True)
    found = []
    for i in range(rows.size()):
        row = rows.apply(i)
        if row.id() == "driver" and not is_local(context):
            continue
        cores = int(row.totalCores())
        if row.id() == "driver" and cores == 0:
            cores = int(context.defaultParallelism)
        if cores > 0:
            found.append(Executor(row.id(), row.hostPort().rpartition(":")[0], cores))
    return found


def slots(found: list[Executor], cpus: int, gpus: int = 0, gpus_each: int = 0) -> int:
    """Tasks of `cpus` cores that these executors run at once; gpus: of such a task, gpus_each: of
    an executor."""
    by_gpu = gpus_each // gpus if gpus else 1 << 30
    return sum(min(executor.cores // cpus, by_gpu) for executor in found)


def expected_executors(master: str, conf: Mapping[str, str]) -> int:
    """How many executors will come without our asking."""
    if can_grow(conf):
        names = ("minExecutors", "initialExecutors")
        asked = [conf.get(f"spark.dynamicAllocation.{name}", "0") for name in names]
        return max(int(text) for text in [*asked, conf.get("spark.executor.instances", "0")])
    local_cluster = re.match(r"local-cluster\[\s*(\d+)\s*,", master)
    if local_cluster:
        return int(local_cluster.group(1))
    return max(1, int(conf.get("spark.executor.instances", "1")))


def wait_executors(
    context: Any, nodes: int, say: Callable[[str], None], timeout_s: float = EXECUTORS_TIMEOUT_S
) -> list[Executor]:
    """Wait until as many executors are there as there will be nodes, if so many are to come.

    Else the tasks of all nodes would be dealt to the executor that registers first. Not an error
    after the time is over: Spark may be short of machines, and nodes may share an executor.
    """
    wanted = expected_executors(context.master, settings(context))
    if nodes > 0:
        wanted = min(wanted, nodes)
    began = time.monotonic()
    deadline, told = began + timeout_s, False
    while True:
        found = executors(context)
        if len(found) >= wanted:
            return found
        if not told and time.monotonic() - began > EXECUTORS_SLOW_S:
            told = True
            say(f"waiting for Spark: {len(found)} of {wanted} executors are registered. If no more "
                "come, look at the master's page: has it workers with enough free cores and memory "
                "(spark.executor.cores, spark.executor.memory)?")  # fmt: skip
        if time.monotonic() > deadline:
            say(f"{len(found)} of {wanted} Spark executors registered in {timeout_s:.0f} s; going "
                "on with them")  # fmt: skip
            return found
        time.sleep(0.05)


def profile(context: Any, cpus: int, gpus: int) -> Any:
    """A resource profile for node tasks; None when ordinary tasks are of that size already."""
    if cpus == task_cpus(context) and gpus == 0:
        return None
    if is_local(context):
        raise ValueError(
            f"In Spark's local mode every task has 'spark.task.cpus' = {task_cpus(context)} cores: "
            f"num_cpus_worker_node={cpus} (with {gpus} GPUs) cannot be asked for."
        )
    if hasattr(context, "connect_profile"):
        return context.connect_profile(cpus, gpus)
    from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests

    requests = TaskResourceRequests().cpus(cpus)
    if gpus:
        requests = requests.resource("gpu", gpus)
    return ResourceProfileBuilder().require(requests).build


def settings(context: Any) -> dict[str, str]:
    """All of the application's settings."""
    return dict(context.getConf().getAll())


def can_grow(conf: Mapping[str, str]) -> bool:
    """May Spark get more executors when tasks wait?"""
    return conf.get("spark.dynamicAllocation.enabled", "false") == "true"


def jobs_of(tracker: Any, groups: Iterable[str]) -> set[int]:
    """The numbers of all jobs in these job groups."""
    return {job for group in groups for job in tracker.getJobIdsForGroup(group)}


def other_jobs(context: Any, groups: Iterable[str]) -> list[str]:
    """What runs beside the nodes: "3 (count at x.py:5)". Spark Connect does not tell."""
    if hasattr(context, "connect_executors"):
        return []
    tracker = context.statusTracker()
    own = jobs_of(tracker, groups)
    found = []
    for job in sorted(set(tracker.getActiveJobsIds()) - own):
        info = tracker.getJobInfo(job)
        stages = [tracker.getStageInfo(stage) for stage in (info.stageIds if info else [])]
        names = [stage.name for stage in stages if stage is not None]
        found.append(f"{job} ({names[-1]})" if names else str(job))
    return found


def is_barrier(context: Any, stage: int) -> bool:
    """Must the tasks of this stage start together?"""
    try:
        found = context._jsc.sc().dagScheduler().stageIdToStage().get(stage)
        return bool(found.isDefined() and found.get().rdd().isBarrier())
    except Exception:  # another version of Spark hides it: py4j raises what it likes
        return False


def stuck_barriers(context: Any) -> set[int]:
    """Barrier jobs that the scheduler could not start for want of slots, and tries again."""
    try:
        table = context._jsc.sc().dagScheduler().barrierJobIdToNumTasksCheckFailures()
        return {int(job) for job in table.keySet().toArray()}
    except Exception:  # another version of Spark has no such table: py4j raises what it likes
        return set()
