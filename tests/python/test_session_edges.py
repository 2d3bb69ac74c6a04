"""What surrounds a session: views and refs after its end, forks, futures, half-working streams."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading

import numpy as np
import pytest

import skate


@skate.remote
def double(x):
    return 2 * x


def test_views_outlive_the_session():
    skate.init(address="local", num_cpus=1)
    large = skate.get(skate.put(np.ones(500_000)))
    small = skate.get(skate.put(np.arange(10)))
    skate.shutdown()
    assert large.sum() == 500_000 and small[-1] == 9
    skate.init(address="local", num_cpus=1)
    del large
    gc.collect()
    assert skate.get(skate.put(np.full(500_000, 2.0))).sum() == 1_000_000
    skate.shutdown()


def test_refs_and_functions_over_sessions():
    for _ in range(2):
        skate.init(address="local", num_cpus=1)
        ref = double.remote(4)
        assert skate.get(ref) == 8
        skate.shutdown()
    skate.init(address="local", num_cpus=1)
    for call in (lambda: skate.get(ref), lambda: skate.wait([ref]), lambda: double.remote(ref),
                 lambda: skate.put([ref])):  # fmt: skip
        with pytest.raises(ValueError, match="session"):
            call()
    assert repr(ref) and hash(ref) is not None
    skate.shutdown()


def test_a_forked_child_is_refused_and_harms_nothing(session):
    view = skate.get(skate.put(np.ones(500_000)))
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = b"no error"
        try:
            skate.get(double.remote(1))
        except RuntimeError as error:
            text = f"{error} {view.sum()}".encode()
        os.write(write, text)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert "fork" in text and "500000" in text
    assert skate.get(double.remote(3)) == 6


def test_futures(session):
    async def main():
        first = await double.remote(1)
        return first, await asyncio.gather(*[double.remote(i) for i in range(5)])

    assert asyncio.run(main()) == (2, [0, 2, 4, 6, 8])
    assert double.remote(5).future().result(30) == 10


def test_shutdown_while_a_thread_waits(session):
    @skate.remote
    def never():
        threading.Event().wait()

    caught = []

    def wait():
        try:
            skate.get(never.remote())
        except Exception as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert skate.wait([never.remote()], timeout=0.2)[0] == []
    skate.shutdown()
    thread.join(5)
    assert not thread.is_alive()
    assert isinstance(caught[0], skate.exceptions.RayError)


def test_get_in_a_destructor(session):
    seen = []

    class Late:
        def __del__(self):
            seen.append(skate.get(double.remote(21)))

    late = Late()
    late.me = late
    del late
    gc.collect()
    assert seen == [42]


def test_imports_stay_light():
    """`import skate` loads nothing heavy."""
    import subprocess

    text = "import skate, sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path[:0] = "
                           f"{[p for p in sys.path if p]!r}; {text}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    loaded = set(done.stdout.split())
    heavy = {"numpy", "asyncio", "ssl", "subprocess", "inspect", "cloudpickle", "json", "typing",
             "logging", "socket", "threading", "re"}  # fmt: skip
    assert not heavy & loaded, heavy & loaded


def test_nothing_is_imported_before_the_daemons_run():
    """What init() needs besides is imported while they start: a start is a third shorter so."""
    import subprocess

    text = (
        "import sys; sys.path[:0] = " f"{[p for p in sys.path if p]!r}\n"
        "import skate\n"
        "from skate import _node\n"
        "def instead(self, *args, **options):\n"
        "    print(*sorted(sys.modules))\n"
        "    raise SystemExit(0)\n"
        "_node.Node.start_raylet = instead\n"
        "skate.init('local', num_cpus=1)\n"
    )
    done = subprocess.run([sys.executable, "-S", "-c", text], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    heavy = {"enum", "re", "signal", "shutil", "cloudpickle", "threading", "socket", "tempfile"}
    assert "skate._node" in loaded
    assert not heavy & loaded, heavy & loaded


class EndsIt:
    """Its pickling ends the session under the hands of whoever wants to send it."""

    def __reduce__(self):
        skate.shutdown()
        return (int, (1,))


@pytest.mark.parametrize("what", ["argument", "large", "put", "closure", "constructor", "call"])
def test_pickling_may_end_the_session(what):
    skate.init(address="local", num_cpus=1)
    evil = EndsIt()

    @skate.remote
    def with_it():
        return evil

    @skate.remote
    class Holder:
        def __init__(self, x=None):
            self.x = x

        def take(self, x):
            return x

    holder = Holder.remote()
    acts = {
        "argument": lambda: double.remote(evil),
        "large": lambda: double.remote([evil, b"x" * 1_000_000]),
        "put": lambda: skate.put(evil),
        "closure": with_it.remote,
        "constructor": lambda: Holder.remote(evil),
        "call": lambda: holder.take.remote(evil),
    }
    with pytest.raises(skate.exceptions.RaySystemError, match="not running"):
        acts[what]()
    assert not skate.is_initialized()
