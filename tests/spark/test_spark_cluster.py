"""Clusters on a real Spark: set-up, use from driver and UDF, faults, slots, shutdown."""

from __future__ import annotations

import dataclasses
import os
import pickle
import re
import signal
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from spark_help import ROOT, processes, session_files, until

import skate
import skate.util.spark as spark_package
from skate.util.spark import (
    MAX_NUM_WORKER_NODES,
    RayClusterOnSpark,
    _cluster,
    setup_ray_cluster,
    shutdown_ray_cluster,
)


def start(**arguments: Any) -> RayClusterOnSpark:
    """Two nodes of one CPU, unless told otherwise."""
    return setup_ray_cluster(**{"max_worker_nodes": 2, "num_cpus_worker_node": 1, **arguments})


def living(cluster: RayClusterOnSpark) -> list[str]:
    """Names of the living nodes but for the head."""
    return sorted(n["NodeName"] for n in cluster.nodes() if n["Alive"] and n["NodeName"] != "head")


def daemons() -> dict[int, str]:
    """The Skate processes of this run: daemons, zygotes, workers."""
    words = ("skate-raylet", "skate-gcs", "skate._zygote", "frozen_modules")
    return {pid: cmd for pid, cmd in processes().items() if any(w in cmd for w in words)}


def count_of_spark(spark: Any, tasks: int = 2) -> int:
    """A small Spark job."""
    return spark.sparkContext.parallelize(range(tasks), tasks).map(lambda x: x).count()


def where_am_i(seconds: float) -> tuple[str, int]:
    """A Skate task: its node, and its process."""
    import time

    time.sleep(seconds)
    return skate.get_runtime_context().get_node_id(), os.getpid()


