"""Streams between nodes: items that are routed, large ones that are fetched, loss of the node."""

from __future__ import annotations

import numpy as np
import pytest

import skate as ray


def test_items_cross_nodes(cluster):
    cluster.add_node(num_cpus=1, resources={"far": 1}, object_store_memory=100 << 20)
    cluster.connect()

    @ray.remote(resources={"far": 0.1}, num_cpus=0)
    def numbers(n):
        yield from range(n)

    @ray.remote(resources={"far": 0.1}, num_cpus=0)
    def arrays(n):
        for i in range(n):
            yield np.full(100_000, i)

    assert ray.get(list(numbers.remote(5000))) == list(range(5000))
    slow = numbers.options(_generator_backpressure_num_objects=3).remote(50)
    assert [ray.get(ref) for ref in slow] == list(range(50))
    for i, ref in enumerate(arrays.remote(40)):
        assert ray.get(ref)[[0, -1]].tolist() == [i, i]
    generator = arrays.remote(3)
    ready, _ = ray.wait([generator, numbers.remote(0).completed()], num_returns=2, timeout=20)
    assert len(ready) == 2
    assert len(list(generator)) == 3


def test_the_loss_of_the_producers_node(cluster):
    node = cluster.add_node(num_cpus=1, resources={"far": 1})
    cluster.connect()

    @ray.remote(resources={"far": 0.1}, num_cpus=0, max_retries=0)
    def numbers():
        yield 1
        yield 2
        ray.get(ray.remote(lambda: 1).options(resources={"nowhere": 1}).remote())

    generator = numbers.remote()
    kept = [next(generator), next(generator)]
    cluster.remove_node(node)
    last = next(generator)
    with pytest.raises((ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError)):
        ray.get(last, timeout=20)
    assert list(generator) == []
    assert ray.get(kept) == [1, 2]
