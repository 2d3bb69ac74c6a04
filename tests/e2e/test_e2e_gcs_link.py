"""The nodes' links to the control store are cut again and again: nothing is disturbed or lost."""

from __future__ import annotations

import threading

import pytest
from test_e2e_cut_links import cut

import skate as ray
from skate.cluster_utils import Cluster
from skate.util import get_placement_group, placement_group, remove_placement_group


@pytest.fixture
def cluster():
    """Two nodes; what cuts all links to the control store."""
    made = Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 2})
    made.add_node(num_cpus=2, resources={"far": 4})
    yield made
    made.shutdown()


class Cutter(threading.Thread):
    """Cuts them every now and then, until it is told to end."""

    def __init__(self, pid, every=0.1):
        super().__init__(daemon=True)
        self.pid, self.every, self.cuts = pid, every, 0
        self.over = threading.Event()

    def run(self):
        while not self.over.wait(self.every):
            self.cuts += cut(self.pid, 0) > 0

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()


def gcs_pid(cluster):
    return cluster._gcs.gcs.pid


@ray.remote
class Counter:
    def __init__(self):
        self.n = 0

    def add(self):
        self.n += 1
        return self.n


@ray.remote
def square(x):
    return x * x


def test_calls_tasks_and_actors_go_on(cluster):
    old = [Counter.options(num_cpus=0, name=f"old-{i}").remote() for i in range(3)]
    assert ray.get([a.add.remote() for a in old]) == [1, 1, 1]
    alive = [n["NodeID"] for n in ray.nodes() if n["Alive"]]
    with Cutter(gcs_pid(cluster)) as cutter:
        for turn in range(40):
            new = Counter.options(num_cpus=0, name=f"new-{turn}").remote()
            assert ray.get(new.add.remote(), timeout=60) == 1
            assert ray.get([square.remote(i) for i in range(20)], timeout=60) == [
                i * i for i in range(20)
            ]
            assert ray.get([a.add.remote() for a in old], timeout=60) == [turn + 2] * 3
            assert ray.get_actor(f"new-{turn}") == new
            ray.kill(new)
            if cutter.cuts >= 8 and turn >= 10:
                break
        assert cutter.cuts > 0
    assert [n["NodeID"] for n in ray.nodes() if n["Alive"]] == alive


def test_actors_die_and_come_back(cluster):
    import os
    import signal

    @ray.remote(max_restarts=-1, max_task_retries=-1, num_cpus=0)
    class Mortal:
        def pid(self):
            return os.getpid()

    actors = [Mortal.remote() for _ in range(2)]
    seen = set(ray.get([a.pid.remote() for a in actors]))
    with Cutter(gcs_pid(cluster)) as cutter:
        for _ in range(6):
            for actor in actors:
                pid = ray.get(actor.pid.remote(), timeout=60)
                os.kill(pid, signal.SIGKILL)
                seen.add(pid)
            assert all(p > 0 for p in ray.get([a.pid.remote() for a in actors], timeout=60))
        assert cutter.cuts >= 0
    assert len(seen) > len(actors)


def test_placement_groups(cluster):
    with Cutter(gcs_pid(cluster)):
        for turn in range(8):
            group = placement_group([{"CPU": 1}] * 2, strategy="STRICT_SPREAD", name=f"g{turn}")
            assert group.wait(60)
            assert get_placement_group(f"g{turn}").id == group.id
            inside = square.options(placement_group=group)
            assert ray.get([inside.remote(i) for i in range(4)], timeout=60) == [0, 1, 4, 9]
            remove_placement_group(group)
    group = placement_group([{"CPU": 2}] * 2, strategy="STRICT_SPREAD")
    assert group.wait(60)  # everything was given back
