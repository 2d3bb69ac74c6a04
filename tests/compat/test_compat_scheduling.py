"""Where tasks and actors run in a cluster of several nodes: strategies, locality, lost nodes."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from compat_target import PATIENCE, exceptions, ray

groups: Any = importlib.import_module(f"{ray.__name__}.util.placement_group")
strategies: Any = importlib.import_module(f"{ray.__name__}.util.scheduling_strategies")
utils: Any = importlib.import_module(f"{ray.__name__}.cluster_utils")
In = strategies.PlacementGroupSchedulingStrategy
On = strategies.NodeAffinitySchedulingStrategy
WAIT = 20 * PATIENCE
GONE = "ab" * 28


@pytest.fixture(scope="module")
def two(no_leaks: None) -> Iterator[Any]:
    """A cluster of two nodes of 2 CPUs; the driver is on the head."""
    ray.shutdown()
    cluster = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    ray.init(address=cluster.address)
    cluster.add_node(num_cpus=2, resources={"side": 2})
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture()
def nodes(two: Any, eventually: Callable[..., Any]) -> list[str]:
    """The ids of the head and of the other node; all CPUs are free."""
    eventually(lambda: ray.available_resources().get("CPU") == 4.0, 20)
    side = [n["NodeID"] for n in ray.nodes() if n["Alive"] and "side" in n["Resources"]]
    return [ray.get_runtime_context().get_node_id(), side[0]]


@ray.remote
def where(*_args: Any) -> str:
    return ray.get_runtime_context().get_node_id()


@ray.remote
class Actor:
    def where(self) -> str:
        return ray.get_runtime_context().get_node_id()


@pytest.mark.row("7.spread")
def test_spread_uses_all_nodes(nodes: list[str], eventually: Any) -> None:
    @ray.remote(scheduling_strategy="SPREAD")
    def short() -> str:
        time.sleep(0.05)
        return ray.get_runtime_context().get_node_id()

    assert set(ray.get([short.remote() for _ in range(12)], timeout=WAIT)) == set(nodes)
    eventually(lambda: ray.available_resources().get("CPU") == 4.0, 20)
    actors = [Actor.options(num_cpus=1, scheduling_strategy="SPREAD").remote() for _ in range(2)]
    found = ray.get([a.where.remote() for a in actors], timeout=WAIT)
    assert set(found) == set(nodes)


@pytest.mark.row("7.spread")
def test_default_begins_here_and_uses_what_there_is(nodes: list[str], tmp_path: Any) -> None:
    assert ray.get(where.remote(), timeout=WAIT) == nodes[0]

    @ray.remote
    def meet(name: str) -> str:
        (tmp_path / name).touch()
        end = time.monotonic() + WAIT
        while len(list(tmp_path.iterdir())) < 4 and time.monotonic() < end:
            time.sleep(0.01)
        return ray.get_runtime_context().get_node_id()

    found = ray.get([meet.remote(str(i)) for i in range(4)], timeout=2 * WAIT)
    assert sorted(found) == sorted(nodes * 2)


@pytest.mark.row("7.spread")
def test_a_task_goes_where_its_large_argument_lies(nodes: list[str]) -> None:
    @ray.remote(resources={"side": 1})
    def make() -> bytes:
        return bytes(20_000_000)

    ref = make.remote()
    ray.wait([ref], timeout=WAIT, fetch_local=False)
    assert ray.get(where.remote(ref), timeout=WAIT) == nodes[1]
    assert ray.get(where.remote(ray.put(bytes(20_000_000))), timeout=WAIT) == nodes[0]


@pytest.mark.row("7.affinity")
def test_affinity(nodes: list[str]) -> None:
    for node in nodes:
        for soft in (False, True):
            strategy = On(node, soft=soft)
            task = where.options(scheduling_strategy=strategy)
            assert ray.get([task.remote() for _ in range(3)], timeout=WAIT) == [node] * 3
            actor = Actor.options(scheduling_strategy=strategy).remote()
            assert ray.get(actor.where.remote(), timeout=WAIT) == node


@pytest.mark.row("7.affinity", "5.unschedulable")
def test_affinity_to_a_node_that_is_not_there(nodes: list[str]) -> None:
    hard, soft = On(GONE, soft=False), On(GONE, soft=True)
    assert ray.get(where.options(scheduling_strategy=soft).remote(), timeout=WAIT) in nodes
    with pytest.raises(exceptions.TaskUnschedulableError):
        ray.get(where.options(scheduling_strategy=hard).remote(), timeout=WAIT)
    with pytest.raises(exceptions.ActorUnschedulableError):
        actor = Actor.options(scheduling_strategy=hard).remote()
        ray.get(actor.where.remote(), timeout=WAIT)
    too_much = where.options(num_cpus=50, scheduling_strategy=On(nodes[1], soft=False))
    with pytest.raises(exceptions.TaskUnschedulableError):
        ray.get(too_much.remote(), timeout=WAIT)


@pytest.mark.row("7.affinity")
def test_affinity_that_makes_no_sense(nodes: list[str]) -> None:
    with pytest.raises(ValueError):
        On("zz", soft=False)
    with pytest.raises(ValueError):
        On(nodes[0], soft=False, _spill_on_unavailable=True)
    with pytest.raises(ValueError):
        On(nodes[0], soft=True, _fail_on_unavailable=True)


@pytest.mark.row("7.affinity")
def test_affinity_to_a_full_node(nodes: list[str]) -> None:
    actor = Actor.options(num_cpus=2, scheduling_strategy=On(nodes[1], soft=False)).remote()
    assert ray.get(actor.where.remote(), timeout=WAIT) == nodes[1]
    waits = where.options(scheduling_strategy=On(nodes[1], soft=True)).remote()
    spills = On(nodes[1], soft=True, _spill_on_unavailable=True)
    assert ray.get(where.options(scheduling_strategy=spills).remote(), timeout=WAIT) == nodes[0]
    fails = On(nodes[1], soft=False, _fail_on_unavailable=True)
    with pytest.raises(exceptions.TaskUnschedulableError):
        ray.get(where.options(scheduling_strategy=fails).remote(), timeout=WAIT)
    assert ray.wait([waits], timeout=0.2)[0] == []
    ray.kill(actor)
    assert ray.get(waits, timeout=WAIT) == nodes[1]


@pytest.mark.row("7.group")
@pytest.mark.parametrize(
    "strategy, bundles, together",
    [
        ("STRICT_SPREAD", 2, False), ("SPREAD", 2, False), ("STRICT_PACK", 2, True),
        ("PACK", 2, True),
    ],
)  # fmt: skip
def test_bundles_of_a_group(
    nodes: list[str], strategy: str, bundles: int, together: bool
) -> None:
    group = ray.util.placement_group([{"CPU": 1}] * bundles, strategy=strategy)
    try:
        assert group.wait(WAIT)
        table = groups.placement_group_table(group)["bundles_to_node_id"]
        assert (len(set(table.values())) == 1) is together
        for index in range(bundles):
            task = where.options(scheduling_strategy=In(group, index))
            assert ray.get(task.remote(), timeout=WAIT) == table[index]
            actor = Actor.options(num_cpus=1, scheduling_strategy=In(group, index)).remote()
            assert ray.get(actor.where.remote(), timeout=WAIT) == table[index]
            ray.kill(actor)
    finally:
        groups.remove_placement_group(group)


@pytest.mark.row("7.group", "7.group_strategy")
def test_any_bundle_means_any_node(nodes: list[str], tmp_path: Any) -> None:
    group = ray.util.placement_group([{"CPU": 1}, {"CPU": 1}], strategy="STRICT_SPREAD")

    @ray.remote(scheduling_strategy=In(group))
    def meet(name: str) -> str:
        (tmp_path / name).touch()
        end = time.monotonic() + WAIT
        while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        return ray.get_runtime_context().get_node_id()

    try:
        found = ray.get([meet.remote(str(i)) for i in range(2)], timeout=2 * WAIT)
        assert set(found) == set(nodes)
        many = [where.options(scheduling_strategy=In(group)).remote() for _ in range(20)]
        assert set(ray.get(many, timeout=WAIT)) <= set(nodes)
        actors = [Actor.options(num_cpus=1, scheduling_strategy=In(group)).remote() for _ in "ab"]
        assert set(ray.get([a.where.remote() for a in actors], timeout=WAIT)) == set(nodes)
    finally:
        groups.remove_placement_group(group)


@pytest.mark.row("14.infeasible", "9.cluster_utils")
def test_a_new_node_brings_what_was_missing(two: Any, nodes: list[str], eventually: Any) -> None:
    task = where.options(resources={"rare": 1}).remote()
    actor = Actor.options(resources={"rare": 1}).remote()
    call = actor.where.remote()
    group = ray.util.placement_group([{"CPU": 1}] * 3, strategy="STRICT_SPREAD")
    assert ray.wait([task, call], timeout=0.3)[0] == [] and group.wait(0.1) is False
    new = two.add_node(num_cpus=3, resources={"rare": 2})
    found = ray.get([task, call], timeout=WAIT)
    assert found[0] == found[1] and found[0] not in nodes
    assert group.wait(WAIT) is True
    placed = groups.placement_group_table(group)["bundles_to_node_id"]
    assert len(set(placed.values())) == 3
    ray.kill(actor)

    two.remove_node(new)  # its bundle waits for another node
    table = groups.placement_group_table
    eventually(lambda: table(group)["state"] == "RESCHEDULING", 30)
    hard = where.options(scheduling_strategy=On(found[0], soft=False))
    with pytest.raises(exceptions.TaskUnschedulableError):
        ray.get(hard.remote(), timeout=WAIT)
    dead = [n for n in ray.nodes() if n["NodeID"] == found[0]]
    assert len(dead) == 1 and not dead[0]["Alive"]
    again = two.add_node(num_cpus=3)
    eventually(lambda: table(group)["state"] == "CREATED", 30)
    now = table(group)["bundles_to_node_id"]
    assert len(set(now.values())) == 3 and len(set(now.values()) & set(placed.values())) == 2
    groups.remove_placement_group(group)
    two.remove_node(again)
    eventually(lambda: ray.cluster_resources()["CPU"] == 4.0, 30)
