"""Spark on Skate: real Masters, Workers and executors in actors; what is killed and replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from spark_help import MARK, ROOT, has_java, processes, session_files, until

import skate
from skate import data
from skate.cluster_utils import Cluster
from skate.util.placement_group import placement_group, placement_group_table
from skate.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from skate.util.spark import (
    _hosted_session,
    init_spark,
    publish_objects,
    read_objects,
    stop_spark,
    to_refs,
)
from skate.util.spark._local import JVM

pytestmark = pytest.mark.skipif(not has_java(), reason="there is no Java")
CONF = {
    "spark.ui.enabled": False, "spark.ui.showConsoleProgress": False,
    "spark.driver.extraJavaOptions": JVM, "spark.executor.extraJavaOptions": JVM,
}  # fmt: skip
ROWS = 1000
START_S = 90  # for what takes seconds on a quiet machine


def jvms(marks: dict[str, str] | None = None) -> dict[int, str]:
    """Processes of Spark: drivers, daemons, executors, Python workers."""
    found = processes(marks)
    return {pid: cmd for pid, cmd in found.items() if "/java " in cmd or "pyspark.daemon" in cmd}


def executors(spark: Any) -> int:
    """How many the driver's scheduler has."""
    return int(spark._jsc.sc().getExecutorIds().size())


def look(actor: Any) -> dict[str, Any]:
    """The actor's own word of its processes."""
    return dict(skate.get(actor.look.remote(), timeout=START_S))


def total(spark: Any) -> int:
    """A job with a shuffle."""
    df = spark.range(0, ROWS, 1, 4).groupBy((spark_id() % 7).alias("k")).count()
    return sum(row["count"] for row in df.collect())


def spark_id() -> Any:
    """The column of range()."""
    from pyspark.sql.functions import col

    return col("id")


def executor_jvm(worker: int) -> int:
    """The executor that a Worker started; 0: none just now."""
    for pid, command in processes().items():
        if "CoarseGrainedExecutorBackend" in command and _parent(pid) == worker:
            return pid
    return 0


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def alive_nodes() -> set[str]:
    """Their ids."""
    return {node["NodeID"] for node in skate.nodes() if node["Alive"]}


