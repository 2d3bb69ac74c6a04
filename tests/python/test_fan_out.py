"""fan_out(): a loop on all cores, without Spark."""

from __future__ import annotations

import os
import random
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import skate
from skate.util.spark import _fan_out, fan_out


@pytest.fixture(scope="module")
def session(no_leaks: None) -> Iterator[None]:
    """Two CPUs."""
    skate.shutdown()
    skate.init(num_cpus=2)
    yield
    skate.shutdown()


def test_each_item_is_taken_once() -> None:
    chance = random.Random(5)
    for _ in range(300):
        count = chance.randrange(0, 60)
        left, taken, held = _fan_out._Left(count), [], []
        while left.count() or held:
            what = chance.randrange(3)
            if what == 0 and (at := left.first()) >= 0:
                taken.append(at)
            elif what == 1 and (part := left.slice(chance.randrange(1, 9))):
                held.append(part)
            elif held:
                part = held.pop(chance.randrange(len(held)))
                done = chance.randrange(1, len(part) + 1)
                taken += part[:done]
                if part[done:]:
                    left.back.append(part[done:])
        assert sorted(taken) == list(range(count)) and left.first() == -1


def test_nothing_from_the_limit_on_is_taken() -> None:
    left = _fan_out._Left(20)
    assert left.first() == 0 and list(left.slice(4)) == [16, 17, 18, 19]
    left.back.append(range(14, 20))
    left.cut(15)
    assert list(left.slice(9)) == [14] and left.count() == 14
    left.cut(0)
    assert left.count() == 0 and left.first() == -1 and not left.slice(3)


def work(item: tuple[int, float, str], table: np.ndarray, more: dict[str, int]) -> Any:
    """An item that takes a while, or fails."""
    number, seconds, kind = item
    time.sleep(seconds)
    if kind == "key":
        raise KeyError(number)
    if kind == "zero":
        return number // 0
    return number, float(table[: number + 1].sum()) + more["x"]


def outcome(run: Any) -> tuple[Any, ...]:
    """What a loop gives, or how it fails."""
    try:
        return "ok", run()
    except (KeyError, ZeroDivisionError) as error:
        return next(k for k in (KeyError, ZeroDivisionError) if isinstance(error, k)), error.args


def test_it_is_the_plain_loop(session: None) -> None:
    """Costs that grow, shrink and vary, errors here and there, in slices of all sizes."""
    chance = random.Random(11)
    for _ in range(24):
        compare(chance)


def compare(chance: random.Random) -> None:
    table, more = np.arange(500.0), {"x": 3}
    count = chance.choice((0, 1, 2, 7, 40, 150))
    most = chance.choice((0.0, 0.0005, 0.002))
    grow = chance.choice((lambda i: i / 75, lambda i: 2 - i / 75, lambda i: chance.random()))
    items = [(i, max(0.0, most * grow(i)), "") for i in range(count)]
    for _ in range(chance.choice((0, 0, 1, 3)) if count else 0):
        at = chance.randrange(count)
        items[at] = (at, most, chance.choice(("key", "zero")))
    expected = outcome(lambda: [work((n, 0, k), table, more) for n, _, k in items])
    chunk: Any = chance.choice(("auto", "auto", 1, 5))
    inline = chance.choice((0, 3, 30))
    given = {"broadcast": (table, more), "chunk": chunk, "inline_below_ms": inline}
    found = outcome(lambda: fan_out(work, items, **given))
    assert found[0] == expected[0], (items, given)
    assert found == expected or found[0] != "ok", (chunk, inline)


def meet(item: int, folder: str) -> int:
    """Waits until another process is at an item, too."""
    open(f"{folder}/{os.getpid()}", "w").close()
    deadline = time.monotonic() + 30
    while len(os.listdir(folder)) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    return os.getpid()


def test_tasks_and_the_caller_work_together(session: None, tmp_path: Any) -> None:
    """A long first item does not keep the others from beginning."""
    for inline in (0, 30):
        folder = tmp_path / str(inline)
        folder.mkdir()
        pids = fan_out(meet, range(6), broadcast=(str(folder),), inline_below_ms=inline)
        assert pids[0] == os.getpid() and len(set(pids)) > 1


