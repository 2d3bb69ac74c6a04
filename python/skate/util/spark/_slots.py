"""What Spark has to offer, read from its own tables through py4j: executors, cores, sessions."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

EXECUTORS_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Executor:
    """An executor that takes tasks."""

    id: str
    host: str
    cores: int


def active_context() -> Any:
    """The SparkContext of this process, or an error that says what is missing."""
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise RuntimeError(
            "Skate on Spark needs pyspark 3.4 or later: pip install pyspark"
        ) from error
    session = SparkSession.getActiveSession()
    if session is None:
        raise RuntimeError(
            "There is no active Spark session in this process: make one with "
            "SparkSession.builder...getOrCreate() first."
        )
    try:
        return session.sparkContext
    except Exception as error:  # a Spark Connect session: its class depends on the version
        raise RuntimeError(
            "This is a Spark Connect session, which has no SparkContext: Skate on Spark needs a "
            "classic session (a driver beside the Spark master)."
        ) from error


def is_local(context: Any) -> bool:
    """Do tasks run inside the driver's own JVM?"""
    return context.master == "local" or context.master.startswith("local[")


def task_cpus(context: Any) -> int:
    """Cores that an ordinary task of this application takes."""
    return int(context.getConf().get("spark.task.cpus", "1"))


def executors(context: Any) -> list[Executor]:
    """The executors registered now; in local mode the driver is the one executor."""
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


def slots(found: list[Executor], cpus: int) -> int:
    """Tasks of `cpus` cores that these executors run at once."""
    return sum(executor.cores // cpus for executor in found)


def expected_executors(context: Any) -> int:
    """How many executors will come without our asking; at least 1."""
    local_cluster = re.match(r"local-cluster\[\s*(\d+)\s*,", context.master)
    if local_cluster:
        return int(local_cluster.group(1))
    conf = context.getConf()
    if conf.get("spark.dynamicAllocation.enabled", "false") == "true":
        return max(1, int(conf.get("spark.dynamicAllocation.minExecutors", "0")))
    return max(1, int(conf.get("spark.executor.instances", "1")))


def wait_executors(context: Any, nodes: int, say: Callable[[str], None]) -> list[Executor]:
    """Wait until as many executors are there as there will be nodes, if so many are to come.

    Else the tasks of all nodes would be dealt to the executor that registers first. Not an error
    after the time is over: Spark may be short of machines, and nodes may share an executor.
    """
    wanted = expected_executors(context)
    if nodes > 0:
        wanted = min(wanted, nodes)
    deadline = time.monotonic() + EXECUTORS_TIMEOUT_S
    while True:
        found = executors(context)
        if len(found) >= wanted:
            return found
        if time.monotonic() > deadline:
            say(f"{len(found)} of {wanted} Spark executors registered in "
                f"{EXECUTORS_TIMEOUT_S:.0f} s; going on with them")  # fmt: skip
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
    from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests

    requests = TaskResourceRequests().cpus(cpus)
    if gpus:
        requests = requests.resource("gpu", gpus)
    return ResourceProfileBuilder().require(requests).build


def warn_about_settings(context: Any, say: Callable[[str], None]) -> None:
    """Settings of Spark that harm tasks which run as long as a node does."""
    conf = context.getConf()
    if conf.get("spark.speculation", "false") == "true":
        say("spark.speculation is on: Spark may start a second copy of a node's task")
    if conf.get("spark.python.worker.killOnIdleTimeout", "false") == "true":
        say("spark.python.worker.killOnIdleTimeout is on: Spark will kill the nodes' silent tasks")
    if float(conf.get("spark.task.resource.gpu.amount", "0")) > 0:
        say("spark.task.resource.gpu.amount is above 0: every Spark task reserves GPUs that the "
            "nodes could use")  # fmt: skip
