"""Deaths and what the error says of them."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time

import pytest
from compat_target import ON_RAY, PATIENCE, exceptions, ray


@ray.remote(max_retries=0)
def die(how):
    print("the last thing it said", flush=True)
    print("and its error", file=sys.stderr, flush=True)
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), getattr(signal, how))


@ray.remote
class Mortal:
    def pid(self):
        return os.getpid()

    def die(self, how):
        print("the last thing it said", flush=True)
        if how == "exit":
            os._exit(7)
        os.kill(os.getpid(), getattr(signal, how))

    def leave(self):
        ray.actor.exit_actor()


def words(how):
    return "code 7" if how == "exit" else how


@pytest.mark.row("5.crashed")
@pytest.mark.parametrize("how", ["exit", "SIGKILL", "SIGSEGV", "SIGABRT"])
def test_a_worker(cluster, how):
    with pytest.raises(exceptions.WorkerCrashedError) as caught:
        ray.get(die.remote(how), timeout=30 * PATIENCE)
    if ON_RAY:  # there it says only that it died
        return
    text = str(caught.value)
    assert words(how) in text
    assert "on node 1 (" in text and " MB of memory" in text
    assert "| the last thing it said" in text and "| and its error" in text
    assert ("from outside" in text) == (how == "SIGKILL")
    assert len(text) < 4096


@pytest.mark.row("5.crashed")
def test_what_depends_on_it_says_the_same(cluster):
    @ray.remote
    def plain(x):
        return x

    with pytest.raises(exceptions.WorkerCrashedError) as caught:
        ray.get(plain.remote(die.remote("exit")), timeout=30 * PATIENCE)
    assert ON_RAY or "code 7" in str(caught.value)


@pytest.mark.row("5.actor_error")
@pytest.mark.parametrize("how", ["exit", "SIGKILL"])
def test_an_actor(cluster, how):
    actor = Mortal.remote()
    pid = ray.get(actor.pid.remote(), timeout=30 * PATIENCE)
    with pytest.raises(exceptions.ActorDiedError) as caught:
        ray.get(actor.die.remote(how), timeout=30 * PATIENCE)
    with pytest.raises(exceptions.ActorDiedError) as later:
        ray.get(actor.pid.remote(), timeout=30 * PATIENCE)
    if ON_RAY:
        return
    for text in (str(caught.value), str(later.value)):
        assert words(how) in text and f"process {pid} " in text
        assert "| the last thing it said" in text


@pytest.mark.row("1.kill", "5.actor_error")
def test_who_killed_an_actor(cluster, eventually):
    actor = Mortal.remote()
    pid = ray.get(actor.pid.remote(), timeout=30 * PATIENCE)
    ray.kill(actor)

    def error():
        try:
            ray.get(actor.pid.remote(), timeout=30 * PATIENCE)
        except exceptions.ActorDiedError as caught:
            return caught
        return None

    text = str(eventually(error, 20))
    assert "ray.kill" in text
    if not ON_RAY:
        assert f"called by the driver (process {os.getpid()}" in text
        assert f"process {pid} " in text


@pytest.mark.row("1.kill", "5.actor_error")
def test_killed_by_a_task(cluster, eventually):
    @ray.remote
    def killer(victim):
        ray.kill(victim)
        return os.getpid()

    actor = Mortal.remote()
    ray.get(actor.pid.remote(), timeout=30 * PATIENCE)
    pid = ray.get(killer.remote(actor), timeout=30 * PATIENCE)

    def error():
        try:
            ray.get(actor.pid.remote(), timeout=30 * PATIENCE)
        except exceptions.ActorDiedError as caught:
            return caught
        return None

    text = str(eventually(error, 20))
    assert ON_RAY or f"killer() (process {pid}" in text


@pytest.mark.row("5.actor_error")
def test_an_actor_that_left(cluster):
    actor = Mortal.remote()
    with pytest.raises(exceptions.ActorDiedError) as caught:
        ray.get(actor.leave.remote(), timeout=30 * PATIENCE)
    assert "exit_actor" in str(caught.value)


@pytest.mark.row("5.system")
def test_the_node_of_a_task_dies(no_cluster, tmp_path, eventually):
    @ray.remote(max_retries=0, num_cpus=0, resources={"far": 1})
    def far(path):
        open(path, "w").close()
        time.sleep(600)

    utils = importlib.import_module(f"{ray.__name__}.cluster_utils")
    cluster = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        node = cluster.add_node(num_cpus=1, resources={"far": 1})
        ray.init(address=cluster.address)
        started = tmp_path / "started"
        ref = far.remote(str(started))
        eventually(started.exists, 20)
        cluster.remove_node(node, allow_graceful=False)
        with pytest.raises((exceptions.NodeDiedError, exceptions.WorkerCrashedError)) as caught:
            ray.get(ref, timeout=30 * PATIENCE)
        if not ON_RAY:
            assert type(caught.value) is exceptions.NodeDiedError
            assert "node 2 is lost" in str(caught.value)
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.row("5.system")
def test_errors_of_the_system_are_errors_of_ray():
    for name in ("ObjectStoreFullError", "OutOfDiskError", "OutOfMemoryError", "NodeDiedError",
                 "LocalRayletDiedError", "RaySystemError"):  # fmt: skip
        error = getattr(exceptions, name)
        assert issubclass(error, exceptions.RayError)
        assert not issubclass(error, exceptions.RayTaskError)