def test_what_is_short_stays_here(session: None) -> None:
    assert set(fan_out(lambda i: os.getpid(), range(50), inline_below_ms=5000)) == {os.getpid()}
    lock = threading.Lock()  # and need not be picklable
    assert fan_out(lambda i: lock.locked(), range(3), inline_below_ms=5000) == [False] * 3
    with pytest.raises(TypeError, match=r"fan_out\(\) cannot send <lambda>\(\)"):
        fan_out(lambda i: lock.locked(), range(3), inline_below_ms=0)


def pause_on(item: Any, *_: Any) -> int:
    time.sleep(0.3)
    return 1


def test_what_cannot_be_sent_is_not_left_out(session: None) -> None:
    """The timer's thread meets it first, while the caller computes the last items."""
    with pytest.raises(TypeError):
        fan_out(pause_on, [1, 2], broadcast=(threading.Lock(),))
    with pytest.raises(TypeError):
        fan_out(pause_on, [0, 0, 0, threading.Lock()])


def fail_at(item: int, bad: int, seconds: float) -> int:
    """An error with a traceback of its own."""
    time.sleep(seconds)
    if item == bad:
        raise LookupError(f"number {item}")
    return item


@pytest.mark.parametrize("bad", [0, 99])
def test_an_error_says_where(session: None, bad: int) -> None:
    with pytest.raises(LookupError, match=f"number {bad}") as caught:
        fan_out(fail_at, range(100), broadcast=(bad, 0.001), inline_below_ms=0)
    text = "".join(traceback.format_exception(caught.value))
    assert f"fan_out(): item {bad} of 100" in text and 'raise LookupError(f"number' in text
    assert "run_slice" not in text




def test_a_worker_that_dies(session: None) -> None:
    def die_elsewhere(item: int, caller: int) -> int:
        if os.getpid() != caller:
            os._exit(3)
        time.sleep(0.2)
        return item

    with pytest.raises(skate.exceptions.WorkerCrashedError) as caught:
        fan_out(die_elsewhere, range(40), broadcast=(os.getpid(),), inline_below_ms=0)
    assert any("fan_out(): item" in note for note in caught.value.__notes__)


def test_broadcast(session: None) -> None:
    fixed = np.arange(10.0)
    fixed.flags.writeable = False
    ref = _fan_out._put_once(fixed)
    assert _fan_out._put_once(fixed) == ref
    changing = np.arange(10.0)
    assert _fan_out._put_once(changing) != _fan_out._put_once(changing), "it may have changed"
    view = changing[:5]
    view.flags.writeable = False
    assert _fan_out._put_once(view) != _fan_out._put_once(view), "its base may have"
    key = id(fixed)
    del fixed
    assert key not in _fan_out._kept, "nothing is held for its sake"

    def add(item: int, a: np.ndarray, b: int) -> float:
        return float(a.sum()) + b + item

    out = fan_out(add, range(4), broadcast=[ref, skate.put(1)], inline_below_ms=0)
    assert out == [46.0, 47.0, 48.0, 49.0], "refs are given as what they are refs of"


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"broadcast": 5}, TypeError, "broadcast is a tuple of values, not int"),
        ({"chunk": 0}, ValueError, 'chunk is "auto" or a number of items, not 0'),
        ({"chunk": "all"}, ValueError, 'chunk is "auto"'),
        ({"inline_below_ms": -1}, ValueError, "a number of milliseconds, not -1"),
        ({"fn": skate.remote(abs)}, TypeError, "takes a plain function"),
        ({"items": 5}, TypeError, "not iterable"),
    ],
)
def test_bad_arguments(given: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        fan_out(**{"fn": abs, "items": [1], **given})


def test_without_a_session(capfd: pytest.CaptureFixture[str]) -> None:
    skate.shutdown()
    assert fan_out(abs, [-1, -2, -3]) == [1, 2, 3]
    assert fan_out(abs, [-1, -2], inline_below_ms=0) == [1, 2]
    assert capfd.readouterr().err.count("this process is in no session") == 1
    assert not skate.is_initialized()
