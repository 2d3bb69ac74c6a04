"""Spark on Skate, what needs no Spark: arguments, plans, files, and JVMs that are shell scripts."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import skate
from skate.util.placement_group import placement_group, remove_placement_group
from skate.util.spark import _attach, _hosted_jvm, _hosted_plan, _hosted_session, init_spark
from skate.util.spark._hosted_jvm import Daemon, Launch, SparkError
from skate.util.spark._hosted_plan import memory_bytes, order, room
from skate.util.spark._janitor import Janitor

GB = 1 << 30


class Group:
    """As much of a placement group as a plan looks at."""

    def __init__(self, *bundles: dict[str, float]) -> None:
        self.bundle_specs = list(bundles)


def until(condition: Callable[[], object], what: str) -> None:
    """Ask again until the condition holds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)  # asks again until a deadline


# --------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("text", "size"),
    [("1g", GB), ("1G", GB), ("500M", 500 << 20), ("512 mb", 512 << 20), ("0.5g", GB >> 1),
     ("1GiB", GB), ("1024k", 1 << 20), (str(GB), GB), (GB, GB), ("2t", 2 << 40)],
)  # fmt: skip
def test_memory(text: Any, size: int) -> None:
    assert memory_bytes("executor_memory", text) == size


@pytest.mark.parametrize("text", ["", "g", "1x", "-1g", "1 g b", "one", "1g2"])
def test_memory_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match='executor_memory must be as "1g"'):
        memory_bytes("executor_memory", text)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"app_name": 3}, TypeError, "app_name must be a str"),
        ({"num_executors": 0}, ValueError, "num_executors must be 1 or more"),
        ({"num_executors": True}, TypeError, "num_executors must be an int"),
        ({"executor_cores": 0}, ValueError, "executor_cores must be 1 or more, it is 0"),
        ({"executor_cores": 1.5}, TypeError, "executor_cores must be an int"),
        ({"executor_memory": "100m"}, ValueError, "Spark needs 450 MB"),
        ({"executor_memory": 512}, ValueError, "A number without unit is bytes"),
        ({"executor_memory": None}, TypeError, "executor_memory must be a str"),
        ({"placement_group_strategy": "WIDE"}, ValueError, "PACK, SPREAD, STRICT_PACK"),
        ({"placement_group": 7}, TypeError, "must be a placement group, not 7"),
        ({"placement_group_bundle_indexes": [0]}, ValueError, "needs a placement_group"),
        ({"placement_group": Group({"CPU": 2}), "placement_group_strategy": "PACK"}, ValueError,
         "not both"),
        ({"placement_group": Group({"CPU": 2}), "placement_group_bundle_indexes": [1]}, ValueError,
         r"has 1; the group has the bundles 0 to 0"),
        ({"placement_group": Group({"CPU": 2}), "placement_group_bundle_indexes": []}, ValueError,
         "is empty"),
        ({"placement_group": Group({"CPU": 1}), "executor_cores": 2}, ValueError,
         "bundle 0 of the placement group has 1 CPU; 2 executors of 2 CPU"),
        ({"placement_group": Group({"CPU": 1})}, ValueError, "2 executors of 1 CPU cannot run"),
        ({"configs": [1]}, TypeError, "configs must be a dict"),
        ({"configs": {"spark.x": None}}, TypeError, "spark.x in configs must be a str, a number"),
        ({"configs": {"shuffle.partitions": 3}}, ValueError, "'shuffle.partitions' in configs is"),
        ({"configs": {"spark.executor.cores": 4}}, ValueError,
         "spark.executor.cores is 4 in configs, and executor_cores is 1"),
        ({"configs": {"spark.executor.memory": "2g"}}, ValueError, "executor_memory is"),
        ({"configs": {"spark.master": "local"}}, ValueError, "may not have spark.master"),
        ({"configs": {"spark.authenticate": "false"}}, ValueError, "init_spark.. sets it itself"),
        ({"configs": {"spark.ray.raydp_spark_executor.actor.resource.CPU": "x"}}, ValueError,
         "must be an amount of a resource, it is 'x'"),
    ],
)  # fmt: skip
def test_wrong_arguments(change: dict[str, Any], error: type[Exception], text: str) -> None:
    arguments = {"app_name": "a", "num_executors": 2, "executor_cores": 1, "executor_memory": "1g"}
    with pytest.raises(error, match=text):
        init_spark(**{**arguments, **change})
    assert not skate.is_initialized(), "wrong arguments start nothing"


