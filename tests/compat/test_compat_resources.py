"""Resources: amounts, types and names of demands, of nodes, and what the cluster says of them."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from compat_target import PATIENCE, exceptions, ray, start

WAIT = 20 * PATIENCE


@ray.remote
def one() -> int:
    return 1


@ray.remote
def held() -> Any:
    return ray.get_runtime_context().get_assigned_resources()


@ray.remote
class Actor:
    def held(self) -> Any:
        return ray.get_runtime_context().get_assigned_resources()


@pytest.fixture()
def free(cluster: Any, eventually: Callable[..., Any]) -> None:
    """All CPUs and all gold are free."""
    total = ray.cluster_resources()
    for name in ("CPU", "gold"):
        eventually(lambda name=name: ray.available_resources().get(name) == total[name])


@pytest.mark.row("2.resources")
@pytest.mark.parametrize(
    "options, error",
    [
        ({"num_cpus": -1}, ValueError), ({"num_cpus": 0.00001}, ValueError),
        ({"num_cpus": "1"}, TypeError),
        ({"num_gpus": -1}, ValueError), ({"num_gpus": "1"}, TypeError),
        ({"num_gpus": 1.5}, ValueError), ({"memory": -1}, ValueError),
        ({"resources": {"CPU": 1}}, ValueError), ({"resources": {"GPU": 1}}, ValueError),
        ({"resources": {"gold": -1}}, ValueError), ({"resources": {"gold": 0.00001}}, ValueError),
        ({"resources": 3}, TypeError),
    ],
)  # fmt: skip
def test_demands_that_make_no_sense(cluster: Any, options: Any, error: type) -> None:
    with pytest.raises(error):
        one.options(**options).remote()
    with pytest.raises(error):
        Actor.options(**options).remote()


@pytest.mark.row("2.resources", "6.assigned")
@pytest.mark.parametrize(
    "options, shown",
    [
        ({}, {"CPU": 1.0}), ({"num_cpus": 2}, {"CPU": 2.0}), ({"num_cpus": 0.5}, {"CPU": 0.5}),
        ({"num_cpus": 0.0001}, {"CPU": 0.0001}), ({"num_cpus": 0}, {}),
        ({"resources": {"gold": 1.5}}, {"CPU": 1.0, "gold": 1.5}),
        ({"num_cpus": 0, "resources": {"gold": 4}}, {"gold": 4.0}),
    ],
)  # fmt: skip
def test_what_a_task_holds(free: None, options: Any, shown: Any) -> None:
    assert ray.get(held.options(**options).remote(), timeout=WAIT) == shown


@pytest.mark.row("2.memory", "6.assigned")
def test_memory_is_an_account(free: None, eventually: Any) -> None:
    total = ray.cluster_resources()["memory"]
    assert ray.get(held.options(memory=1_000_000).remote(), timeout=WAIT)["memory"] == 1_000_000
    actor = Actor.options(memory=100 * 1024 * 1024).remote()
    assert ray.get(actor.held.remote(), timeout=WAIT)["memory"] == 100 * 1024 * 1024
    eventually(lambda: ray.available_resources()["memory"] <= total - 100 * 1024 * 1024)


@pytest.mark.row("2.memory")
def test_accelerator_type(no_cluster: None) -> None:
    start(resources={"accelerator_type:A100": 1})
    assert ray.get(one.options(accelerator_type="A100").remote(), timeout=WAIT) == 1
    ref = one.options(accelerator_type="H100").remote()
    assert ray.wait([ref], timeout=0.2)[0] == []


@pytest.mark.row("3.resources", "6.assigned")
def test_what_an_actor_holds(free: None, eventually: Any) -> None:
    actors = [Actor.remote() for _ in range(4)]  # a CPU each to be placed, none afterwards
    ray.get([a.held.remote() for a in actors], timeout=WAIT)
    eventually(lambda: ray.available_resources().get("CPU") == 2.0)
    holds = Actor.options(resources={"gold": 1}).remote()
    assert ray.get(holds.held.remote(), timeout=WAIT)["gold"] == 1.0
    eventually(lambda: ray.available_resources().get("gold") == 3.0)
    named = Actor.options(num_cpus=1).remote()
    assert ray.get(named.held.remote(), timeout=WAIT) == {"CPU": 1.0}
    ray.kill(named)
    ray.kill(holds)
    eventually(lambda: ray.available_resources().get("gold") == 4.0)


@pytest.mark.row("1.resources")
def test_cluster_and_available(free: None, tmp_path: Any, eventually: Any) -> None:
    total = ray.cluster_resources()
    assert total["CPU"] == 2.0 and total["gold"] == 4.0
    assert total["memory"] > 0 and total["object_store_memory"] > 0
    assert total["node:__internal_head__"] == 1.0
    assert [v for k, v in total.items() if k.startswith("node:") and "head" not in k] == [1.0]
    assert all(isinstance(v, float) for v in total.values())

    @ray.remote(resources={"gold": 4})
    def hold() -> None:
        while not (tmp_path / "end").exists():
            time.sleep(0.01)

    ref = hold.remote()
    eventually(lambda: "gold" not in ray.available_resources())
    eventually(lambda: ray.available_resources().get("CPU") == 1.0)
    (tmp_path / "end").touch()
    ray.get(ref, timeout=WAIT)
    eventually(lambda: ray.available_resources().get("gold") == 4.0)


@pytest.mark.row("1.nodes")
def test_nodes(cluster: Any) -> None:
    (node,) = ray.nodes()
    fields = (
        "NodeID", "Alive", "NodeManagerAddress", "NodeManagerHostname", "NodeManagerPort",
        "ObjectManagerPort", "ObjectStoreSocketName", "RayletSocketName", "MetricsExportPort",
        "NodeName", "RuntimeEnvAgentPort", "DeathReason", "DeathReasonMessage", "alive",
        "Resources", "Labels",
    )  # fmt: skip
    assert not [f for f in fields if f not in node]
    assert node["NodeID"] == ray.get_runtime_context().get_node_id()
    assert node["Alive"] is True and node["alive"] is True
    assert node["Resources"]["CPU"] == 2.0 and node["Resources"]["gold"] == 4.0
    assert f"node:{node['NodeManagerAddress']}" in node["Resources"]


_TRY = """
import sys
from compat_target import start
try:
    start(**%r)
