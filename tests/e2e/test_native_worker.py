"""Tasks and actors written in C, run by native workers: values, errors, cancel, crashes, actors."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e_help import Site, until

import skate
from skate import _stacks
from skate.cross_language import c_actor_class, c_function

PACKAGE = Path(skate.__file__).parent
SOURCE = Path(__file__).with_name("native_tasks.c")
OF_TASKS = """
import sys, skate
from skate.cross_language import c_actor_class, c_function
skate.init(num_cpus=2)
library = sys.argv[1]
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The shared library, compiled with the one line that the documentation gives."""
    folder = tmp_path_factory.mktemp("native")
    env = {**os.environ, "PKG_CONFIG_PATH": str(PACKAGE / "lib" / "pkgconfig")}
    line = (
        f"cc -Wall -Wextra -Werror -shared -fPIC -o libnative.so {SOURCE} "
        "$(pkg-config --cflags --libs skate)"
    )
    subprocess.run(["sh", "-c", line], cwd=folder, env=env, check=True, timeout=60)
    return str(folder / "libnative.so")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """One session for the tests that leave it whole."""
    if skate.is_initialized():
        skate.shutdown()
    skate.init(num_cpus=2)
    yield skate
    skate.shutdown()


def test_values(cluster: Any, library: str) -> None:
    """What goes in comes out; short forms take what they say."""
    add, echo = c_function(library, "add"), c_function(library, "echo")
    assert cluster.get([add.remote(2, 3), add.remote(2**62, 1)]) == [5, 2**62 + 1]
    assert cluster.get(add.remote(cluster.put(4), add.remote(1, 1))) == 6
    assert cluster.get(c_function(library, "half").remote(3)) == 1.5
    assert cluster.get(c_function(library, "nothing").remote()) is None
    values: list[Any] = [
        None, True, False, 0, -33, 200, 2**40, -(2**63), 1.5, "", "täxt", b"", b"\0\1", [], [1, []],
        {"a": {"b": [None]}}, "x" * 5000, b"y" * 100_000, ["z" * 3000],
    ]  # fmt: skip
    assert cluster.get([echo.remote(v) for v in values]) == values
    assert cluster.get(c_function(library, "sizes").remote("äx", b"abc", 1, k=2)) == [3, 3, 4]
    inner = cluster.put("inside")
    (out,) = cluster.get(echo.remote([inner]))
    del inner
    assert cluster.get(out) == "inside"


def test_results(cluster: Any, library: str) -> None:
    """As many as were asked for; none at all is None for each."""
    many = c_function(library, "many")
    assert cluster.get(many.options(num_returns=3).remote(3)) == [0, 1, 4]
    assert cluster.get(many.options(num_returns=40).remote(40))[39] == 39 * 39
    assert cluster.get(many.options(num_returns=2).remote(0)) == [None, None]
    assert many.options(num_returns=0).remote(3) in (None, [])
    with pytest.raises(skate.exceptions.RayTaskError, match="asked for 3 results, and returned 2"):
        cluster.get(many.options(num_returns=3).remote(2))
    with pytest.raises(skate.exceptions.RayTaskError, match="returns more than its 2 results"):
        cluster.get(many.options(num_returns=2).remote(3))


def test_other_forms(cluster: Any, library: str) -> None:
    """Refs, arrays, objects that C only passes on, and arguments that are errors."""
    np = pytest.importorskip("numpy")
    boxed, doubled = c_function(library, "boxed"), c_function(library, "doubled")
    for value in ("small", "x" * 100_000):
        (inner,) = cluster.get(boxed.remote(value))
        assert cluster.get(inner) == value
    for shape in ((3,), (2, 5), (300, 100), (0,), ()):
        given = np.asarray(np.arange(float(np.prod(shape))).reshape(shape) + 0.5)
        assert np.array_equal(cluster.get(doubled.remote(given)), given * 2)
    with pytest.raises(TypeError, match="is a tensor of dtype"):
        cluster.get(doubled.remote(np.zeros(3, dtype=np.int32)))
    thing = {frozenset((1, 2)): complex(1, 2)}
    assert cluster.get(c_function(library, "echo").remote(cluster.put(thing))) == thing
    bad = c_function(library, "fails").remote("beer")
    with pytest.raises(ValueError, match="beer is bad"):
        cluster.get(c_function(library, "add").remote(1, bad))


def test_errors(cluster: Any, library: str) -> None:
    """Each says what is wrong; that of a built-in name is one of those, too."""

    def error(name: str, *args: Any, of: str = library) -> str:
        with pytest.raises(skate.exceptions.RayTaskError) as caught:
            cluster.get(c_function(of, name).remote(*args))
        return str(caught.value)

    with pytest.raises(ValueError, match="wine is bad"):
        cluster.get(c_function(library, "fails").remote("wine"))
    assert "ValueError: a caf? and ???" in error("latin")  # no UTF-8
    with pytest.raises(ValueError, match="is UTF-8, and this one is not at byte 3 of 4"):
        cluster.get(c_function(library, "returns_latin").remote())
    assert "ééé?" in error("fails", "é" * 3000)  # cut in the middle of the last one
    assert "argument 1 of add must be an int, not str" in error("add", 1, "2")
    assert "add needs argument 1 (an int), and was given 1" in error("add", 1)
    assert "no such thing" in error("gives", -9)
    assert "returned 5: a task returns 0" in error("gives", 5)
    assert "exports no SKATE_TASK nope (it has: " in error("nope")
    assert "counter of" in error("counter") and "not a task" in error("counter")
    assert "compile it anew" in error("of_tomorrow")
    text = error("add", of="/nowhere/libnone.so")
    assert "OSError: the library /nowhere/libnone.so cannot be loaded" in text
    assert "No such file" in text
    with pytest.raises(skate.exceptions.RayActorError, match="a task, not an actor class"):
        cluster.get(c_actor_class(library, "add").remote().value.remote())


def test_output(library: str) -> None:
    """Lines come with the name of the task; a stack dump says that there is none."""
    site = Site()
    try:
        program = site.python(
            OF_TASKS + "skate.get(c_function(library, 'says').remote('them'))\n"
            "pid = skate.get(c_function(library, 'pid').remote())\n"
            "from skate import _stacks\nprint(_stacks.dump(pid, 5))\n",
            library,
        )
        program.expect(r"\(says pid=\d+\) one of them")
        program.expect(r"\(says pid=\d+\) two of it")
        program.expect(r"\(says pid=\d+\) a complaint", stream="err")
        program.expect(r"there is no Python in it")
        program.succeeds()
        site.assert_nothing_left()
    finally:
        site.close()


def test_crash(cluster: Any, library: str, tmp_path: Path) -> None:
    """A crash in C names the signal; with retries the task runs again."""
    crashes = c_function(library, "crashes")
    with pytest.raises(skate.exceptions.WorkerCrashedError, match="SIGSEGV"):
        cluster.get(crashes.options(max_retries=0).remote(str(tmp_path / "first")))
    assert cluster.get(crashes.options(max_retries=2).remote(str(tmp_path / "second"))) == 1


@pytest.mark.parametrize("name", ["patient", "sleeper", "deaf"])
def test_cancel(cluster: Any, library: str, tmp_path: Path, name: str) -> None:
    """A task that asks is told, a sleep is interrupted, a deaf task loses its process."""
    begun = tmp_path / "begun"
    ref = c_function(library, name).options(max_retries=0).remote(str(begun))
    until(begun.exists, 20, "the task begins")
    cluster.cancel(ref)
    with pytest.raises(skate.exceptions.TaskCancelledError):
        cluster.get(ref, timeout=30)
    assert cluster.get(c_function(library, "add").remote(1, 1)) == 2


def test_waits_inside(cluster: Any, library: str, tmp_path: Path) -> None:
    """A task that waits for others lends its CPU; one that is cancelled meanwhile hears of it."""
    assert cluster.get(c_function(library, "fibonacci").remote(library, 8)) == 21
    begun, never = tmp_path / "begun", tmp_path / "never"
    other = c_function(library, "patient").options(num_cpus=0).remote(str(never))
    ref = c_function(library, "waits").options(max_retries=0).remote(str(begun), [other])
    until(begun.exists, 20, "the task begins")
    cluster.cancel(ref)
    with pytest.raises(skate.exceptions.TaskCancelledError, match="while it ran"):
        cluster.get(ref, timeout=30)
    cluster.cancel(other)
    with pytest.raises(skate.exceptions.TaskCancelledError):
        cluster.get(other, timeout=30)


def test_actor(cluster: Any, library: str, tmp_path: Path) -> None:
    """Made, called, asked for what it has not, ended by itself; its destructor ran."""
    counter, goodbye = c_actor_class(library, "counter"), tmp_path / "goodbye"
    a = counter.remote(5, str(goodbye))
    assert cluster.get([a.add.remote(1), a.add.remote(2), a.value.remote()]) == [6, 8, 8]
    assert cluster.get(a.which.remote()) == 0
    with pytest.raises(skate.exceptions.RayTaskError, match="it has: add, value, crash, leave"):
        cluster.get(a.nosuch.remote())
    cluster.get(a.leave.remote())
    with pytest.raises(skate.exceptions.RayActorError):
        cluster.get(a.value.remote())
    until(goodbye.exists, 20, "destroy")
    with pytest.raises(skate.exceptions.RayActorError, match="an unlucky number"):
        cluster.get(counter.remote(13).value.remote())
    goodbye.unlink()
    b = counter.remote(1, str(goodbye))
    assert cluster.get(b.value.remote()) == 1
    del b  # the last handle
    until(goodbye.exists, 20, "destroy when nobody has it any more")


def test_actor_restarts(cluster: Any, library: str) -> None:
    """A crash ends it for good, or makes it anew."""
    counter = c_actor_class(library, "counter")
    a = counter.remote(1)
    with pytest.raises(skate.exceptions.RayActorError, match="SIGABRT"):
        cluster.get(a.crash.remote())
    b = counter.options(max_restarts=1).remote(4)
    assert cluster.get(b.add.remote(3)) == 7
    b.crash.remote()
    assert until(lambda: _value(cluster, b) == 4, 30, "the new one") is True
    cluster.kill(b)
    until(lambda: _value(cluster, b) is None, 30, "its end")


def _value(cluster: Any, actor: Any) -> int | None:
    try:
        value: int = cluster.get(actor.value.remote())
        return value
    except skate.exceptions.RayActorError:
        return None


def call(actor: Any, name: str, *args: Any) -> Any:
    """Call a reserved method, as libskate does."""
    return getattr(actor, "\x01" + name).remote(*args)


def in_batch(calls: list[tuple[int, str, bytes]]) -> bytes:
    """The bytes of a batch."""
    parts = []
    for index, method, args in calls:
        parts.append(struct.pack("<QH", index, len(method)) + method.encode())
        parts.append(struct.pack("<I", len(args)) + args)
    return b"".join(parts)


FIRST = 0x12345678_00000000


def test_many_in_one(cluster: Any, library: str, tmp_path: Path) -> None:
    """Spawned, called, called in a batch, ended alone; each with a state of its own."""
    goodbye = tmp_path / "goodbye"
    a = c_actor_class(library, "counter").remote(0)
    cluster.get(call(a, "spawn", "counter", FIRST, 1000, 7, str(goodbye)))
    assert cluster.get(call(a, "call", FIRST + 999, "add", 1)) == 8
    assert cluster.get(call(a, "call", FIRST, "value")) == 7
    assert cluster.get(call(a, "call", FIRST + 3, "which")) == FIRST + 3
    bytes_ = in_batch(
        [(FIRST + i, "add", b"\x91" + bytes([i])) for i in range(100)]
        + [(0, "value", b"\x90"), (FIRST + 5, "text", b"\x91\xa2hi"), (FIRST + 1, "nope", b"\x90")]
        + [(FIRST + 1000, "value", b"\x90"), (FIRST, "add", b"\x91\xa1x"), (FIRST, "add", b"\xc1")]
        + [(FIRST, "leave", b"\x90"), (FIRST, "value", b"\x90"), (FIRST + 1, "value", b"\x90")]
    )
    out = cluster.get(call(a, "batch", bytes_))
    assert out[:100] == [7 + i for i in range(100)]
    assert out[100:102] == [0, "hi"] and out[106] is None and out[108] == 8
    assert [sorted(x) for x in (*out[102:106], out[107])] == [["error"]] * 5
    assert "has no method 'nope'" in out[102]["error"] and "does not live" in out[103]["error"]
    assert "must be an int" in out[104]["error"] and "cannot be read" in out[105]["error"]
    assert goodbye.exists()  # of the one that left
    goodbye.unlink()
    cluster.get(call(a, "kill", FIRST + 1))
    assert goodbye.exists()
    with pytest.raises(skate.exceptions.RayTaskError, match="does not live"):
        cluster.get(call(a, "call", FIRST + 1, "value"))
    assert cluster.get(a.value.remote()) == 0
    cluster.get(call(a, "spawn", "small", FIRST + 5000, 3))
    assert cluster.get(call(a, "call", FIRST + 5002, "which")) == FIRST + 5002


def test_a_million(cluster: Any, library: str) -> None:
    """A million actors in one process, and their end, one by one and with it."""
    a = c_actor_class(library, "counter").remote(0)
    cluster.get(call(a, "spawn", "small", FIRST, 1_000_000))
    for i in (0, 17, 999_999):
        assert cluster.get(call(a, "call", FIRST + i, "which")) == FIRST + i
    cluster.get(call(a, "kill", FIRST + 999_999))
    calls = [(FIRST + i, "which", b"\x90") for i in range(0, 1_000_000, 1000)]
    out = cluster.get(call(a, "batch", in_batch([*calls, (FIRST + 999_999, "which", b"\x90")])))
    assert out[:-1] == [index for index, _, _ in calls] and "does not live" in out[-1]["error"]


def test_hostile_calls(cluster: Any, library: str) -> None:
    """What no library of ours sends is an error of that call; the process lives on."""
    a = c_actor_class(library, "counter").remote(0)
    good = in_batch([(0, "value", b"\x90")])
    for name, args, words in [
        ("spawn", (), "no str"), ("spawn", ("counter", "x", 1), "no int"),
        ("spawn", ("nope", FIRST, 1), "exports no SKATE_ACTOR nope"),
        ("spawn", ("counter", 0, 1), "cannot be made"),
        ("spawn", ("counter", -2, 1000), "cannot be made"),
        ("spawn", ("counter", FIRST, 2**62), "no room"),
        ("spawn", ("counter", FIRST, 2**27), "no room"),
        ("spawn", ("counter", FIRST, 10, 13), "an unlucky number"),
        ("call", (), "no int"), ("call", (0,), "no str"), ("call", (77, "value"), "does not live"),
        ("kill", ("x",), "no int"), ("nope", (), "no reserved method"),
        ("batch", (), "no bytes"), ("batch", ("text",), "no bytes"),
        ("batch", (good[:-1],), "to its end"), ("batch", (good + b"\1" * 13,), "to its end"),
        ("batch", (in_batch([(0, "value", b"")])[:-4] + b"\xff\xff\xff\xff",), "run to its end"),
    ]:  # fmt: skip
        with pytest.raises(skate.exceptions.RayTaskError, match=words):
            cluster.get(call(a, name, *args))
    assert cluster.get(call(a, "batch", b"")) == []
    assert cluster.get(call(a, "batch", good)) == [0]
    cluster.get(call(a, "spawn", "counter", FIRST, 10, 1))  # nothing of the failed ones stayed
    with pytest.raises(skate.exceptions.RayTaskError, match="there already"):
        cluster.get(call(a, "spawn", "counter", FIRST + 9, 1))


def test_dies_with_its_raylet(library: str) -> None:
    """After kill -9 of the raylet no native worker is left."""
    site = Site()
    try:
        program = site.python(
            OF_TASKS + "print('pid', skate.get(c_function(library, 'pid').remote()), flush=True)\n"
            "import signal; signal.pause()\n",
            library,
        )
        program.expect(r"pid \d+")
        assert site.called("skate-worker")
        os.kill(site.raylets()[0].pid, signal.SIGKILL)
        until(lambda: not site.called("skate-worker"), 20, "the worker ends")
    finally:
        site.close()


def test_no_program(library: str, tmp_path: Path) -> None:
    """An installation that lacks skate-worker: the driver is told, Python's tasks run, and C's do
    when it is there."""
    package, site = tmp_path / "skate", Site()
    (package / "bin").mkdir(parents=True)
    for entry in PACKAGE.iterdir():
        if entry.name != "bin":
            (package / entry.name).symlink_to(entry)
    for name in ("skate-gcs", "skate-raylet"):
        shutil.copy2(PACKAGE / "bin" / name, package / "bin")
    try:
        program = site.python(
            OF_TASKS + "ref = c_function(library, 'add').remote(40, 2)\n"
            "print('python', skate.get(skate.remote(lambda: 7).remote()), flush=True)\n"
            "print('c', skate.get(ref), flush=True)\n",
            library,
            env={"PYTHONPATH": str(tmp_path)},
        )
        program.expect(r"python 7")
        program.expect(r"no worker for C tasks can start on this node: .*/skate-worker: No such "
                       r"file or directory", stream="err")  # fmt: skip
        beside = package / "bin" / ".new"
        shutil.copy2(PACKAGE / "bin" / "skate-worker", beside)
        beside.rename(package / "bin" / "skate-worker")
        program.expect(r"c 42")
        program.succeeds()
    finally:
        site.close()


def test_niceness(library: str) -> None:
    """Workers in C are as nice as those in Python; what they do not understand changes nothing."""
    program_text = (
        OF_TASKS + "import os\n"
        "c = skate.get(c_function(library, 'pid').remote())\n"
        "python = skate.get(skate.remote(os.getpid).remote())\n"
        "print([os.getpriority(os.PRIO_PROCESS, pid) - os.getpriority(os.PRIO_PROCESS, 0)\n"
        "       for pid in (c, python)], flush=True)\n"
    )
    for told, nice in (("4", 4), ("4x", 0)):
        site = Site()
        try:
            program = site.python(program_text, library, env={"SKATE_WORKER_NICENESS": told})
            program.expect(rf"\[{nice}, {nice}\]")
            program.succeeds()
        finally:
            site.close()


def test_stacks_of_none() -> None:
    """A process that has ended has no stacks."""
    done = subprocess.Popen(["true"])
    done.wait()
    assert _stacks.dump(done.pid, 1) == "(it has ended)"
