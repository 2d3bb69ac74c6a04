"""Objects across nodes: one to many, more than fits, a holder that dies, calls meanwhile.

Bytes are compared by digest: every array is different in each page."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from e2e_help import eventually

import skate as ray
from skate.cluster_utils import Cluster

MB = 1 << 20


def array_of(seed: int, megabytes: int) -> np.ndarray:
    return np.arange(seed, seed + megabytes * MB // 8, dtype=np.int64)


def digest_of(array: np.ndarray) -> str:
    return hashlib.blake2b(array.tobytes(), digest_size=16).hexdigest()


def shared_with(pid: int) -> int:
    """How often a raylet has memory that it shares with another: mapped, or as a descriptor."""
    count = Path(f"/proc/{pid}/maps").read_text().count("memfd:skate-near")
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            count += "memfd:skate-near" in os.readlink(fd)
        except FileNotFoundError:
            continue  # closed meanwhile
    return count


@ray.remote(num_cpus=0)
def digest(array: np.ndarray) -> str:
    return digest_of(array)


@ray.remote(num_cpus=0)
def make(megabytes: int) -> np.ndarray:
    return array_of(7, megabytes)


@ray.remote(num_cpus=0)
class Holder:
    """Keeps arrays on its node and hands out refs to them."""

    def __init__(self) -> None:
        self.refs: list = []

    def make(self, count: int, megabytes: int) -> list:
        self.refs = [ray.put(array_of(i, megabytes)) for i in range(count)]
        return self.refs

    def digest(self, refs: list) -> str:
        return digest_of(ray.get(refs[0]))

    def hold(self, refs: list) -> None:
        array = ray.get(refs[0])
        threading.Event().wait()
        del array

    def say(self, x: int) -> int:
        return x


@pytest.fixture
def nodes():
    """nodes(count, store) -> (cluster, added): a head and `count` more, with n0, n1, ..."""
    made: list[Cluster] = []

    def start(count: int, store: int, near: bool = True) -> tuple[Cluster, list]:
        more = {"object_store_memory": store,
                "_system_config": {"share_memory_between_raylets": near}}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **more})
        made.append(cluster)
        added = [cluster.add_node(num_cpus=2, resources={f"n{i}": 10}, **more)
                 for i in range(count)]
        ray.init(address=cluster.address)
        assert eventually(lambda: len(ray.nodes()) == count + 1)
        return cluster, added

    yield start
    ray.shutdown()
    for cluster in made:
        cluster.shutdown()


@pytest.mark.parametrize("near", [True, False])
def test_one_object_reaches_every_node_as_it_is(nodes, near):
    """Through memory that raylets of one machine share, and as between machines."""
    nodes(4, 200 * MB, near)
    arrays = [array_of(1, 24), array_of(2, 9), array_of(3, 1)]  # the last comes from its holder
    refs = [ray.put(array) for array in arrays]
    wanted = [digest_of(array) for array in arrays]
    got = [[digest.options(resources={f"n{i}": 1}).remote(ref) for ref in refs] for i in range(4)]
    assert [ray.get(row) for row in got] == [wanted] * 4


def test_pulls_of_more_than_the_store_holds_all_succeed(nodes):
    nodes(2, 64 * MB)
    refs = [ray.put(array_of(i, 12)) for i in range(8)]  # 96 MB: some of it in files
    wanted = [digest_of(array_of(i, 12)) for i in range(8)]
    got = [[digest.options(resources={f"n{i}": 1}).remote(ref) for ref in refs] for i in range(2)]
    assert [ray.get(row, timeout=120) for row in got] == [wanted] * 2
    holder = Holder.options(resources={"n0": 1}).remote()
    far = ray.get(holder.make.remote(8, 12))
    for i, ref in enumerate(far):
        assert digest_of(ray.get(ref, timeout=60)) == wanted[i]


def test_wait_with_fetch_local_brings_it_here_and_without_does_not(nodes):
    nodes(1, 100 * MB)
    holder = Holder.options(resources={"n0": 1}).remote()
    (ref,) = ray.get(holder.make.remote(1, 8))
    node = ray.get_runtime_context().get_node_id()

    def is_here() -> bool:
        return node in ray.experimental.get_object_locations([ref])[ref]["node_ids"]

    assert ray.wait([ref], fetch_local=False)[0] == [ref]
    assert not is_here()
    assert ray.wait([ref], fetch_local=True, timeout=60)[0] == [ref]
    assert digest_of(ray.get(ref)) == digest_of(array_of(0, 8))


def test_calls_go_on_while_a_large_object_comes(nodes):
    """Were calls behind the bytes, next to none would be answered before the last byte is here."""
    nodes(1, 500 * MB, near=False)
    holder, busy = (Holder.options(resources={"n0": 1}).remote() for _ in range(2))
    (ref,) = ray.get(holder.make.remote(1, 150))
    ray.get(busy.say.remote(0))
    calls = 0
    while not ray.wait([ref], timeout=0)[0]:
        assert ray.get(busy.say.remote(calls)) == calls
        calls += 1
    assert calls >= 5
    assert digest_of(ray.get(ref)) == digest_of(array_of(0, 150))


def test_a_holder_that_dies_while_others_receive(nodes):
    """What they cannot get from each other is made again on a node that joins."""
    cluster, far = nodes(3, 200 * MB)
    ref = make.options(resources={"n0": 1}, max_retries=-1).remote(64)
    ray.wait([ref], fetch_local=False)
    got = [digest.options(resources={f"n{i}": 1}, max_retries=-1).remote(ref) for i in (1, 2)]
    ray.wait([ref], timeout=0)  # and it is on its way to the driver's node
    far[0].kill_raylet()
    cluster.add_node(num_cpus=2, resources={"n0": 10}, object_store_memory=200 * MB)
    wanted = digest_of(array_of(7, 64))
    assert ray.get(got, timeout=100) == [wanted] * 2
    assert digest_of(ray.get(ref, timeout=100)) == wanted


@pytest.mark.parametrize("near", [True, False])
def test_the_rest_comes_from_a_copy_when_the_holder_is_gone(nodes, near):
    """It is on its way when its node dies; nothing may make it again; another node has it."""
    _, far = nodes(2, 400 * MB, near)
    ref = make.options(resources={"n0": 1}, max_retries=0).remote(100)
    reader = Holder.options(resources={"n1": 1}).remote()
    wanted = digest_of(array_of(7, 100))
    assert ray.get(reader.digest.remote([ref])) == wanted
    ray.wait([ref], timeout=0)
    far[0].kill_raylet()
    assert digest_of(ray.get(ref, timeout=100)) == wanted


def test_a_copy_of_another_node_takes_the_place_of_what_is_lost(nodes):
    """Nothing may make it again, and its owner, the driver, never had the bytes."""
    _, far = nodes(2, 200 * MB)
    ref = make.options(resources={"n0": 1}, max_retries=0).remote(16)
    unread = make.options(resources={"n0": 1}, max_retries=0).remote(16)
    reader = Holder.options(resources={"n1": 1}).remote()
    wanted = digest_of(array_of(7, 16))
    assert ray.get(reader.digest.remote([ref])) == wanted
    ray.wait([unread], fetch_local=False)
    far[0].kill_raylet()
    assert eventually(lambda: sum(n["Alive"] for n in ray.nodes()) == 2)
    assert digest_of(ray.get(ref, timeout=60)) == wanted
    with pytest.raises(ray.exceptions.ObjectLostError):
        ray.get(unread, timeout=60)  # nobody has a copy of that
    assert ray.get(reader.digest.remote([ref])) == wanted


def test_a_receiver_that_is_killed_leaves_nothing_with_the_sender(nodes):
    """In the midst of a pull through shared memory. The sender goes on serving others."""
    cluster, far = nodes(2, 400 * MB)
    holder, reader = (Holder.options(resources={f"n{i}": 1}).remote() for i in (0, 1))
    (ref,) = ray.get(holder.make.remote(1, 200))
    ray.get(reader.say.remote(0))
    assert shared_with(far[0].pid) == 0
    got = reader.hold.remote([ref])
    assert eventually(lambda: shared_with(far[0].pid) == 1)
    far[1].kill_raylet()
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(got, timeout=60)
    assert eventually(lambda: shared_with(far[0].pid) == 0)
    assert digest_of(ray.get(ref, timeout=60)) == digest_of(array_of(0, 200))
    assert shared_with(cluster.head_node.pid) == 2  # mapped, and the descriptor


def test_a_sender_that_is_killed_leaves_nothing_with_the_receiver(nodes):
    """In the midst of a pull through shared memory, with no other copy: a typed error."""
    cluster, far = nodes(1, 400 * MB)
    ref = make.options(resources={"n0": 1}, max_retries=0).remote(200)
    ray.wait([ref], fetch_local=False)
    head = cluster.head_node.pid
    assert shared_with(head) == 0
    ray.wait([ref], timeout=0)  # it is on its way
    assert eventually(lambda: shared_with(head) == 2 and shared_with(far[0].pid) == 1)
    far[0].kill_raylet()
    try:
        array = ray.get(ref, timeout=60)
    except ray.exceptions.ObjectLostError:
        pass
    else:  # all of it had come already
        assert digest_of(array) == digest_of(array_of(7, 200))
    assert eventually(lambda: shared_with(head) == 0)