except (ValueError, AssertionError) as error:
    print(error)
    sys.exit(77)
"""


@pytest.mark.row("7.whole")
@pytest.mark.parametrize(
    "options",
    [{"num_cpus": 1.5}, {"resources": {"half": 0.5}}, {"num_gpus": 0.5}, {"num_cpus": -1},
     {"resources": {"CPU": 1}}, {"resources": {"GPU": 1}}],
)  # fmt: skip
def test_quantities_of_a_node_are_whole(no_cluster: None, options: Any) -> None:
    # In a process of its own: what Ray has started by then ends only with the process.
    done = subprocess.run(
        [sys.executable, "-c", _TRY % options], capture_output=True, text=True, check=False,
        cwd=pathlib.Path(__file__).parent, timeout=2 * WAIT,
    )  # fmt: skip
    assert done.returncode == 77, done.stderr


@pytest.mark.row("7.blocked")
def test_a_blocked_task_lends_its_cpu(free: None) -> None:
    @ray.remote
    def deep(n: int) -> int:
        return 1 + ray.get(deep.remote(n - 1)) if n else 1

    assert ray.get(deep.remote(5), timeout=2 * WAIT) == 6


@pytest.mark.row("7.blocked")
def test_nothing_else_is_lent(free: None) -> None:
    @ray.remote(num_cpus=0, resources={"gold": 4})
    def parent() -> str:
        child = one.options(num_cpus=0, resources={"gold": 1}).remote()
        try:
            ray.get(child, timeout=0.3)
        except exceptions.GetTimeoutError:
            return "kept"
        return "lent"

    assert ray.get(parent.remote(), timeout=WAIT) == "kept"
