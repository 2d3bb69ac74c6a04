"""Objects that outlive their owner: other nodes, both ends dead, and that nothing is left after."""

from __future__ import annotations

import os
import random
import signal
import time

import numpy as np
import pytest
from e2e_help import eventually

import skate as ray
from skate import _core, exceptions
from skate.cluster_utils import Cluster


@pytest.fixture
def here():
    ray.shutdown()
    ray.init(num_cpus=2, object_store_memory=200 << 20)
    yield
    ray.shutdown()


@pytest.fixture
def cluster():
    ray.shutdown()
    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "resources": {"here": 10}}
    )
    made.add_node(num_cpus=2, resources={"far": 10})
    made.connect()
    yield made
    ray.shutdown()
    made.shutdown()


@ray.remote(num_cpus=0)
class Peer:
    """Makes, keeps, passes on."""

    def __init__(self):
        self.held = []

    def pid(self):
        return os.getpid()

    def make(self, size=100_000):
        return [ray.put(np.full(size, 7))]

    def result(self, **options):
        ref = full.options(**options).remote()
        ray.wait([ref], fetch_local=False)
        return [ref]

    def hold(self, refs):
        self.held += refs

    def drop(self):
        self.held = []

    def read(self):
        return [int(ray.get(r)[0]) for r in self.held]

    def objects(self):
        return _core.stats()["objects"]


@ray.remote(num_cpus=0)
def full():
    return np.full(100_000, 7)


@ray.remote(num_cpus=0)
def pid_and_full():
    return os.getpid(), full_array()


def full_array():
    return np.full(100_000, 7)


@ray.remote(num_cpus=0)
def first(x):
    return int(x[0])


def kill_pid(pid):
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not os.path.exists(f"/proc/{pid}"))


def kill(actor):
    os.kill(ray.get(actor.pid.remote(), timeout=30), signal.SIGKILL)
    with pytest.raises(exceptions.RayActorError):
        ray.get(actor.pid.remote(), timeout=30)


def test_an_owner_on_another_node_dies(cluster):
    far = Peer.options(resources={"far": 1}).remote()
    (put,) = ray.get(far.make.remote())
    (made,) = ray.get(far.result.remote(resources={"far": 1}))
    (here,) = ray.get(far.result.remote(resources={"here": 1}))
    kill(far)
    for ref in (put, made, here):
        assert ray.get(ref, timeout=20)[0] == 7
        assert ray.get(first.options(resources={"far": 1}).remote(ref), timeout=20) == 7
        assert ray.get(first.options(resources={"here": 1}).remote(ref), timeout=20) == 7


def test_a_holder_on_another_node_keeps_it(cluster):
    owner = Peer.options(resources={"here": 1}).remote()
    keeper = Peer.options(resources={"far": 1}).remote()
    ray.get(keeper.hold.remote(ray.get(owner.make.remote())))
    kill(owner)
    assert ray.get(keeper.read.remote(), timeout=20) == [7]
    until = time.monotonic() + 4  # longer than what nobody holds is kept: the keeper's word counts
    while time.monotonic() < until:
        assert ray.get(keeper.read.remote(), timeout=20) == [7]


def test_a_worker_of_another_node_dies_after_its_result(cluster):
    ref = pid_and_full.options(resources={"far": 1}).remote()
    ray.wait([ref], fetch_local=False)
    pid = ray.get(far_worker.options(resources={"far": 1}).remote())
    kill_pid(pid)
    assert ray.get(ref, timeout=20)[1][0] == 7


@ray.remote(num_cpus=0)
def far_worker():
    return os.getpid()


@pytest.mark.parametrize("order", ["owner first", "holder first"])
@pytest.mark.parametrize("where", ["here", "far"])
def test_owner_and_holder_die(cluster, where, order):
    owner = Peer.options(resources={"here": 1}).remote()
    (ref,) = ray.get(owner.make.remote())  # owner holds it itself
    (other,) = ray.get(owner.result.remote(resources={where: 1}))
    holder = ray.get(far_worker.options(resources={where: 1}).remote())
    if order == "owner first":
        kill(owner)
        kill_pid(holder)
    else:
        kill_pid(holder)
        kill(owner)
    assert ray.get(ref, timeout=20)[0] == 7
    assert ray.get(other, timeout=20)[0] == 7


def test_the_store_is_empty_again(here):
    """Makers die with half of the store, again and again; what they made is read and dropped."""
    for _ in range(3):
        maker = Peer.remote()
        (ref,) = ray.get(maker.make.remote(12_000_000))
        kill(maker)
        assert ray.get(ref, timeout=20)[-1] == 7
        del ref, maker
        assert eventually(lambda: _core.stats()["objects"] <= 1)  # the class


def test_one_small_object_does_not_keep_the_rest(here):
    """Of a dead maker's store only the piece with what is held stays."""
    kept = []
    for _ in range(4):
        maker = Peer.remote()
        large = ray.get(maker.make.remote(12_000_000))  # half of the store
        kept += ray.get(maker.make.remote(1_000))
        kill(maker)
        del large, maker
        left = 1 + len(kept)  # and the class
        assert eventually(lambda n=left: _core.stats()["objects"] <= n)
    assert [int(a[0]) for a in ray.get(kept, timeout=20)] == [7] * 4


def test_nothing_is_left_when_all_is_dropped(here):
    peers = [Peer.remote() for _ in range(3)]
    before = ray.get([p.objects.remote() for p in peers])
    base = _core.stats()["objects"]
    refs = ray.get(peers[0].make.remote())
    nested = ray.put([ray.put([refs[0], ray.put("x")])])
    ray.get([p.hold.remote([refs[0]]) for p in peers])
    ray.get(peers[1].hold.remote(ray.get(peers[2].make.remote())))
    assert ray.get(peers[1].read.remote()) == [7, 7]
    del refs, nested
    ray.get([p.drop.remote() for p in peers])
    assert eventually(lambda: ray.get([p.objects.remote() for p in peers]) == before)
    assert eventually(lambda: _core.stats()["objects"] == base)
    assert _core.stats()["pins"] == 0 and _core.stats()["tasks_pending"] <= 3


def test_owners_die_at_random(here):
    """Refs of many owners travel among peers while owners are killed: each is read everywhere."""
    random.seed(5)
    keepers = [Peer.remote() for _ in range(2)]
    ray.get([k.pid.remote() for k in keepers])
    base = _core.stats()["objects"]
    held = [0, 0]
    for _ in range(8):
        owners = [Peer.remote() for _ in range(2)]
        made = ray.get([o.make.remote(random.choice([100, 5_000])) for o in owners])
        calls = []
        for (ref,) in made:
            k = random.randrange(2)
            calls.append(keepers[k].hold.remote([ref]))
            held[k] += 1
        for owner in owners:
            ray.kill(owner)
        ray.get(calls)
        del made, calls, ref, owners, owner
    for k in range(2):
        assert ray.get(keepers[k].read.remote(), timeout=60) == [7] * held[k]
    ray.get([k.drop.remote() for k in keepers])
    assert eventually(lambda: _core.stats()["objects"] <= base)
