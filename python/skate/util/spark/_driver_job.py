"""Which job of a cluster is that of the Spark driver: noted by the driver, found by its UDFs.

The driver's init() leaves the number of its job in the cluster under the name of the Spark
application; a Python worker reads that name in the command line of its executor. In local mode
there is no such name: the process id of the JVM, which driver and worker share, stands for it. The
client of Spark Connect has neither: then the cluster itself, when this program has set it up.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

_KEY = "spark-driver:"
_OWN = "the cluster's"


def announce(job: int, address: str) -> None:
    """Called by init() in a program that uses Spark."""
    from skate import _api, _core, _wire

    name = _application() or _set_up(address)
    if name:
        value = job.to_bytes(4, "little")
        _api._call(_wire.GCS, "kv_put", key=_KEY + name, value=_core.pack(value), overwrite=1)


def _application() -> str:
    """The name of this program's Spark application; "" when there is none."""
    context = getattr(sys.modules.get("pyspark"), "SparkContext", None)
    active = getattr(context, "_active_spark_context", None)
    if active is None:
        return ""
    if active.master.partition("[")[0] == "local":
        return _of_jvm(active._jvm.java.lang.ProcessHandle.current().pid())
    return str(active.applicationId)


def _set_up(address: str) -> str:
    cluster = sys.modules.get("skate.util.spark._cluster")
    active = getattr(cluster, "_active", None)
    return _OWN if active is not None and active.address == address else ""


def _of_jvm(pid: int) -> str:
    return f"jvm {pid} of {socket.gethostname()}"


def names(executor: int) -> list[str]:
    """Under which names a worker of this executor process may find its driver's job."""
    words: list[str] = []
    try:
        with open(f"/proc/{executor}/cmdline", "rb") as file:
            words = file.read().decode(errors="replace").split("\0")
    except OSError:
        return [_OWN]
    if "--app-id" in words[:-1]:
        return [words[words.index("--app-id") + 1], _OWN]
    return [_of_jvm(executor), _OWN]


def find(executor: int) -> int:
    """The number of the job, asked over the connection that this process has; 0: not known."""
    from skate import _api, _core, _wire

    for name in names(executor):
        found: dict[str, Any] = _api._call(_wire.GCS, "kv_get", key=_KEY + name)[1]
        if found.get("status", -1) == 0 and found.get("value"):
            return int.from_bytes(_core.unpack(found["value"]), "little")
    return 0
