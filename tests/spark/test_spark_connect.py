"""Spark Connect: nodes, UDFs and data through a session that has no SparkContext."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from spark_help import has_java, processes, session_files, until

java = pytest.mark.skipif(not has_java(), reason="there is no Java")
MARK = "SKATE_CONNECT_TEST"

SERVER = """
import sys
from skate.util.spark import local_cluster

conf = {"spark.plugins": "org.apache.spark.sql.connect.SparkConnectPlugin",
        "spark.connect.grpc.binding.address": "127.0.0.1", "spark.connect.grpc.binding.port": "0",
        "spark.sql.artifact.isolation.enabled": "true"}
with local_cluster(1, 3, 1024, conf) as spark:
    service = getattr(spark._jvm.org.apache.spark.sql.connect.service, "SparkConnectService$")
    print("PORT", getattr(service, "MODULE$").localPort(), flush=True)
    sys.stdin.read()
"""

COMMON = '''
import sys, time
import skate as ray
from pyspark.sql import SparkSession
from skate.util.spark import (
    attach, from_refs, release, setup_ray_cluster, ship, shutdown_ray_cluster, to_refs)

spark = SparkSession.builder.remote(sys.argv[1]).getOrCreate()

@ray.remote
def meet():
    """Stays until there are two nodes with cores; which Skate it uses."""
    while sum(n["Alive"] and n["Resources"].get("CPU", 0) > 0 for n in ray.nodes()) < 2:
        time.sleep(0.05)
    return ray.__file__

def doubled(cluster):
    def udf(batches):
        import pyarrow as pa
        for batch in batches:
            attach(cluster)
            refs = [ray.remote(lambda x: 2 * x).remote(x) for x in batch.column(0).to_pylist()]
            yield pa.RecordBatch.from_pydict({"id": ray.get(refs)})
    return udf

def slots_are_free(count):
    def fill(batches):
        import pyarrow as pa
        from pyspark import BarrierTaskContext
        BarrierTaskContext.get().barrier()  # all of them run at once
        yield from batches
    rows = spark.range(0, count, 1, count).mapInArrow(fill, "id long", barrier=True)
    assert rows.count() == count
'''

CLIENT = COMMON + """
import os, socket
with socket.create_server(("127.0.0.1", 0)) as taken:
    began = time.monotonic()
    try:
        setup_ray_cluster(max_worker_nodes=1, num_cpus_worker_node=1,
                          worker_node_options={"node_manager_port": taken.getsockname()[1]})
    except RuntimeError as error:
        assert "did not start" in str(error) and "in use" in str(error), error
        assert "JVM" not in str(error) and "Traceback" not in str(error), error
        print("refused", flush=True)
try:
    setup_ray_cluster(max_worker_nodes=1, num_cpus_worker_node=4)
except ValueError as error:
    assert "largest Spark executor has 3 cores" in str(error), error
ship()
ship(spark)
cluster = setup_ray_cluster(max_worker_nodes=2, min_worker_nodes=1, num_cpus_worker_node=1)
assert os.environ["RAY_ADDRESS"] == cluster.address
print("up", len(cluster.nodes()), flush=True)
ray.init()
found = ray.get([meet.remote() for _ in range(2)])  # the second node comes when it is needed
print("two nodes, shipped", ray.__file__ not in found, flush=True)
df = spark.range(0, 5, 1, 1)
print("udf", sorted(r[0] for r in df.mapInArrow(doubled(cluster), "id long").collect()), flush=True)
refs = to_refs(spark.range(0, 1000, 1, 2))
back = from_refs(spark, refs)
print("refs", len(refs), sum(refs.rows), back.selectExpr("sum(id)").collect()[0][0], flush=True)
release(back)
ray.get(ray.remote(lambda table: table[0].num_rows).remote([ray.get(refs[0])]))
print("logs", sorted(cluster.logs(0)), flush=True)
began = time.monotonic()
shutdown_ray_cluster()
print("shutdown", time.monotonic() - began < 30, flush=True)
slots_are_free(3)
# A task of three cores is one of another resource profile.
with setup_ray_cluster(max_worker_nodes=1, num_cpus_worker_node=3, head="executor") as cluster:
    with ray.init():
        print("cpus", ray.cluster_resources()["CPU"], flush=True)
