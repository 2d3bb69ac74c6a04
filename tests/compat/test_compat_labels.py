"""Labels of nodes: selectors of tasks and actors, fallbacks, the strategy by labels."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from compat_target import PATIENCE, exceptions, ray

strategies: Any = importlib.import_module(f"{ray.__name__}.util.scheduling_strategies")
utils: Any = importlib.import_module(f"{ray.__name__}.cluster_utils")
By = strategies.NodeLabelSchedulingStrategy
In, NotIn = strategies.In, strategies.NotIn
Exists, DoesNotExist = strategies.Exists, strategies.DoesNotExist
WAIT = 20 * PATIENCE


@pytest.fixture(scope="module")
def three(no_leaks: None) -> Iterator[Any]:
    """A head in no zone, a node in the north and one in the south."""
    ray.shutdown()
    cluster = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    ray.init(address=cluster.address)
    cluster.add_node(num_cpus=2, labels={"zone": "north", "disk": "fast"})
    cluster.add_node(num_cpus=2, labels={"zone": "south"})
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(autouse=True)
def free(three: Any, eventually: Callable[..., Any]) -> None:
    """Everything is free when a test begins."""
    total = ray.cluster_resources()["CPU"]
    eventually(lambda: ray.available_resources().get("CPU") == total, 20)


@ray.remote
def zone() -> str:
    return ray.get_runtime_context().get_node_labels().get("zone", "none")


@ray.remote
class Actor:
    def zone(self) -> str:
        return ray.get_runtime_context().get_node_labels().get("zone", "none")


SELECTORS = [
    ({"zone": "north"}, {"north"}),
    ({"zone": "!north"}, {"none", "south"}),
    ({"zone": "in(south, west)"}, {"south"}),
    ({"zone": "!in(north,south)"}, {"none"}),
    ({"zone": "in(north,south)", "disk": "fast"}, {"north"}),
    ({"zone": "in(north,south)", "disk": "!fast"}, {"south"}),
]


@pytest.mark.row("2.labels")
@pytest.mark.parametrize("selector,zones", SELECTORS)
def test_a_selector_of_a_task(selector: dict[str, str], zones: set[str]) -> None:
    refs = [zone.options(label_selector=selector).remote() for _ in range(3)]
    assert set(ray.get(refs, timeout=WAIT)) <= zones


@pytest.mark.row("2.labels")
def test_a_selector_of_an_actor() -> None:
    actor = Actor.options(label_selector={"zone": "south"}).remote()
    assert ray.get(actor.zone.remote(), timeout=WAIT) == "south"
    not_there = Actor.options(label_selector={"zone": "!in(north,south)"}).remote()
    assert ray.get(not_there.zone.remote(), timeout=WAIT) == "none"


@pytest.mark.row("2.labels")
def test_the_id_of_a_node_is_a_label() -> None:
    for node in ray.nodes():
        assert node["Labels"]["ray.io/node-id"] == node["NodeID"]
        where = {"ray.io/node-id": node["NodeID"]}
        wanted = node["Labels"].get("zone", "none")
        assert ray.get(zone.options(label_selector=where).remote(), timeout=WAIT) == wanted


@pytest.mark.row("2.labels")
def test_a_task_waits_for_a_node_that_fits(three: Any) -> None:
    wanted = {"label_selector": {"zone": "east"}, "num_cpus": 1}
    task, actor = zone.options(**wanted).remote(), Actor.options(**wanted).remote()
    ready, _ = ray.wait([task, actor.zone.remote()], timeout=0.5)
    assert not ready
    with pytest.raises(exceptions.GetTimeoutError):
        ray.get(task, timeout=0.1)
    node = three.add_node(num_cpus=2, labels={"zone": "east"})
    try:
        assert ray.get(task, timeout=WAIT) == "east"
        assert ray.get(actor.zone.remote(), timeout=WAIT) == "east"
    finally:
        ray.kill(actor)
        three.remove_node(node)


@pytest.mark.row("2.labels")
def test_fallbacks_are_tried_in_order() -> None:
    options: dict[str, Any] = {
        "label_selector": {"zone": "west"},
        "fallback_strategy": [
            {"label_selector": {"zone": "south", "disk": "fast"}},
            {"label_selector": {"zone": "south"}},
            {"label_selector": {"zone": "north"}},
        ],
    }
    task = zone.options(**options, num_cpus=0)  # fits now, wherever: the raylet here may not know
    assert ray.get(task.remote(), timeout=WAIT) == "south"  # yet that the south is free again
    actor = Actor.options(**options).remote()
    assert ray.get(actor.zone.remote(), timeout=WAIT) == "south"


@pytest.mark.row("2.labels")
@pytest.mark.parametrize(
    "options,error",
    [
        ({"label_selector": "zone=north"}, TypeError),
        ({"label_selector": {"zone": "-north"}}, ValueError),
        ({"label_selector": {"zone": "in()"}}, ValueError),
        ({"label_selector": {"zone": "in(a"}}, ValueError),
        ({"label_selector": {"zone": "!!a"}}, ValueError),
        ({"label_selector": {"zone": "a" * 64}}, ValueError),
        ({"label_selector": {"-zone": "north"}}, ValueError),
        ({"label_selector": {"a..b/zone": "no;rth"}}, ValueError),
        ({"fallback_strategy": {"label_selector": {}}}, TypeError),
        ({"fallback_strategy": ["zone"]}, ValueError),
        ({"fallback_strategy": [{}]}, ValueError),
        ({"fallback_strategy": [{"num_cpus": 1}]}, ValueError),
        ({"fallback_strategy": [{"label_selector": {"zone": "in()"}}]}, ValueError),
    ],
)
def test_what_is_no_selector(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        zone.options(**options)
    with pytest.raises(error):
        Actor.options(**options).remote()


STRATEGIES = [
    (lambda: By({"zone": In("north", "west")}), {"north"}),
    (lambda: By({"zone": NotIn("north")}), {"none", "south"}),
    (lambda: By({"zone": Exists(), "disk": DoesNotExist()}), {"south"}),
    (lambda: By({"zone": DoesNotExist()}), {"none"}),
    (lambda: By({"zone": Exists()}, soft={"disk": In("fast")}), {"north"}),
    (lambda: By({"zone": In("south")}, soft={"disk": In("fast")}), {"south"}),
]


@pytest.mark.row("7.label_strategy")
@pytest.mark.parametrize("strategy,zones", STRATEGIES)
def test_the_strategy_by_labels(strategy: Callable[[], Any], zones: set[str]) -> None:
    where = strategy()
    task = zone.options(scheduling_strategy=where, num_cpus=0)  # as above
    assert ray.get(task.remote(), timeout=WAIT) in zones
    actor = Actor.options(scheduling_strategy=where).remote()
    assert ray.get(actor.zone.remote(), timeout=WAIT) in zones


@pytest.mark.row("7.label_strategy")
@pytest.mark.parametrize(
    "make",
    [
        lambda: By({}),
        lambda: By(None),
        lambda: By("zone"),
        lambda: By({"zone": "north"}),
        lambda: By({1: In("north")}),
        lambda: By({}, soft={"zone": "north"}),
        lambda: In(),
        lambda: NotIn(),
        lambda: In("a", 1),
    ],
)
def test_what_is_no_strategy(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError):
        make()
