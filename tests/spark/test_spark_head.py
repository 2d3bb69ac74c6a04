"""Where the head runs: beside the driver, or on an executor that the driver reaches."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from spark_help import processes, until

import skate
from skate.util.spark import (
    RayClusterOnSpark,
    _away_head,
    _slots,
    setup_ray_cluster,
    shutdown_ray_cluster,
)

DAEMONS = ("skate-raylet", "skate-gcs", "skate-keeper", "_head_keeper")


def daemons() -> dict[int, str]:
    """The daemons of this run, and keepers of heads."""
    return {p: c for p, c in processes().items() if any(word in c for word in DAEMONS)}


def parent(pid: int) -> int:
    """Of a process that lives."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def one(word: str) -> int:
    """The one process with this word in its command."""
    [pid] = [pid for pid, command in daemons().items() if word in command]
    return pid


def away(tmp: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> RayClusterOnSpark:
    """A cluster with its head on an executor, whose files this process does not see: as on
    another machine."""
    monkeypatch.setenv("SKATE_TMPDIR", str(tmp))
    arguments = {"max_worker_nodes": 2, "num_cpus_worker_node": 1, "head": "executor", **more}
    return setup_ray_cluster(**arguments)


def test_head_on_an_executor(
    clean: Any, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = tmp_path_factory.mktemp("kept")
    tmp = tmp_path_factory.mktemp("d")
    cluster = away(tmp, monkeypatch, collect_log_to_path=str(logs))
    names = sorted(n["NodeName"] for n in cluster.nodes())
    assert names == ["head", "spark-0.0", "spark-1.0"], "this machine counts for none"
    keeper = one("_head_keeper")
    assert parent(one("skate-keeper")) == keeper, "the control store is the executor's"
    own = [p for p, c in daemons().items() if parent(p) == os.getpid()]
    assert len(own) == 1, "here is a raylet without work, and no more"
    assert len(_slots.executors(clean.sparkContext)) == 2

    skate.init()
    data = skate.put(b"x" * 300_000)
    size = skate.remote(len)
    assert skate.get([size.remote(data) for _ in range(8)]) == [300_000] * 8
    assert "raylet.err" in cluster.logs("head")
    skate.shutdown()  # the cluster stays
    skate.init()
    assert skate.cluster_resources()["CPU"] == 2

    shutdown_ray_cluster()
    until(lambda: not daemons(), 30, "the head's daemons, its keeper and the nodes are gone")
    until(lambda: list(logs.glob("skate-*/head/gcs.err")), 30, "its logs are kept")
    assert not list(tmp.glob("skate-*/*")), "no file is left here"
    assert clean.sparkContext.parallelize(range(4), 4).count() == 4


def test_auto(
    clean: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with setup_ray_cluster(max_worker_nodes=1, num_cpus_worker_node=1, head="auto"):
        assert parent(one("skate-keeper")) == os.getpid(), "executors reach this driver"
    monkeypatch.setattr(_away_head, "can_reach", lambda _: False)
    with setup_ray_cluster(max_worker_nodes=1, num_cpus_worker_node=1, head="auto") as cluster:
        assert parent(one("skate-keeper")) == one("_head_keeper")
        assert len(cluster.nodes()) == 2
    assert "executors cannot reach this driver at" in capfd.readouterr().err
    until(lambda: not daemons(), 30, "nothing is left of either head")


def test_no_slot_for_the_head(clean: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    context = clean.sparkContext

    def hold(_: Any) -> Any:
        import time

        time.sleep(60)  # until the job is cancelled
        yield 0

    def run() -> None:
        with contextlib.suppress(Exception):  # cancelled
            context.parallelize(range(4), 4).mapPartitions(hold).count()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        until(context.statusTracker().getActiveJobsIds, 20, "the job runs")
        with pytest.raises(RuntimeError, match="no free slot to start its head in"):
            setup_ray_cluster(
                max_worker_nodes=1, num_cpus_worker_node=1, head="executor", start_timeout_s=2
            )
    finally:
        context.cancelAllJobs()
        thread.join(30)
    assert not daemons()


def test_lost_with_its_executor(
    clean: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    """Last in this file: an executor is killed. Its head goes with it, and all nodes then."""
    away(tmp_path_factory.mktemp("d"), monkeypatch, max_worker_nodes=1)
    executor = one("_head_keeper")  # its parents: a Python worker, Spark's Python, the executor
    commands = processes()
    while "CoarseGrainedExecutorBackend" not in commands[executor]:
        executor = parent(executor)
    os.kill(executor, signal.SIGKILL)
    began = time.monotonic()
    words = ("skate-gcs", "skate-keeper", "_head_keeper")
    until(lambda: not [c for c in daemons().values() if any(w in c for w in words)], 30, "head")
    print(f"gone after {time.monotonic() - began:.2f} s")
    text = [""]

    def told() -> bool:
        text[0] += capfd.readouterr().err
        return "the head of the cluster is gone" in text[0]

    until(told, 60, "the user is told")
    shutdown_ray_cluster()
    until(lambda: not daemons(), 30, "nothing is left")
