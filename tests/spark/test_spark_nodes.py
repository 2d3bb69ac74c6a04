"""Nodes on a real Spark: how many, whose logs, which hooks, one for the whole machine, guards."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from spark_help import until

import skate
from skate.util.spark import (
    RayClusterOnSpark,
    RayOnSparkStartHook,
    _cluster,
    setup_global_ray_cluster,
    setup_ray_cluster,
    shutdown_ray_cluster,
)


def start(**arguments: Any) -> RayClusterOnSpark:
    """One node of one CPU, unless told otherwise."""
    return setup_ray_cluster(**{"max_worker_nodes": 1, "num_cpus_worker_node": 1, **arguments})


def up(cluster: RayClusterOnSpark) -> list[str]:
    """Names of the living nodes but for the head."""
    return sorted(n["NodeName"] for n in cluster.nodes() if n["Alive"] and n["NodeName"] != "head")


def count_of_spark(spark: Any, tasks: int) -> int:
    """A small Spark job."""
    return spark.sparkContext.parallelize(range(tasks), tasks).map(lambda x: x).count()


class Told:
    """What was said on stderr so far."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd, self.text = capfd, ""

    def has(self, words: str) -> bool:
        """Was this said?"""
        self.text += self._capfd.readouterr().err
        return words in self.text


@skate.remote
def rest(seconds: float) -> None:
    """Holds a CPU."""
    time.sleep(seconds)


def test_nodes_come_and_go_with_the_work(clean: Any) -> None:
    cluster = start(max_worker_nodes=3, min_worker_nodes=1, autoscale_idle_timeout_minutes=0.05)
    assert len(up(cluster)) == 1 and cluster.max_worker_nodes == 3
    skate.init()
    tasks = [rest.remote(2.0) for _ in range(6)]
    until(lambda: len(up(cluster)) == 3, 30, "nodes came for what waits")
    skate.get(tasks)
    assert len(up(cluster)) <= 3, "never more than max_worker_nodes"
    until(lambda: len(up(cluster)) == 1, 30, "idle nodes ended")
    gone = [n["DeathReasonMessage"] for n in cluster.nodes() if not n["Alive"]]
    assert len(gone) >= 2 and set(gone) == {"it ended: it was told to end"}
    assert count_of_spark(clean, 3) == 3, "their slots are Spark's again"
    cluster.scale(2, 2)
    until(lambda: len(up(cluster)) == 2, 30, "scale() brought one")
    names = [n["NodeName"] for n in cluster.nodes()]
    assert len(names) == len(set(names)), "no name is used twice"
    shutdown_ray_cluster()
    with pytest.raises(RuntimeError, match="has been shut down"):
        cluster.scale(1, 1)


class Hook(RayOnSparkStartHook):
    """Writes down what it is called for."""

    calls: list[tuple[str, Any]] = []
    root = ""

    def get_default_temp_root_dir(self) -> str:
        """A folder of the test."""
        return self.root

    def on_cluster_created(self, ray_cluster_handler: Any) -> None:
        """With the handle."""
        self.calls.append(("cluster", (ray_cluster_handler.address, self.is_global)))

    def on_spark_job_created(self, job_group_id: str) -> None:
        """With the group."""
        self.calls.append(("job", job_group_id))

    def custom_environment_variables(self) -> dict[str, str]:
        """One."""
        return {"OF_THE_HOOK": "yes"}


def test_hook_logs_and_variables(
    clean: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any
) -> None:
    monkeypatch.setenv("RAY_ON_SPARK_START_HOOK", f"{__name__}.Hook")
    monkeypatch.setenv("SECRET_OF_THE_TEST", "forwarded")
    root = tmp_path_factory.mktemp("r")
    Hook.calls, Hook.root = [], str(root)
    cluster = start(collect_log_to_path=str(tmp_path), forward_env=["SECRET_OF_THE_TEST"])
    group = f"skate-nodes-{cluster.cluster_unique_id}"
    assert Hook.calls == [("cluster", (cluster.address, False)), ("job", group)]
    assert list(root.glob("skate-*/spark_*")), "the node's files are where the hook says"
    skate.init()

    @skate.remote
    def look() -> tuple[str | None, str | None]:
        print("a line of a task")
        return os.environ.get("OF_THE_HOOK"), os.environ.get("SECRET_OF_THE_TEST")

    assert skate.get(look.remote()) == ("yes", "forwarded")

    def shown() -> bool:
        return "a line of a task" in "".join(cluster.logs(0).values())

    until(shown, 30, "the handle shows the node's logs")
    session = f"skate-{cluster.cluster_unique_id}"
    shutdown_ray_cluster()
    kept = {p.relative_to(tmp_path).parts[:2] for p in tmp_path.rglob("*") if p.is_file()}
    assert kept == {(session, "head"), (session, "spark-0.0")}
    text = "".join(p.read_text(errors="replace") for p in tmp_path.rglob("worker*"))
    assert "a line of a task" in text and "SKATE_FORWARD_ENV" not in os.environ


BARE = """
import skate
print(skate.init().address_info["address"], skate.cluster_resources()["CPU"])
"""


