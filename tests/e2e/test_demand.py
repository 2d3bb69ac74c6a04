"""Two levels: what a raylet cannot grant, the GCS holds, explains and places."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest
from e2e_help import until

import skate
from skate import _state
from skate.cli import _commands
from skate.cluster_utils import Cluster
from skate.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On


@pytest.fixture()
def cluster() -> Any:
    """A head of one CPU, with the driver on it."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    skate.init(address=made.address)
    yield made
    skate.shutdown()
    made.shutdown()


def waiting() -> dict[str, dict[str, Any]]:
    """Name -> what of it waits in the cluster."""
    return {row["name"]: row for row in _state.demands(_state.Asked(5.0))}


@skate.remote
def where() -> int:
    return int(skate.get_runtime_context().get_node_id(), 16)


@skate.remote(resources={"side": 1})
def elsewhere(gate: str) -> str:
    import pathlib
    import time

    while not pathlib.Path(gate).exists():
        time.sleep(0.01)
    return skate.get_runtime_context().get_node_id()


@skate.remote(num_cpus=3)
class Large:
    def ready(self) -> bool:
        return True


def test_what_waits_is_told_and_placed(cluster: Any, tmp_path: Any) -> None:
    """Infeasible, then busy, then run: each with its reason, none lost when a node joins."""
    gate = tmp_path / "gate"
    refs = [elsewhere.remote(str(gate)) for _ in range(3)]
    large = Large.remote()
    until(lambda: {"elsewhere", "actor Large"} <= set(waiting()), 20, "what waits is as it must be")
    rows = waiting()
    assert rows["elsewhere"]["never"] and rows["elsewhere"]["kind"] == "task"
    assert rows["elsewhere"]["resources"] == {"CPU": 1.0, "side": 1.0}
    assert "no node" in rows["elsewhere"]["reason"] or "has 0 side" in rows["elsewhere"]["reason"]
    assert rows["actor Large"]["never"] and rows["actor Large"]["kind"] == "actor"
    cluster.add_node(num_cpus=4, resources={"side": 1})
    until(lambda: "actor Large" not in waiting(), 20, "what waits is as it must be")
    assert skate.get(large.ready.remote(), timeout=20)
    until(lambda: not waiting()["elsewhere"]["never"], 20, "what waits is as it must be")
    assert "busy" in waiting()["elsewhere"]["reason"]
    gate.touch()
    assert len(set(skate.get(refs, timeout=20))) == 1
    until(lambda: not waiting(), 20, "what waits is as it must be")


def test_a_lost_node_ends_what_must_run_there(cluster: Any) -> None:
    """What waits for a node that is lost fails; what may go elsewhere waits for another."""
    node = cluster.add_node(num_cpus=1, resources={"side": 1})
    there = next(n["NodeID"] for n in skate.nodes() if "side" in n["Resources"])
    holder = Large.options(num_cpus=1, resources={"side": 1}).remote()
    assert skate.get(holder.ready.remote(), timeout=20)
    bound = where.options(scheduling_strategy=On(there, soft=False)).remote()
    soft = where.options(scheduling_strategy=On(there, soft=True)).remote()
    until(lambda: waiting().get("where", {}).get("count"), 20, "what waits is as it must be")
    cluster.remove_node(node)
    with pytest.raises(skate.exceptions.TaskUnschedulableError):
        skate.get(bound, timeout=30)
    assert skate.get(soft, timeout=30)


def test_all_nodes_get_their_share(cluster: Any, tmp_path: Any) -> None:
    """By default and spread: four tasks at once take four nodes; of 400 each node runs many."""
    for _ in range(3):
        cluster.add_node(num_cpus=1)
    begun = tmp_path / "begun"

    @skate.remote
    def four_at_once(round_: int) -> str:
        with begun.open("a") as file:
            file.write("x")
        until(lambda: begun.stat().st_size >= 4 * (round_ + 1), 60, "four run at once")
        return skate.get_runtime_context().get_node_id()

    @skate.remote(scheduling_strategy="SPREAD")
    def one_of_many() -> str:
        time.sleep(0.005)
        return skate.get_runtime_context().get_node_id()

    for round_, strategy in enumerate(("DEFAULT", "SPREAD", "DEFAULT", "SPREAD")):
        f = four_at_once.options(scheduling_strategy=strategy)
        assert len(set(skate.get([f.remote(round_) for _ in range(4)], timeout=90))) == 4
    shares = Counter(skate.get([one_of_many.remote() for _ in range(400)], timeout=90))
    assert len(shares) == 4 and min(shares.values()) >= 20, shares


def test_status_puts_equal_demands_together(cluster: Any) -> None:
    """What `skate status` says of what waits: a line for each shape, however many want it."""
    f = where.options(num_cpus=0, resources={"side": 2})
    refs = [f.remote(), f.remote(), f.options(num_gpus=1).remote()]
    marked = where.options(num_cpus=0, label_selector={"zone": "mars"}).remote()
    shapes: list[dict[str, float]] = [{"CPU": 1}, {"CPU": 1}, {"CPU": 2}]
    groups = [skate.util.placement_group(shapes, "STRICT_SPREAD", name=n) for n in ("a", "b")]

    def lines() -> list[str]:
        return _commands._demands(_state.demands(_state.Asked(5.0)))

    until(lambda: len(lines()) == 8, 20, "four kinds of demand, none of which can be met")
    said = "\n".join(sorted(lines()[::2])), "\n".join(lines()[1::2])
    assert "{'CPU': 1.0} * 2, {'CPU': 2.0} * 1 (STRICT_SPREAD): 2+ pending placement gr" in said[0]
    assert "{'side': 2.0}: 2+ pending tasks/actors (where)" in said[0]
    assert "{'GPU': 1.0, 'side': 2.0}: 1+ pending tasks/actors (where)" in said[0]
    assert " {}: 1+ pending tasks/actors (where)" in said[0]
    assert "can never hold all bundles" in said[1] and "zone in (mars)" in said[1]
    assert "it needs 2 side, but the largest node has 0 side" in said[1]
    del refs, marked, groups


def test_nodes_come_and_go_while_tasks_wait(cluster: Any, tmp_path: Any) -> None:
    """Nodes that join take part in what waits already; what one took along runs elsewhere."""

    @skate.remote(max_retries=-1)
    def work(i: int) -> int:
        (tmp_path / skate.get_runtime_context().get_node_id()).touch()
        until(lambda: len(list(tmp_path.iterdir())) == 6, 60, "all six nodes run tasks")
        time.sleep(0.002)
        return i

    refs = [work.remote(i) for i in range(1000)]
    nodes = [cluster.add_node(num_cpus=1) for _ in range(5)]
    skate.wait(refs, num_returns=50, timeout=90)
    cluster.remove_node(nodes[0], allow_graceful=False)
    nodes[1].kill_raylet()
    assert skate.get(refs, timeout=90) == list(range(1000))
