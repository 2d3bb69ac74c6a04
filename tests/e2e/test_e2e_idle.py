"""Idle workers beyond the number of CPUs end; those that something needs stay."""

from __future__ import annotations

import os

import numpy as np
from e2e_help import eventually

import skate as ray


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@ray.remote
def deep(depth):
    """As many processes at once as it is deep."""
    below = ray.get(deep.remote(depth - 1)) if depth else []
    return [os.getpid(), *below]


def test_surplus_workers_end_and_needed_ones_stay(session):
    @ray.remote(runtime_env={"env_vars": {"KEEPER": "1"}})
    def keeper():
        return os.getpid(), ray.put(np.ones(100_000))

    keeps, ref = ray.get(keeper.remote())
    pids = ray.get(deep.remote(12))
    assert len(set(pids)) == 13
    assert eventually(lambda: sum(map(is_alive, pids)) <= 2)
    assert is_alive(keeps) and ray.get(ref).sum() == 100_000
    assert ray.get(deep.remote(6))
    del ref
    assert eventually(lambda: sum(map(is_alive, [*pids, keeps])) <= 2)


def test_objects_of_ended_workers_leave_the_store(session):
    @ray.remote(max_calls=1)
    def large():
        return np.ones(1_000_000)

    for _ in range(3):
        assert ray.get(large.remote()).sum() == 1_000_000
    store = ray.cluster_resources()["object_store_memory"]
    assert store > 0
    node = ray._api._node_rows
    assert eventually(lambda: node()[0]["arena_used"] < 8_000_000)
