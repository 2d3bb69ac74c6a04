"""cancel where Skate promises more than Ray: sleeps, waits, C code, never the wrong task."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import skate as ray
from skate import _async, exceptions

SOON = 20  # seconds; what is meant is "at once"
LONG = 600


@pytest.fixture(scope="module", autouse=True)
def cluster(no_leaks: None) -> Iterator[None]:
    ray.init(num_cpus=2)
    yield
    ray.shutdown()


def until(question: Callable[[], Any]) -> None:
    deadline = time.monotonic() + SOON
    while not question():
        assert time.monotonic() < deadline, question
        time.sleep(0.005)


def cancelled(ref: Any) -> exceptions.TaskCancelledError:
    with pytest.raises(exceptions.TaskCancelledError) as caught:
        ray.get(ref, timeout=SOON)
    return caught.value


@ray.remote
def plain(x: Any) -> Any:
    return x


@ray.remote
def never(_: Any) -> None:
    raise AssertionError("it ran")


@ray.remote
class Gate:
    """What waits for it waits until it is let go."""

    def pass_through(self) -> int:
        time.sleep(LONG)
        return 1


def test_a_sleep_ends_at_once(tmp_path: Path) -> None:
    @ray.remote
    def sleeper(path: str) -> None:
        open(path, "w").close()
        time.sleep(LONG)

    started = tmp_path / "started"
    ref = sleeper.remote(str(started))
    until(started.exists)
    ray.cancel(ref)
    assert isinstance(cancelled(ref), exceptions.RayTaskError)
    assert ray.get(plain.remote(1), timeout=SOON) == 1


@pytest.mark.parametrize("how", ["get", "get_many", "wait"])
def test_a_wait_ends_at_once(tmp_path: Path, how: str) -> None:
    @ray.remote(num_cpus=0)
    def waiter(path: str, refs: list[Any]) -> None:
        open(path, "w").close()
        if how == "get":
            ray.get(refs[0])
        elif how == "get_many":
            ray.get([*refs, plain.remote(1)])
        else:
            ray.wait(refs)

    gate = Gate.remote()
    slow = gate.pass_through.remote()
    started = tmp_path / "started"
    ref = waiter.remote(str(started), [slow])
    until(started.exists)
    ray.cancel(ref, recursive=False)
    assert isinstance(cancelled(ref), exceptions.RayTaskError)
    ray.kill(gate)


def test_a_call_of_c_code_costs_the_worker(tmp_path: Path) -> None:
    @ray.remote
    def deaf(path: str) -> None:
        with open(path, "w") as file:
            file.write(str(os.getpid()))
        library = ctypes.PyDLL(None)  # keeps the interpreter's lock
        mutex = ctypes.create_string_buffer(256)
        library.pthread_mutex_lock(mutex)
        library.pthread_mutex_lock(mutex)  # for ever, whatever signals come

    started = tmp_path / "started"
    ref = deaf.remote(str(started))
    until(lambda: started.exists() and started.read_text())
    begun = time.monotonic()
    ray.cancel(ref)
    error = cancelled(ref)
    assert not isinstance(error, exceptions.RayTaskError)
    assert time.monotonic() - begun > 1.5, "it had time to react"
    until(lambda: not os.path.exists(f"/proc/{started.read_text()}"))
    assert ray.get(plain.remote(1), timeout=SOON) == 1


def test_who_caught_it_may_take_its_time(tmp_path: Path) -> None:
    @ray.remote
    def careful(path: str) -> str:
        try:
            open(path, "w").close()
            time.sleep(LONG)
        except KeyboardInterrupt:
            until = time.monotonic() + 3  # longer than the grace of one that does not react
            while time.monotonic() < until:
                time.sleep(0.05)
        return "cleaned up"

    started = tmp_path / "started"
    ref = careful.remote(str(started))
    until(started.exists)
    ray.cancel(ref)
    assert ray.get(ref, timeout=SOON) == "cleaned up"


def test_a_late_cancel_never_meets_the_next_task() -> None:
    """A thousand short tasks, each cancelled about when it ends, and one after it that must run."""

    @ray.remote(max_retries=0)
    def short(spins: int) -> int:
        for _ in range(spins):
            pass
        return spins

    ended = interrupted = unstarted = 0
    for i in range(1000):
        spins = (i * 37) % 3000
        first = short.remote(spins)
        second = [plain.remote(i) for _ in range(3)]
        if i % 3:
            ray.wait([first], timeout=(i % 7) * 0.0001)
        ray.cancel(first)
        assert ray.get(second, timeout=SOON) == [i] * 3
        try:
            assert ray.get(first, timeout=SOON) == spins
            ended += 1
        except exceptions.RayTaskError as error:
            assert isinstance(error, exceptions.TaskCancelledError)
            interrupted += 1
        except exceptions.TaskCancelledError:
            unstarted += 1
    assert ended + interrupted + unstarted == 1000


def test_many_queued_ones() -> None:
    gate = Gate.remote()
    refs = [never.remote(gate.pass_through.remote()) for _ in range(200)]
    for ref in refs:
        ray.cancel(ref)
    for ref in refs:
        assert not isinstance(cancelled(ref), exceptions.RayTaskError)
    ray.kill(gate)


def test_cancelled_while_its_argument_fails() -> None:
    """Ray's driver aborts when both happen at once."""

    @ray.remote(max_retries=0)
    def fail() -> None:
        raise ValueError("no")

    for _ in range(200):
        ref = plain.remote(fail.remote())
        ray.cancel(ref)
        with pytest.raises((ValueError, exceptions.TaskCancelledError)):
            ray.get(ref, timeout=SOON)


