"""Nodes that fall silent: suspected and spared, or declared dead; and how they come back."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from e2e_help import until

import skate as ray

PATIENCE = 60.0


def node_of(member):
    """Its row of nodes()."""
    return next(n for n in ray.nodes() if n["NodeID"] == member.node_id)


def cluster_that_waits(ms):
    """A connected head; a node is dead after so much silence."""
    from skate.cluster_utils import Cluster

    return Cluster(initialize_head=True, connect=True, head_node_args={
        "num_cpus": 1, "_system_config": {"health_check_timeout_ms": ms}})  # fmt: skip


@pytest.fixture()
def patient(no_leaks):
    """A cluster in which silence alone kills nobody."""
    made = cluster_that_waits(600_000)
    yield made
    made.shutdown()


@pytest.fixture()
def far(patient):
    member = patient.add_node(num_cpus=2, resources={"far": 100})
    yield member
    try:
        os.kill(member.pid, signal.SIGCONT)  # a stopped one would end late
    except ProcessLookupError:
        pass


@ray.remote(resources={"far": 1}, num_cpus=0)
class Counter:
    def __init__(self):
        self.n = 0

    def add(self):
        self.n += 1
        return self.n

    def pid(self):
        return os.getpid()


@ray.remote(num_cpus=1)
def where():
    return ray.get_runtime_context().get_node_id()


@ray.remote(resources={"far": 1}, num_cpus=0)
def there(i):
    return i


def test_a_stopped_raylet_is_suspected_and_returns(patient, far):
    counter = Counter.remote()
    assert ray.get(counter.add.remote(), timeout=PATIENCE) == 1
    home = ray.get_runtime_context().get_node_id()
    os.kill(far.pid, signal.SIGSTOP)
    begin = time.monotonic()
    doubt = until(lambda: node_of(far)["Suspect"], PATIENCE, "the node is suspected")
    print(f"suspected after {time.monotonic() - begin:.2f} s: {doubt}")
    assert "no beat" in doubt and node_of(far)["Alive"] and not node_of(far)["DeathReasonMessage"]
    said = subprocess.run(
        [str(Path(sys.executable).with_name("skate")), "status", "--address", patient.address],
        capture_output=True, text=True, check=True, timeout=PATIENCE,
    )  # fmt: skip
    assert said.stdout.count("suspected: no beat of it") == 1
    # What can run elsewhere does; what must run there waits.
    waits = [there.remote(i) for i in range(3)]
    call = counter.add.remote()
    assert {ray.get(where.remote(), timeout=PATIENCE) for _ in range(4)} == {home}
    time.sleep(max(0.0, begin + 3.0 - time.monotonic()))  # three seconds of silence, no less
    assert node_of(far)["Alive"]
    os.kill(far.pid, signal.SIGCONT)
    assert ray.get(waits, timeout=PATIENCE) == [0, 1, 2]
    assert ray.get(call, timeout=PATIENCE) == 2
    until(lambda: node_of(far)["Suspect"] == "", PATIENCE, "it is no longer suspected")
    assert node_of(far)["Alive"]


def test_a_killed_raylet_is_known_dead_at_once(far):
    counter = Counter.remote()
    assert ray.get(counter.add.remote(), timeout=PATIENCE) == 1
    elsewhere = Counter.options(resources={}, max_restarts=1).remote()
    lost = there.options(max_retries=0).remote(0)
    assert ray.get([lost, elsewhere.add.remote()], timeout=PATIENCE) == [0, 1]
    os.kill(far.pid, signal.SIGKILL)
    begin = time.monotonic()
    until(lambda: not node_of(far)["Alive"], PATIENCE, "it is known to be dead")
    seen = time.monotonic() - begin
    with pytest.raises(ray.exceptions.ActorDiedError) as error:
        ray.get(counter.add.remote(), timeout=PATIENCE)
    print(f"known dead after {seen:.2f} s, told after {time.monotonic() - begin:.2f} s")
    assert seen < 20  # a machine at its limit; on its own it takes half a second
    assert "nobody listens at its port" in node_of(far)["DeathReasonMessage"]
    assert "node" in str(error.value)
    assert ray.get(where.remote(), timeout=PATIENCE)


@pytest.fixture()
def strict(no_leaks):
    """A cluster that declares a node dead after two seconds of silence; its second node."""
    made = cluster_that_waits(2000)
    member = made.add_node(num_cpus=2, resources={"far": 100})
    yield made, member
    for node in made.list_all_nodes():
        os.kill(node.pid, signal.SIGCONT)
    made.shutdown()


def anew(member, old):
    """Another node of the same process; NodeID of what it was before: `old`."""
    return [n for n in ray.nodes() if n["Alive"] and n["NodeID"] not in old
            and n["RayletSocketName"] == member.socket_path]  # fmt: skip


def test_a_node_that_was_declared_dead_joins_anew(strict):
    _, member = strict
    counter = Counter.remote()
    worker = ray.get(counter.pid.remote(), timeout=PATIENCE)
    old = {n["NodeID"] for n in ray.nodes()}
    os.kill(member.pid, signal.SIGSTOP)
    until(lambda: not node_of(member)["Alive"], PATIENCE, "it is declared dead")
    assert "no sign of life" in node_of(member)["DeathReasonMessage"]
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(counter.add.remote(), timeout=PATIENCE)
    waits = [there.remote(i) for i in range(3)]  # nobody can run these now
    os.kill(member.pid, signal.SIGCONT)
    begin = time.monotonic()
    until(lambda: anew(member, old), PATIENCE, "it is back under another name")
    print(f"joined anew after {time.monotonic() - begin:.2f} s")
    assert ray.get(waits, timeout=PATIENCE) == [0, 1, 2]
    assert ray.get(Counter.remote().add.remote(), timeout=PATIENCE) == 1
    until(lambda: not os.path.exists(f"/proc/{worker}"), PATIENCE, "its old worker is gone")
    assert anew(member, old)[0]["Suspect"] == ""
    with open(f"/proc/{member.pid}/comm") as comm:
        assert comm.read().strip() == "skate-raylet"
    again = old | {n["NodeID"] for n in ray.nodes()}
    os.kill(member.pid, signal.SIGSTOP)  # once more, the settings are still there
    until(lambda: all(not n["Alive"] for n in ray.nodes() if n["NodeID"] in again
                      and n["RayletSocketName"] == member.socket_path), PATIENCE, "dead again")
    os.kill(member.pid, signal.SIGCONT)
    until(lambda: anew(member, again), PATIENCE, "it is back again")


def test_the_driver_of_such_a_node_gets_a_typed_error(strict):
    cluster, _ = strict
    assert ray.get(where.remote(), timeout=PATIENCE)

    def is_over():
        os.kill(cluster.head_node.pid, signal.SIGSTOP)
        time.sleep(3.0)  # silent for longer than the cluster waits
        os.kill(cluster.head_node.pid, signal.SIGCONT)
        try:
            ray.get(where.remote(), timeout=5)
        except ray.exceptions.LocalRayletDiedError as error:
            return error
        except ray.exceptions.GetTimeoutError:
            pass
        return None

    error = until(is_over, PATIENCE, "the driver hears that its node is no more")
    print(error)
    ray.shutdown()
    ray.init(address=cluster.address)
    assert ray.get(where.remote(), timeout=PATIENCE)
    assert ray.get(there.remote(5), timeout=PATIENCE) == 5


@contextmanager
def held(pid):
    """The main thread of a process stands; its other threads go on."""
    libc = ctypes.CDLL(None, use_errno=True)
    seize, interrupt, detach = 0x4206, 0x4207, 17
    if libc.ptrace(seize, pid, None, None) < 0 or libc.ptrace(interrupt, pid, None, None) < 0:
        pytest.skip(f"this system does not let us hold a thread: errno {ctypes.get_errno()}")
    os.waitpid(pid, 0x40000000)  # __WALL: it stands
    try:
        yield
    finally:
        libc.ptrace(detach, pid, None, None)


def test_a_busy_main_loop_is_not_a_dead_node(strict):
    _, member = strict
    counter = Counter.remote()
    assert ray.get(counter.add.remote(), timeout=PATIENCE) == 1
    with held(member.pid):  # for longer than the time after which silence is death
        doubt = until(lambda: node_of(member)["Suspect"], PATIENCE, "its loop is seen to stand")
        assert "has not come round" in doubt and node_of(member)["Alive"]
        call = counter.add.remote()
    assert ray.get(call, timeout=PATIENCE) == 2  # the same actor
    until(lambda: not node_of(member)["Suspect"], PATIENCE, "it comes round again")


def test_a_control_store_that_was_stopped_blames_nobody(strict):
    cluster, member = strict
    counter = Counter.remote()
    assert ray.get(counter.add.remote(), timeout=PATIENCE) == 1
    before = [n["NodeID"] for n in ray.nodes()]
    store = cluster._gcs.gcs.pid
    os.kill(store, signal.SIGSTOP)
    time.sleep(3.0)
    os.kill(store, signal.SIGCONT)
    for _ in range(20):
        rows = ray.nodes()
        assert [n["NodeID"] for n in rows] == before and all(n["Alive"] for n in rows)
        time.sleep(0.05)
    assert ray.get(counter.add.remote(), timeout=PATIENCE) == 2
