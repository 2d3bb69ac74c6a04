"""How much memory a node may have: from its executor's share of the machine. Pure but `measure`.

A node is a guest of a Spark executor, beside its JVM. The bound is the smallest of
- the control group's limit (a container of YARN or Kubernetes holds the executor and its node), and
  what Spark asked for as that container's size,
- 80 % of the machine's memory, parted by cores among all nodes that the machine could hold,
both less the JVM's heap, as far as that share of the executor goes. Of it 30 % are for objects, no
more than the shared memory that the caller says there is, and never less than LEAST_STORE. What
the caller asks for stands over all of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

USABLE = 0.8
FOR_OBJECTS = 0.3
MOST_FOR_OBJECTS = 0.8
LEAST_STORE = 75 << 20
LEAST_HEAP = 64 << 20
LEAST_OVERHEAD = 384 << 20  # Spark's own, of a container beside the heap
_DRIVER = ("RAY_ON_SPARK_DRIVER_PHYSICAL_MEMORY_BYTES", "RAY_ON_SPARK_DRIVER_SHARED_MEMORY_BYTES")
_WORKER = ("RAY_ON_SPARK_WORKER_PHYSICAL_MEMORY_BYTES", "RAY_ON_SPARK_WORKER_SHARED_MEMORY_BYTES")
CPU_CORES, GPU_NUM = "RAY_ON_SPARK_WORKER_CPU_CORES", "RAY_ON_SPARK_WORKER_GPU_NUM"
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


@dataclass(frozen=True)
class ExecutorShape:
    """What the driver knows of an executor from Spark's settings."""

    cores: int
    heap: int  # bytes of the JVM, its overhead not counted
    container: int | None = None  # all that its resource manager lets it use; None: nobody looks


@dataclass(frozen=True)
class Machine:
    """What a process sees of its machine. None: no such limit."""

    memory: int
    cores: int
    group_limit: int | None = None
    shared: int | None = None


@dataclass(frozen=True)
class Budget:
    """Bytes for tasks and for objects, and what the user should hear of it ("" : nothing)."""

    memory: int
    store: int
    note: str = ""


def override(environment: Mapping[str, str], name: str) -> int | None:
    """One of the RAY_ON_SPARK_* variables. ValueError for what is no number."""
    text = environment.get(name)
    if text is None or text == "":
        return None
    if not text.strip().isdigit() or int(text) == 0 and name != GPU_NUM:
        raise ValueError(f"the environment variable {name} is a whole number, not {text!r}")
    return int(text)


def measure(environment: Mapping[str, str], driver: bool = False) -> Machine:
    """This machine, with what RAY_ON_SPARK_* say instead of what is measured."""
    from skate import _node

    memory_name, shared_name = _DRIVER if driver else _WORKER
    told = override(environment, memory_name)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _node.machine_memory()
    return Machine(
        memory=told or total,
        cores=override(environment, CPU_CORES) or len(os.sched_getaffinity(0)),
        group_limit=None if told or limit >= total else limit,
        shared=override(environment, shared_name),
    )


def plan(
    machine: Machine,
    cpus: int,
    executor: ExecutorShape | None = None,
    memory: int | None = None,
    store: int | None = None,
) -> Budget:
    """The memory of a node of `cpus` cores; memory, store: what the caller asks for."""
    share = _share(machine, cpus, executor)
    note = ""
    objects = int(share * FOR_OBJECTS) if store is None else store
    if machine.shared is not None and store is None:
        part = int(machine.shared * USABLE) // max(1, machine.cores // max(1, cpus))
        objects = min(objects, part)
    if store is None and objects < LEAST_STORE:
        note = (
            f"only {_mb(objects)} MB of memory are left for the node's objects, it takes "
            f"{_mb(LEAST_STORE)} MB: give executors more memory, ask for fewer nodes on each, or "
            "set object_store_memory_worker_node"
        )
        objects = LEAST_STORE
    elif store is not None and store > share * MOST_FOR_OBJECTS:
        note = (
            f"object_store_memory is {_mb(store)} MB, but the node's share of its machine is "
            f"{_mb(share)} MB of memory: the machine may run out of it"
        )
    heap = max(LEAST_HEAP, share - objects) if memory is None else memory
    return Budget(memory=heap, store=max(objects & ~4095, 4096), note=note)


def _share(machine: Machine, cpus: int, executor: ExecutorShape | None) -> int:
    """Bytes that are the node's: of the machine, and of the executor's container."""
    slots = max(1, machine.cores // max(1, cpus))
    heap = 0
    part = 1.0
    if executor is not None and executor.cores > 0:
        part = min(1.0, cpus / executor.cores)
        heap = int(executor.heap * part)
    share = int(machine.memory * USABLE) // slots
    # The JVM's heap is within the machine's memory; it is rarely all in use.
    share = max(share - heap, share // 4)
    container = executor.container if executor else None
    for limit in (machine.group_limit, container):
        if limit is not None:
            own = max(limit - (executor.heap if executor else 0), 0)
            share = min(share, int(own * USABLE * part))
    return share


def _mb(count: int) -> int:
    return count >> 20


def spark_bytes(text: str, unit: str = "") -> int:
    """A size as Spark writes it ("1g", "512m"); unit: of a number without one. 0: not a size."""
    found = re.fullmatch(r"\s*(\d+)\s*([bkmgtp]?)b?\s*", text.lower())
    if not found:
        return 0
    return int(found.group(1)) * _UNITS[found.group(2) or unit]


def executor_shape(
    conf: Mapping[str, str], cores: int, local: bool, master: str = ""
) -> ExecutorShape:
    """From Spark's settings. local: tasks run beside the driver's own JVM."""
    name = "spark.driver.memory" if local else "spark.executor.memory"
    heap = spark_bytes(conf.get(name, "1g"), "m") or 1 << 30
    if not master.startswith(("yarn", "k8s")):
        return ExecutorShape(cores, heap)
    overhead = spark_bytes(conf.get("spark.executor.memoryOverhead", ""), "m")
    if not overhead:
        factor = float(conf.get("spark.executor.memoryOverheadFactor", "0.1"))
        overhead = max(int(heap * factor), LEAST_OVERHEAD)
    others = spark_bytes(conf.get("spark.executor.pyspark.memory", ""), "m")
    if conf.get("spark.memory.offHeap.enabled", "false") == "true":
        others += spark_bytes(conf.get("spark.memory.offHeap.size", ""), "b")
    return ExecutorShape(cores, heap, heap + overhead + others)
