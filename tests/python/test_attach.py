"""Processes that join a driver's job (skate.util.spark.attach), without Spark."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import pytest

import skate
from skate import _core
from skate.cluster_utils import Cluster
from skate.util.spark import _attach, _driver_job

LOOP = """
import base64, json, os, sys, traceback
import cloudpickle
import skate
from skate.util.spark import attach
from skate import _core
space = dict(globals())
for line in sys.stdin:
    code, carried = json.loads(line)
    space["given"] = cloudpickle.loads(base64.b64decode(carried)) if carried else None
    space["out"] = None
    try:
        exec(code, space)
        print(json.dumps(["ok", space["out"]]), flush=True)
    except BaseException as error:
        print(json.dumps([type(error).__name__, str(error)]), flush=True)
"""


class Udf:
    """Another process that does as it is told, like Spark's Python worker."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOOP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begin(self, code: str, *given: Any) -> None:
        carried = base64.b64encode(cloudpickle.dumps(given)).decode() if given else ""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([code, carried]) + "\n")
        self.process.stdin.flush()

    def end(self) -> list[Any]:
        assert self.process.stdout is not None
        return list(json.loads(self.process.stdout.readline()))

    def run(self, code: str, *given: Any) -> Any:
        """What `out` is after this code. `given`: what its closure has captured."""
        self.begin(code, *given)
        kind, value = self.end()
        assert kind == "ok", f"{kind}: {value}"
        return value

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


@pytest.fixture(scope="module")
def cluster(no_leaks: None) -> Iterator[Cluster]:
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    yield made
    skate.shutdown()
    made.shutdown()


@pytest.fixture()
def driver(cluster: Cluster) -> Iterator[str]:
    """This program, with a session of its own; the address."""
    skate.shutdown()
    skate.init(cluster.address, namespace="ours", runtime_env={"env_vars": {"COLOUR": "green"}})
    yield cluster.address
    skate.shutdown()


@pytest.fixture()
def udf() -> Iterator[Callable[[], Udf]]:
    """Makes them."""
    made: list[Udf] = []

    def make() -> Udf:
        made.append(Udf())
        return made[-1]

    yield make
    for one in made:
        one.kill()


@skate.remote
class Keeper:
    """Holds refs for whoever comes."""

    def __init__(self) -> None:
        self.held: list[Any] = []

    def hold(self, refs: list[Any]) -> int:
        self.held += refs
        return len(self.held)

    def read(self) -> list[Any]:
        return [skate.get(ref) for ref in self.held]


def eventually(question: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := question()) and time.monotonic() < deadline:
        time.sleep(0.01)  # asks again until a deadline
    return answer


def my_job() -> str:
    return str(skate.get_runtime_context().get_job_id())


def jobs() -> int:
    from skate.util.state import list_jobs

    return len(list_jobs())


def types() -> dict[int, str]:
    from skate.util.state import list_workers

    return {row.pid: row.worker_type for row in list_workers()}


def attach(address: str) -> str:
    return f"attach({address!r})\n"


JOB = "out = skate.get_runtime_context().get_job_id()"


# ------------------------------------------------------------------------------------- tests


def test_it_is_in_the_drivers_job(driver: str, udf: Callable[[], Udf]) -> None:
    one, before = udf(), jobs()
    keeper = Keeper.remote()
    ref, large = skate.put({"x": 1}), skate.put(b"b" * 300_000)
    colour = skate.remote(lambda: os.environ["COLOUR"])
    out = one.run(
        attach(driver) + "ref, keeper, colour, large = given\n"
        "context = skate.get_runtime_context()\n"
        "out = [skate.get(ref), skate.get(keeper.hold.remote([ref, skate.put(7)])),\n"
        "       skate.get(colour.remote()), len(skate.get(large)), context.get_job_id(),\n"
        "       context.namespace, skate.get(skate.remote(abs).remote(-5))]",
        ref, keeper, colour, large,
    )  # fmt: skip
    assert out == [{"x": 1}, 2, "green", 300_000, my_job(), "ours", 5]
    assert jobs() == before, "it has started no job"
    assert types()[one.process.pid] == types()[os.getpid()] == "DRIVER"
    assert one.run(attach(driver) + JOB) == my_job(), "again: it stays"
    assert skate.get(keeper.read.remote()) == [{"x": 1}, 7]


def test_refs_work_without_a_word(driver: str, udf: Callable[[], Udf]) -> None:
    one, two = udf(), udf()
    keeper = Keeper.remote()
    assert one.run("out = skate.get(given[0]), " + JOB[6:], skate.put(3)) == [3, my_job()]
    assert two.run("out = skate.get(given[0].hold.remote([]))", keeper) == 0
    assert two.run(JOB) == my_job()


def test_what_it_made_outlives_it(driver: str, udf: Callable[[], Udf]) -> None:
    one = udf()
    keeper = Keeper.remote()
    code = (
        "keeper, slow = given\n"
        "refs = [skate.put(1), skate.put(b'2' * 500_000), slow.remote()]\n"
        "out = skate.get(keeper.hold.remote(refs)), os.getpid()"
    )

    def finish() -> str:
        import time

        time.sleep(0.5)
        return "finished"

    held, pid = one.run(code, keeper, skate.remote(finish))
    assert held == 3
    os.kill(pid, 9)
    assert skate.get(keeper.read.remote()) == [1, b"2" * 500_000, "finished"]
    other = udf()
    assert other.run("out = skate.get(given[0].hold.remote([]))", keeper) == 3


