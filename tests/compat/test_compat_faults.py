"""Deaths of workers: retries of tasks, restarts of actors, what the caller is told."""

from __future__ import annotations

import os
import signal
import time

import pytest
from compat_target import PATIENCE, exceptions, ray


def runs(path):
    return len(path.read_text()) if path.exists() else 0


@ray.remote
def die_until(path, count, how="exit"):
    """Dies in its first `count` runs, then answers."""
    with open(path, "a+") as log:
        log.write("x")
        log.seek(0)
        run = len(log.read())
    if run <= count:
        if how == "exit":
            os._exit(1)
        os.kill(os.getpid(), getattr(signal, how))
        time.sleep(60)
    return run


@pytest.mark.row("2.max_retries", "5.crashed")
@pytest.mark.parametrize("how", ["exit", "SIGKILL", "SIGSEGV"])
def test_a_task_is_retried(cluster, tmp_path, how):
    path = tmp_path / "log"
    assert ray.get(die_until.options(max_retries=2).remote(str(path), 2, how), timeout=60) == 3


@pytest.mark.row("2.max_retries", "5.crashed")
def test_three_retries_by_default(cluster, tmp_path):
    path = tmp_path / "log"
    with pytest.raises(exceptions.WorkerCrashedError):
        ray.get(die_until.remote(str(path), 100), timeout=60)
    assert runs(path) == 4


@pytest.mark.row("2.max_retries", "5.crashed")
def test_no_retries(cluster, tmp_path):
    path = tmp_path / "log"
    with pytest.raises(exceptions.WorkerCrashedError):
        ray.get(die_until.options(max_retries=0).remote(str(path), 100), timeout=60)
    assert runs(path) == 1


@pytest.mark.row("2.max_retries", "5.crashed")
def test_endless_retries(cluster, tmp_path):
    path = tmp_path / "log"
    assert ray.get(die_until.options(max_retries=-1).remote(str(path), 6), timeout=120) == 7


@pytest.mark.row("2.max_retries", "5.crashed")
def test_others_are_not_harmed_by_a_crash(cluster, tmp_path):
    @ray.remote
    def fine(x):
        return x

    bad = die_until.options(max_retries=0).remote(str(tmp_path / "log"), 1)
    good = [fine.remote(i) for i in range(200)]
    assert ray.get(good, timeout=60) == list(range(200))
    with pytest.raises(exceptions.WorkerCrashedError):
        ray.get(bad, timeout=60)


@pytest.mark.row("2.retry_exceptions")
def test_retry_exceptions(cluster, tmp_path):
    @ray.remote(max_retries=2, retry_exceptions=True)
    def fail_twice(path):
        with open(path, "a+") as log:
            log.write("x")
            log.seek(0)
            if len(log.read()) < 3:
                raise ValueError
        return "third"

    assert ray.get(fail_twice.remote(str(tmp_path / "log")), timeout=60) == "third"


@pytest.mark.row("2.max_retries", "5.crashed")
def test_a_dependant_of_a_retried_task(cluster, tmp_path):
    @ray.remote
    def add(x, y):
        return x + y

    ref = die_until.options(max_retries=1).remote(str(tmp_path / "log"), 1)
    assert ray.get(add.remote(ref, 10), timeout=60) == 12


@pytest.mark.row("14.borrowing")
def test_a_dead_workers_nested_results(cluster, tmp_path):
    @ray.remote(max_retries=0)
    def outer(path):
        inner = die_until.options(max_retries=2).remote(path, 2)
        return ray.get(inner)

    assert ray.get(outer.remote(str(tmp_path / "log")), timeout=60) == 3


@ray.remote
class Mortal:
    def __init__(self, path):
        with open(path, "a") as log:
            log.write("x")
        self.path = path
        self.value = 0

    def increment(self):
        self.value += 1
        return self.value

    def pid(self):
        return os.getpid()

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    def die_until(self, count):
        with open(self.path) as log:
            if len(log.read()) <= count:
                os._exit(1)
        return "alive"

    def reconstructed(self):
        return ray.get_runtime_context().was_current_actor_reconstructed


@pytest.mark.row("5.actor_error")
def test_a_dead_actor(cluster, tmp_path):
    actor = Mortal.remote(str(tmp_path / "log"))
    pid = ray.get(actor.pid.remote())
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(exceptions.ActorDiedError) as caught:
        for _ in range(100_000):
            ray.get(actor.increment.remote(), timeout=30)
    assert time.monotonic() - began < 1 * PATIENCE
    assert caught.value.actor_id == actor._actor_id.hex()
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(actor.increment.remote(), timeout=30)
    assert runs(tmp_path / "log") == 1