@pytest.fixture()
def cluster(no_leaks: None) -> Iterator[Cluster]:
    """Two nodes, of two CPUs and of one; this process is on the first."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    made.add_node(num_cpus=1)
    skate.init(address=made.address)
    yield made
    stop_spark()
    skate.shutdown()
    made.shutdown()


def test_executors_on_several_nodes(cluster: Cluster) -> None:
    free = skate.available_resources()
    spark = init_spark("spread", 2, 1, "512m", configs=CONF)
    made = _hosted_session._active
    assert made is not None
    workers = [look(worker) for worker in made.workers]
    sockets = {node.socket_path for node in (cluster.head_node, *cluster.worker_nodes) if node}
    assert {worker["socket"] for worker in workers} == sockets, "SPREAD unless told otherwise"
    assert spark.sparkContext.defaultParallelism == 2
    until(lambda: skate.available_resources().get("CPU") == 1, 10, "an executor holds its cores")
    arguments = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in jvms())
    assert b"deploy.master.Master" in arguments and made.shared.secret.encode() not in arguments
    with pytest.raises(RuntimeError, match=r"has inited.*stop_spark\(\)"):
        init_spark("second", 1, 1, "512m")

    # Data: each Python worker of Spark is on the node of its actor.
    def where(index: int, rows: Any) -> Any:
        from skate.util.spark import attach

        attach()
        yield index, skate.get_runtime_context().get_node_id()

    until(lambda: executors(spark) == 2, START_S, "both are there")
    nodes = {node["RayletSocketName"]: node["NodeID"] for node in skate.nodes()}
    parts = spark.sparkContext.parallelize(range(8), 8).mapPartitionsWithIndex(where).collect()
    assert len(parts) == 8 and {node for _, node in parts} <= set(nodes.values())
    assert {node for _, node in parts} == set(nodes.values()), "both executors took part"

    refs = to_refs(spark.range(0, ROWS, 1, 4))
    assert {block.node for block in refs.blocks} <= set(nodes.values())

    @skate.remote
    def twice(table: pa.Table) -> pa.Table:
        return pa.table({"id": [n * 2 for n in table["id"].to_pylist()]})

    made_refs = [twice.remote(ref) for ref in refs]
    doubled = data.from_arrow_refs(made_refs).to_spark(spark)
    assert doubled.agg({"id": "sum"}).first()[0] == ROWS * (ROWS - 1)
    publish_objects("kept", list(refs))

    # A node is lost: its executor is replaced where there is room.
    cluster.add_node(num_cpus=1)
    [victim] = [node for node in cluster.worker_nodes if node.socket_path in
                {worker["socket"] for worker in workers}]  # fmt: skip
    victim.kill_raylet()
    until(lambda: {look(w)["socket"] for w in made.workers} != sockets, START_S, "it has moved")
    until(lambda: executors(spark) == 2, START_S, "the executor is replaced")
    assert total(spark) == ROWS

    stop_spark(cleanup_data=False)
    stop_spark()
    assert list(read_objects("kept")) == list(refs), "names stay when data is not to be cleaned"
    alive = alive_nodes()
    here = [ref for ref, block in zip(refs, refs.blocks, strict=True) if block.node in alive]
    assert here and sum(table.num_rows for table in skate.get(here)) == 250 * len(here)
    until(lambda: not jvms(), 10, "all processes of Spark are gone")
    until(lambda: skate.available_resources().get("CPU") == free["CPU"], 10, "the CPUs are back")
    assert not Path(made.folder).exists() and not list(Path(made.folder).parent.glob("spark_*"))
    assert {row["state"] for row in placement_group_table().values()} <= {"REMOVED"}


@pytest.fixture()
def four(no_leaks: None) -> Iterator[None]:
    """A session of four CPUs; Spark is stopped in the end."""
    skate.init(num_cpus=4)
    yield
    stop_spark()
    skate.shutdown()


def test_what_is_killed_is_replaced(four: None) -> None:
    group = placement_group([{"CPU": 1}, {"CPU": 2}, {"CPU": 1}], name="mine")
    assert group.wait(10)
    spark = init_spark(
        "faults", 2, 1, "512m", placement_group=group, placement_group_bundle_indexes=[0, 1],
        configs={**CONF, "spark.ray.raydp_spark_executor.actor.resource.CPU": 0.5},
    )  # fmt: skip
    made = _hosted_session._active
    assert made is not None
    first, second = made.workers

    def whole() -> bool:
        working = [executor_jvm(look(worker)["jvm"]) for worker in made.workers]
        return all(working) and executors(spark) == 2

    def back(what: str) -> None:
        assert total(spark) == ROWS, what
        try:
            until(whole, START_S, what)
        except AssertionError:
            for actor in (made.master, *made.workers):
                print("\n".join([f"{what}: {look(actor) | {'said': 0}}", *look(actor)["said"]]))
            raise

    back("both executors are there")
    executor = executor_jvm(look(first)["jvm"])
    assert executor
    os.kill(executor, signal.SIGKILL)
    until(lambda: executor not in processes(), 10, "the executor is gone")
    until(lambda: executor_jvm(look(first)["jvm"]), START_S, "its Worker starts another")
    back("after the executor")

    before = look(first)
    os.kill(before["jvm"], signal.SIGKILL)
    until(lambda: look(first)["starts"] == 2, START_S, "a new Worker")
    assert look(first)["pid"] == before["pid"]
    back("after the Worker")

    before = look(second)
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: look(second)["pid"] != before["pid"], START_S, "a new actor")
    until(lambda: not Path(before["folder"]).exists(), 10, "the files of the old one are gone")
    until(lambda: before["jvm"] not in processes(), 10, "its JVM, too")
    back("after the actor of a Worker")

    for victim in ("jvm", "pid"):
        before = look(made.master)
        os.kill(before[victim], signal.SIGKILL)
        until(lambda old=before: look(made.master)["jvm"] not in (0, old["jvm"]), START_S, "it is")
        assert total(spark) == ROWS, "executors do not need the Master"
        until(lambda: any("Recovery complete" in line for line in look(made.master)["said"]),
              START_S, "the new Master knows the application")  # fmt: skip
    lost = look(first)["jvm"]
    os.kill(lost, signal.SIGKILL)
    until(lambda: look(first)["jvm"] not in (0, lost), START_S, "a new Worker")
    back("the new Master gives the application executors")

    stop_spark()
    until(lambda: not jvms(), 10, "all processes of Spark are gone")
    assert placement_group_table(group)["state"] == "CREATED", "a given group stays"
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0)
    again = skate.remote(lambda: 7).options(num_cpus=1, scheduling_strategy=strategy).remote()
    assert skate.get(again, timeout=20) == 7, "its CPUs are free again"


DRIVER = """
import os, sys
import ray, raydp
ray.init(num_cpus=2)
spark = raydp.init_spark("dynamic", 2, 1, "512m", configs={
    "spark.ui.enabled": False, "spark.ui.showConsoleProgress": False,
    "spark.driver.extraJavaOptions": os.environ["JVM_FLAGS"],
    "spark.executor.extraJavaOptions": os.environ["JVM_FLAGS"],
    **({} if "plain" in sys.argv else {
        "spark.dynamicAllocation.enabled": True, "spark.shuffle.service.enabled": True,
        "spark.dynamicAllocation.minExecutors": 1, "spark.sql.shuffle.partitions": 4,
        "spark.dynamicAllocation.schedulerBacklogTimeout": "1s",
    }),
})
rows = spark.range(0, 1000, 1, 8).selectExpr("id % 7 as k").groupBy("k").count().collect()
print("COUNTED", sum(row["count"] for row in rows), flush=True)
if "plain" in sys.argv:
    sys.stdin.read()
