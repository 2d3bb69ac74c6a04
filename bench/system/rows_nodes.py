"""Rows of several nodes: raylets of one machine, of the runtime's own `cluster_utils.Cluster`.

All of it goes over loopback, Skate's encrypted and proved, Ray's not; but for the bytes of large
values, which Skate's raylets of one machine pass through shared memory unless they are told not to.
The machine is the limit of the bulk rows: each byte is copied by the same few cores.
"""

from __future__ import annotations

import importlib
import itertools
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from target import CPUS, Target

BATCH = 1000
MB = 1_000_000
PULL = 200 * MB
PULLS_AGAIN = 4
PULLS_SENT = 2
RECEIVERS = 8
SINGLES = 2  # of them get it alone first
WHOLE = 1000 * MB
PAGE = 512  # words


def start(target: Target, nodes: list[dict[str, float]], store: int) -> Any:
    """A head of one CPU, and so many nodes more with these resources; the driver is at the head."""
    ray = target.load()
    head: dict[str, Any] = {"num_cpus": 1, "object_store_memory": store}
    more: dict[str, Any] = {}
    if target.name == "ray":
        head |= {"include_dashboard": False, "temp_dir": target.temp_dir}
        more = {"logging_level": "error"}
    cluster = importlib.import_module(f"{ray.__name__}.cluster_utils").Cluster(
        initialize_head=True, head_node_args=head
    )
    for resources in nodes:
        node: dict[str, Any] = {}
        if "sent" in resources and target.name == "skate":
            node = {"_system_config": {"share_memory_between_raylets": False}}
        cluster.add_node(num_cpus=CPUS, resources=resources, object_store_memory=store, **node)
    ray.init(address=cluster.address, log_to_driver=False, **more)
    while len([node for node in ray.nodes() if node["Alive"]]) <= len(nodes):
        time.sleep(0.01)
    return cluster


def value_of(number: int, size: int) -> Any:
    """Bytes that differ in each page, and from number to number."""
    words = np.zeros(size // 8, dtype=np.int64)
    words[::PAGE] = np.arange(number, number + len(words[::PAGE]))
    return words


def is_right(number: int, words: Any) -> bool:
    """One word of each page."""
    return bool((words[::PAGE] == np.arange(number, number + len(words[::PAGE]))).all())


def two_nodes(target: Target) -> Iterator[tuple[str, float]]:
    """The driver at one node; an actor, tasks and large values at the other."""
    places = [{"far": 1000.0}, {"sent": 1000.0}] if target.name == "skate" else [{"far": 1000.0}]
    cluster = start(target, places, 1 << 31)
    ray = target.ray
    numbers = itertools.count(1)

    @ray.remote(resources={"far": 1}, num_cpus=0)
    class Counter:
        def __init__(self) -> None:
            self.value = 0

        def add(self, x: int) -> int:
            self.value += x
            return self.value

        def make(self, number: int) -> list[Any]:
            return [ray.put(value_of(number, PULL))]

    @ray.remote(resources={"far": 1}, num_cpus=1)
    def twice(x: int) -> int:
        return 2 * x

    counter = Counter.remote()

    def pull(holder: Any) -> float:
        number = next(numbers)
        (ref,) = ray.get(holder.make.remote(number))
        began = time.perf_counter()
        words = ray.get(ref)
        spent = time.perf_counter() - began
        assert is_right(number, words)
        return PULL / spent / 1e9

    def sync() -> int:
        for _ in range(10):
            ray.get(counter.add.remote(next(numbers)))
        return 10

    def pipelined() -> int:
        out = ray.get([counter.add.remote(next(numbers)) for _ in range(BATCH)])
        assert out == sorted(out) and len(set(out)) == BATCH
        return BATCH

    def tasks() -> int:
        first = next(numbers)
        out = ray.get([twice.remote(first + i) for i in range(BATCH)])
        assert out == list(range(2 * first, 2 * (first + BATCH), 2))
        return BATCH

    ray.get(counter.add.remote(1))
    yield "nodes_pull", pull(counter)
    yield "nodes_pull_again", statistics.median(pull(counter) for _ in range(PULLS_AGAIN))
    yield "nodes_actor_sync", target.rate(sync)
    yield "nodes_actor_async", target.rate(pipelined)
    yield "nodes_tasks_async", target.rate(tasks)
    if target.name == "skate":
        counter = Counter.options(resources={"sent": 1}).remote()
    yield "nodes_pull_sent", statistics.median(pull(counter) for _ in range(PULLS_SENT))
    ray.shutdown()
    cluster.shutdown()


def to_many(target: Target) -> Iterator[tuple[str, float]]:
    """1 GB of the driver's to two nodes, one after the other; then another 1 GB to all eight."""
    cluster = start(target, [{f"n{i}": 1.0} for i in range(RECEIVERS)], 5 * WHOLE // 2)
    ray = target.ray

    @ray.remote(num_cpus=0)
    class Reader:
        def get(self, number: int, refs: list[Any]) -> float:
            began = time.perf_counter()
            words = ray.get(refs[0])
            spent = time.perf_counter() - began
            assert is_right(number, words)
            return spent

        def ready(self) -> bool:
            return True

    readers = [Reader.options(resources={f"n{i}": 1}).remote() for i in range(RECEIVERS)]
    ray.get([reader.ready.remote() for reader in readers])
    ref = ray.put(value_of(1, WHOLE))
    singles = [ray.get(reader.get.remote(1, [ref])) for reader in readers[:SINGLES]]
    del ref
    ref = ray.put(value_of(2, WHOLE))
    began = time.perf_counter()
    copies = ray.get([reader.get.remote(2, [ref]) for reader in readers])
    spent = time.perf_counter() - began
    yield "broadcast_s", spent
    yield "broadcast_single_s", max(singles)
    yield "broadcast_of_single", spent / max(singles)
    yield "broadcast_of_slowest", spent / max(copies)
    ray.shutdown()
    cluster.shutdown()
