"""Awaiting at its edges: forks, the end of the session, cancelled futures, no hidden threads."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest

import skate
from skate import _await


@skate.remote
def echo(x):
    return x


@skate.remote
class Held:
    """Its calls never end."""

    async def hold(self):
        await asyncio.Event().wait()


def fork_and_call(ref) -> list[str]:
    """What a forked child hears of every kind of call; its end within a minute."""

    def heard() -> list[str]:
        async def wait_for_it():
            return await ref

        out = []
        for call in (
            lambda: skate.get(ref),
            lambda: echo.remote(1),
            lambda: skate.put(1),
            lambda: skate.wait([ref]),
            lambda: ref.future(),
            lambda: ref._on_completed(print),
            lambda: asyncio.new_event_loop().run_until_complete(wait_for_it()),
        ):
            try:
                call()
                out.append("no error")
            except Exception as error:
                out.append(f"{type(error).__name__}: {error}")
        return out

    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, "\n".join(heard()).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return text.split("\n")


def all_refused(lines: list[str]) -> bool:
    return len(lines) == 7 and all("fork" in line for line in lines)


@skate.remote
class Forks:
    def fork(self):
        return fork_and_call(skate.put(3)), skate.get(echo.remote("goes on"))


@skate.remote
class AsyncForks:
    async def fork(self):
        return fork_and_call(skate.put(3)), await echo.remote("goes on")


@pytest.mark.parametrize("kind", ["driver", "task", "plain", "threaded", "async"])
def test_a_forked_child_hears_at_once_that_it_cannot(session, kind):
    if kind == "driver":
        found = fork_and_call(skate.put(3)), skate.get(echo.remote("goes on"))
    elif kind == "task":

        @skate.remote
        def fork():
            return fork_and_call(skate.put(3)), skate.get(echo.remote("goes on"))

        found = skate.get(fork.remote(), timeout=60)
    else:
        made = {"plain": Forks, "threaded": Forks.options(max_concurrency=3), "async": AsyncForks}
        found = skate.get(made[kind].remote().fork.remote(), timeout=60)
    lines, after = found
    assert all_refused(lines), lines
    assert after == "goes on"


def test_the_sessions_end_ends_all_waiting():
    skate.init(address="local", num_cpus=2)
    ref = Held.remote().hold.remote()
    future = ref.future()

    async def main():
        waiting = asyncio.ensure_future(ref.as_future())
        await asyncio.sleep(0)
        await asyncio.get_running_loop().run_in_executor(None, skate.shutdown)
        with pytest.raises(skate.exceptions.RayError):
            await asyncio.wait_for(waiting, 60)

    asyncio.run(main())
    assert isinstance(future.exception(timeout=60), skate.exceptions.RayError)


def test_cancelled_futures_do_not_pile_up(session):
    ref = Held.remote().hold.remote()

    async def main():
        for _ in range(3000):
            future = ref.as_future()
            future.cancel()
            await asyncio.sleep(0)
        return _await._here.watcher.count

    assert asyncio.run(main()) < 600


def test_a_closed_loop_is_given_up(session):
    held = Held.remote().hold.remote()

    async def main():
        held.as_future()
        return await echo.remote(1)

    for _ in range(5):
        assert asyncio.run(main()) == 1
    assert len(_await._attached) <= 2


def test_no_thread_for_each_future(session):
    before = threading.active_count()
    refs = [Held.remote().hold.remote()] * 200
    futures = [ref.future() for ref in refs]
    assert threading.active_count() <= before + 1
    assert not any(f.done() for f in futures)


def test_a_blocking_get_in_a_coroutine_is_warned_of_once(capfd):
    @skate.remote
    def slow(x):
        time.sleep(0.2)
        return x

    @skate.remote
    class Blocks:
        async def block(self):
            return skate.get(slow.options(num_cpus=0).remote(1))  # not there at once

    skate.init(address="local", num_cpus=2)
    blocks = Blocks.remote()
    assert skate.get([blocks.block.remote() for _ in range(3)]) == [1, 1, 1]
    text, deadline = "", time.monotonic() + 30
    while "event loop" not in text and time.monotonic() < deadline:
        time.sleep(0.05)
        text += "".join(capfd.readouterr())
    skate.shutdown()
    text += "".join(capfd.readouterr())
    assert text.count("stops its event loop") == 1