"""


@pytest.fixture()
def place(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment with a temp folder and a mark of its own, and the program in it."""
    with tempfile.TemporaryDirectory(prefix="skp-") as temp:
        (Path(temp) / "driver.py").write_text(DRIVER)
        yield {**os.environ, "TMPDIR": temp, MARK: temp, "JVM_FLAGS": JVM}


def nothing_left(place: dict[str, str]) -> None:
    """No process and no file of that run."""
    marks = {MARK: place[MARK]}
    until(lambda: not processes(marks), 20, f"all are gone: {processes(marks)}")
    until(lambda: not session_files(place["TMPDIR"]), 10, "the files are gone")


def command(place: dict[str, str], *words: str) -> list[str]:
    """The program under `skate run`, where `import ray` and `import raydp` mean Skate."""
    return [sys.executable, "-m", "skate.cli", "run", f"{place['TMPDIR']}/driver.py", *words]


def test_an_end_without_stop(place: dict[str, str]) -> None:
    done = subprocess.run(
        command(place), env=place, cwd=place["TMPDIR"], text=True, capture_output=True,
        timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "COUNTED 1000" in done.stdout
    nothing_left(place)


def test_a_driver_that_is_killed(place: dict[str, str]) -> None:
    with subprocess.Popen(
        command(place, "plain"), env=place, cwd=place["TMPDIR"], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as driver:  # fmt: skip
        assert driver.stdout is not None
        assert "COUNTED 1000" in driver.stdout.readline()
        driver.kill()
    nothing_left(place)


def test_example() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "spark" / "on_skate.py"), "--rows=2000"],
        text=True, capture_output=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "equal" in done.stdout