def test_setup_use_and_shutdown(clean: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[str] = []
    make = _cluster.secrets.token_hex
    monkeypatch.setattr(_cluster.secrets, "token_hex", lambda n: keys.append(make(n)) or keys[-1])
    began = time.monotonic()
    cluster = start(worker_node_options={"resources": {"disk": 2}, "labels": {"zone": "a"}})
    cold = time.monotonic() - began

    address, client = cluster
    assert client == f"ray://{address}" and cluster.address == address
    assert os.environ["RAY_ADDRESS"] == address
    assert pickle.loads(pickle.dumps(cluster)) == (address, client)
    assert living(cluster) == ["spark-0.0", "spark-1.0"]
    assert not skate.is_initialized(), "asking for nodes leaves no session behind"
    with pytest.raises(RuntimeError, match="active cluster on Spark already"):
        start()

    skate.init()
    assert skate.cluster_resources()["CPU"] == 2, "the head offers none"
    assert skate.cluster_resources()["disk"] == 4
    [node] = [n for n in skate.nodes() if n["NodeName"] == "spark-1.0"]
    own = {"ray.io/node-id": node["NodeID"]}
    assert node["Labels"] == {"zone": "a", "spark-partition": "1", **own}
    task = skate.remote(where_am_i)
    places = skate.get([task.remote(0.1) for _ in range(6)])
    assert len({node for node, _ in places}) == 2, "tasks run on both nodes"
    assert count_of_spark(clean) == 2, "two slots are left to Spark"

    key = max(keys, key=len)
    assert len(key) == 64
    for pid in processes():
        for part in ("cmdline", "environ"):
            try:
                text = Path(f"/proc/{pid}/{part}").read_bytes()
            except OSError:
                continue
            assert key.encode() not in text, f"the key shows in {part} of {pid}"
    assert key not in str(clean.sparkContext.getConf().getAll())

    began = time.monotonic()
    shutdown_ray_cluster()
    down = time.monotonic() - began
    assert not skate.is_initialized() and "RAY_ADDRESS" not in os.environ
    until(lambda: not daemons(), 20, "all daemons and workers are gone")
    until(lambda: not session_files(os.environ["TMPDIR"])[1:], 20, "no file but Spark's is left")
    assert count_of_spark(clean, 4) == 4
    print(f"cold set-up {cold:.2f} s, shutdown {down:.2f} s")


def udf_body(address: str) -> Any:
    """Runs in Spark's Python worker, as a UDF does."""

    def run(_: Any) -> Any:
        import os

        import skate as ray
        from skate.util.spark import attach
        from skate.util.spark._task import executor_pid

        attach(address)
        attach(address)  # again: the session stays
        task = ray.remote(lambda x: x + 1)
        values = ray.get([task.remote(i) for i in range(20)])
        own = ray.get_runtime_context().get_node_id()
        sock = [n["RayletSocketName"] for n in ray.nodes() if n["NodeID"] == own][0]
        told = ray.get_runtime_context().gcs_address
        in_order = values == list(range(1, 21))
        yield os.getpid(), in_order, f"_{executor_pid()}_" in sock, told

    return run


def test_udf_attaches_again_and_again(clean: Any) -> None:
    seen: set[int] = set()
    repeats = 0
    for _ in range(2):  # two clusters, and two jobs on each: Spark reuses its Python workers
        cluster = start()
        for _ in range(2):
            rdd = clean.sparkContext.parallelize(range(2), 2)
            rows = rdd.mapPartitions(udf_body(cluster.address)).collect()
            for pid, in_order, own_node, address in rows:
                repeats += pid in seen
                seen.add(pid)
                assert in_order
                assert own_node, "the UDF joined the node of another executor"
                assert address == cluster.address
        shutdown_ray_cluster()
        until(lambda: not daemons(), 20, "all daemons and workers are gone")
    assert repeats, "no Python worker was reused: this test shows nothing"


def test_plain_init_in_a_udf(clean: Any) -> None:
    start()

    def run(_: Any) -> Any:
        import skate as ray

        ray.shutdown()
        ray.init(ignore_reinit_error=True)  # the cluster of this executor's node
        yield ray.get(ray.remote(lambda: 41).remote()) + 1
        ray.shutdown()

    rdd = clean.sparkContext.parallelize(range(2), 2).mapPartitions(run)
    assert rdd.collect() == [42, 42]
    shutdown_ray_cluster()
    start(max_worker_nodes=1)  # one executor has no node: the job knows the cluster
    assert rdd.collect() == [42, 42]


def test_no_free_slot_is_told(clean: Any, capfd: pytest.CaptureFixture[str]) -> None:
    start(max_worker_nodes=MAX_NUM_WORKER_NODES)
    told = capfd.readouterr().err
    assert "the 4 nodes hold all task slots" in told
    counts: list[int] = []
    job = threading.Thread(target=lambda: counts.append(count_of_spark(clean)))
    job.start()
    text = [""]

    def waiting() -> bool:
        text[0] += capfd.readouterr().err
        return "waits: the 4 Skate nodes hold all task slots" in text[0]

    until(waiting, 60, "the waiting job is told")
    assert not counts
    shutdown_ray_cluster()
    job.join(timeout=60)
    assert counts == [2], "the job ran when the slots were free"


def test_free_slots_are_not_complained_of(clean: Any, capfd: pytest.CaptureFixture[str]) -> None:
    start()
    assert count_of_spark(clean, 4) == 4
    shutdown_ray_cluster()
    assert "hold all task slots" not in capfd.readouterr().err


def test_killed_raylet_is_replaced(clean: Any, capfd: pytest.CaptureFixture[str]) -> None:
    cluster = start()
    raylets = [p for p, c in processes().items() if "skate-raylet" in c and p not in children()]
    assert len(raylets) == 2
    os.kill(raylets[0], signal.SIGKILL)
    began = time.monotonic()
    text = [""]

    def replaced() -> bool:
        return len(living(cluster)) == 2 and any(n.endswith(".1") for n in living(cluster))

    until(replaced, 60, "Spark ran the task again and its node joined")
    seconds = time.monotonic() - began

    def told() -> bool:
        text[0] += capfd.readouterr().err
        return "was killed by signal 9 (SIGKILL)" in text[0]

    until(told, 30, "the user is told which node was lost, and why")
    skate.init()
    task = skate.remote(where_am_i)
    places = until(
        lambda: len({n for n, _ in skate.get([task.remote(0.1) for _ in range(6)])}) == 2,
        30, "tasks run on the new node too",
    )  # fmt: skip
    assert places
    print(f"replaced after {seconds:.2f} s")


def children() -> set[int]:
    """Children of this process: the head's daemons are among them, those of nodes are not."""
    return {
        int(pid)
        for task in Path("/proc/self/task").iterdir()
        for pid in (task / "children").read_text().split()
    }


def test_daemon_that_does_not_start(clean: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = _cluster._settings
    script = "read line; echo first words >&2; echo last words >&2; echo ERROR 5 no luck; exit 1"
    monkeypatch.setattr(
        _cluster,
        "_settings",
        lambda *a: dataclasses.replace(real(*a), command=("/bin/sh", "-c", script)),
    )
    with pytest.raises(RuntimeError, match="(?s)no luck.*first words\nlast words"):
        start()
    assert "RAY_ADDRESS" not in os.environ and not daemons()
    monkeypatch.undo()
    cluster = start()  # nothing is in the way of the next one
    assert len(living(cluster)) == 2


@pytest.mark.parametrize("step", ["_tell_start", "_start_scaler"])
def test_a_set_up_that_fails_late(clean: Any, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_cluster, step, interrupted)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(KeyboardInterrupt):
        start(min_worker_nodes=1)
    until(lambda: not daemons(), 20, "the nodes that were up have ended")
    assert os.environ["RAY_ADDRESS"] == "10.0.0.1:6379"
    assert _cluster._active is None and count_of_spark(clean, 4) == 4


def test_python_of_the_executors_is_missing(clean: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean.sparkContext, "pythonExec", "/nonexistent/python3")
    with pytest.raises(RuntimeError, match="/nonexistent/python3"):
        start()
    assert not daemons()


def test_node_larger_than_any_executor(clean: Any) -> None:
    with pytest.raises(ValueError, match="largest Spark executor has 2 cores"):
        start(num_cpus_worker_node=64)


def test_strict_mode(clean: Any) -> None:
    with pytest.raises(ValueError, match="strict_mode"):
        start(strict_mode=True)


def test_more_nodes_than_slots(clean: Any, capfd: pytest.CaptureFixture[str]) -> None:
    cluster = start(max_worker_nodes=6, start_timeout_s=6)
    told = capfd.readouterr().err
    assert "room for 4 of the 6 nodes" in told and "max_worker_nodes=4" in told
    assert "going on without waiting any longer: 4 of 6 nodes are up" in told
    assert len(living(cluster)) == 4
    shutdown_ray_cluster()
    cluster = start(max_worker_nodes=6, min_worker_nodes=3)
    assert len(living(cluster)) >= 3


def test_default_node_is_a_whole_executor(clean: Any, tmp_path: Path) -> None:
    with setup_ray_cluster(max_worker_nodes=2, collect_log_to_path=str(tmp_path)) as cluster:
        assert [n["Resources"]["CPU"] for n in cluster.nodes() if n["NodeName"] != "head"] == [2, 2]
        skate.init()

        @skate.remote
        def speak() -> None:
            print("a line for the log")

        skate.get(speak.remote())
    text = "".join(p.read_text(errors="replace") for p in tmp_path.rglob("*") if p.is_file())
    assert "a line for the log" in text


def test_the_first_program_of_the_docs(
    clean: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """docs/spark.md begins with a program; here it runs in this module's Spark."""
    page = (ROOT / "docs" / "spark.md").read_text()
    program = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)[0]
    assert "local_cluster(2, 2, 1024)" in program
    monkeypatch.setattr(spark_package, "local_cluster", lambda *_: nullcontext(clean))
    exec(compile(program, "spark.md", "exec"), {"__name__": "__main__"})
    shown = capfd.readouterr().out.split()
    expected = re.findall(r"print\(.*\) +# (\d+)$", program, re.M)
    assert len(expected) == 2 and set(expected) <= set(shown)
    assert not daemons()


def test_killed_executor(clean: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """Last in this file: Spark takes its time to start a new executor."""
    cluster = start()
    raylets = [p for p, c in processes().items() if "skate-raylet" in c and p not in children()]
    executors = [p for p, c in processes().items() if "CoarseGrainedExecutorBackend" in c]
    assert len(raylets) == 2 and len(executors) == 2
    began = time.monotonic()
    os.kill(executors[0], signal.SIGKILL)
    until(lambda: len(set(raylets) & set(processes())) == 1, 30, "the executor's node is gone")
    gone = time.monotonic() - began
    until(lambda: len(living(cluster)) == 2, 60, "Spark ran the task elsewhere")
    print(f"gone after {gone:.2f} s, replaced after {time.monotonic() - began:.2f} s")
    text = [""]

    def told() -> bool:
        text[0] += capfd.readouterr().err
        return "lost with its executor" in text[0]

    until(told, 60, "the user is told")
