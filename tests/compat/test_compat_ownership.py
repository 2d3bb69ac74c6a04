"""What becomes of objects whose owner died. On Ray they are lost to everybody else
(OwnerDiedError); on Skate whatever another process still holds stays readable."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
from compat_target import ON_RAY, exceptions, ray

VALUES = {
    "small": lambda: {"a": [1, 2]},
    "large": lambda: np.arange(300_000),
    "nested": lambda: [ray.put([ray.put("deep"), ray.put(np.ones(200_000))])],
}


def plain(value):
    """A value with its refs replaced by what they hold, arrays by sums: comparable anywhere."""
    if isinstance(value, ray.ObjectRef):
        return plain(ray.get(value, timeout=30))
    if isinstance(value, list):
        return [plain(v) for v in value]
    return int(value.sum()) if isinstance(value, np.ndarray) else value


EXPECTED = {"small": {"a": [1, 2]}, "large": 44999850000, "nested": [["deep", 200_000]]}


@ray.remote
def made(kind):
    return VALUES[kind]()


@ray.remote
def read(ref):
    return plain(ref[0])


@ray.remote
def wait_for(path, value):
    open(f"{path}{value}", "w").close()
    while not os.path.exists(path):
        time.sleep(0.01)
    return value


@ray.remote(max_restarts=0, num_cpus=0)
class Owner:
    def __init__(self):
        self.held = []

    def pid(self):
        return os.getpid()

    def put(self, kind):
        return [ray.put(VALUES[kind]())]

    def wrap(self, refs):
        return [ray.put(refs)]

    def finished(self, kind):
        ref = made.remote(kind)
        ray.wait([ref])
        return [ref]

    def running(self, path, count=1):
        refs = [wait_for.remote(path, i) for i in range(count)]
        while not os.path.exists(f"{path}0"):
            time.sleep(0.01)
        return refs

    def call(self, callee, path, count):
        refs = [callee.wait_for.remote(path, i) for i in range(count)]
        while not os.path.exists(f"{path}0"):
            time.sleep(0.01)
        return refs

    def hold(self, refs):
        self.held = refs

    def read(self):
        return plain(self.held)


def kill(*actors):
    """SIGKILL their processes, and wait until they are gone."""
    pids = ray.get([a.pid.remote() for a in actors], timeout=30)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for actor in actors:
        with pytest.raises(exceptions.RayActorError):
            ray.get(actor.pid.remote(), timeout=30)


def outlives(question, expected, eventually):
    """Its owner is dead: on Skate the answer is still there, on Ray it becomes OwnerDiedError."""
    if not ON_RAY:
        assert question() == expected
        return

    def lost():
        try:
            question()
        except exceptions.RayTaskError as error:
            return isinstance(error.cause, exceptions.OwnerDiedError)
        except exceptions.OwnerDiedError:
            return True
        return False

    eventually(lost)


@pytest.mark.row("5.lost")
@pytest.mark.row("14.borrowing")
@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("how", ["put", "finished"])
def test_the_caller_keeps_it(cluster, eventually, kind, how):
    owner = Owner.remote()
    (ref,) = ray.get(getattr(owner, how).remote(kind), timeout=30)
    kill(owner)
    if ON_RAY and how == "finished" and kind != "large":
        return  # its caller may or may not have got the value with the ref
    outlives(lambda: plain(ref), EXPECTED[kind], eventually)
    outlives(lambda: ray.get(read.remote([ref]), timeout=30), EXPECTED[kind], eventually)


@pytest.mark.row("14.borrowing")
def test_actor_state_keeps_it(cluster, eventually):
    owner, keeper = Owner.remote(), Owner.remote()
    refs = ray.get(owner.put.remote("nested"), timeout=30)
    ray.get(keeper.hold.remote(refs), timeout=30)
    del refs
    kill(owner)
    outlives(lambda: ray.get(keeper.read.remote(), timeout=30), [EXPECTED["nested"]], eventually)


@pytest.mark.row("14.borrowing")
def test_two_owners_die_at_once(cluster, eventually):
    first, second = Owner.remote(), Owner.remote()
    inner = ray.get(first.put.remote("large"), timeout=30)

    outer = ray.get(second.wrap.remote(inner), timeout=30)
    del inner
    kill(first, second)
    outlives(lambda: plain(outer), [[EXPECTED["large"]]], eventually)


@pytest.mark.row("14.borrowing")
def test_a_tasks_worker_dies(cluster, eventually):
    @ray.remote
    def put():
        return os.getpid(), ray.put(np.ones(100_000)), ray.put("small")

    pid, large, small = ray.get(put.remote(), timeout=30)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))
    outlives(lambda: plain([large, small]), [100_000, "small"], eventually)


@pytest.mark.row("5.lost")
def test_its_running_task_finishes(cluster, eventually, tmp_path):
    owner = Owner.remote()
    (ref,) = ray.get(owner.running.remote(str(tmp_path / "go")), timeout=30)
    kill(owner)
    (tmp_path / "go").touch()
    outlives(lambda: ray.get(ref, timeout=30), 0, eventually)


@pytest.mark.row("5.lost")
def test_its_queued_tasks_end_in_an_error(cluster, tmp_path):
    owner = Owner.remote()
    refs = ray.get(owner.running.remote(str(tmp_path / "go"), 20), timeout=30)
    kill(owner)
    (tmp_path / "go").touch()
    with pytest.raises(exceptions.OwnerDiedError) as caught:
        ray.get(refs[-1], timeout=30)
    assert isinstance(caught.value, exceptions.ObjectLostError)
    assert refs[-1].hex() in str(caught.value)


@pytest.mark.row("14.borrowing")
def test_who_waits_is_answered(cluster, eventually, tmp_path):
    """The borrower is blocked in get() when the owner dies."""
    owner, waiter = Owner.remote(), Owner.remote()
    refs = ray.get(owner.running.remote(str(tmp_path / "go")), timeout=30)
    ray.get(waiter.hold.remote(refs), timeout=30)
    answer = waiter.read.remote()
    kill(owner)
    (tmp_path / "go").touch()
    outlives(lambda: ray.get(answer, timeout=30), [0], eventually)


@ray.remote(num_cpus=0)
class Callee:
    def wait_for(self, path, value):
        open(f"{path}{value}", "w").close()
        while not os.path.exists(path):
            time.sleep(0.01)
        return value


@pytest.mark.row("5.lost")
@pytest.mark.parametrize("options", [{}, {"max_concurrency": 2}], ids=["one", "two at once"])
def test_its_calls_of_an_actor_finish(cluster, eventually, tmp_path, options):
    """The calls that run, and those that wait in the actor's queue."""
    owner, callee = Owner.remote(), Callee.options(**options).remote()
    path = str(tmp_path / "go")
    refs = ray.get(owner.call.remote(callee, path, 4), timeout=30)
    kill(owner)
    (tmp_path / "go").touch()
    for i, ref in enumerate(refs):
        outlives(lambda ref=ref: ray.get(ref, timeout=30), i, eventually)


@pytest.mark.row("14.copies")
def test_a_mapped_value_stays_readable(cluster):
    owner = Owner.remote()
    (ref,) = ray.get(owner.put.remote("large"), timeout=30)
    array = ray.get(ref, timeout=30)
    kill(owner)
    del ref
    assert int(array.sum()) == EXPECTED["large"]