def test_no_java_no_pyspark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "spark"
    (home / "jars").mkdir(parents=True)
    monkeypatch.setenv("SPARK_HOME", str(home))
    with pytest.raises(RuntimeError, match=r"no jars/spark-core.*SPARK_HOME"):
        init_spark("a", 1, 1, "1g")
    (home / "jars" / "spark-core_2.13-9.8.7.jar").touch()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"JAVA_HOME is .* no bin/java"):
        init_spark("a", 1, 1, "1g")
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"there is no Java: install version 17"):
        init_spark("a", 1, 1, "1g")
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\n")
    java.chmod(0o755)
    found = _hosted_jvm.find(os.environ)
    assert (found.scala, found.version, found.java) == ("2.13", "9.8.7", str(java))
    monkeypatch.delenv("SPARK_HOME")
    monkeypatch.setattr(_hosted_jvm.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"no pyspark for .*pip install pyspark"):
        init_spark("a", 1, 1, "1g")
    assert not skate.is_initialized()


def test_configs_are_all_somewhere() -> None:
    made = order(
        "a", 2, 2, "1g",
        configs={
            "spark.sql.shuffle.partitions": 7, "spark.eventLog.enabled": False,
            "spark.executor.memory": "1024m", "spark.executor.instances": 2,
            "spark.ray.raydp_spark_executor.actor.resource.CPU": 0.5,
            "spark.ray.raydp_spark_executor.actor.resource.gold": 1,
            "spark.ray.raydp_spark_executor.actor.resource.memory": "2g",
            "spark.ray.raydp_spark_master.actor.resource.CPU": 0.25,
            "raydp.executor.extraClassPath": "/a", "spark.executor.extraClassPath": "/b",
            "spark.ray.log4j.config.file.name": "x",
        },
    )  # fmt: skip
    assert made.conf == {"spark.sql.shuffle.partitions": "7", "spark.eventLog.enabled": "false",
                         "spark.executor.extraClassPath": "/a:/b"}  # fmt: skip
    assert made.executor_holds == {"CPU": 0.5, "memory": 2.0 * GB, "gold": 1.0}
    assert made.master_holds == {"CPU": 0.25}
    assert made.notes == ("without effect here: spark.ray.log4j.config.file.name",)
    conf = _hosted_plan.session_conf(made, "10.0.0.1", 0)
    assert conf["spark.cores.max"] == "4" and conf["spark.executor.memory"] == "1024m"
    assert conf["spark.sql.shuffle.partitions"] == "7"
    assert conf["spark.driver.host"] == "10.0.0.1" and conf["spark.authenticate"] == "true"
    assert "spark.shuffle.service.port" not in conf


def test_dynamic_allocation() -> None:
    made = order("a", 2, 1, "1g", configs={
        "spark.dynamicAllocation.enabled": True, "spark.dynamicAllocation.maxExecutors": 5,
        "spark.shuffle.service.enabled": "true", "spark.driver.host": "h",
    })  # fmt: skip
    assert "only num_executors=2 can run at once" in made.notes[0]
    conf = _hosted_plan.session_conf(made, "10.0.0.1", 4567)
    assert conf["spark.shuffle.service.port"] == "4567" and conf["spark.driver.host"] == "h"
    assert "spark.executor.instances" not in conf
    assert "spark.scheduler.minRegisteredResourcesRatio" not in conf


def test_bundles_of_a_given_group() -> None:
    group = Group({"CPU": 1}, {"CPU": 4, "memory": 4 * GB}, {"CPU": 2, "memory": GB})
    made = order("a", 3, 2, "1g", group=group, indexes=[1, 2])
    assert made.bundles == (1, 2, 1) and made.executor_holds == {"CPU": 2.0, "memory": GB}
    made = order("a", 1, 1, "1g", group=group)
    assert made.bundles == (0,) and made.executor_holds == {"CPU": 1.0}, "no memory in bundle 0"


def test_room() -> None:
    nodes = [{"CPU": 4, "memory": 3.0 * GB}, {"CPU": 1, "memory": 9.0 * GB}, {"memory": 9.0 * GB}]
    bundle = {"CPU": 1, "memory": float(GB)}
    assert [room(nodes, bundle, s) for s in ("PACK", "STRICT_PACK", "STRICT_SPREAD")] == [4, 3, 2]
    assert room([], bundle, "PACK") == room([], bundle, "STRICT_PACK") == 0
    assert room([{"CPU": 0.3}], {"CPU": 0.1}, "PACK") == 3


def test_properties_file() -> None:
    text = _hosted_plan.properties({"spark.b": "a b\\c\nd=e", "spark.a": "ä😀"})
    assert text == "spark.a=\\u00e4\\ud83d\\ude00\nspark.b=a\\ b\\\\c\\nd\\=e\n"


# ------------------------------------------------------------------------------------ a place


@pytest.fixture()
def two() -> Iterator[None]:
    """A session of two CPUs."""
    skate.init(num_cpus=2)
    yield
    skate.shutdown()


