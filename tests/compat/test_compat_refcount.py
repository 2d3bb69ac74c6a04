"""A ref keeps its object wherever it lies: containers, closures, actors, values inside values,
other processes; the first holder may be long gone."""

from __future__ import annotations

import dataclasses
import gc
import os
import signal

import numpy as np
import pytest
from compat_target import ray

SIZE = 60_000


@dataclasses.dataclass
class Box:
    ref: object
    more: dict


def make(value=1):
    return ray.put(np.full(SIZE, value))


def read(ref):
    return int(ray.get(ref, timeout=60)[0])


@ray.remote
def pass_on(refs):
    """Gets refs, gives them back: the caller's own may be gone meanwhile."""
    return refs


@ray.remote
def first_of(refs):
    return read(refs[0])


@ray.remote
def nested(depth):
    return [make(depth), nested.remote(depth - 1)] if depth else "bottom"


@ray.remote(num_cpus=0)
class Keeper:
    def keep(self, refs):
        self.refs = refs

    def give(self):
        refs, self.refs = self.refs, None
        return refs

    def read(self):
        return read(self.refs[0])

    def send(self, other):
        refs, self.refs = self.refs, None
        ray.get(other.keep.remote(refs))

    def pid(self):
        return os.getpid()


def churn():
    """What was freed by mistake is overwritten now."""
    gc.collect()
    for _ in range(4):
        ray.get([pass_on.remote([ray.put(np.zeros(SIZE))]) for _ in range(4)], timeout=60)


WRAPS = {
    "list": (lambda r: [r], lambda w: w[0]),
    "tuple": (lambda r: (1, (r,)), lambda w: w[1][0]),
    "dict": (lambda r: {"a": {"b": r}}, lambda w: w["a"]["b"]),
    "key": (lambda r: {r: 1}, lambda w: next(iter(w))),
    "object": (lambda r: Box(None, {"x": [r]}), lambda w: w.more["x"][0]),
    "closure": (lambda r: (lambda: r), lambda w: w()),
    "twice": (lambda r: [r, r], lambda w: w[1]),
}


@pytest.mark.row("14.borrowing")
@pytest.mark.parametrize("kind", WRAPS)
def test_in_a_container(cluster, kind):
    wrap, unwrap = WRAPS[kind]
    outer = ray.put(wrap(make(7)))
    churn()
    assert read(unwrap(ray.get(outer, timeout=60))) == 7


@pytest.mark.row("14.borrowing")
@pytest.mark.parametrize("kind", WRAPS)
def test_through_a_task_and_back(cluster, kind):
    wrap, unwrap = WRAPS[kind]
    back = ray.get(pass_on.remote(wrap(make(8))), timeout=60)
    churn()
    assert read(unwrap(back)) == 8


@pytest.mark.row("14.borrowing")
def test_to_any_depth(cluster):
    value = ray.get(nested.remote(5), timeout=60)
    churn()
    for depth in range(5, 0, -1):
        assert read(value[0]) == depth
        value = ray.get(value[1], timeout=60)
    assert value == "bottom"


@pytest.mark.row("14.borrowing")
def test_a_chain_of_puts(cluster):
    ref = make(3)
    for _ in range(20):
        ref = ray.put([ref])
    churn()
    for _ in range(20):
        (ref,) = ray.get(ref, timeout=60)
    assert read(ref) == 3


@pytest.mark.row("14.borrowing")
def test_in_a_closure_of_a_remote_function(cluster):
    def capture(ref):
        @ray.remote
        def captured():
            return read(ref)

        return captured

    captured = capture(make(5))
    churn()
    assert ray.get([captured.remote() for _ in range(3)], timeout=60) == [5] * 3


@pytest.mark.row("14.borrowing")
def test_in_the_state_of_an_actor(cluster):
    keeper = Keeper.remote()
    ray.get(keeper.keep.remote([make(6)]), timeout=60)
    churn()
    assert ray.get(keeper.read.remote(), timeout=60) == 6
    (ref,) = ray.get(keeper.give.remote(), timeout=60)
    churn()
    assert read(ref) == 6


@pytest.mark.row("14.borrowing")
def test_the_first_borrower_passes_on_and_drops(cluster):
    first, second, third = (Keeper.remote() for _ in range(3))
    ray.get(first.keep.remote([make(9)]), timeout=60)
    ray.get(first.send.remote(second), timeout=60)
    churn()
    ray.get(second.send.remote(third), timeout=60)
    churn()
    assert ray.get(third.read.remote(), timeout=60) == 9


@pytest.mark.row("14.borrowing")
def test_the_first_borrower_passes_on_and_dies(cluster, eventually):
    first, second = Keeper.remote(), Keeper.remote()
    ray.get(first.keep.remote([make(4)]), timeout=60)
    pid = ray.get(first.pid.remote(), timeout=60)
    ray.get(first.send.remote(second), timeout=60)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))
    churn()
    assert ray.get(second.read.remote(), timeout=60) == 4


@pytest.mark.row("14.borrowing")
def test_an_argument_dropped_while_the_task_waits(cluster, tmp_path):
    @ray.remote
    def late(path, refs):
        while not os.path.exists(path):
            pass
        return read(refs[0])

    result = late.remote(str(tmp_path / "go"), [make(2)])
    churn_in_driver = [ray.put(np.zeros(SIZE)) for _ in range(20)]
    del churn_in_driver
    (tmp_path / "go").touch()
    assert ray.get(result, timeout=60) == 2


@pytest.mark.row("14.borrowing")
def test_a_result_that_holds_the_argument(cluster):
    inner = make(1)
    outer = pass_on.remote([pass_on.remote([inner])])
    del inner
    churn()
    (middle,) = ray.get(outer, timeout=60)
    (inner,) = ray.get(middle, timeout=60)
    assert read(inner) == 1


@pytest.mark.row("14.borrowing")
def test_pickled_by_hand_while_it_lives(cluster):
    """Out of band: the bytes keep nothing, but the ref that comes out of them does."""
    ref = make(7)
    data = ray.cloudpickle.dumps(ref)
    assert read(ray.cloudpickle.loads(data)) == 7

    @ray.remote
    def unpickle(data):
        return read(ray.cloudpickle.loads(data))

    assert ray.get(unpickle.remote(data), timeout=60) == 7
    again = ray.cloudpickle.loads(data)
    assert again == ref
    del ref
    churn()
    assert read(again) == 7


@pytest.mark.row("14.copies")
def test_a_view_outlives_its_ref(cluster):
    ref = make(5)
    array = ray.get(ref, timeout=60)
    part = array[10:20]
    del ref, array
    churn()
    assert part.tolist() == [5] * 10
