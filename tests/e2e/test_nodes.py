"""Several real nodes on loopback: tasks and actors elsewhere, objects across, loss of a node."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
from e2e_help import eventually

import skate as ray
from skate.cluster_utils import Cluster


def node_of_task():
    return ray.get_runtime_context().get_node_id()


def test_a_task_goes_to_the_node_that_has_the_resource(cluster):
    node = cluster.add_node(num_cpus=1, resources={"far": 1})
    cluster.connect()
    assert eventually(lambda: ray.cluster_resources()["CPU"] == 2)

    @ray.remote
    def where():
        return node_of_task(), os.getppid()

    here = node_of_task()  # the driver's node
    there, _ = ray.get(where.options(resources={"far": 1}, num_cpus=0).remote())
    assert here != there
    ids = {n["NodeID"] for n in ray.nodes() if n["Alive"]}
    assert {here, there} == ids
    assert len(ids) == 2 and node.node_id[:8]


def test_values_cross_nodes_both_ways(cluster):
    cluster.add_node(num_cpus=1, resources={"far": 1}, object_store_memory=200 << 20)
    cluster.connect()

    @ray.remote(resources={"far": 0.1}, num_cpus=0)
    def double(a):
        return a * 2

    small = np.arange(10)
    assert ray.get(double.remote(small)).tolist() == (small * 2).tolist()
    big = np.random.default_rng(1).random(3_000_000)  # 24 MB: pulled in chunks
    ref = ray.put(big)
    result = double.remote(ref)
    assert np.array_equal(ray.get(result), big * 2)
    assert np.array_equal(ray.get(double.remote(result)), big * 4)


def test_the_second_node_takes_what_the_first_cannot(cluster):
    cluster.add_node(num_cpus=1)
    cluster.connect()

    @ray.remote
    def both(barrier_dir, me):
        open(os.path.join(barrier_dir, str(me)), "w").close()
        assert eventually(lambda: len(os.listdir(barrier_dir)) == 2)
        return node_of_task()

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        nodes = ray.get([both.remote(folder, i) for i in range(2)], timeout=30)
    assert len(set(nodes)) == 2  # both ran at the same time, one on each node


def test_actors_on_another_node(cluster):
    cluster.add_node(num_cpus=1, resources={"far": 1})
    cluster.connect()

    @ray.remote(resources={"far": 0.1}, num_cpus=0)
    class Counter:
        def __init__(self, start):
            self.value = start

        def add(self, n):
            self.value += n
            return self.value

        def node(self):
            return node_of_task()

    counter = Counter.remote(10)
    assert ray.get([counter.add.remote(1) for _ in range(100)])[-1] == 110

    @ray.remote
    def through(handle):
        return ray.get(handle.add.remote(5))

    assert ray.get(through.remote(counter)) == 115
    assert ray.get(counter.node.remote()) != node_of_task()


def test_a_lost_node_costs_only_what_ran_there(cluster):
    node = cluster.add_node(num_cpus=1, resources={"far": 1})
    cluster.connect()

    @ray.remote(max_restarts=1, max_task_retries=-1)
    class Echo:
        def say(self, x):
            return x

    @ray.remote(resources={"far": 0.5}, num_cpus=0)
    class Far:
        def say(self, x):
            return x

    near, far = Echo.remote(), Far.remote()
    assert ray.get([near.say.remote(1), far.say.remote(2)]) == [1, 2]
    node.kill_raylet()
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(far.say.remote(3), timeout=20)
    assert ray.get(near.say.remote(4), timeout=20) == 4
    assert eventually(lambda: sum(n["Alive"] for n in ray.nodes()) == 1)
    dead = [n for n in ray.nodes() if not n["Alive"]]
    assert len(dead) == 1  # still listed


def test_what_a_node_took_along_runs_before_the_queue(cluster, tmp_path):
    node = cluster.add_node(num_cpus=1, resources={"far": 1})
    cluster.connect()
    begun, go = tmp_path / "begun", tmp_path / "go"

    @ray.remote(max_retries=-1)
    def work(i):
        with open(begun, "a") as file:
            file.write(f"{i} {node_of_task()}\n")
        if i < 2:
            assert eventually(go.exists)
        time.sleep(0.02)  # the queue is long enough for news to come
        return i

    def lines():
        rows = begun.read_text().splitlines() if begun.exists() else []
        return [(int(i), where) for i, where in (row.split() for row in rows)]

    refs = [work.remote(i) for i in range(100)]
    assert eventually(lambda: len(lines()) == 2)  # one on each node, and all else waits
    (lost,) = [i for i, where in lines() if where != node_of_task()]
    node.kill_raylet()
    assert eventually(lambda: sum(n["Alive"] for n in ray.nodes()) == 1)
    go.touch()
    assert ray.get(refs, timeout=30) == list(range(100))
    order = [i for i, _ in lines()[2:]]
    assert order.index(lost) < 80


def test_an_object_of_a_lost_node_is_a_typed_error(cluster):
    node = cluster.add_node(num_cpus=1, resources={"far": 1})
    cluster.connect()

    @ray.remote(resources={"far": 0.1}, num_cpus=0, max_retries=0)
    def make():
        return np.zeros(1_000_000)

    ref = make.remote()
    ray.wait([ref], fetch_local=False)
    node.kill_raylet()
    assert eventually(lambda: sum(n["Alive"] for n in ray.nodes()) == 1)
    with pytest.raises(ray.exceptions.ObjectLostError):
        ray.get(ref, timeout=20)


def test_waiting_tasks_start_when_a_node_joins(cluster, capfd):
    cluster.connect()

    @ray.remote(resources={"late": 1}, num_cpus=0)
    def late():
        return 7

    ref = late.remote()
    ready, _ = ray.wait([ref], timeout=0.3)
    assert ready == []
    cluster.add_node(num_cpus=1, resources={"late": 1})
    assert ray.get(ref, timeout=20) == 7
    assert eventually(lambda: "late" in capfd.readouterr().err)


def test_a_driver_on_a_node_without_cpus():
    """Its tasks' large arguments lie where nothing can run: no lease near them ever comes."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        cluster.add_node(num_cpus=2)
        cluster.connect()

        @ray.remote
        def first(*args):
            return len(args)

        for _ in range(5):
            assert ray.get([first.remote(i) for i in range(100)], timeout=30) == [1] * 100
            data = ray.put(np.zeros(1 << 20))
            assert ray.get(first.remote(data, data), timeout=30) == 2
    finally:
        cluster.shutdown()


def test_a_node_that_ends_in_order_says_why(cluster):
    node = cluster.add_node(num_cpus=1)
    cluster.connect()
    cluster.remove_node(node)
    [row] = eventually(lambda: [n for n in ray.nodes() if not n["Alive"]])
    assert row["NodeID"] == node.node_id
    assert row["DeathReasonMessage"].startswith("it ended: "), row