def test_a_worker_that_dies_while_it_is_cancelled(tmp_path: Path) -> None:
    @ray.remote
    def runs(path: str) -> None:
        with open(path, "a") as log:
            log.write(f"{os.getpid()}\n")
        try:
            time.sleep(LONG)
        except KeyboardInterrupt:
            os.kill(os.getpid(), 9)

    path = tmp_path / "log"
    ref = runs.remote(str(path))
    until(lambda: path.exists() and path.read_text())
    ray.cancel(ref)
    cancelled(ref)
    assert ray.get(plain.remote(1), timeout=SOON) == 1
    assert len(path.read_text().split()) == 1, "a cancelled task is not tried again"


def test_force_says_why(tmp_path: Path) -> None:
    @ray.remote
    def sleeper(path: str) -> None:
        with open(path, "w") as file:
            file.write(str(os.getpid()))
        time.sleep(LONG)

    started = tmp_path / "started"
    ref = sleeper.remote(str(started))
    until(lambda: started.exists() and started.read_text())
    ray.cancel(ref, force=True)
    error = cancelled(ref)
    assert ref.task_id().hex() in str(error)
    until(lambda: not os.path.exists(f"/proc/{started.read_text()}"))


def test_nothing_of_it_stays() -> None:
    """The tables are empty again."""
    from skate import _core

    until(lambda: _core.stats()["tasks_pending"] == 0)


@ray.remote(max_concurrency=1, concurrency_groups={"other": 1})
class Threaded:
    """Its calls run in threads."""

    def tell(self, path: str) -> bool:
        return tell_early(path)

    def late(self) -> str:
        return "it ran"


@ray.remote(max_concurrency=1)
class Looped:
    """Its calls run on a loop."""

    async def tell(self, path: str) -> bool:
        return tell_early(path)

    async def late(self) -> str:
        return "it ran"

    def late_plain(self) -> str:
        return "it ran"

    async def late_stream(self) -> AsyncIterator[str]:
        yield "it ran"


def tell_early(path: str) -> bool:
    """In the worker: the cancel of a call comes after the queue let it go, before it is known."""
    until(lambda: os.path.exists(path))
    return _async.cancel_running(Path(path).read_bytes())


@pytest.mark.parametrize(
    ("kind", "method"),
    [(Threaded, "late"), (Looped, "late"), (Looped, "late_plain"), (Looped, "late_stream")],
)
def test_a_cancel_between_queue_and_run(tmp_path: Path, kind: Any, method: str) -> None:
    actor = kind.remote()
    told = actor.tell.remote(str(tmp_path / "id"))
    late = getattr(actor, method).remote()
    if method == "late_stream":
        late = late.completed()
    (tmp_path / "new").write_bytes(late.task_id().binary())
    (tmp_path / "new").rename(tmp_path / "id")
    assert ray.get(told) is False
    assert "had not started" in str(cancelled(late))