def test_one_cluster_for_the_whole_machine(clean: Any) -> None:
    cluster = setup_global_ray_cluster(
        max_worker_nodes=1, num_cpus_worker_node=1, num_cpus_head_node=3, is_blocking=False
    )
    assert cluster is not None
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    done = subprocess.run([sys.executable, "-c", BARE], env=env, text=True, capture_output=True,
                          check=True)  # fmt: skip
    assert done.stdout.split() == [cluster.address, "4.0"]
    code = "from skate.util.spark import _global; _global.Claim()"
    done = subprocess.run([sys.executable, "-c", code], env=env, text=True, capture_output=True,
                          check=False)  # fmt: skip
    assert f"ValueError: There is a global cluster on Spark on this machine already (process "\
           f"{os.getpid()})" in done.stderr  # fmt: skip
    shutdown_ray_cluster()
    serving = threading.Thread(
        target=setup_global_ray_cluster,
        kwargs={"max_worker_nodes": 1, "num_cpus_worker_node": 1, "num_cpus_head_node": 0},
    )
    serving.start()
    until(lambda: _cluster._global_ray_cluster_cancel_event is not None, 60, "it serves")
    assert serving.is_alive()
    shutdown_ray_cluster()
    serving.join(timeout=60)
    assert not serving.is_alive(), "the call that blocked has returned"


def test_no_free_slot(clean: Any, capfd: pytest.CaptureFixture[str]) -> None:
    told = Told(capfd)
    gate = Path(os.environ["TMPDIR"]) / "gate"
    gate.touch()

    def hold(_: Any) -> int:
        while gate.exists():
            time.sleep(0.1)
        return 1

    job = threading.Thread(
        target=lambda: clean.sparkContext.parallelize(range(4), 4).map(hold).count()
    )
    job.start()
    tracker = clean.sparkContext.statusTracker()
    until(lambda: tracker.getActiveJobsIds(), 20, "the job runs")
    try:
        with pytest.raises(RuntimeError, match=r"within 6 s 0 of 1 nodes are up; the slots.*held"):
            start(start_timeout_s=6)
        assert told.has("waiting: 0 of 1 nodes are up; the slots of the others are held by Spark")
    finally:
        gate.unlink()
        job.join(timeout=60)
    assert count_of_spark(clean, 4) == 4, "no task of a node was left behind"


def test_a_barrier_job_that_cannot_start(clean: Any, capfd: pytest.CaptureFixture[str]) -> None:
    told = Told(capfd)
    start(max_worker_nodes=2)
    counts: list[int] = []

    def barrier() -> None:
        tasks = clean.sparkContext.parallelize(range(4), 4).barrier()
        counts.append(tasks.mapPartitions(lambda items: items).count())

    job = threading.Thread(target=barrier)
    job.start()
    until(lambda: told.has("is a barrier job: its 4 tasks must start together"), 20, "it is told")
    assert "Skate nodes leave 2 slots" in told.text and not counts
    shutdown_ray_cluster()
    job.join(timeout=60)
    assert counts == [4]


def test_set_up_that_does_not_wait(clean: Any) -> None:
    cluster = start(max_worker_nodes=2, wait="none")
    until(lambda: len(up(cluster)) == 2, 30, "they come all the same")
    shutdown_ray_cluster()
    assert up(start(max_worker_nodes=2, wait="first", tls="psk")), "and with TLS on one machine"


OTHER_PYTHON = """#!/bin/sh
exec {python} -c '
import runpy, sys
parts = {{"major": 3, "minor": 10, "micro": 0, "releaselevel": "final", "serial": 0}}
sys.version_info = type("Version", (tuple,), parts)(parts.values())
sys.argv = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
' "$@"
"""


def test_another_python_on_the_executors(
    clean: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "python3.10"
    other.write_text(OTHER_PYTHON.format(python=sys.executable))
    other.chmod(0o755)
    monkeypatch.setattr(clean.sparkContext, "pythonExec", str(other))
    began = time.monotonic()
    with pytest.raises(RuntimeError) as caught:
        start()
    assert f"the executors run {other}, which is Python 3.10" in str(caught.value)
    assert sys.executable in str(caught.value) and "PYSPARK_PYTHON" in str(caught.value)
    print(f"told after {time.monotonic() - began:.1f} s")


def udf_of_three(address: str, folder: str) -> Any:
    """A UDF whose three tasks wait for each other."""

    def run(_: Any) -> Any:
        import os
        import time
        from pathlib import Path

        import skate as ray
        from skate.util.spark import attach

        @ray.remote
        def meet(number: int) -> tuple[bool, int]:
            Path(folder, str(number)).touch()
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                if len(os.listdir(folder)) == 3:
                    return True, os.nice(0)
                time.sleep(0.01)
            return False, os.nice(0)

        attach(address)
        met = ray.get([meet.remote(number) for number in range(3)])
        yield [together for together, _ in met], {nice for _, nice in met}, os.nice(0)

    return run


def test_a_udf_that_waits_lends_its_core(clean: Any, tmp_path: Path) -> None:
    cluster = start(max_worker_nodes=2, num_cpus_worker_node=None, mode="shared")
    own = [n for n in cluster.nodes() if n["NodeName"] != "head"]
    assert [n["Resources"]["CPU"] for n in own] == [2, 2], "all cores of an executor"
    assert count_of_spark(clean, 2) == 2, "a node holds one slot"
    run = udf_of_three(cluster.address, str(tmp_path))
    [(together, nice, udf)] = clean.sparkContext.parallelize([0], 1).mapPartitions(run).collect()
    assert together == [True] * 3, "two slots of nodes, and the core of the UDF"
    assert nice == {min(19, udf + 5)}, "workers give way to Spark's own tasks"


def test_a_cluster_that_nobody_uses_ends(clean: Any, capfd: pytest.CaptureFixture[str]) -> None:
    told = Told(capfd)
    cluster = start(idle_shutdown_minutes=0.03)
    skate.init()
    skate.get(rest.remote(0.0))
    skate.shutdown()
    until(lambda: cluster.is_shutdown, 60, "no program was connected")
    until(lambda: _cluster._active is None, 60, "it is over")
    assert told.has("no program was connected for 0.03 minutes")
    assert count_of_spark(clean, 4) == 4
