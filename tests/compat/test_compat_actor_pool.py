"""`ray.util.ActorPool`: a fixed set of actors that take turns."""

from __future__ import annotations

import importlib
import time

import pytest
from compat_target import ON_RAY, ray

ActorPool = importlib.import_module(f"{ray.__name__}.util").ActorPool

pytestmark = pytest.mark.row("9.actor_pool")


@ray.remote(num_cpus=0)
class Doubler:
    def double(self, x):
        if x == 5:
            raise ValueError("five")
        return 2 * x

    def wait_for(self, gate, x):
        while not ray.get(gate.is_open.remote()):
            time.sleep(0.005)
        return x


@ray.remote(num_cpus=0)
class Gate:
    def __init__(self):
        self.open = False

    def set(self):
        self.open = True

    def is_open(self):
        return self.open


def double(actor, x):
    return actor.double.remote(x)


@pytest.fixture()
def actors(cluster):
    return [Doubler.remote(), Doubler.remote()]


def test_map_in_order_and_as_they_end(actors):
    pool = ActorPool(actors)
    assert list(pool.map(double, range(5))) == [0, 2, 4, 6, 8]
    assert sorted(pool.map_unordered(double, range(5))) == [0, 2, 4, 6, 8]
    assert list(pool.map(double, [])) == []
    assert pool.has_free() and not pool.has_next()


def test_map_begins_at_once_and_drops_what_was_before(actors):
    pool = ActorPool(actors)
    pool.submit(double, 77)
    results = pool.map(double, [1, 2, 3])
    assert pool.has_next()
    assert list(results) == [2, 4, 6]


def test_submit_and_get_next(actors):
    pool = ActorPool(actors)
    for i in range(4):
        pool.submit(double, i)
    assert not pool.has_free()
    assert pool.get_next_unordered() in (0, 2)
    rest = []
    take = pool.get_next_unordered if ON_RAY else pool.get_next  # Ray may refuse to change over
    while pool.has_next():
        rest.append(take())
    assert len(rest) == 3
    assert pool.has_free()


def test_nothing_left(actors):
    pool = ActorPool(actors)
    for take in (pool.get_next, pool.get_next_unordered):
        with pytest.raises(StopIteration):
            take()
    assert not pool.has_next()


def test_after_a_failed_result_the_actor_goes_back(actors):
    pool = ActorPool(actors[:1])
    for take in (pool.get_next, pool.get_next_unordered):
        pool.submit(double, 5)
        pool.submit(double, 6)
        with pytest.raises(ValueError, match="five"):
            take()
        assert take() == 12
        assert pool.has_free()


def test_timeouts(actors):
    gate = Gate.remote()
    pool = ActorPool(actors[:1])
    pool.submit(lambda actor, x: actor.wait_for.remote(gate, x), 8)
    for take in (pool.get_next, pool.get_next_unordered):
        with pytest.raises(TimeoutError):
            take(timeout=0.02)
        assert pool.has_next()
    ray.get(gate.set.remote())
    assert pool.get_next(timeout=30) == 8


@pytest.mark.parametrize("ordered", [True, False])
def test_a_late_result_can_be_ignored(actors, ordered):
    gate = Gate.remote()
    pool = ActorPool(actors[:1])
    take = pool.get_next if ordered else pool.get_next_unordered
    pool.submit(lambda actor, x: actor.wait_for.remote(gate, x), 8)
    # Ray's get_next_unordered trips over a name it has not set
    with pytest.raises(UnboundLocalError if ON_RAY and not ordered else TimeoutError):
        take(timeout=0.02, ignore_if_timedout=True)
    if ON_RAY and not ordered:
        return
    assert not pool.has_next() and pool.has_free()
    ray.get(gate.set.remote())
    pool.submit(double, 1)
    assert take(timeout=30) == 2


def test_actors_come_and_go(actors):
    pool = ActorPool(actors)
    with pytest.raises(ValueError):
        pool.push(actors[0])
    assert {pool.pop_idle(), pool.pop_idle()} == set(actors)
    assert pool.pop_idle() is None
    assert not pool.has_free()
    pool.submit(double, 3)
    assert not pool.has_next()
    pool.push(actors[0])
    assert pool.get_next(timeout=30) == 6
    pool.submit(double, 4)
    with pytest.raises(ValueError):
        pool.push(actors[0])
    assert pool.get_next() == 8
