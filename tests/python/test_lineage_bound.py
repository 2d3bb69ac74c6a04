"""The bound of what is kept to make lost results again, and that it goes with the results."""

from __future__ import annotations

import time

import numpy as np
import pytest

import skate as ray
from skate import _core, exceptions
from skate.cluster_utils import Cluster


@pytest.fixture
def nodes():
    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    far = cluster.add_node(num_cpus=2, resources={"far": 4}, object_store_memory=200 << 20)
    yield cluster, far
    ray.shutdown()
    cluster.shutdown()


@ray.remote(resources={"far": 1})
def make(value):
    return np.full(10_000, value)


def test_the_oldest_goes_and_says_so(nodes):
    cluster, far = nodes
    ray.init(address=cluster.address, _system_config={"max_lineage_bytes": 20_000})
    refs = []
    for some in (range(1), range(1, 99), range(99, 100)):  # one ends first, one last
        refs += [make.remote(i) for i in some]
        ray.wait(refs, num_returns=len(refs), fetch_local=False)
    assert 0 < _core.stats()["tasks_pending"] < 60
    cluster.remove_node(far, allow_graceful=False)
    cluster.add_node(num_cpus=2, resources={"far": 4})
    assert ray.get(refs[-1], timeout=30)[0] == 99
    with pytest.raises(exceptions.ObjectReconstructionFailedError, match="max_lineage_bytes") as e:
        ray.get(refs[0], timeout=30)
    assert e.value.reason == "OBJECT_UNRECONSTRUCTABLE_LINEAGE_EVICTED"


def eventually(question):
    deadline = time.monotonic() + 20
    while not question() and time.monotonic() < deadline:
        time.sleep(0.005)
    return question()


def test_it_goes_with_the_results(nodes):
    cluster, _ = nodes
    ray.init(address=cluster.address)

    @ray.remote(resources={"far": 1})
    def more(array):
        return array + 1

    ref = make.remote(0)
    for _ in range(50):
        ref = more.remote(ref)
    ray.wait([ref], fetch_local=False)
    assert eventually(lambda: _core.stats()["tasks_pending"] == 51)
    del ref
    assert eventually(lambda: _core.stats()["tasks_pending"] == 0)
    assert eventually(lambda: _core.stats()["objects"] <= 2)  # definitions


@pytest.mark.parametrize("value", [-1, "much"])
def test_a_bad_bound_is_refused(value):
    ray.shutdown()
    with pytest.raises(ValueError, match="max_lineage_bytes"):
        ray.init(_system_config={"max_lineage_bytes": value})
    assert not ray.is_initialized()
