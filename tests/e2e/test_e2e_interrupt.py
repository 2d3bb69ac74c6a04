"""Ctrl-C: a traceback within a second, and a session that is usable after."""

from __future__ import annotations

import signal
import time

import pytest
from e2e_help import until

WAYS = {
    "get": "ray.get(never)",
    "get_list": "ray.get([ray.put(1), never])",
    "get_timeout": "ray.get(never, timeout=50)",
    "wait": "ray.wait([never])",
    "wait_timeout": "ray.wait([never], timeout=50)",
    "actor": "ray.get(stuck.wait.remote())",
}
HEAD = """
import time
import skate as ray
ray.init(num_cpus=1)

@ray.remote
def nap(seconds):
    time.sleep(seconds)
    return seconds

@ray.remote
class Stuck:
    def wait(self):
        time.sleep(60)
    def hello(self):
        return "hello"

stuck, fine = Stuck.remote(), Stuck.remote()
ray.get([stuck.hello.remote(), fine.hello.remote()])
never = nap.options(resources={"nothing": 1}).remote(0)
"""


@pytest.mark.parametrize("way", WAYS)
def test_ends_with_a_traceback(site, way):
    program = site.python(HEAD + f"print('waiting', flush=True)\n{WAYS[way]}\n")
    program.expect("waiting")
    began = time.monotonic()
    program.interrupt()
    assert program.wait(5) != 0
    assert time.monotonic() - began < 1.0
    text = "\n".join(program.err)
    assert "KeyboardInterrupt" in text and "Traceback" in text
    assert WAYS[way] in text
    site.assert_nothing_left()


@pytest.mark.parametrize("way", WAYS)
def test_the_session_is_usable_after(site, way):
    program = site.python(HEAD + f"""
for _ in range(2):
    print('waiting', flush=True)
    try:
        {WAYS[way]}
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    print("task", ray.get(nap.remote(0.0)), "actor", ray.get(fine.hello.remote()), flush=True)
""")
    for turn in (1, 2):
        until_lines(program, "waiting", turn)
        program.interrupt()
        began = time.monotonic()
        until_lines(program, "interrupted", turn)
        assert time.monotonic() - began < 1.0
        until_lines(program, "task 0.0 actor hello", turn)
    program.succeeds()


def until_lines(program, text, count):
    until(lambda: sum(line == text for line in list(program.out)) >= count, 10,
          f"{text} {count} times\n{program.text()}")


def test_workers_do_not_see_the_interrupt(site):
    program = site.python(HEAD + """
busy = nap.remote(1.0)
print('waiting', flush=True)
try:
    ray.get(never)
except KeyboardInterrupt:
    print("interrupted", flush=True)
print("result", ray.get(busy), flush=True)
""")
    program.expect("waiting")
    program.interrupt()
    program.expect("interrupted", 1.0)
    program.expect("result 1.0")
    program.succeeds()
    assert "Traceback" not in "\n".join(program.err)


def test_a_second_sigterm_ends_what_is_ending(site):
    """The first lets exit handlers run; the second raises nothing into them."""
    program = site.python("""
import atexit, time
import skate as ray
ray.init(num_cpus=1)
def slow():
    print("ending", flush=True)
    time.sleep(60)
atexit.register(slow)
print("up", flush=True)
time.sleep(60)
""")
    program.expect("up")
    program.signal(signal.SIGTERM)
    program.expect("ending")
    program.signal(signal.SIGTERM)
    assert program.wait() == -signal.SIGTERM
    assert not program.err
    site.assert_nothing_left()
