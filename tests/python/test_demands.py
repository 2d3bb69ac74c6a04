"""Demands at their bounds: whoever cannot be served is told, and nobody waits for nothing."""

from __future__ import annotations

import os

import pytest

import skate as ray
from skate import exceptions

DEMANDS_MOST = 4096  # LEASES_CLASSES_MAX


def test_more_different_demands_than_a_node_keeps(session, tmp_path):
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    os.mkfifo(begun)
    os.mkfifo(gate)

    @ray.remote(num_cpus=2)
    def hold():
        begun.write_text("yes")
        return gate.read_text()  # until somebody writes: it keeps its CPUs meanwhile

    @ray.remote
    def f():
        return "done"

    held = hold.remote()
    assert begun.read_text() == "yes"
    refs = [f.options(num_cpus=2, memory=10 + i).remote() for i in range(DEMANDS_MOST + 20)]
    failed, _ = ray.wait(refs, num_returns=20, timeout=60)
    assert len(failed) == 20
    with pytest.raises(exceptions.TaskUnschedulableError, match="4096 demands") as told:
        ray.get(failed[0])
    assert "submit fewer" in str(told.value)
    gate.write_text("open")
    assert ray.get(held, timeout=60) == "open"
    taken = [ref for ref in refs if ref not in failed]
    served, _ = ray.wait(taken, timeout=60)
    assert ray.get(served) == ["done"]


def test_more_resources_than_a_demand_has(session):
    names = {f"r{i}": 0.001 for i in range(40)}

    @ray.remote
    def f():
        pass

    with pytest.raises(ValueError, match="at most 28 names"):
        f.options(resources=names)
    with pytest.raises(ValueError, match="at most 28 names"):
        ray.remote(resources=names)(type("A", (), {}))


def test_more_resources_than_a_node_has():
    ray.shutdown()
    with pytest.raises(ValueError, match="at most 32 resources"):
        ray.init(num_cpus=1, resources={f"r{i}": 1 for i in range(40)})
    assert not ray.is_initialized()


def test_a_thousand_different_demands_take_turns(session):
    @ray.remote
    def f(i):
        return i

    refs = [f.options(num_cpus=2, memory=10 + i).remote(i) for i in range(1_000)]
    # A turn each of the raylet's clock (20 ms) for every one would be 24 s.
    assert ray.get(refs, timeout=15) == list(range(1_000))
