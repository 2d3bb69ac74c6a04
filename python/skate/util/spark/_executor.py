"""Which executor a Python worker of Spark belongs to, and which cluster.

The cluster is no variable of Spark's Python workers: another environment would be another Python
for Spark to start on each executor, for each cluster anew, before the next UDF can run.
"""

from __future__ import annotations

import os
import sys

NODE = "SKATE_SPARK_NODE"  # set for executors of init_spark(): the socket of the node they run on
ADDRESS = "skate.address"  # a property of the jobs of the thread that called set-up


def cluster_here(base: str) -> str:
    """ip:port of the cluster whose node serves this process's executor; without a node there, of
    the one that was set up in the thread of the Spark job. "" elsewhere."""
    from skate import _node

    executor = executor_pid() if "pyspark" in sys.modules else 0
    if not executor:
        return ""
    found: list[tuple[int, str]] = []
    for name in os.listdir(base):
        if name.startswith("cluster_"):
            address = name.removeprefix("cluster_").replace("_", ":")
            found += [
                (record["start_time"], address)
                for record in _node.cluster_nodes(base, address)
                if record.get("executor") == executor
            ]
    return max(found)[1] if found else _of_the_job()


def _of_the_job() -> str:
    from pyspark import TaskContext

    task = TaskContext.get()
    return (task.getLocalProperty(ADDRESS) or "") if task else ""


def executor_pid() -> int:
    """The process id of the executor that this Python worker belongs to; 0 when there is none.

    A worker is a child of pyspark.daemon, or of the executor itself; the first ancestor that is
    not Python is the executor's JVM.
    """
    pid = os.getppid()
    for _ in range(4):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
                text = stat.read()
        except OSError:
            return 0
        if text[text.index("(") + 1 : text.rindex(")")] == "java":
            return pid
        pid = int(text[text.rindex(")") + 2 :].split()[1])
    return 0
