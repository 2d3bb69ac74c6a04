"""Other masters than local-cluster: Spark's local mode, and a standalone one with two workers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fault_help as faults
import pytest
from fault_help import chains, kill, lives, numbered
from spark_help import has_java, processes, session_files, until
from standalone import Standalone

import skate
from skate.util.spark import setup_ray_cluster
from skate.util.spark._local import session_at

pytestmark = pytest.mark.skipif(not has_java(), reason="there is no Java")
QUICK_SPECULATION = {
    "spark.speculation": "true",
    "spark.speculation.interval": "50ms",
    "spark.speculation.minTaskRuntime": "50ms",
    "spark.speculation.task.duration.threshold": "200ms",
}


def double(x: int) -> int:
    """A Skate task."""
    return 2 * x


def works() -> None:
    """Tasks run."""
    task = skate.remote(double).options(max_retries=-1)
    assert skate.get([task.remote(i) for i in range(8)], timeout=60) == list(range(0, 16, 2))


def nothing_is_left() -> None:
    """Of a cluster that was shut down."""
    words = ("skate-raylet", "skate-gcs", "skate-keeper", "frozen_modules")
    until(lambda: not [c for c in processes().values() if any(w in c for w in words)],
          10, "no process is left")  # fmt: skip
    until(lambda: not [p for p in session_files(os.environ["TMPDIR"]) if "skate-spark-" not in p],
          10, "no file is left")  # fmt: skip


def test_local_mode() -> None:
    """Before the others: there is one Spark in a process at a time."""
    with session_at("local[2]") as spark:
        with setup_ray_cluster(max_worker_nodes=1) as cluster:
            skate.init()
            works()
            assert list(numbered(skate.nodes()).values()) == ["spark-0.0"]
            [victim] = chains(cluster)
            kill(victim.task)
            # Spark never tries again in local mode: the job is submitted afresh.
            until(lambda: list(numbered(skate.nodes()).values()) == ["spark-0.4"], 30, "replaced")
            assert spark.sparkContext.parallelize(range(4), 2).count() == 4, "a slot is left"
        nothing_is_left()
        assert spark.sparkContext.parallelize(range(4), 4).count() == 4


@pytest.fixture(scope="module")
def standalone() -> Iterator[Standalone]:
    """A master and two workers of one core, on an address each."""
    with tempfile.TemporaryDirectory(prefix="sks-", ignore_cleanup_errors=True) as folder:
        made = Standalone(Path(folder))
        try:
            made.add_workers("127.0.0.1", "127.0.0.2")
            yield made
        finally:
            made.stop()


@pytest.fixture(scope="module")
def spark(standalone: Standalone) -> Iterator[Any]:
    """A session with quick speculation: whatever has run for 0.2 s gets a twin on the other worker
    as soon as a slot is free there."""
    conf = {"spark.executor.memory": "512m", "spark.executor.cores": "1", "spark.cores.max": "2",
            "spark.executor.instances": "2", **QUICK_SPECULATION}  # fmt: skip
    with session_at(standalone.url, conf) as session:
        yield session


def attempts(spark: Any, cluster: Any) -> list[tuple[int, bool]]:
    """(attempt, is it a twin) of the node tasks that run."""
    job = cluster._fleet._jobs[0]
    store = spark.sparkContext._jsc.sc().statusStore()
    found = []
    for stage, number in job._stages():
        rows = store.taskList(stage, number, 100)
        tasks = [rows.apply(i) for i in range(rows.size())]
        found += [(t.attempt(), t.speculative()) for t in tasks if t.status() == "RUNNING"]
    return sorted(found)


def test_a_twin_starts_no_node(clean: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """Spark speculates on the task of a node: the head refuses the second one, which waits, and
    takes over when the first is lost. There are never two."""
    cluster = setup_ray_cluster(max_worker_nodes=1)
    assert "spark.speculation is on" in capfd.readouterr().err
    skate.init()
    first = numbered(skate.nodes())
    # On a slow machine the twin may have been first; then the other one waits.
    assert [name.partition(".")[0] for name in first.values()] == ["spark-0"]
    until(lambda: (1, True) in attempts(clean, cluster), 60, "Spark runs a twin")
    # It has asked the head again and again: its process has said so, and it has no node.
    [victim] = chains(cluster)
    log = "this task waits: node"
    until(lambda: any(log in text for text in executor_logs()), 30, "the head refused the twin")
    works()
    most = 1

    def taken_over() -> bool:
        nonlocal most
        now = numbered(skate.nodes())
        most = max(most, len(now))
        return bool(now) and not now.keys() & first.keys()

    assert numbered(skate.nodes()) == first
    kill(victim.raylet)
    until(taken_over, 60, "another attempt has a node")
    assert most == 1
    works()
    cluster.shutdown()
    nothing_is_left()
    assert clean.sparkContext.parallelize(range(2), 2).count() == 2


def executor_logs() -> list[str]:
    """What the executors of the standalone workers have on stderr."""
    return [path.read_text(errors="replace") for path in WORK[0].glob("worker-*/app-*/*/stderr")]


WORK: list[Path] = []


@pytest.fixture(autouse=True)
def work(request: pytest.FixtureRequest) -> None:
    """Where executor_logs() looks."""
    if "clean" in request.fixturenames:
        WORK[:] = [request.getfixturevalue("standalone").folder]


def test_a_lost_worker(clean: Any, standalone: Standalone) -> None:
    """Its executor and its node go with it, the other works on; a new worker brings another."""
    cluster = setup_ray_cluster(max_worker_nodes=2)
    skate.init()
    works()
    before = numbered(skate.nodes())
    assert sorted(before.values()) == ["spark-0.0", "spark-1.0"]
    worker = standalone.workers["worker-1"]
    [victim] = [c for c in chains(cluster) if faults.parent(c.executor) == worker.pid]
    kill(worker.pid)
    until(lambda: not lives(victim.raylet), 30, "its node is gone")
    until(lambda: len(numbered(skate.nodes())) == 1, 30, "its loss is noticed")
    works()
    worker.wait()
    standalone.add_workers("127.0.0.3")
    until(lambda: len(numbered(skate.nodes())) == 2, 90, "another node is there")
    assert len(numbered(skate.nodes()).keys() & before.keys()) == 1
    works()
    cluster.shutdown()
    nothing_is_left()