def test_no_room_ever(two: None) -> None:
    with pytest.raises(RuntimeError, match=r"has room for 2 of 3 executors of 1 CPU, 1.0 GB mem"):
        _hosted_session.place(order("a", 3, 1, "1g"), lambda group: None)
    with pytest.raises(RuntimeError, match=r"room for 0 of 1 .*also when nothing else runs"):
        _hosted_session.place(order("a", 1, 3, "1g"), lambda group: None)


def test_waiting_for_room_says_for_what(two: None, capsys: pytest.CaptureFixture[str]) -> None:
    class Holder:
        def here(self) -> int:
            return 1

    actor = skate.remote(Holder).options(num_cpus=1, name="bob").remote()
    skate.get(actor.here.remote())
    other = placement_group([{"CPU": 0.5}], name="pets")
    assert other.wait(10)
    found: list[Any] = []
    asked: list[Any] = []
    wanted = order("a", 2, 1, "1g")
    thread = threading.Thread(
        target=lambda: found.append(_hosted_session.place(wanted, asked.append, first_s=0.05))
    )
    thread.start()
    said = ""

    def told() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return "actor bob" in said

    until(told, "it says who holds what")
    assert "there is room for 0 of 2 executors of 1 CPU, 1.0 GB memory (SPREAD)" in said
    assert "placement group pets: 0.5 CPU" in said and "actor bob: 1 CPU" in said
    skate.kill(actor)
    remove_placement_group(other)
    thread.join(20)
    assert found == asked and found[0].bundle_specs == [{"CPU": 1.0, "memory": GB}] * 2
    remove_placement_group(found[0])


def test_attach_chooses_the_node_of_the_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = {"socket": "/a"}, {"socket": "/b"}
    assert _attach.choose([first, second], 0) == first
    monkeypatch.setenv("SKATE_SPARK_NODE", "/b")
    assert _attach.choose([first, second], 0) == second
    assert _attach.choose([first, {"socket": "/c", "executor": 5}], 5)["socket"] == "/c"


# ---------------------------------------------------------------------------- a JVM of ours


def script(text: str, folder: Path) -> Callable[[], Launch]:
    """A shell script in the place of a daemon of Spark."""
    return lambda: Launch(
        ["/bin/sh", "-c", text], dict(os.environ), str(folder), re.compile(r"READY (\w+)")
    )


def alive(pid: int) -> bool:
    """Is it there, and no zombie?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_daemon_is_started_anew_with_nothing_left(tmp_path: Path) -> None:
    janitor = Janitor()
    made = script("sleep 1000 & echo $! > child; echo READY $$ >&2; wait", tmp_path)
    daemon = Daemon("it", made, janitor, True)
    first = int(daemon.wait_ready(20)[1])
    child = int((tmp_path / "child").read_text())
    assert first == daemon.pid and alive(child)
    os.kill(first, signal.SIGKILL)
    until(lambda: daemon.starts == 2 and daemon.pid, "it is started again")
    second = int(daemon.wait_ready(20)[1])
    until(lambda: not alive(child), "what the first one started is gone")
    assert second != first
    child = int((tmp_path / "child").read_text())
    daemon.stop()
    assert daemon.pid == 0 and not alive(second)
    until(lambda: not alive(child), "and what the second one started")
    janitor.clean()


def test_daemon_that_never_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    janitor = Janitor()
    daemon = Daemon("it", script("echo oh no >&2; exit 3", tmp_path), janitor, True)
    with pytest.raises(SparkError, match=r"it ended with exit status 3; its last lines:\noh no"):
        daemon.wait_ready(20)
    assert daemon.starts == 3 and "it is not started again" in capsys.readouterr().err
    once = Daemon("it", script("echo READY 1 >&2; kill -9 $$", tmp_path), janitor, False)
    with pytest.raises(SparkError, match="it was killed by SIGKILL"):
        until(lambda: not once.wait_ready(20), "it is over")
    silent = Daemon("it", script("sleep 1000", tmp_path), janitor, True)
    with pytest.raises(SparkError, match="it was not ready within 0 s; it said nothing"):
        silent.wait_ready(0.05)
    silent.stop()

    def broken() -> Launch:
        raise RuntimeError("there is no Java")

    with pytest.raises(SparkError, match="it cannot start: there is no Java; it said nothing"):
        Daemon("it", broken, janitor, True).wait_ready(20)
    janitor.clean()


HOLDER = """
import os, re, sys
from skate.util.spark._hosted_jvm import Daemon, Launch
from skate.util.spark._janitor import Janitor
folder = sys.argv[1]
text = "sleep 1000 & echo $! > child; echo READY $$ >&2; wait"
launch = Launch(["/bin/sh", "-c", text], dict(os.environ), folder, re.compile(r"READY (\\w+)"))
daemon = Daemon("it", lambda: launch, Janitor("", folder), True)
print(daemon.wait_ready(20)[1], flush=True)
sys.stdin.read()
"""


def test_daemon_dies_with_its_maker(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdin is not None and holder.stdout is not None
    pid = int(holder.stdout.readline())
    child = int((folder / "child").read_text())
    assert alive(pid) and alive(child)
    holder.kill()
    holder.wait()
    until(lambda: not alive(pid) and not alive(child), "all that it started is gone")
    until(lambda: not folder.exists(), "its files, too")
    holder.stdin.close()
    holder.stdout.close()


# ------------------------------------------------------------- actors, with a Spark of paper

JAVA = """#!/bin/sh
case "$*" in
*master.Master*) echo "INFO Master: Starting Spark master at spark://127.0.0.1:1234" >&2 ;;
*) mkdir -p work/app; sleep 1000 & echo "INFO Worker: Successfully registered with master x" >&2 ;;
esac
sleep 1000
"""
PROGRAM = """
import os, sys, time
import skate
from skate.cluster_utils import Cluster
from skate.util.spark import _driver_job, _hosted_session as hosted
hosted.Hosted._open = lambda self, url: None  # the session, which needs a real one
_driver_job.announce = lambda *a: None
def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)  # asks again until a deadline
def look():
    return [skate.get(worker.look.remote()) for worker in hosted._active.workers]
