"""Placement groups: making, waiting, running in them, removal, what is refused."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from compat_target import ON_RAY, PATIENCE, exceptions, ray

groups: Any = importlib.import_module(f"{ray.__name__}.util.placement_group")
strategies: Any = importlib.import_module(f"{ray.__name__}.util.scheduling_strategies")
In = strategies.PlacementGroupSchedulingStrategy
WAIT = 20 * PATIENCE


@ray.remote
def one() -> int:
    return 1


@ray.remote
def current() -> Any:
    return groups.get_current_placement_group()


@ray.remote
class Member:
    def group(self) -> Any:
        return groups.get_current_placement_group()

    def captures(self) -> bool:
        return ray.get_runtime_context().should_capture_child_tasks_in_placement_group

    def child(self) -> Any:
        return ray.get(current.options(num_cpus=0).remote())


@pytest.fixture()
def make(cluster: Any) -> Iterator[Callable[..., Any]]:
    """Makes placement groups and removes them at the end of the test."""
    made: list[Any] = []

    def group(bundles: Any, *args: Any, **kwargs: Any) -> Any:
        made.append(ray.util.placement_group(bundles, *args, **kwargs))
        return made[-1]

    yield group
    for group_made in made:
        groups.remove_placement_group(group_made)


@pytest.fixture()
def free(cluster: Any, eventually: Callable[..., Any]) -> None:
    """All of the cluster is free when the test begins."""
    total = ray.cluster_resources()
    for name in ("CPU", "gold"):
        eventually(lambda name=name: ray.available_resources().get(name) == total[name])


@pytest.mark.row("7.group", "7.group_class")
@pytest.mark.parametrize("strategy", ["PACK", "SPREAD", "STRICT_PACK"])
def test_group_is_made_and_holds_its_resources(
    free: None, make: Any, strategy: str, eventually: Any
) -> None:
    group = make([{"CPU": 1}, {"gold": 1.5}], strategy=strategy)
    assert ray.get(group.ready(), timeout=WAIT) == group
    assert group.wait(WAIT) is True
    assert group.bundle_specs == [{"CPU": 1.0}, {"gold": 1.5}]
    assert group.bundle_count == 2 and not group.is_empty
    eventually(lambda: ray.available_resources().get("gold") == 2.5)
    eventually(lambda: ray.available_resources().get("CPU") == 1.0)
    groups.remove_placement_group(group)
    eventually(lambda: ray.available_resources().get("gold") == 4.0)
    eventually(lambda: ray.available_resources().get("CPU") == 2.0)


@pytest.mark.row("7.group")
@pytest.mark.parametrize(
    "bundles, options",
    [
        ([], {}), ([{}], {}), ([{"CPU": 0}], {}), ({"CPU": 1}, {}), ("abc", {}), (None, {}),
        (["a"], {}), ([{"CPU": "a"}], {}), ([{1: 1}], {}), ([{"CPU": 1}, {}], {}),
        ([{"CPU": 1}], {"strategy": "X"}), ([{"CPU": 1}], {"lifetime": "x"}),
    ],
)  # fmt: skip
def test_group_that_makes_no_sense(cluster: Any, bundles: Any, options: Any) -> None:
    with pytest.raises(ValueError):
        ray.util.placement_group(bundles, **options)


@pytest.mark.row("7.group")
@pytest.mark.parametrize("amount", [-1, 0.00001])
def test_amount_that_is_none(make: Any, amount: float) -> None:
    if ON_RAY:  # Ray makes a group that never comes
        assert make([{"CPU": amount}]).wait(0.1) in (True, False)
        return
    with pytest.raises(ValueError):
        make([{"CPU": amount}])


@pytest.mark.row("7.group")
def test_strict_spread_of_one_node_and_too_much_wait(make: Any) -> None:
    for group in (make([{"gold": 1}, {"gold": 1}], "STRICT_SPREAD"), make([{"CPU": 100}])):
        assert group.wait(0.1) is False
        assert groups.placement_group_table(group)["state"] == "PENDING"


@pytest.mark.row("7.group")
def test_group_waits_for_room(free: None, make: Any) -> None:
    first = make([{"gold": 3}])
    assert first.wait(WAIT)
    second = make([{"gold": 2}])
    assert second.wait(0.2) is False
    groups.remove_placement_group(first)
    assert second.wait(WAIT) is True


@pytest.mark.row("7.group_class")
def test_group_travels_and_compares(make: Any) -> None:
    @ray.remote
    def look(group: Any) -> Any:
        return group, group.bundle_specs, group.bundle_count

    group = make([{"gold": 1}, {"gold": 0.5}])
    other, specs, count = ray.get(look.remote(group), timeout=WAIT)
    assert other == group and hash(other) == hash(group) and other.id == group.id
    assert specs == [{"gold": 1.0}, {"gold": 0.5}] and count == 2
    assert group != make([{"gold": 1}])
    assert len(group.id.binary()) == 18 and len(group.id.hex()) == 36


@pytest.mark.row("7.group_class")
def test_empty_group(cluster: Any) -> None:
    empty = groups.PlacementGroup.empty()
    assert empty.is_empty and empty.id.is_nil()
    if not ON_RAY:  # KeyError there
        assert empty.bundle_specs == [] and empty.bundle_count == 0
    assert empty == groups.PlacementGroup.empty()


@pytest.mark.row("7.group_functions")
def test_table(make: Any) -> None:
    group = make([{"gold": 1}], name="tabled", strategy="SPREAD")
    assert group.wait(WAIT)
    row = groups.placement_group_table(group)
    node = ray.get_runtime_context().get_node_id()
    assert row["placement_group_id"] == group.id.hex() and row["name"] == "tabled"
    assert row["bundles"] == {0: {"gold": 1.0}} and row["bundles_to_node_id"] == {0: node}
    assert row["strategy"] == "SPREAD" and row["state"] == "CREATED" and "stats" in row
    assert groups.placement_group_table()[group.id.hex()]["state"] == "CREATED"
    groups.remove_placement_group(group)
    assert groups.placement_group_table(group)["state"] == "REMOVED"
    groups.remove_placement_group(group)  # again: nothing


@pytest.mark.row("7.group_functions")
def test_names(make: Any) -> None:
    group = make([{"gold": 0.5}], name="called")
    found = groups.get_placement_group("called")
    assert found == group and found.bundle_specs == [{"gold": 0.5}]
    with pytest.raises(exceptions.RaySystemError, match="called"):
        make([{"gold": 0.5}], name="called")
    groups.remove_placement_group(group)
    for name in ("called", "never", ""):
        with pytest.raises(ValueError):
            groups.get_placement_group(name)
    assert make([{"gold": 0.5}], name="called").wait(WAIT)


@pytest.mark.row("7.group_functions", "7.group_strategy")
def test_tasks_run_in_their_bundle(free: None, make: Any, eventually: Any) -> None:
    group = make([{"CPU": 1}, {"CPU": 1, "gold": 1}])
    assert groups.get_current_placement_group() is None
    for index in (-1, 0, 1):
        strategy = In(group, placement_group_bundle_index=index)
        ref = current.options(scheduling_strategy=strategy).remote()
        assert ray.get(ref, timeout=WAIT) == group
    many = [one.options(scheduling_strategy=In(group)).remote() for _ in range(20)]
    assert ray.get(many, timeout=WAIT) == [1] * 20
    gold = one.options(resources={"gold": 1}, scheduling_strategy=In(group, 1))
    assert ray.get([gold.remote() for _ in range(3)], timeout=WAIT) == [1] * 3


@pytest.mark.row("7.group_strategy")
def test_bundle_is_a_limit(free: None, make: Any, tmp_path: Any, eventually: Any) -> None:
    group = make([{"gold": 2}])

    @ray.remote(num_cpus=0, resources={"gold": 1}, scheduling_strategy=In(group))
    def hold(name: str) -> str:
        (tmp_path / name).touch()
        while not (tmp_path / "end").exists():
            time.sleep(0.01)
        return name

    refs = [hold.remote(str(i)) for i in range(3)]
    eventually(lambda: len(list(tmp_path.iterdir())) == 2, 20)
    ready, rest = ray.wait(refs, timeout=0.3)
    assert not ready and len(list(tmp_path.iterdir())) == 2
    (tmp_path / "end").touch()
    assert ray.get(refs, timeout=WAIT) == ["0", "1", "2"]


@pytest.mark.row("7.group_strategy")
def test_actors_run_in_their_bundle(free: None, make: Any) -> None:
    group = make([{"CPU": 1}, {"CPU": 1}])
    actors = [
        Member.options(num_cpus=1, scheduling_strategy=In(group, i)).remote() for i in range(2)
    ]
    assert ray.get([a.group.remote() for a in actors], timeout=WAIT) == [group, group]
    waits = Member.options(num_cpus=1, scheduling_strategy=In(group)).remote()
    ref = waits.group.remote()
    assert ray.wait([ref], timeout=0.3)[0] == []
    ray.kill(actors[0])
    assert ray.get(ref, timeout=WAIT) == group


@pytest.mark.row("7.group_strategy")
@pytest.mark.parametrize("capture", [None, False, True])
def test_children_are_captured_when_asked(free: None, make: Any, capture: Any) -> None:
    group = make([{"CPU": 1}])
    strategy = In(group, placement_group_capture_child_tasks=capture)
    actor = Member.options(num_cpus=1, scheduling_strategy=strategy).remote()
    assert ray.get(actor.captures.remote(), timeout=WAIT) is bool(capture)
    child = ray.get(actor.child.remote(), timeout=WAIT)
    assert child == (group if capture else None)

    @ray.remote(num_cpus=0)
    def parent() -> Any:
        inner = current.options(num_cpus=0).remote()
        outside = current.options(num_cpus=0, scheduling_strategy="DEFAULT").remote()
        return ray.get([inner, outside])

    ref = parent.options(scheduling_strategy=strategy).remote()
    assert ray.get(ref, timeout=WAIT) == [group if capture else None, None]
    assert ray.get(parent.remote(), timeout=WAIT) == [None, None]


@pytest.mark.row("7.group_strategy")
@pytest.mark.parametrize("index", [1, -2, 5])
def test_no_such_bundle(make: Any, index: int) -> None:
    group = make([{"gold": 1}])
    if index == 1 and ON_RAY:
        index = 2  # Ray takes the count itself for an index and waits for ever
    options = {"num_cpus": 0, "scheduling_strategy": In(group, index)}
    with pytest.raises(ValueError):
        one.options(**options).remote()
    with pytest.raises(ValueError):
        Member.options(**options).remote()


@pytest.mark.row("7.group_strategy")
def test_demand_that_no_bundle_can_hold(make: Any) -> None:
    group = make([{"gold": 1}, {"gold": 2}])
    with pytest.raises(ValueError):
        one.options(num_cpus=1, scheduling_strategy=In(group)).remote()
    with pytest.raises(ValueError):
        one.options(num_cpus=0, resources={"gold": 3}, scheduling_strategy=In(group)).remote()
    with pytest.raises(ValueError):
        Member.options(num_cpus=2, scheduling_strategy=In(group)).remote()
    if not ON_RAY:  # Ray looks at all bundles, and waits for ever
        with pytest.raises(ValueError):
            small = In(group, 0)
            one.options(num_cpus=0, resources={"gold": 2}, scheduling_strategy=small).remote()


@pytest.mark.row("2.old_groups")
def test_options_of_1_8(free: None, make: Any) -> None:
    group = make([{"CPU": 1}, {"CPU": 1}])
    options = {"placement_group": group, "placement_group_bundle_index": 1}
    assert ray.get(current.options(**options).remote(), timeout=WAIT) == group
    actor = Member.options(
        num_cpus=1, placement_group_capture_child_tasks=True, **options
    ).remote()
    assert ray.get(actor.group.remote(), timeout=WAIT) == group
    assert ray.get(actor.captures.remote(), timeout=WAIT) is True
    default = one.options(num_cpus=0, placement_group="default")
    assert ray.get(default.remote(), timeout=WAIT) == 1
    for strategy in ("SPREAD", In(group)):
        with pytest.raises(ValueError):
            one.options(placement_group=group, scheduling_strategy=strategy).remote()
    with pytest.raises(TypeError):
        one.options(placement_group=3).remote()
    with pytest.raises(ValueError):
        one.options(placement_group_bundle_index=1).remote()


@pytest.mark.row("2.strategy")
def test_strategies_that_are_none(cluster: Any) -> None:
    with pytest.raises(ValueError):
        one.options(scheduling_strategy="x").remote()
    with pytest.raises(TypeError):
        one.options(scheduling_strategy=3).remote()
    with pytest.raises(AssertionError):
        one.options(scheduling_strategy=In("x")).remote()
    for strategy in ("DEFAULT", "SPREAD", None, In(None)):
        assert ray.get(one.options(scheduling_strategy=strategy).remote(), timeout=WAIT) == 1


@pytest.mark.row("7.group_functions", "5.group_removed")
def test_removal_ends_what_runs_in_it(
    free: None, make: Any, tmp_path: Any, eventually: Any
) -> None:
    group = make([{"CPU": 1}, {"CPU": 1}])

    @ray.remote(max_retries=0)
    def endless() -> None:
        (tmp_path / "runs").touch()
        time.sleep(1000)

    actor = Member.options(num_cpus=1, scheduling_strategy=In(group, 0)).remote()
    assert ray.get(actor.group.remote(), timeout=WAIT) == group
    waits = Member.options(num_cpus=1, scheduling_strategy=In(group, 0)).remote().group.remote()
    runs = endless.options(scheduling_strategy=In(group, 1)).remote()
    eventually((tmp_path / "runs").exists, 20)
    groups.remove_placement_group(group)
    with pytest.raises(exceptions.ActorDiedError):
        eventually(lambda: ray.get(actor.group.remote(), timeout=WAIT) != group, 20)
    with pytest.raises(exceptions.WorkerCrashedError):
        ray.get(runs, timeout=WAIT)
    with pytest.raises(exceptions.ActorUnschedulableError):
        ray.get(waits, timeout=WAIT)
    eventually(lambda: ray.available_resources().get("CPU") == 2.0)


@pytest.mark.row("7.group_functions", "5.group_removed")
def test_tasks_of_a_removed_group(free: None, make: Any, tmp_path: Any, eventually: Any) -> None:
    group = make([{"CPU": 1}])
    pending = make([{"CPU": 100}])

    @ray.remote
    def endless() -> None:
        (tmp_path / "runs").touch()
        time.sleep(1000)

    runs = endless.options(scheduling_strategy=In(group)).remote()
    eventually((tmp_path / "runs").exists, 20)
    refs = [runs, one.options(scheduling_strategy=In(pending)).remote()]
    refs += [one.options(scheduling_strategy=In(group)).remote() for _ in range(3)]
    groups.remove_placement_group(group)
    groups.remove_placement_group(pending)
    if ON_RAY:  # all of them wait for ever there
        assert len(ray.wait(refs, num_returns=len(refs), timeout=1)[1]) > 0
        return
    refs.append(one.options(scheduling_strategy=In(group)).remote())
    for ref in refs:
        with pytest.raises(exceptions.TaskPlacementGroupRemoved):
            ray.get(ref, timeout=WAIT)
    late = Member.options(num_cpus=1, scheduling_strategy=In(group)).remote()
    with pytest.raises(exceptions.ActorPlacementGroupRemoved):
        ray.get(late.group.remote(), timeout=WAIT)


@pytest.mark.row("7.group_class")
def test_ready_of_a_removed_group(make: Any) -> None:
    group = make([{"gold": 1}])
    assert group.wait(WAIT)
    groups.remove_placement_group(group)
    with pytest.raises(exceptions.TaskPlacementGroupRemoved):
        ray.get(group.ready(), timeout=WAIT)
    with pytest.raises(Exception, match="remove|exist"):
        group.wait(1)


@pytest.mark.row("6.rest")
def test_runtime_context_names_the_group(free: None, make: Any) -> None:
    group = make([{"CPU": 1}])

    @ray.remote
    def look() -> Any:
        return ray.get_runtime_context().get_placement_group_id()

    assert ray.get_runtime_context().get_placement_group_id() is None
    assert ray.get(look.remote(), timeout=WAIT) is None
    ref = look.options(scheduling_strategy=In(group)).remote()
    assert ray.get(ref, timeout=WAIT) == group.id.hex()


@pytest.mark.row("7.group", "7.group_functions")
def test_nothing_is_lost_when_groups_come_and_go(free: None, make: Any, eventually: Any) -> None:
    total = ray.cluster_resources()
    for i in range(4 if ON_RAY else 20):
        group = make([{"CPU": 1, "gold": 0.5}, {"CPU": 1}], strategy="PACK")
        ref = one.options(scheduling_strategy=In(group)).remote()
        if i % 2:
            assert ray.get(ref, timeout=WAIT) == 1
        groups.remove_placement_group(group)
        now = ray.available_resources()
        assert all(0 <= amount <= total.get(name, amount) for name, amount in now.items())
    for name in ("CPU", "gold"):
        eventually(lambda name=name: ray.available_resources().get(name) == total[name])
