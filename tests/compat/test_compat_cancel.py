"""cancel: what never ran, what runs, children, actors, and what it refuses."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest
from compat_target import ON_RAY, PATIENCE, exceptions, ray

LONG = 600  # seconds that nothing here may take


@ray.remote
def spin(path=None):
    """Runs Python code for a long time; an interrupt may come between any two lines of it."""
    if path:
        open(path, "w").close()
    for _ in range(LONG * 100):
        time.sleep(0.01)
    return "done"


@ray.remote
def touch(path, *_after):
    """Leaves a trace that it ran."""
    open(path, "w").close()
    return path


@ray.remote
def plain(x):
    return x


def cancelled(ref, seconds=10):
    """The error of a cancelled task, or a failure of the test."""
    with pytest.raises(exceptions.TaskCancelledError) as caught:
        ray.get(ref, timeout=seconds * PATIENCE)
    return caught.value


@pytest.fixture()
def busy(cluster, tmp_path, eventually):
    """Two tasks that hold both CPUs; cancelled at the end."""
    paths = [tmp_path / "busy0", tmp_path / "busy1"]
    refs = [spin.remote(str(p)) for p in paths]
    eventually(lambda: all(p.exists() for p in paths), 20)
    yield refs
    for ref in refs:
        ray.cancel(ref, force=True)
    ray.wait(refs, num_returns=2, timeout=20 * PATIENCE)


@pytest.mark.row("1.cancel", "5.cancelled")
def test_a_queued_task_never_runs(busy, tmp_path):
    trace = tmp_path / "trace"
    ref = touch.remote(str(trace))
    ray.cancel(ref)
    error = cancelled(ref)
    assert not isinstance(error, exceptions.RayTaskError)
    if not ON_RAY:  # there the id is missing
        assert error.task_id == ref.task_id()
        assert ref.task_id().hex() in str(error)
    for other in busy:
        ray.cancel(other)
        cancelled(other)
    assert ray.get(plain.remote(1), timeout=20 * PATIENCE) == 1
    assert not trace.exists()


@pytest.mark.row("1.cancel")
def test_a_task_that_waits_for_its_argument_never_runs(cluster, tmp_path, eventually):
    started, trace = tmp_path / "started", tmp_path / "trace"
    slow = spin.remote(str(started))
    ref = touch.remote(str(trace), slow)
    after = plain.remote(ref)
    eventually(started.exists, 20)
    ray.cancel(ref)
    cancelled(ref)
    cancelled(after)  # what depends on it fails alike
    if not ON_RAY:  # there the driver may abort here
        ray.cancel(slow)
        cancelled(slow)
        assert ray.get(plain.remote(2), timeout=20) == 2
    else:
        ray.cancel(slow)
    assert not trace.exists()


@pytest.mark.row("1.cancel", "5.cancelled")
def test_a_running_task_is_interrupted(cluster, tmp_path, eventually):
    started = tmp_path / "started"
    ref = spin.remote(str(started))
    eventually(started.exists, 20)
    ray.cancel(ref)
    error = cancelled(ref)
    assert isinstance(error, exceptions.RayTaskError)
    assert type(error).__name__ == "RayTaskError(TaskCancelledError)"


@pytest.mark.row("1.cancel")
def test_a_task_may_catch_the_interrupt(cluster, tmp_path, eventually):
    @ray.remote
    def stubborn(path):
        try:
            open(path, "w").close()
            for _ in range(LONG * 100):
                time.sleep(0.01)
        except KeyboardInterrupt:
            return "caught"

    started = tmp_path / "started"
    ref = stubborn.remote(str(started))
    eventually(started.exists, 20)
    ray.cancel(ref)
    assert ray.get(ref, timeout=20 * PATIENCE) == "caught"


@pytest.mark.row("1.cancel")
def test_a_cancelled_task_is_not_retried(cluster, tmp_path, eventually):
    @ray.remote(max_retries=5, retry_exceptions=True)
    def count(path):
        with open(path, "a") as log:
            log.write("x")
        for _ in range(LONG * 100):
            time.sleep(0.01)

    path = tmp_path / "log"
    ref = count.remote(str(path))
    eventually(path.exists, 20)
    ray.cancel(ref)
    cancelled(ref)
    assert ray.get(plain.remote(1), timeout=20 * PATIENCE) == 1
    assert path.read_text() == "x"


@pytest.mark.row("1.cancel")
def test_a_finished_task_keeps_its_value(cluster):
    ref = plain.remote(5)
    assert ray.get(ref) == 5
    ray.cancel(ref)
    ray.cancel(ref, force=True)
    assert ray.get(ref) == 5


@pytest.mark.row("1.cancel")
def test_twice_is_as_good_as_once(cluster, tmp_path, eventually):
    started = tmp_path / "started"
    ref = spin.remote(str(started))
    eventually(started.exists, 20)
    for _ in range(3):
        ray.cancel(ref)
    cancelled(ref)
    ray.cancel(ref)
    assert ray.get(plain.remote(1), timeout=20 * PATIENCE) == 1


@pytest.mark.row("1.cancel")
def test_force_ends_the_worker(cluster, tmp_path, eventually):
    @ray.remote
    def deaf(path):
        open(path, "w").close()
        while True:
            try:
                time.sleep(LONG)
            except KeyboardInterrupt:
                continue

    started = tmp_path / "started"
    ref = deaf.remote(str(started))
    eventually(started.exists, 20)
    ray.cancel(ref, force=True)
    with pytest.raises((exceptions.WorkerCrashedError, exceptions.TaskCancelledError)):
        ray.get(ref, timeout=20 * PATIENCE)


@ray.remote(num_cpus=0)
class Holder:
    """Keeps a ref of a child for the test."""

    def __init__(self):
        self.refs = []

    def put(self, refs):
        self.refs = refs

    def get(self):
        return self.refs


@pytest.mark.row("1.cancel")
def test_its_children_are_cancelled_too(cluster, tmp_path, eventually):
    @ray.remote(num_cpus=0)
    def parent(path, holder):
        child = spin.options(num_cpus=0).remote(path)
        ray.get(holder.put.remote([child]))
        return ray.get(child)

    holder = Holder.remote()
    started = tmp_path / "started"
    ref = parent.remote(str(started), holder)
    eventually(started.exists, 30)
    (child,) = eventually(lambda: ray.get(holder.get.remote()), 20)
    ray.cancel(ref)
    cancelled(ref)
    cancelled(child)


@pytest.mark.row("1.cancel")
def test_not_recursive_leaves_the_children(cluster, tmp_path, eventually):
    @ray.remote(num_cpus=0)
    def child(path, stop):
        open(path, "w").close()
        while not os.path.exists(stop):
            time.sleep(0.01)
        return "done"

    @ray.remote(num_cpus=0)
    def parent(path, stop, holder):
        ref = child.remote(path, stop)
        ray.get(holder.put.remote([ref]))
        return ray.get(ref)

    holder = Holder.remote()
    started, stop = tmp_path / "started", tmp_path / "stop"
    ref = parent.remote(str(started), str(stop), holder)
    eventually(started.exists, 30)
    (inner,) = eventually(lambda: ray.get(holder.get.remote()), 20)
    ray.cancel(ref, recursive=False)
    cancelled(ref)
    stop.touch()
    assert ray.get(inner, timeout=20 * PATIENCE) == "done"


@ray.remote
class Sync:
    def __init__(self):
        self.log = []

    def wait_for(self, path, stop):
        open(path, "w").close()
        while not os.path.exists(stop):
            if ray.get_runtime_context().is_canceled():
                self.log.append("saw it")
                return "a value"
            time.sleep(0.01)
        return "told to stop"

    def wait_and_raise(self, path):
        open(path, "w").close()
        while not ray.get_runtime_context().is_canceled():
            time.sleep(0.01)
        return 1 / 0

    def note(self, x):
        self.log.append(x)

    def get(self):
        return self.log


@pytest.mark.row("1.cancel", "6.is_canceled")
def test_a_running_call_of_an_actor_sees_a_flag(cluster, tmp_path, eventually):
    actor = Sync.remote()
    started = tmp_path / "started"
    ref = actor.wait_for.remote(str(started), str(tmp_path / "never"))
    eventually(started.exists, 20)
    ray.cancel(ref)
    assert ray.get(actor.get.remote(), timeout=20 * PATIENCE) == ["saw it"]  # it lives, and went on
    assert not isinstance(cancelled(ref), exceptions.RayTaskError)


@pytest.mark.row("1.cancel", "6.is_canceled")
def test_a_cancelled_call_may_raise_an_error_of_its_own(cluster, tmp_path, eventually):
    actor = Sync.remote()
    started = tmp_path / "started"
    ref = actor.wait_and_raise.remote(str(started))
    eventually(started.exists, 20)
    ray.cancel(ref)
    with pytest.raises(ZeroDivisionError):
        ray.get(ref, timeout=20 * PATIENCE)


@pytest.mark.row("6.is_canceled")
def test_nobody_was_cancelled(cluster):
    @ray.remote
    def task():
        return ray.get_runtime_context().is_canceled()

    assert ray.get(task.remote(), timeout=20 * PATIENCE) is False


@pytest.mark.row("1.cancel")
def test_a_queued_call_of_an_actor_never_runs(cluster, tmp_path, eventually):
    actor = Sync.remote()
    started, stop = tmp_path / "started", tmp_path / "stop"
    first = actor.wait_for.remote(str(started), str(stop))
    eventually(started.exists, 20)
    notes = [actor.note.remote(i) for i in range(3)]
    ray.cancel(notes[1])
    if not ON_RAY:  # there it hears of it when its turn comes
        cancelled(notes[1])
    stop.touch()
    cancelled(notes[1])
    assert ray.get(first, timeout=20 * PATIENCE) == "told to stop"
    if not ON_RAY:  # there it may run all the same, or break the order of the later ones
        assert ray.get(actor.get.remote(), timeout=20) == [0, 2]


@pytest.mark.row("1.cancel")
def test_a_call_that_waits_for_its_argument_lets_the_later_ones_go(cluster, tmp_path, eventually):
    actor = Sync.remote()
    started = tmp_path / "started"
    slow = spin.remote(str(started))
    waiting = actor.note.remote(slow)
    later = actor.note.remote("later")
    eventually(started.exists, 20)
    ray.cancel(waiting)
    cancelled(waiting)
    ray.get(later, timeout=20 * PATIENCE)
    assert ray.get(actor.get.remote(), timeout=20 * PATIENCE) == ["later"]
    ray.cancel(slow, force=True)


@pytest.mark.row("1.cancel")
def test_what_it_refuses(cluster, tmp_path, eventually):
    actor = Sync.remote()
    for bad in (1, None, "ref", actor, [plain.remote(1)]):
        with pytest.raises(TypeError):
            ray.cancel(bad)
    started, stop = tmp_path / "started", tmp_path / "stop"
    ref = actor.wait_for.remote(str(started), str(stop))
    eventually(started.exists, 20)
    with pytest.raises(ValueError, match="force"):
        ray.cancel(ref, force=True)
    stop.touch()
    assert ray.get(ref, timeout=20 * PATIENCE) == "told to stop"
    ray.cancel(ray.put(1))  # nothing makes it: nothing to do


@pytest.mark.row("1.cancel")
def test_by_one_who_borrowed_the_ref(cluster, tmp_path, eventually):
    @ray.remote(num_cpus=0)
    def cancel(refs):
        ray.cancel(refs[0])

    started = tmp_path / "started"
    ref = spin.remote(str(started))
    eventually(started.exists, 20)
    ray.get(cancel.remote([ref]), timeout=20 * PATIENCE)
    cancelled(ref)


@pytest.mark.row("1.cancel")
def test_from_another_thread(cluster, tmp_path, eventually):
    started = tmp_path / "started"
    ref = spin.remote(str(started))
    eventually(started.exists, 20)
    caught = []
    thread = threading.Thread(target=lambda: caught.append(cancelled(ref)))
    thread.start()
    ray.cancel(ref)
    thread.join(20 * PATIENCE)
    assert caught


@ray.remote
class Async:
    def __init__(self):
        self.log = []

    async def sleep(self, path):
        open(path, "w").close()
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            self.log.append("cancelled")
            raise

    async def stubborn(self, path):
        open(path, "w").close()
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            return "a value"

    async def child(self, path, holder):
        ref = spin.options(num_cpus=0).remote(path)
        await holder.put.remote([ref])
        return await ref

    async def ask(self):
        return ray.get_runtime_context().is_canceled()

    async def get(self):
        return self.log


@pytest.mark.row("1.cancel")
def test_a_coroutine_is_cancelled(cluster, tmp_path, eventually):
    actor = Async.remote()
    started = tmp_path / "started"
    ref = actor.sleep.remote(str(started))
    eventually(started.exists, 20)
    ray.cancel(ref)
    cancelled(ref)
    assert ray.get(actor.get.remote(), timeout=20 * PATIENCE) == ["cancelled"]


@pytest.mark.row("1.cancel")
def test_many_coroutines_are_cancelled(cluster, tmp_path, eventually):
    actor = Async.options(max_concurrency=4).remote()
    paths = [tmp_path / str(i) for i in range(4)]
    running = [actor.sleep.remote(str(p)) for p in paths]
    eventually(lambda: all(p.exists() for p in paths), 20)
    queued = [actor.sleep.remote(str(tmp_path / "never")) for _ in range(10)]
    for ref in [*queued, *running]:
        ray.cancel(ref)
    for ref in [*queued, *running]:
        cancelled(ref)
    assert ray.get(actor.get.remote(), timeout=20 * PATIENCE) == ["cancelled"] * 4
    assert not (tmp_path / "never").exists()


@pytest.mark.row("1.cancel")
def test_children_of_a_coroutine_are_cancelled(cluster, tmp_path, eventually):
    holder, actor = Holder.remote(), Async.remote()
    started = tmp_path / "started"
    ref = actor.child.remote(str(started), holder)
    (child,) = eventually(lambda: ray.get(holder.get.remote()), 20)
    eventually(started.exists, 20)
    ray.cancel(ref)
    cancelled(ref)
    cancelled(child)


@pytest.mark.row("6.is_canceled")
def test_the_flag_is_not_for_coroutines(cluster):
    actor = Async.remote()
    with pytest.raises(RuntimeError):
        ray.get(actor.ask.remote(), timeout=20 * PATIENCE)


@pytest.mark.row("1.cancel", "6.is_canceled")
def test_a_call_in_a_thread_sees_the_flag(cluster, tmp_path, eventually):
    actor = Sync.options(max_concurrency=3).remote()
    paths = [tmp_path / "a", tmp_path / "b"]
    stop = tmp_path / "stop"
    one, two = (actor.wait_for.remote(str(p), str(stop)) for p in paths)
    eventually(lambda: all(p.exists() for p in paths), 20)
    ray.cancel(one)
    cancelled(one)
    assert ray.get(actor.get.remote(), timeout=20 * PATIENCE) == ["saw it"]
    stop.touch()
    assert ray.get(two, timeout=20 * PATIENCE) == "told to stop"


@pytest.mark.row("1.cancel")
def test_a_generator_is_cancelled(cluster, tmp_path, eventually):
    @ray.remote
    def produce(path):
        yield 1
        open(path, "w").close()
        for _ in range(LONG * 100):
            time.sleep(0.01)
        yield 2

    started = tmp_path / "started"
    items = produce.remote(str(started))
    assert ray.get(next(items), timeout=20 * PATIENCE) == 1
    eventually(started.exists, 20)
    ray.cancel(items)
    with pytest.raises(exceptions.TaskCancelledError):
        for ref in items:
            ray.get(ref, timeout=20 * PATIENCE)
