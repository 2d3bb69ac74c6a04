"""GPUs by count: which of them a task or actor gets, and what it sees of them."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from compat_target import PATIENCE, ray, start

groups: Any = importlib.import_module(f"{ray.__name__}.util.placement_group")
strategies: Any = importlib.import_module(f"{ray.__name__}.util.scheduling_strategies")
WAIT = 20 * PATIENCE
KEY = "CUDA_VISIBLE_DEVICES"

pytestmark = pytest.mark.row("7.gpus")


@pytest.fixture()
def gpus(eventually: Callable[..., Any]) -> Iterator[Any]:
    """A cluster of 2 CPUs and 2 GPUs, all of it free."""
    if not ray.is_initialized():
        start(num_gpus=2)
    eventually(lambda: ray.available_resources().get("GPU") == 2.0)
    yield ray


def seen() -> tuple[Any, ...]:
    """What a task sees: its GPUs by three ways, and what it holds."""
    context = ray.get_runtime_context()
    accelerators = context.get_accelerator_ids()["GPU"]
    return ray.get_gpu_ids(), accelerators, os.environ.get(KEY), context.get_assigned_resources()


look: Any = ray.remote(max_retries=0)(seen)


@ray.remote
class Holder:
    def look(self) -> Any:
        return seen()


@pytest.mark.row("1.context.gpus")
def test_a_driver_has_none(gpus: Any) -> None:
    assert ray.cluster_resources()["GPU"] == 2.0
    assert ray.get_gpu_ids() == []


@pytest.mark.row("1.context.gpus", "6.assigned")
@pytest.mark.parametrize("count", [1, 2])
def test_task_sees_its_gpus(gpus: Any, count: int) -> None:
    ids, names, variable, held = ray.get(look.options(num_gpus=count).remote(), timeout=WAIT)
    assert len(set(ids)) == count and set(ids) <= {0, 1}
    assert names == [str(i) for i in ids] and variable == ",".join(names)
    assert held == {"CPU": 1.0, "GPU": float(count)}


def test_none_asked_none_set(gpus: Any) -> None:
    for options in ({}, {"num_gpus": 0}):
        ids, names, variable, _ = ray.get(look.options(**options).remote(), timeout=WAIT)
        assert ids == [] and names == [] and variable == os.environ.get(KEY)


def test_after_a_task_with_gpus(gpus: Any) -> None:
    assert len(ray.get(look.options(num_gpus=1).remote(), timeout=WAIT)[0]) == 1
    for ids, names, variable, _ in ray.get([look.remote() for _ in range(4)], timeout=WAIT):
        assert ids == [] and names == [] and variable == os.environ.get(KEY)


def test_two_actors_have_one_each(gpus: Any) -> None:
    actors = [Holder.options(num_gpus=1).remote() for _ in range(2)]
    shown = ray.get([a.look.remote() for a in actors], timeout=WAIT)
    assert sorted(ids for ids, *_ in shown) == [[0], [1]]
    assert [variable for _, _, variable, _ in shown] == [str(ids[0]) for ids, *_ in shown]
    third = Holder.options(num_gpus=1).remote()
    ref = third.look.remote()
    assert ray.wait([ref], timeout=0.2)[0] == []
    ray.kill(actors[1])
    assert ray.get(ref, timeout=WAIT)[0] == shown[1][0]


def test_parts_share_one(gpus: Any) -> None:
    actors = [Holder.options(num_cpus=0, num_gpus=0.5).remote() for _ in range(2)]
    shown = ray.get([a.look.remote() for a in actors], timeout=WAIT)
    assert shown[0][0] == shown[1][0] and len(shown[0][0]) == 1
    assert shown[0][3] == {"GPU": 0.5}
    whole = ray.get(look.options(num_gpus=1).remote(), timeout=WAIT)[0]
    assert whole != shown[0][0] and len(whole) == 1


def test_two_need_two_whole_ones(gpus: Any) -> None:
    part = Holder.options(num_gpus=0.25).remote()
    assert len(ray.get(part.look.remote(), timeout=WAIT)[0]) == 1
    ref = look.options(num_gpus=2).remote()
    assert ray.wait([ref], timeout=0.2)[0] == []
    ray.kill(part)
    assert sorted(ray.get(ref, timeout=WAIT)[0]) == [0, 1]


@pytest.mark.row("2.resources")
@pytest.mark.parametrize("count", [1.5, -1, 0.00001])
def test_amounts_that_are_none(gpus: Any, count: float) -> None:
    with pytest.raises(ValueError):
        look.options(num_gpus=count).remote()
    with pytest.raises(ValueError):
        Holder.options(num_gpus=count).remote()


@pytest.mark.row("7.group_strategy")
def test_gpus_of_a_bundle(gpus: Any) -> None:
    group = ray.util.placement_group([{"CPU": 1, "GPU": 1}, {"GPU": 1}])
    try:
        shown = []
        for index in (0, 1):
            strategy = strategies.PlacementGroupSchedulingStrategy(group, index)
            actor = Holder.options(num_cpus=0, num_gpus=1, scheduling_strategy=strategy).remote()
            shown.append(ray.get(actor.look.remote(), timeout=WAIT)[0])
            strategy = strategies.PlacementGroupSchedulingStrategy(group, index)
            task = look.options(num_cpus=0, num_gpus=1, scheduling_strategy=strategy)
            ray.kill(actor)
            assert ray.get(task.remote(), timeout=WAIT)[0] == shown[-1]
        assert sorted(shown) == [[0], [1]]
    finally:
        groups.remove_placement_group(group)
