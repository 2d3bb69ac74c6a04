"""Nodes through Spark Connect: a session without a SparkContext.

A job of nodes is a DataFrame of their numbers with mapInArrow(), collected in a thread under a
tag, by which it is cancelled. Where the classic way asks Spark's tables, this one reads the
settings that the server shows, counts slots by a small job, or does without: nobody says here which
other Spark jobs wait for the nodes' slots, and a task's failure is known when Spark has given the
job up.

`Place` stands for the SparkContext in the parts that serve both; what those need beyond a
SparkContext's own methods has a name with `connect_`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from skate.util.spark import _guards
from skate.util.spark._job import NodeJob, short_error
from skate.util.spark._task import NodeSettings, run_node

COUNTED_ROWS = 1 << 16  # in as many partitions as Spark has slots, when there are fewer
ENDED_DDL = "number int, attempt int, ending string"


class Place:
    """A session of Spark Connect, as the rest of the package uses a SparkContext."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.environment: dict[str, str] = {}  # that of Spark's Python workers cannot be set
        self.pythonExec = "the executors' Python"
        self._conf: dict[str, str] = dict(session.conf.getAll)
        self.master = self._conf.get("spark.master", "")

    def getConf(self) -> Place:
        """The settings that the server shows."""
        return self

    def get(self, name: str, default: str = "") -> str:
        """One of them."""
        return self._conf.get(name, default)

    def getAll(self) -> list[tuple[str, str]]:
        """All of them."""
        return list(self._conf.items())

    def setLocalProperty(self, name: str, value: str | None) -> None:
        """Jobs have none that tasks could read here."""

    def connect_ip(self) -> str:
        """The address of this machine on its way to the server, in whose network executors are."""
        from skate import _node

        found = _node.resolve(f"{self.session.client.host}:1").rpartition(":")[0]
        return str(_node.own_ip(found))

    def connect_executors(self) -> list[tuple[str, str, int]]:
        """(id, host, cores) of each, as far as the settings and the number of slots tell: where
        the settings do not say how many cores an executor has, one for each slot."""
        cores = int(self.get("spark.task.cpus", "1"))
        every = slots_now(self.session) * cores
        if self.master.startswith("local[") or self.master == "local":
            return [("driver", "", every)]
        each = cores_of_executor(self.master, self._conf) or cores
        return [(str(number), "", each) for number in range(every // each)]

    def connect_profile(self, cpus: int, gpus: int) -> Any:
        """A resource profile, known to the server already: a thread of ours has no session."""
        from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests

        requests = TaskResourceRequests().cpus(cpus)
        if gpus:
            requests = requests.resource("gpu", gpus)
        made = ResourceProfileBuilder().require(requests).build
        assert made.id is not None  # asks the server
        return made

    def connect_once(self, tag: str, function: Callable[[], Any]) -> Any:
        """Run a function in a task on some executor; what it returned. RuntimeError with the
        task's words."""
        import pickle

        try:
            [row] = collect(self.session, tag, [0], _caller(function), None)
        except Exception as error:  # of Spark, or of gRPC
            raise RuntimeError(plain_words(str(error))) from None
        return pickle.loads(row["value"])

    def cancelJobGroup(self, tag: str) -> None:
        """End what runs under a tag."""
        self.session.interruptTag(tag)


def place(session: Any) -> Place | None:
    """For a session of Spark Connect; None for a classic one. RuntimeError: of an old pyspark."""
    if not type(session).__module__.startswith("pyspark.sql.connect"):
        return None
    if not hasattr(session.conf, "getAll"):
        raise RuntimeError(
            f"This is a session of Spark Connect {session.version}: Skate needs pyspark 4 or later "
            "there, or a classic session (a driver beside the Spark master)."
        )
    return Place(session)


def is_gone(session: Any) -> bool:
    """Was the session ended?"""
    return bool(session.is_stopped)


def cores_of_executor(master: str, conf: dict[str, str]) -> int:
    """What the settings say of it; 0: nothing, each takes what it finds."""
    found = re.match(r"local-cluster\[\s*\d+\s*,\s*(\d+)\s*,", master)
    return int(conf.get("spark.executor.cores") or (found.group(1) if found else 0))


def slots_now(session: Any) -> int:
    """Tasks that Spark runs at once: so many partitions it divides a range into. (It says 2 when
    it has one.)"""
    from pyspark.sql import functions

    parts = session.range(0, COUNTED_ROWS).select(functions.spark_partition_id().alias("part"))
    return 1 + int(parts.select(functions.max("part")).collect()[0][0])


def collect(session: Any, tag: str, numbers: list[int], body: Any, profile: Any) -> list[Any]:
    """Run a job of one task for each number, under a tag of this thread."""
    session.addTag(tag)
    try:
        first, count = numbers[0], len(numbers)  # they follow each other
        rows = session.range(first, first + count, 1, count)
        function, schema = body
        return list(rows.mapInArrow(function, schema, False, profile).collect())
    finally:
        session.removeTag(tag)


def _nodes(settings: NodeSettings) -> tuple[Any, str]:
    """What the tasks of nodes do, and the columns of what they say at their end."""

    def body(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        for batch in batches:
            for number in batch.column(0).to_pylist():
                for found in run_node(settings, iter([number])):
                    columns = [pa.array([value]) for value in found]
                    kinds = (pa.int32(), pa.int32(), pa.string())
                    columns = [c.cast(kind) for c, kind in zip(columns, kinds, strict=True)]
                    names = ["number", "attempt", "ending"]
                    yield pa.RecordBatch.from_arrays(columns, names=names)

    return body, ENDED_DDL


def _caller(function: Callable[[], Any]) -> tuple[Any, str]:
    def body(batches: Iterator[Any]) -> Iterator[Any]:
        import pickle

        import pyarrow as pa

        for _ in batches:
            column = pa.array([pickle.dumps(function())], pa.binary())
            yield pa.RecordBatch.from_arrays([column], names=["value"])

    return body, "value binary"


def plain_words(text: str) -> str:
    """What a person can use of an error that came over gRPC."""
    text = text.partition("\nJVM stacktrace:")[0]
    module = _guards.explain(text, "the executors' Python")
    return module or short_error(text + "\n\nDriver stacktrace")


class ConnectJob(NodeJob):
    """A job of nodes in a session of Spark Connect."""

    def is_spark_gone(self) -> bool:
        """Has the session ended, and with it what it ran?"""
        return is_gone(self._context.session)

    def run_tasks(self, settings: NodeSettings) -> None:
        """Until all have ended. Raises what Spark raises."""
        session = self._context.session
        collect(session, self.group, list(self.numbers), _nodes(settings), self._profile)

    def explained(self, text: str) -> str:
        """The part of Spark's error that a person can use."""
        return plain_words(text)

    def task_failures(self) -> list[str]:
        """Nobody tells before the job has ended."""
        return []
