"""Room on an executor, without Spark: who is an orphan, who is waited for, who is left alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skate import _node
from skate.util.spark import _orphans

Make = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture()
def raylet(tmp_path: Path) -> Iterator[Make]:
    """Starts a process of a raylet's name that carries an owner, and does nothing."""
    program = shutil.copy("/bin/sleep", tmp_path / "skate-raylet")
    made: list[subprocess.Popen[bytes]] = []

    def make(owner: _orphans.Owner | None) -> subprocess.Popen[bytes]:
        mark = {_orphans.VARIABLE: owner.text()} if owner else {}
        made.append(subprocess.Popen([program, "600"], env={**os.environ, **mark}))
        return made[-1]

    yield make
    for process in made:
        process.kill()
        process.wait()


def gone_task(session: str, executor: int = 7) -> _orphans.Owner:
    """An owner whose process has ended."""
    ended = subprocess.Popen(["/bin/true"])
    began = _node.start_time(ended.pid) or 1
    ended.wait()
    return _orphans.Owner(session, ended.pid, began, executor)


def test_orphans_of_the_cluster_are_ended(raylet: Make, tmp_path: Path) -> None:
    orphan, other = raylet(gone_task("aa")), raylet(gone_task("bb"))
    own, plain = raylet(_orphans.me("aa", 7)), raylet(None)
    with _orphans.room(_orphans.me("aa", 7), 0, str(tmp_path)):
        assert orphan.wait(10) == -signal.SIGKILL
    assert [p.poll() for p in (own, other, plain)] == [None, None, None]


def test_one_that_is_on_its_way_out_is_not_killed(
    raylet: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_orphans, "ORDERLY_S", 30.0)
    orphan = raylet(gone_task("aa"))
    ends = threading.Timer(0.1, orphan.terminate)
    ends.start()
    with _orphans.room(_orphans.me("aa", 7), 1, str(tmp_path)):
        assert orphan.wait(10) == -signal.SIGTERM


def test_room_comes_when_a_node_ends(raylet: Make, tmp_path: Path) -> None:
    """Two nodes, room for two: the third waits for one of them; another executor's do not count."""
    nodes = [raylet(_orphans.me("aa", 7)) for _ in range(2)]
    raylet(_orphans.me("aa", 8))
    inside = threading.Event()

    def enter() -> None:
        with _orphans.room(_orphans.me("aa", 7), 2, str(tmp_path)):
            inside.set()

    thread = threading.Thread(target=enter)
    thread.start()
    assert not inside.wait(0.2)
    nodes[0].kill()
    nodes[0].wait()
    assert inside.wait(10)
    thread.join()


def test_no_room(raylet: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_orphans, "ROOM_S", 0.1)
    node = raylet(_orphans.me("aa", 7))
    with (
        pytest.raises(_orphans.NoRoomError, match=f"1 nodes of.*room for 1: raylets {node.pid}"),
        _orphans.room(_orphans.me("aa", 7), 1, str(tmp_path)),
    ):
        raise AssertionError("inside")


def test_one_task_is_inside_at_a_time(tmp_path: Path) -> None:
    order: list[Any] = []
    thread = threading.Thread(target=lambda: order.append(enter()))

    def enter() -> str:
        with _orphans.room(_orphans.me("aa", 7), 0, str(tmp_path)):
            return "second"

    with _orphans.room(_orphans.me("aa", 7), 0, str(tmp_path)):
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_cores_of_an_executor() -> None:
    program = "import time; print(flush=True); time.sleep(600)"
    arguments = ["--executor-id", "3", "--cores", "5", "--app-id", "x"]
    process = subprocess.Popen(
        ["python3", "-c", program, *arguments], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        assert _orphans.executor_cores(process.pid) == 5
        assert _orphans.executor_cores(os.getpid()) == 0, "no executor"
    finally:
        process.kill()
        process.wait()
    assert _orphans.executor_cores(process.pid) == 0