if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    lost = cluster.add_node(num_cpus=1)
    skate.init(address=cluster.address)
    hosted.init_spark("a", 2, 1, "512m")
    before = look()
    assert len({word["socket"] for word in before}) == 2
    assert all(os.path.isdir(word["folder"]) for word in before)
    new = cluster.add_node(num_cpus=1)
    lost.kill_raylet()
    until(lambda: new.socket_path in {word["socket"] for word in look()})
    [dead] = [word["jvm"] for word in before if word["socket"] == lost.socket_path]
    until(lambda: not os.path.exists(f"/proc/{dead}"))
    if sys.argv[1] == "stop":
        hosted.stop_spark()
        until(lambda: skate.available_resources()["CPU"] == 3)
    print(sys.argv[1], flush=True)
    if sys.argv[1] == "kill":
        sys.stdin.read()
    skate.shutdown()
    cluster.shutdown()
"""


@pytest.mark.parametrize("how", ["stop", "end", "kill"])
def test_nothing_is_left(how: str, tmp_path: Path) -> None:
    (tmp_path / "spark" / "jars").mkdir(parents=True)
    (tmp_path / "spark" / "jars" / "spark-core_2.13-9.8.7.jar").touch()
    (tmp_path / "bin").mkdir()
    java = tmp_path / "bin" / "java"
    java.write_text(JAVA)
    java.chmod(0o755)
    temp = tempfile.mkdtemp(prefix="sko-")  # a short path, for sockets
    env = {**os.environ, "SPARK_HOME": str(tmp_path / "spark"), "TMPDIR": temp,
           "PATH": f"{java.parent}:{os.environ['PATH']}", "SKATE_HOSTED_TEST": temp}  # fmt: skip
    env.pop("JAVA_HOME", None)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, how], env=env, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as driver:  # fmt: skip
        assert driver.stdout is not None
        assert driver.stdout.readline() == f"{how}\n"
        if how == "kill":
            driver.kill()
    assert driver.returncode == (-signal.SIGKILL if how == "kill" else 0)
    until(lambda: not marked(temp), "all processes are gone")
    until(lambda: not list(Path(temp).glob("skate-*/s*")), "the files are gone")
    shutil.rmtree(temp)


def marked(mark: str) -> list[str]:
    """The living processes that were started with this mark."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"SKATE_HOSTED_TEST={mark}".encode() in (entry / "environ").read_bytes():
                found.append(entry.name)
    return found


# ------------------------------------------------------------------------------------- RayDP

NAMES = """
from skate._alias import install
install()
import raydp, ray
from raydp.utils import parse_memory_size
assert raydp.init_spark is ray.util.spark.init_spark and parse_memory_size("1 GB") == 1 << 30
assert raydp.spark.from_spark_recoverable and raydp.context.stop_spark is raydp.stop_spark
raydp.stop_spark()
for name in ("torch", "tf", "xgboost", "mpi", "estimator"):
    try:
        __import__("raydp." + name)
    except ImportError as error:
        assert isinstance(error, ray.exceptions.NotSupportedError), error
        assert f"raydp.{name} (" in str(error) and "Meanwhile: " in str(error), error
    else:
        raise AssertionError(name)
try:
    raydp.create_mpi_job
except AttributeError as error:
    assert "raydp.create_mpi_job (MPI jobs)" in str(error)
import sys
assert "pyspark" not in sys.modules
print("fine")
"""


def test_raydp_names() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NAMES], text=True, capture_output=True, timeout=60, check=False
    )
    assert done.stdout == "fine\n", done.stderr