def test_the_driver_reads_what_it_returns(driver: str, udf: Callable[[], Udf]) -> None:
    """A ref that went through a pickle of Spark's, from the UDF to the driver."""
    one = udf()
    made = one.run(
        attach(driver) + "ref = skate.put([1, 2])\n"
        "out = base64.b64encode(cloudpickle.dumps(ref)).decode()",
        skate.put(0),
    )
    ref = cloudpickle.loads(base64.b64decode(made))
    assert skate.get(ref) == [1, 2]
    one.kill()
    assert skate.get(ref) == [1, 2]


def test_several_share_the_workers(driver: str, udf: Callable[[], Udf]) -> None:
    members = [udf() for _ in range(4)]
    where = skate.remote(os.getpid)
    code = (
        attach(driver) + "where = given[0]\n"
        "four = lambda: skate.get([where.remote() for _ in range(4)])\n"
        "out = sorted({pid for _ in range(5) for pid in four()})"
    )
    for one in members:
        one.begin(code, where, skate.put(0))
    pids = set()
    for one in members:
        kind, value = one.end()
        assert kind == "ok", value
        pids |= set(value)
    assert len(pids) <= 4, "the job's workers serve all, not two of its own each"
    for one in members:
        one.run("skate.shutdown()")
    later = {skate.get(where.remote()) for _ in range(5)}
    assert later & pids, "and they live when their users have gone"


def test_nobody_to_join(driver: str, udf: Callable[[], Udf]) -> None:
    one = udf()
    alone = one.run(attach(driver) + JOB)
    assert alone != my_job()
    assert one.run("out = skate.get(skate.remote(abs).remote(-2))") == 2
    assert one.run(attach(driver) + JOB) == alone, "it stays"


def test_the_driver_is_found_in_the_cluster(driver: str, udf: Callable[[], Udf]) -> None:
    number = int.from_bytes(bytes.fromhex(my_job()), "little")
    found = _driver_job.find(0)
    assert found != number
    from skate import _api, _wire

    _api._call(_wire.GCS, "kv_put", key="spark-driver:the cluster's", overwrite=1,
               value=_core.pack(number.to_bytes(4, "little")))  # fmt: skip
    try:
        assert _driver_job.find(0) == number
        assert udf().run(attach(driver) + JOB) == my_job()
    finally:
        _api._call(_wire.GCS, "kv_del", key="spark-driver:the cluster's", prefix=0)


def test_a_job_that_ends(cluster: Cluster, driver: str, udf: Callable[[], Udf]) -> None:
    one = udf()
    never = skate.remote(time.sleep).options(num_cpus=0)
    code = attach(driver) + "old, unused = given\nskate.get(old)\n" + JOB
    assert one.run(code, skate.put(1), skate.put(1)) == my_job()
    first = my_job()
    one.begin("skate.get(given[0].remote(600))", never)
    assert eventually(lambda: any("sleep" in row.name for row in running())), "it waits"
    skate.shutdown()
    kind, text = one.end()
    assert kind == "RaySystemError" and "the job that this process had joined has ended" in text
    skate.init(cluster.address)
    assert my_job() != first
    code = attach(driver) + "out = [skate.get(given[0]), skate.get_runtime_context().get_job_id()]"
    assert one.run(code, skate.put(2)) == [2, my_job()]
    for name, error in (("old", "ValueError"), ("unused", "OwnerDiedError")):
        one.begin(f"skate.get({name})")
        kind, text = one.end()
        assert kind == error, text


def running() -> list[Any]:
    from skate.util.state import list_tasks

    return [row for row in list_tasks() if row.state == "RUNNING"]


def test_a_killed_driver(cluster: Cluster, udf: Callable[[], Udf]) -> None:
    """Its members are cut off, and a ref of its session does not pass for another's."""
    skate.shutdown()
    one, lead = udf(), udf()
    made = lead.run(
        f"skate.init({cluster.address!r})\n"
        "out = base64.b64encode(cloudpickle.dumps(skate.put('of the first'))).decode()"
    )
    read = "out = skate.get(cloudpickle.loads(base64.b64decode(text)))"
    assert one.run(f"text = {made!r}\n" + read) == "of the first"
    lead.kill()
    assert eventually(lambda: one.run("out = _core.alive()"))
    job = one.run(attach(cluster.address) + JOB)
    one.begin("skate.get(cloudpickle.loads(base64.b64decode(text)), timeout=30)")
    kind, text = one.end()
    assert kind in ("OwnerDiedError", "ObjectLostError"), text
    assert one.run(JOB) == job


def test_refs_of_another_cluster_are_refused() -> None:
    carried = _core._ref_carried(b"\1" * 16, True, "127.0.0.1:1", 3)
    assert _core.carried() == ("127.0.0.1:1", 3)
    try:
        skate.shutdown()
        skate.init(num_cpus=1)
        with pytest.raises(ValueError, match=r"whose head has port 1, and .* is in another one"):
            skate.get(carried)
        again = cloudpickle.loads(cloudpickle.dumps(carried))
        assert again == carried
        assert _attach.carried_pair(("127.0.0.1:1", "ray://127.0.0.1:1"), 9)[0] == "127.0.0.1:1"
        assert _core.carried() == ("127.0.0.1:1", 9)
    finally:
        _core.carry("", 0)
        skate.shutdown()
    assert _core.carried() is None


def test_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SKATE_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConnectionError, match="given no address"):
        _attach.attach()
