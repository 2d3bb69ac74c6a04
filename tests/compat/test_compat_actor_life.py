"""The life of actors: exit_actor, terminate, kill, restarts, retries, names, fate."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from compat_target import exceptions, ray

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote
class Plain:
    """Says in a file what becomes of it."""

    def __init__(self, folder: str | None = None) -> None:
        self.count = 0
        if folder is not None:
            import atexit

            with open(os.path.join(folder, "starts"), "a") as file:
                file.write("x")
            atexit.register(Path(folder, "exited").touch)

    def add(self, n: int = 1) -> int:
        self.count += n
        return self.count

    def pid(self) -> int:
        return os.getpid()

    def leave(self) -> None:
        ray.actor.exit_actor()

    def leave_caught(self) -> str:
        try:
            ray.actor.exit_actor()
        except BaseException:
            pass
        return "stayed"

    def crash(self) -> None:
        os._exit(3)

    def crash_once(self, folder: str) -> str:
        mark = os.path.join(folder, "crashed")
        if not os.path.exists(mark):
            Path(mark).touch()
            os._exit(3)
        return "survived"

    def fail_until(self, folder: str, runs: int) -> int:
        with open(os.path.join(folder, "runs"), "a") as file:
            file.write("x")
        n = len(Path(folder, "runs").read_text())
        if n < runs:
            raise ValueError(f"run {n}")
        return n

    def sleep(self, seconds: float) -> str:
        time.sleep(seconds)
        return "slept"

    def system_exit(self) -> None:
        raise SystemExit(0)


@ray.remote
class Async:
    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder
        self.event = asyncio.Event()
        if folder is not None:
            import atexit

            with open(os.path.join(folder, "starts"), "a") as file:
                file.write("x")
            atexit.register(Path(folder, "exited").touch)

    async def leave(self) -> None:
        ray.actor.exit_actor()

    def plain_leave(self) -> None:
        ray.actor.exit_actor()

    async def leave_noting(self, folder: str) -> str:
        try:
            ray.actor.exit_actor()
        except exceptions.AsyncioActorExit as error:
            Path(folder, type(error).__name__).touch()
        return "stayed"

    async def wait(self) -> str:
        await self.event.wait()
        return "opened"

    async def nap(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "napped"

    async def ping(self) -> int:
        return os.getpid()

    async def crash(self) -> None:
        os._exit(3)


def starts(folder: Path) -> int:
    return len((folder / "starts").read_text())


# ---------------------------------------------------------------------------------- exit_actor


@pytest.mark.row("3.exit_actor")
def test_exit_actor_of_a_plain_actor(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    actor = Plain.options(max_restarts=5, max_task_retries=5).remote(str(tmp_path))
    ray.get(actor.add.remote())
    with pytest.raises(exceptions.ActorDiedError) as caught:
        ray.get(actor.leave.remote())
    assert "exit_actor" in str(caught.value)
    eventually(lambda: (tmp_path / "exited").exists())
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(actor.add.remote())
    assert starts(tmp_path) == 1
    other = Plain.remote()
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(other.leave_caught.remote())


@pytest.mark.row("3.exit_actor")
def test_exit_actor_of_an_async_actor(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    actor = Async.options(max_restarts=5, max_task_retries=5).remote(str(tmp_path))
    ray.get(actor.ping.remote())
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(actor.leave.remote())
    eventually(lambda: (tmp_path / "exited").exists())
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(actor.ping.remote())
    assert starts(tmp_path) == 1
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(Async.remote().plain_leave.remote())
    # It cannot be stopped by catching it.
    other = Async.remote()
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(other.leave_noting.remote(str(tmp_path)))
    assert (tmp_path / "AsyncioActorExit").exists()


@pytest.mark.row("3.exit_actor")
def test_exit_actor_of_a_threaded_actor(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    actor = Plain.options(max_concurrency=3).remote(str(tmp_path))
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(actor.leave.remote())
    eventually(lambda: (tmp_path / "exited").exists())
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(actor.add.remote())


@pytest.mark.row("3.exit_actor")
def test_exit_actor_elsewhere() -> None:
    with pytest.raises(TypeError):
        ray.actor.exit_actor()

    @ray.remote
    def task() -> str:
        try:
            ray.actor.exit_actor()
        except TypeError:
            return "TypeError"
        return "nothing"

    assert ray.get(task.remote()) == "TypeError"


@pytest.mark.row("3.exit_actor")
def test_system_exit_ends_an_actor() -> None:
    actor = Plain.remote()
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(actor.system_exit.remote())
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(actor.add.remote())


# ------------------------------------------------------------------------------------- builtins


@pytest.mark.row("3.builtins")
@pytest.mark.parametrize("kind", ["plain", "threaded"])
def test_terminate_lets_queued_calls_finish(
    kind: str, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    made = Plain.options(max_restarts=3, max_concurrency=1 if kind == "plain" else 2)
    actor = made.remote(str(tmp_path))
    ray.get(actor.add.remote())
    before = [actor.sleep.remote(0.05) for _ in range(3 if kind == "plain" else 1)]
    end = actor.__ray_terminate__.remote()
    assert ray.get(before) == ["slept"] * len(before)
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(end)
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(actor.add.remote())
    eventually(lambda: (tmp_path / "exited").exists())
    assert starts(tmp_path) == 1


@pytest.mark.row("3.builtins")
def test_terminate_of_an_async_actor(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    actor = Async.remote(str(tmp_path))
    ray.get(actor.ping.remote())
    napping = actor.nap.remote(0.3)
    actor.__ray_terminate__.remote()
    assert ray.get(napping) == "napped"
    eventually(lambda: (tmp_path / "exited").exists())
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(actor.ping.remote())


@pytest.mark.row("3.builtins")
def test_ready_and_call() -> None:
    actor = Plain.remote()
    ray.get(actor.__ray_ready__.remote())
    assert ray.get(actor.__ray_call__.remote(lambda self, n: self.add(n), 5)) == 5
    assert ray.get(actor.__ray_call__.remote(lambda self, n=1: self.add(n), n=2)) == 7
    other = Async.remote()
    ray.get(other.__ray_ready__.remote())
    assert ray.get(other.__ray_call__.remote(lambda self: type(self).__name__)) == "Async"
    threaded = Plain.options(max_concurrency=2).remote()
    assert ray.get(threaded.__ray_call__.remote(lambda self: self.add())) == 1


# ----------------------------------------------------------------------------------------- kill


@pytest.mark.row("1.kill")
def test_kill_ends_it_for_good(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    actor = Plain.options(max_restarts=3, max_task_retries=3).remote(str(tmp_path))
    pid = ray.get(actor.pid.remote())
    running, queued = actor.sleep.remote(60), actor.add.remote()
    ray.kill(actor)
    for ref in (running, queued):
        with pytest.raises(exceptions.ActorDiedError):
            ray.get(ref)
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(actor.add.remote())
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))
    assert not (tmp_path / "exited").exists()
    assert starts(tmp_path) == 1
    ray.kill(actor)  # once more is nothing


@pytest.mark.row("1.kill")
def test_kill_that_may_restart(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    actor = Plain.options(max_restarts=1, max_task_retries=-1).remote(str(tmp_path))
    first = ray.get(actor.pid.remote())
    ray.get(actor.add.remote(5))
    ray.kill(actor, no_restart=False)
    eventually(lambda: not os.path.exists(f"/proc/{first}"))
    assert ray.get(actor.add.remote()) == 1
    assert ray.get(actor.pid.remote()) != first
    ray.kill(actor, no_restart=False)
    with pytest.raises(exceptions.ActorDiedError):
        for _ in range(1000):
            ray.get(actor.add.remote())
            time.sleep(0.01)


@pytest.mark.row("1.kill")
def test_kill_of_what_is_no_actor() -> None:
    for wrong in (None, 1, "x", ray.put(1), Plain):
        with pytest.raises(ValueError):
            ray.kill(wrong)


@pytest.mark.row("1.kill")
def test_kill_of_an_actor_that_is_not_made_yet() -> None:
    actor = Plain.options(resources={"gold": 1000}).remote()
    queued = actor.add.remote()
    ray.kill(actor)
    with pytest.raises(exceptions.RayActorError):
        ray.get(queued, timeout=60)


@pytest.mark.row("1.kill")
def test_kill_of_async_and_threaded_actors() -> None:
    actor = Async.remote()
    waiting = [actor.wait.remote() for _ in range(5)]
    ray.get(actor.ping.remote())
    ray.kill(actor)
    for ref in waiting:
        with pytest.raises(exceptions.ActorDiedError):
            ray.get(ref)


# ------------------------------------------------------------------------------------- restarts


@pytest.mark.row("3.max_restarts")
def test_restarts_keep_arguments_and_lose_state(tmp_path: Path) -> None:
    actor = Plain.options(max_restarts=2, max_task_retries=-1).remote(str(tmp_path))
    assert ray.get(actor.add.remote(7)) == 7
    assert ray.get(actor.crash_once.remote(str(tmp_path))) == "survived"
    assert ray.get(actor.add.remote()) == 1
    assert starts(tmp_path) == 2


@pytest.mark.row("3.max_restarts")
def test_no_restart_by_default(tmp_path: Path) -> None:
    actor = Plain.options(max_task_retries=5).remote(str(tmp_path))
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(actor.crash.remote())
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(actor.add.remote())
    assert starts(tmp_path) == 1


@pytest.mark.row("3.max_restarts")
def test_restarts_run_out(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    actor = Plain.options(max_restarts=1).remote(str(tmp_path))
    with pytest.raises(exceptions.RayActorError):
        ray.get(actor.crash.remote())

    def alive() -> bool:
        try:
            return bool(ray.get(actor.add.remote()))
        except exceptions.ActorUnavailableError:
            return False

    eventually(alive)
    with pytest.raises(exceptions.RayActorError):
        ray.get(actor.crash.remote())

    def dead() -> bool:
        try:
            ray.get(actor.add.remote())
        except exceptions.ActorDiedError:
            return True
        except exceptions.ActorUnavailableError:
            pass
        return False

    eventually(dead)
    assert starts(tmp_path) == 2


@pytest.mark.row("3.max_restarts")
def test_async_and_threaded_actors_restart(tmp_path: Path) -> None:
    actor = Async.options(max_restarts=1, max_task_retries=2).remote(str(tmp_path))
    first = ray.get(actor.ping.remote())
    waiting = actor.nap.remote(0.5)
    with pytest.raises(exceptions.RayActorError):
        ray.get(actor.crash.options(max_task_retries=0).remote())
    # What was running is run again.
    assert ray.get(waiting) == "napped"
    assert ray.get(actor.ping.remote()) != first
    assert starts(tmp_path) == 2


@pytest.mark.row("3.max_restarts")
def test_was_current_actor_reconstructed() -> None:
    @ray.remote(max_restarts=1, max_task_retries=1)
    class Asks:
        def ask(self) -> bool:
            return ray.get_runtime_context().was_current_actor_reconstructed

        def crash(self) -> None:
            os._exit(1)

    actor = Asks.remote()
    assert ray.get(actor.ask.remote()) is False
    with pytest.raises(exceptions.RayActorError):
        ray.get(actor.crash.options(max_task_retries=0).remote())
    assert ray.get(actor.ask.remote()) is True


# --------------------------------------------------------------------------------- task retries


@pytest.mark.row("3.max_task_retries")
def test_exceptions_are_retried_when_asked(tmp_path: Path) -> None:
    actor = Plain.remote()
    method = actor.fail_until.options(max_task_retries=3, retry_exceptions=True)
    assert ray.get(method.remote(str(tmp_path), 3)) == 3


@pytest.mark.row("3.max_task_retries")
def test_only_the_exceptions_named(tmp_path: Path) -> None:
    actor = Plain.remote()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    method = actor.fail_until.options(max_task_retries=3, retry_exceptions=[ValueError])
    assert ray.get(method.remote(str(tmp_path / "a"), 3)) == 3
    method = actor.fail_until.options(max_task_retries=3, retry_exceptions=[KeyError])
    with pytest.raises(ValueError):
        ray.get(method.remote(str(tmp_path / "b"), 3))
    assert (tmp_path / "b" / "runs").read_text() == "x"


@pytest.mark.row("3.max_task_retries")
def test_retries_of_the_decorator_and_their_end(tmp_path: Path) -> None:
    @ray.remote
    class Retrying:
        @ray.method(max_task_retries=2, retry_exceptions=[ValueError])
        def fail(self, folder: str) -> None:
            with open(os.path.join(folder, "runs"), "a") as file:
                file.write("x")
            raise ValueError

        @ray.method(max_task_retries=2, retry_exceptions=[ValueError])
        async def unused(self) -> None:
            pass

    actor = Retrying.remote()
    with pytest.raises(ValueError):
        ray.get(actor.fail.remote(str(tmp_path)))
    assert (tmp_path / "runs").read_text() == "xxx"


@pytest.mark.row("3.max_task_retries")
def test_no_retry_of_exceptions_by_default(tmp_path: Path) -> None:
    actor = Plain.options(max_task_retries=3, max_restarts=1).remote()
    with pytest.raises(ValueError):
        ray.get(actor.fail_until.remote(str(tmp_path), 3))
    assert (tmp_path / "runs").read_text() == "x"


# ------------------------------------------------------------------------------------ method()


@pytest.mark.row("1.method")
def test_keys_of_the_decorator() -> None:
    with pytest.raises(AssertionError):
        ray.method(colour="red")

    @ray.remote
    class Methods:
        @ray.method(num_returns=2)
        def two(self) -> tuple[int, int]:
            return 1, 2

        @ray.method(enable_task_events=False)
        def quiet(self) -> int:
            return 3

        @ray.method
        def bare(self) -> int:
            return 4

        @ray.method(max_task_retries=1, retry_exceptions=True, num_returns=1)
        def more(self) -> int:
            return 5

    actor = Methods.remote()
    one, two = actor.two.remote()
    assert ray.get([one, two]) == [1, 2]
    assert ray.get([actor.quiet.remote(), actor.bare.remote(), actor.more.remote()]) == [3, 4, 5]


# ---------------------------------------------------------------------------------------- names


@pytest.mark.row("3.names")
def test_a_name_is_free_again_after_the_end(eventually: Callable[..., Any]) -> None:
    actor = Plain.options(name="again").remote()
    ray.get(actor.add.remote())
    with pytest.raises(ValueError):
        Plain.options(name="again").remote()
    ray.kill(actor)

    def taken() -> Any:
        try:
            return Plain.options(name="again").remote()
        except ValueError:
            return None

    second = eventually(taken)
    assert ray.get(second.add.remote()) == 1
    assert ray.get_actor("again") == second


@pytest.mark.row("3.names")
def test_get_if_exists_and_namespaces() -> None:
    first = Plain.options(name="one", get_if_exists=True).remote()
    second = Plain.options(name="one", get_if_exists=True).remote()
    assert ray.get(first.pid.remote()) == ray.get(second.pid.remote())
    other = Plain.options(name="one", namespace="elsewhere").remote()
    assert ray.get(other.pid.remote()) != ray.get(first.pid.remote())
    assert ray.get_actor("one", namespace="elsewhere") == other
    assert ray.get_actor("one") == first
    with pytest.raises(ValueError):
        ray.get_actor("nobody")
    with pytest.raises(ValueError):
        ray.get_actor("one", namespace="nowhere")
    with pytest.raises(ValueError):
        Plain.options(get_if_exists=True).remote()


@pytest.mark.row("3.names")
def test_named_async_actors_are_found_with_their_methods() -> None:
    actor = Async.options(name="async").remote()
    ray.get(actor.ping.remote())
    found = ray.get_actor("async")
    assert ray.get(found.ping.remote()) == ray.get(actor.ping.remote())
    assert ray.get([found.nap.remote(0.05) for _ in range(10)]) == ["napped"] * 10


@pytest.mark.row("3.names")
def test_detached_actors_outlive_their_handles(eventually: Callable[..., Any]) -> None:
    @ray.remote
    def make() -> int:
        actor = Plain.options(name="stays", lifetime="detached").remote()
        return ray.get(actor.add.remote(2))

    assert ray.get(make.remote()) == 2
    found = ray.get_actor("stays")
    assert ray.get(found.add.remote()) == 3
    ray.kill(found)


# ---------------------------------------------------------------------------------------- fate


@pytest.mark.row("3.handles")
def test_an_actor_ends_with_its_last_handle(
    tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    for kind in (Plain, Plain.options(max_concurrency=2), Async):
        folder = tmp_path / str(id(kind))
        folder.mkdir()
        actor = kind.remote(str(folder))
        last = actor.sleep.remote(0.1) if hasattr(actor, "sleep") else actor.nap.remote(0.1)
        del actor
        assert ray.get(last) in ("slept", "napped")
        eventually(lambda folder=folder: (folder / "exited").exists())


@pytest.mark.row("3.handles")
def test_handles_of_get_actor_are_weak(eventually: Callable[..., Any]) -> None:
    actor = Plain.options(name="weak").remote()
    pid = ray.get(actor.pid.remote())
    found = ray.get_actor("weak")
    del actor
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))
    with pytest.raises(exceptions.RayActorError):
        ray.get(found.add.remote())


@pytest.mark.row("14.children")
def test_children_die_with_their_actor(eventually: Callable[..., Any]) -> None:
    @ray.remote
    class Parent:
        def __init__(self) -> None:
            self.child = Plain.remote()
            self.stays = Plain.options(name="child-stays", lifetime="detached").remote()

        def children(self) -> Any:
            return self.child, ray.get([self.child.pid.remote(), self.stays.pid.remote()])

    parent = Parent.remote()
    child, (child_pid, stays_pid) = ray.get(parent.children.remote())
    ray.kill(parent)
    eventually(lambda: not os.path.exists(f"/proc/{child_pid}"))
    with pytest.raises(exceptions.RayActorError):
        ray.get(child.add.remote())
    assert os.path.exists(f"/proc/{stays_pid}")
    stays = ray.get_actor("child-stays")
    assert ray.get(stays.add.remote()) == 1
    ray.kill(stays)


@pytest.mark.row("3.handles")
def test_current_actor_calls_itself() -> None:
    @ray.remote(max_concurrency=2)
    class Own:
        def value(self) -> int:
            return 4

        def ask(self) -> int:
            return ray.get(ray.get_runtime_context().current_actor.value.remote())

    assert ray.get(Own.remote().ask.remote()) == 4