@pytest.mark.row("5.actor_error")
def test_a_call_that_kills_its_actor(cluster, tmp_path):
    actor = Mortal.remote(str(tmp_path / "log"))
    assert ray.get(actor.increment.remote(), timeout=60) == 1
    dying, after = actor.die.remote(), actor.increment.remote()
    for ref in (dying, after):
        with pytest.raises(exceptions.ActorDiedError):
            ray.get(ref, timeout=30)


@pytest.mark.row("3.max_restarts")
def test_restart_runs_the_constructor_again(cluster, tmp_path, eventually):
    actor = Mortal.options(max_restarts=1).remote(str(tmp_path / "log"))
    assert ray.get([actor.increment.remote() for _ in range(3)]) == [1, 2, 3]
    assert ray.get(actor.reconstructed.remote()) is False
    os.kill(ray.get(actor.pid.remote()), signal.SIGKILL)

    def back():
        try:
            return ray.get(actor.pid.remote(), timeout=30)
        except exceptions.RayActorError:
            return None

    eventually(back)
    assert ray.get(actor.increment.remote()) == 1
    assert ray.get(actor.reconstructed.remote()) is True
    assert runs(tmp_path / "log") == 2

    os.kill(ray.get(actor.pid.remote()), signal.SIGKILL)
    with pytest.raises(exceptions.ActorDiedError):
        for _ in range(100_000):
            try:
                ray.get(actor.increment.remote(), timeout=30)
            except exceptions.ActorUnavailableError:
                time.sleep(0.01)
    assert runs(tmp_path / "log") == 2


@pytest.mark.row("3.max_task_retries")
def test_max_task_retries(cluster, tmp_path):
    actor = Mortal.options(max_restarts=2, max_task_retries=2).remote(str(tmp_path / "log"))
    assert ray.get(actor.die_until.remote(2), timeout=60) == "alive"
    assert runs(tmp_path / "log") == 3


@pytest.mark.row("3.max_task_retries")
def test_task_retries_without_restarts_give_nothing(cluster, tmp_path):
    actor = Mortal.options(max_restarts=0, max_task_retries=3).remote(str(tmp_path / "log"))
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(actor.die_until.remote(2), timeout=60)
    assert runs(tmp_path / "log") == 1


@pytest.mark.row("3.max_task_retries", "3.max_restarts")
def test_restarts_used_up_during_retries(cluster, tmp_path):
    actor = Mortal.options(max_restarts=1, max_task_retries=-1).remote(str(tmp_path / "log"))
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(actor.die_until.remote(50), timeout=60)
    assert runs(tmp_path / "log") == 2


@pytest.mark.row("1.kill", "3.max_restarts")
def test_kill_with_restart(cluster, tmp_path, eventually):
    actor = Mortal.options(max_restarts=1, max_task_retries=-1).remote(str(tmp_path / "log"))
    assert ray.get(actor.increment.remote()) == 1
    ray.kill(actor, no_restart=False)
    eventually(lambda: runs(tmp_path / "log") == 2)
    assert ray.get(actor.increment.remote(), timeout=60) == 1
    ray.kill(actor)
    with pytest.raises(exceptions.ActorDiedError):
        for _ in range(100_000):
            ray.get(actor.increment.remote(), timeout=30)
    assert runs(tmp_path / "log") == 2


@pytest.mark.row("3.max_restarts")
def test_a_constructor_that_fails_is_not_restarted(cluster, tmp_path):
    @ray.remote(max_restarts=3)
    class Broken:
        def __init__(self, path):
            with open(path, "a") as log:
                log.write("x")
            raise ValueError("no")

        def hello(self):
            return 1

    actor = Broken.remote(str(tmp_path / "log"))
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(actor.hello.remote(), timeout=60)
    assert runs(tmp_path / "log") == 1


@pytest.mark.row("3.max_restarts", "3.names")
def test_named_actor_keeps_its_name_over_a_restart(cluster, tmp_path):
    actor = Mortal.options(name="phoenix", max_restarts=-1, max_task_retries=-1).remote(
        str(tmp_path / "log")
    )
    os.kill(ray.get(actor.pid.remote()), signal.SIGKILL)
    assert ray.get(ray.get_actor("phoenix").die_until.remote(1), timeout=60) == "alive"
    ray.kill(actor)


@pytest.mark.row("14.children")
def test_children_end_with_their_parent(cluster, tmp_path, eventually):
    @ray.remote
    class Parent:
        def __init__(self, path):
            self.child = Mortal.remote(path)

        def pids(self):
            return os.getpid(), ray.get(self.child.pid.remote())

    parent = Parent.remote(str(tmp_path / "log"))
    mine, child = ray.get(parent.pids.remote())
    os.kill(mine, signal.SIGKILL)

    def gone():
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return True
        with open(f"/proc/{child}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"

    eventually(gone)
