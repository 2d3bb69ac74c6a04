"""What is in the way is said at once, by set-up or on stderr, with what to change: on a real Spark.

What Spark's slots and barrier jobs lead to stands in test_spark_cluster.py and test_spark_nodes.py.
And what goes wrong later on a node is said, too.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from spark_help import processes, until

import skate
from skate.util.spark import _cluster, _slots, setup_ray_cluster, shutdown_ray_cluster

OTHER_KEY = "5" * 64


def other_key(patch: pytest.MonkeyPatch, _: Any) -> None:
    """The nodes have the key of another cluster."""
    real = _cluster._settings
    patch.setattr(
        _cluster, "_settings", lambda *a: dataclasses.replace(real(*a), key=OTHER_KEY)
    )


def no_python(patch: pytest.MonkeyPatch, spark: Any) -> None:
    """The executors lack the Python that Spark is to run there."""
    patch.setattr(spark.sparkContext, "pythonExec", "/nonexistent/python3")


def with_settings(**more: str) -> Callable[[pytest.MonkeyPatch, Any], None]:
    """As if the application had been started with these."""

    def prepare(patch: pytest.MonkeyPatch, _: Any) -> None:
        real = _slots.settings
        named = {name.replace("__", "."): value for name, value in more.items()}
        patch.setattr(_slots, "settings", lambda context: {**real(context), **named})

    return prepare


def little_memory(patch: pytest.MonkeyPatch, spark: Any) -> None:
    """What executors may use for objects is next to nothing."""
    name = "RAY_ON_SPARK_WORKER_SHARED_MEMORY_BYTES"
    patch.setitem(spark.sparkContext.environment, name, str(1 << 20))


def nothing(_: pytest.MonkeyPatch, __: Any) -> None:
    """The arguments are enough."""


FAILS = {
    "wrong key of a node": (other_key, {}, RuntimeError, "key is wrong"),
    "no Python on the executors": (no_python, {}, RuntimeError, "Set PYSPARK_PYTHON"),
    "Python workers that Spark would kill": (
        with_settings(spark__python__worker__killOnIdleTimeout="true",
                      spark__python__worker__idleTimeoutSeconds="30"),
        {}, RuntimeError, "Set spark.python.worker.killOnIdleTimeout=false"),
    "a node larger than any executor": (
        nothing, {"num_cpus_worker_node": 3}, ValueError, "spark.executor.cores"),
}  # fmt: skip
WARNS = {
    "speculation": (
        with_settings(spark__speculation="true"), {}, "Set spark.speculation=false"),
    "fewer slots than nodes": (
        nothing, {"max_worker_nodes": 6, "wait": "none"}, "ask for max_worker_nodes=4"),
    "hardly any memory for objects": (
        little_memory, {}, "too little memory is left for objects on spark-0.0"),
}  # fmt: skip


def start(arguments: dict[str, Any]) -> Any:
    """One node of one CPU, unless told otherwise."""
    return setup_ray_cluster(**{"max_worker_nodes": 1, "num_cpus_worker_node": 1, **arguments})


def daemons() -> list[str]:
    """Skate's processes of this run."""
    return [c for c in processes().values() if "skate-raylet" in c or "skate-gcs" in c]


def tell(what: str, began: float, text: str) -> None:
    """For people who look (pytest -s): how soon, and the words."""
    print(f"\n{what}: after {time.monotonic() - began:.1f} s\n    {text.strip()}")


@pytest.mark.parametrize("what", FAILS)
def test_set_up_fails(clean: Any, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    prepare, arguments, kind, words = FAILS[what]
    prepare(monkeypatch, clean)
    began = time.monotonic()
    with pytest.raises(kind) as caught:
        start(arguments)
    tell(what, began, str(caught.value))
    assert words in str(caught.value)
    assert "at org.apache" not in str(caught.value), "no Java stack"
    until(lambda: not daemons(), 5, "nothing is left")


@pytest.mark.parametrize("what", WARNS)
def test_set_up_warns(
    clean: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], what: str
) -> None:
    prepare, arguments, words = WARNS[what]
    prepare(monkeypatch, clean)
    began = time.monotonic()
    start(arguments)
    text = [""]

    def told() -> bool:
        text[0] += capfd.readouterr().err
        return words in text[0]

    until(told, 10, "the warning")
    tell(what, began, text[0])
    shutdown_ray_cluster()
    until(lambda: not daemons(), 5, "nothing is left")


def test_a_driver_with_another_key(clean: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A program of another machine (its folder is not this one's) that has the wrong key."""
    cluster = start({})
    program = "import sys, skate; skate.init(sys.argv[1])"
    env = {**os.environ, "SKATE_CLUSTER_KEY": OTHER_KEY,
           "SKATE_TMPDIR": str(tmp_path_factory.mktemp("o"))}  # fmt: skip
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program, cluster.address], env=env, text=True, capture_output=True,
        timeout=60, check=False,
    )  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    tell("wrong key of a driver", began, last)
    assert done.returncode == 1 and last.startswith("ConnectionError: the cluster ")
    assert "its key is wrong" in last


def zygote_of(raylet: int) -> int:
    """The process that a raylet forks workers with."""
    every = processes()
    [found] = [
        int(pid)
        for task in Path(f"/proc/{raylet}/task").iterdir()
        for pid in (task / "children").read_text().split()
        if "frozen_modules" in every.get(int(pid), "")
    ]
    return found


def test_a_nodes_warnings(clean: Any, capfd: pytest.CaptureFixture[str]) -> None:
    cluster = start({})
    skate.init()
    assert skate.get(skate.remote(lambda: 1).remote()) == 1, "its zygote is there"
    raylets = [pid for pid, command in processes().items() if "skate-raylet" in command]
    [raylet] = [pid for pid in raylets if parent(pid) != os.getpid()]
    os.kill(zygote_of(raylet), signal.SIGKILL)
    text = [""]

    def told() -> bool:
        text[0] += capfd.readouterr().err
        return "(spark-0.0) the zygote ended (wait status 9), restarting it" in text[0]

    until(told, 20, "the driver's stderr has what the node said")
    os.kill(raylet, signal.SIGKILL)

    def replaced() -> bool:
        return {n["NodeName"] for n in cluster.nodes() if n["Alive"]} == {"head", "spark-0.1"}

    until(replaced, 60, "it is replaced")
    logs = cluster.logs("spark-0.0")["raylet.err"]
    assert logs.startswith("the zygote ended (wait status 9), restarting it\n")
    assert "(the node has ended: " in logs
    assert cluster.logs("spark-0.0", tail=0) == {"raylet.err": ""}
    assert "the zygote ended" not in str(cluster.logs(0)), "the number means who lives"


def parent(pid: int) -> int:
    """Of a process that lives."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_no_java(tmp_path: Path) -> None:
    """Spark-free: there is no session, because there is nothing to start one with."""
    program = "from skate.util.spark import setup_ray_cluster as s; s(max_worker_nodes=1)"
    env = {k: v for k, v in os.environ.items() if k != "JAVA_HOME"} | {"PATH": str(tmp_path)}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, text=True, capture_output=True, timeout=60,
        check=False,
    )  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    tell("no Java", began, last)
    assert done.returncode == 1 and "install Java 17 or later" in last