slots_are_free(3)
setup_ray_cluster(max_worker_nodes=1, num_cpus_worker_node=1)
print("again", flush=True)
sys.stdin.read()  # until it is killed
"""

LOCAL = COMMON + """
cluster = setup_ray_cluster(max_worker_nodes=1)
ray.init()
print("cpus", ray.cluster_resources()["CPU"], flush=True)
df = spark.range(0, 5, 1, 1)
print("udf", sorted(r[0] for r in df.mapInArrow(doubled(cluster), "id long").collect()), flush=True)
shutdown_ray_cluster()
slots_are_free(2)
setup_ray_cluster(max_worker_nodes=1)
spark.stop()
shutdown_ray_cluster()
print("end", flush=True)
"""


class Program:
    """A program text that runs in a place of its own, its output line by line."""

    def __init__(self, place: dict[str, str], text: str, *args: str) -> None:
        temp = Path(place["TMPDIR"])
        self.errors = (temp / f"err-{time.monotonic_ns()}").open("w+")
        self.popen = subprocess.Popen(
            [sys.executable, "-c", text, *args], env=place, text=True, cwd=temp,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
        )  # fmt: skip

    def line(self, start: str) -> str:
        """The rest of the next line that starts so."""
        assert self.popen.stdout
        for line in self.popen.stdout:
            if line.startswith(start):
                return line[len(start) :].strip()
        raise AssertionError(f"no {start!r}\n{self.said()}")

    def said(self) -> str:
        """The end of what it said on stderr."""
        return Path(self.errors.name).read_text()[-4000:]

    def end(self, seconds: float = 60) -> int:
        """Close its stdin and wait."""
        if self.popen.stdin and not self.popen.stdin.closed:
            self.popen.stdin.close()
        return self.popen.wait(seconds)


@pytest.fixture()
def place(no_leaks: None) -> Iterator[dict[str, str]]:
    """An environment with a temp folder and a mark of its own; nothing is left of it."""
    with tempfile.TemporaryDirectory(prefix="skc-", ignore_cleanup_errors=True) as temp:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SPARK", "RAY_"))}
        where = {**clean, "TMPDIR": temp, MARK: temp}
        yield where
        until(lambda: not processes({MARK: temp}), 30, "all processes are gone")
        assert session_files(temp) == []


@java
def test_a_server_on_a_cluster(place: dict[str, str]) -> None:
    server = Program(place, SERVER)
    programs = [server]
    try:
        client = Program(place, CLIENT, f"sc://127.0.0.1:{server.line('PORT')}")
        programs.append(client)
        client.line("refused")
        assert client.line("up") == "2"
        assert client.line("two nodes, shipped") == "True"
        assert client.line("udf") == "[0, 2, 4, 6, 8]"
        assert client.line("refs") == "2 1000 499500"
        assert ".err'" in client.line("logs")
        assert client.line("shutdown") == "True"
        assert client.line("cpus") == "3.0"
        client.line("again")
        client.popen.kill()
        until(lambda: not skates(place), 15, "no daemon of Skate is left")
        assert server.end() == 0, server.said()
    finally:
        for program in programs:
            program.popen.kill()
            program.popen.wait()
            program.errors.close()


@java
def test_a_server_in_this_process(place: dict[str, str]) -> None:
    # SPARK_TESTING: of Spark's own, to take any free port
    program = Program({**place, "SPARK_TESTING": "1", "PYSPARK_PYTHON": sys.executable},
                      LOCAL, "local[2]")  # fmt: skip
    try:
        assert program.line("cpus") == "1.0"
        assert program.line("udf") == "[0, 2, 4, 6, 8]"
        program.line("end")
        assert program.end() == 0, program.said()
    finally:
        program.popen.kill()
        program.popen.wait()
        program.errors.close()


def skates(place: dict[str, str]) -> list[str]:
    """Daemons of Skate that live."""
    every = processes({MARK: place[MARK]}).values()
    return [command for command in every if "skate-raylet" in command or "skate-gcs" in command]


def test_what_the_settings_tell() -> None:
    from skate.util.spark import _connect

    assert _connect.cores_of_executor("local-cluster[2,3,1024]", {}) == 3
    assert _connect.cores_of_executor("spark://x:7077", {"spark.executor.cores": "4"}) == 4
    assert _connect.cores_of_executor("spark://x:7077", {}) == 0
    assert _connect.place(object()) is None


def test_errors_over_grpc_in_plain_words() -> None:
    from skate.util.spark import _connect

    trace = ("\n  An exception was thrown from the Python worker. Please see the stack trace below."
             "\nTraceback (most recent call last):\n  File \"x.py\", line 35, in body\n"
             "skate.util.spark._task.NodeError: the raylet exited; its last lines:\nfoo\nbar\n"
             "\nJVM stacktrace:\norg.apache.spark\n\tat org.apache.spark.x(y.scala:1)")  # fmt: skip
    assert _connect.plain_words(trace) == "the raylet exited; its last lines:\nfoo\nbar"
    missing = trace.replace("skate.util.spark._task.NodeError: the raylet exited; its last lines:",
                            "ModuleNotFoundError: No module named 'skate'")  # fmt: skip
    assert "ship()" in _connect.plain_words(missing)
