"""What stands in the way of nodes, found before or while they start, and said in plain words.

Pure: settings come as a mapping, Spark's errors as text. `Trouble` with `fatal` makes set-up fail,
the others are told on stderr.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TRUE = "true"


@dataclass(frozen=True)
class Trouble:
    """One finding: what is the matter, and what to change."""

    text: str
    fatal: bool = False


def of_settings(conf: Mapping[str, str]) -> list[Trouble]:
    """Settings of Spark that harm tasks which run as long as a node does."""
    found = [_speculation(conf), _idle_kill(conf), _gpu(conf), _address_space(conf)]
    return [trouble for trouble in found if trouble]


def _on(conf: Mapping[str, str], name: str) -> bool:
    return conf.get(name, "false").strip().lower() == _TRUE


def _speculation(conf: Mapping[str, str]) -> Trouble | None:
    if not _on(conf, "spark.speculation"):
        return None
    return Trouble(
        "spark.speculation is on: Spark takes a node's task, which runs as long as the cluster, "
        "for a slow one, and may start a copy of it, which starts no node and waits in a slot for "
        "nothing. Set spark.speculation=false for this application."
    )


def _idle_kill(conf: Mapping[str, str]) -> Trouble | None:
    """Deadly only with a time-out: without one Spark 4.1 never calls a Python worker idle."""
    if not _on(conf, "spark.python.worker.killOnIdleTimeout"):
        return None
    seconds = _seconds(conf.get("spark.python.worker.idleTimeoutSeconds", "0"))
    if seconds <= 0:
        return None
    return Trouble(
        f"spark.python.worker.killOnIdleTimeout is true and spark.python.worker.idleTimeoutSeconds "
        f"is {seconds:g}: Spark would kill every node after {seconds:g} s, because a node's task "
        "says nothing while it runs. Set spark.python.worker.killOnIdleTimeout=false for this "
        "application.",
        fatal=True,
    )


def _gpu(conf: Mapping[str, str]) -> Trouble | None:
    amount = _seconds(conf.get("spark.task.resource.gpu.amount", "0"))
    if amount <= 0:
        return None
    return Trouble(
        f"spark.task.resource.gpu.amount is {amount:g}: every Spark task reserves GPUs that the "
        "nodes could use. Set it to 0 to leave them to the nodes."
    )


def _address_space(conf: Mapping[str, str]) -> Trouble | None:
    text = conf.get("spark.executor.pyspark.memory")
    if not text:
        return None
    return Trouble(
        f"spark.executor.pyspark.memory is {text}: Spark limits the address space of its Python "
        "workers to that, and with it each process of a node. Workers of Skate map the object "
        "store: if they fail with MemoryError, unset it."
    )


def _seconds(text: str) -> float:
    try:
        return float(re.sub(r"\s*[a-z]+$", "", text.strip().lower()) or 0)
    except ValueError:
        return 0.0


# ------------------------------------------------------------------------------------ no Spark


def why_no_session(environment: Mapping[str, str], java: str | None) -> str:
    """What to say when there is no Spark session. java: the program, if there is one."""
    if java is None and not environment.get("JAVA_HOME"):
        return (
            "There is no active Spark session in this process, and no Java to start one with: "
            "install Java 17 or later (Debian: apt-get install openjdk-17-jre-headless) or set "
            "JAVA_HOME, then make a session with SparkSession.builder...getOrCreate()."
        )
    home = environment.get("JAVA_HOME")
    if home and not os.access(os.path.join(home, "bin", "java"), os.X_OK):
        return (
            f"There is no active Spark session in this process, and JAVA_HOME is {home}, which "
            "has no bin/java: set it to a Java of version 17 or later, or unset it, then make a "
            "session with SparkSession.builder...getOrCreate()."
        )
    return (
        "There is no active Spark session in this process: make one with "
        "SparkSession.builder...getOrCreate() first."
    )


def find_java() -> str | None:
    """The java of PATH."""
    return shutil.which("java")


# -------------------------------------------------------------------------- errors of a first task

_VERSION = re.compile(
    r"PYTHON_VERSION_MISMATCH\].*?(\d+\.\d+)\D.*?(\d+\.\d+)"
    r"|Python in worker has different version[^\d]*(\d+\.\d+)[^\d]*(\d+\.\d+)",
    re.DOTALL,
)
_NO_PROGRAM = re.compile(r'Cannot run program "([^"]+)"')
_OTHER_KEY = re.compile(r"the raylet \(pid (\d+)\) on (\S+) .*cluster key is another", re.DOTALL)
_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")


def explain(text: str, executor_python: str, driver: str | None = None) -> str | None:
    """Plain words for Spark's error in a node's first moments; None: it has none of these causes.

    executor_python: what Spark runs on executors. driver: the driver's own, as in messages.
    """
    own = driver or f"{sys.executable} (Python {'.'.join(map(str, sys.version_info[:2]))})"
    versions = _VERSION.search(text)
    if versions:
        theirs = versions.group(1) or versions.group(3)
        return (
            f"the executors run {executor_python}, which is Python {theirs}; this driver runs "
            f"{own}. They must be of the same minor version, and each must have Skate: set "
            "PYSPARK_PYTHON (or spark.pyspark.python) to a Python on the executors that is like "
            "the driver's."
        )
    program = _NO_PROGRAM.search(text)
    if program:
        return (
            f"Spark cannot run {program.group(1)} on an executor; this driver runs {own}. Set "
            "PYSPARK_PYTHON (or spark.pyspark.python) to a Python that every executor has, with "
            "Skate installed."
        )
    key = _OTHER_KEY.search(text)
    if key:
        return (
            f"the head of the cluster refused a node on {key.group(2)}: its key is wrong. Another "
            "cluster listens at the address of this one's head now: call shutdown_ray_cluster(), "
            "and set the cluster up again."
        )
    if "Python worker exited unexpectedly" in text:
        return (
            "Spark's Python worker, the process of the node's task, ended: it was killed, or ran "
            "out of memory"
        )
    module = _NO_MODULE.search(text)
    if module and module.group(1).split(".")[0] in ("skate", "cloudpickle"):
        return (
            f"{executor_python} on an executor has no package '{module.group(1)}'; this driver "
            f"runs {own}. Call skate.util.spark.ship() before set-up, which sends the executors "
            "the driver's Skate, or install the same version there."
        )
    return None


def wrong_package(driver_version: str, own_version: str, python: str) -> str | None:
    """What a node's task says when its Skate is not the driver's; None when it is."""
    if driver_version == own_version:
        return None
    return (
        f"Skate {own_version} is installed for {python} on this executor, and Skate "
        f"{driver_version} on the driver: install the same version on both, or call "
        "skate.util.spark.ship() before set-up"
    )


# ------------------------------------------------------------------------------------ too few slots


def too_few_slots(wanted: int, fit: int, cpus: int, grows: bool) -> str | None:
    """What to say when not all nodes find slots. grows: Spark may get more executors."""
    if fit >= wanted:
        return None
    later = (
        "the others start when it gets more executors"
        if grows
        else f"the others wait until it gets more executors. To start all at once ask for "
        f"max_worker_nodes={fit}, for smaller nodes (num_cpus_worker_node), or for more executors "
        "(spark.executor.instances, spark.cores.max)"
        if fit
        else f"each takes {cpus} cores of one executor: ask for smaller nodes "
        "(num_cpus_worker_node), or for larger executors (spark.executor.cores)"
    )
    return f"Spark has room for {fit} of the {wanted} nodes now; {later}"


def small_stores(rows: list[dict[str, Any]], least: int) -> str | None:
    """What to say of nodes that had hardly any memory for objects. rows: of nodes()."""
    small = [
        row["NodeName"] for row in rows
        if row["Alive"] and 0 < row["Resources"].get("object_store_memory", 0) <= least
    ]  # fmt: skip
    if not small:
        return None
    return (
        f"too little memory is left for objects on {', '.join(small)}: {least >> 20} MB each, the "
        "least there is. Give the executors' machines or containers more memory "
        "(spark.executor.memoryOverhead), ask for fewer nodes on each, or set "
        "object_store_memory_worker_node."
    )


def why_waiting(up: int, wanted: int, holders: list[str]) -> str:
    """What set-up says when nodes are late. holders: Spark jobs whose tasks run now."""
    if holders:
        reason = (
            f"the slots of the others are held by Spark {'job' if len(holders) == 1 else 'jobs'} "
            f"{', '.join(holders)}: wait, cancel what runs there, or ask for fewer or smaller nodes"
        )
    else:
        reason = (
            "the others wait for free Spark slots, or for Spark to start Python on its executors"
        )
    return f"waiting: {up} of {wanted} nodes are up; {reason}"


def stuck_barrier(job: int, tasks: int, free: int, nodes: int) -> str:
    """What to say of a barrier job that Spark cannot start. tasks: 0 when it has fewer slots in
    all than the job has tasks."""
    if not tasks:
        return (
            f"Spark job {job} is a barrier job of more tasks than this application has slots: "
            "Spark waits for more executors, 10 minutes by default, without a word, and fails it "
            "then. Give it fewer tasks, or the application more cores."
        )
    return (
        f"Spark job {job} is a barrier job: its {tasks} tasks must start together, and the {nodes} "
        f"Skate nodes leave {free} slots. It starts when shutdown_ray_cluster() frees them. To run "
        "both, ask for fewer or smaller nodes, or give it fewer tasks."
    )
