"""Workers' prints on the driver's terminal; drivers whose stdout is not a file."""

from __future__ import annotations

import re

import pytest

PRINTS = """
import os, sys, time
import skate as ray
ray.init(num_cpus=2, log_to_driver={log})

@ray.remote
def speak(text, stream="stdout"):
    print(text, file=getattr(sys, stream))
    return os.getpid()

@ray.remote
class Speaker:
    def speak(self, text):
        print(text)
        return os.getpid()
"""


def test_prints_of_tasks_and_actors(site):
    program = site.python(PRINTS.format(log=True) + """
def say(*words):  # in one write: nobody's line can come between
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
say("task", ray.get(speak.remote("from a task")))
actor = Speaker.remote()
say("actor", ray.get(actor.speak.remote("from an actor")))
say("error", ray.get(speak.remote("to stderr", "stderr")))
ray.get(speak.remote("two\\nlines"))
ray.get(speak.remote("ünïcödé ✓"))
""").succeeds()
    task, actor, error = (
        int(re.search(rf"^{word} (\d+)$", "\n".join(program.out), re.M)[1])
        for word in ("task", "actor", "error")
    )
    assert f"(speak pid={task}) from a task" in program.out, program.text()
    assert f"(Speaker pid={actor}) from an actor" in program.out, program.text()
    assert f"(speak pid={error}) to stderr" in program.err, program.text()
    for text in ("two", "lines", "ünïcödé ✓"):
        assert any(re.fullmatch(rf"\(speak pid=\d+\) {text}", line) for line in program.out)


def test_prints_appear_while_the_driver_waits(site):
    program = site.python(PRINTS.format(log=True) + """
@ray.remote
def slow(path):
    print("now", flush=True)
    while not os.path.exists(path):
        time.sleep(0.01)
ray.get(slow.remote(sys.argv[1]))
""", str(site.folder / "gate"))
    program.expect(r"\(slow pid=\d+\) now", 5)
    (site.folder / "gate").touch()
    program.succeeds()


def test_log_to_driver_false(site):
    program = site.python(PRINTS.format(log=False) + """
ray.get(speak.remote("a secret"))
print("done", flush=True)
""").succeeds()
    assert "a secret" not in program.text()


def test_many_lines_all_arrive(site):
    program = site.python(PRINTS.format(log=True) + """
@ray.remote
def many(name, n):
    for i in range(n):
        print(name, i)
ray.get([many.remote("a", 3000), many.remote("b", 3000)])
""").succeeds()
    for name in "ab":
        numbers = [int(m[1]) for line in program.out
                   if (m := re.fullmatch(rf"\(many pid=\d+\) {name} (\d+)", line))]
        assert numbers == list(range(3000))


def test_last_words_of_a_dying_worker(site):
    program = site.python(PRINTS.format(log=True) + """
@ray.remote(max_retries=0)
def die():
    print("last words", flush=True)
    os.write(2, b"raw last words\\n")
    os._exit(1)
try:
    ray.get(die.remote())
except ray.exceptions.WorkerCrashedError:
    print("crashed", flush=True)
""").succeeds()
    program.expect("last words")
    program.expect("raw last words", stream="err")


def test_a_line_without_an_end(site):
    program = site.python(PRINTS.format(log=True) + """
@ray.remote
def half():
    sys.stdout.write("no newline")
    sys.stdout.flush()
ray.get(half.remote())
""").succeeds()
    program.expect("no newline")


def test_a_faulthandler_trace_arrives(site):
    program = site.python(PRINTS.format(log=True) + """
@ray.remote(max_retries=0)
def crash():
    import ctypes
    ctypes.string_at(0)
try:
    ray.get(crash.remote())
except ray.exceptions.WorkerCrashedError as error:
    print("crashed", str(error).replace("\\n", " "), flush=True)
""").succeeds()
    assert "SIGSEGV" in program.expect("crashed .*")[0]


# ---------------------------------------------------------------------- notebooks and the like

NOTEBOOK = """
import asyncio, io, sys
import skate as ray

class Stream(io.TextIOBase):
    def __init__(self, real):
        self.real = real
    def write(self, text):
        return self.real.write(text)
    def flush(self):
        self.real.flush()
    def fileno(self):
        raise io.UnsupportedOperation("fileno")

sys.stdout, sys.stderr = Stream(sys.stdout), Stream(sys.stderr)

async def cell():
    ray.init(num_cpus=2)
    @ray.remote
    def f(x):
        print("in a worker", x)
        return x + 1
    @ray.remote
    class A:
        def get(self):
            return "actor"
    print("got", ray.get([f.remote(i) for i in range(3)]), ray.get(A.remote().get.remote()))
    ready, rest = ray.wait([f.remote(7)])
    print("waited", len(ready))
    ray.shutdown()

asyncio.run(cell())
"""


def test_stdout_without_fileno_and_a_running_event_loop(site):
    program = site.python(NOTEBOOK).succeeds()
    program.expect(r"got \[1, 2, 3\] actor")
    program.expect("waited 1")
    program.expect(r"\(f pid=\d+\) in a worker 7")


def test_without_stdout_and_stderr(site):
    program = site.python("""
import os, sys
import skate as ray
sys.stdout = sys.stderr = sys.stdin = None
for fd in (0, 1, 2):
    os.close(fd)
ray.init(num_cpus=1)
@ray.remote
def f(x):
    print("unseen")
    return x
assert ray.get(f.remote(5)) == 5
ray.shutdown()
open(os.path.join(os.environ["SKATE_TMPDIR"], "done"), "w").close()
""")
    program.wait(20)
    assert (site.folder / "done").exists()


def test_in_a_jupyter_kernel(site):
    pytest.importorskip("ipykernel")
    pytest.importorskip("jupyter_client")
    program = site.python("""
import sys
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name="python3", startup_timeout=30)
try:
    def run(code):
        seen = []
        def hook(message):
            content = message["content"]
            if message["msg_type"] == "stream":
                seen.append(content["text"])
            if message["msg_type"] == "error":
                seen.append("ERROR " + content["ename"] + ": " + content["evalue"])
        client.execute_interactive(code, timeout=30, output_hook=hook)
        return "".join(seen)
    print(repr(run("import skate as ray\\nray.init(num_cpus=1)\\n"
                   "@ray.remote\\ndef f(x):\\n    print('printed', x)\\n    return x + 1")))
    print("cell", repr(run("print(f'got {ray.get(f.remote(1))}')")), flush=True)
    print("again", repr(run("ray.shutdown()\\nray.init(num_cpus=1)\\n"
                            "print(f'got {ray.get(f.remote(2))}')\\nray.shutdown()")), flush=True)
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=False)
""")
    program.expect("cell .*got 2", 30)
    program.expect("again .*got 3", 30)
    program.succeeds()


def test_threads_of_one_actor_do_not_cut_each_others_lines(site):
    program = site.python(PRINTS.format(log=True) + """
@ray.remote(max_concurrency=4)
class Talker:
    def talk(self, name):
        sys.setswitchinterval(1e-6)
        for i in range(1000):
            print(name, i)
            sys.stdout.write(f"{name} again\\n")
talker = Talker.remote()
ray.get([talker.talk.remote(name) for name in "abcd"])
""").succeeds()
    lines = [line.partition(") ")[2] for line in program.out]
    for name in "abcd":
        wanted = [text for i in range(1000) for text in (f"{name} {i}", f"{name} again")]
        assert [line for line in lines if line[:1] == name] == wanted
    assert len(lines) == 8000


def test_an_unbuffered_drivers_own_lines_stay_whole(site):
    """With PYTHONUNBUFFERED each piece of a print() is a write of its own."""
    program = site.python(PRINTS.format(log=True) + """
@ray.remote
def many(path):
    for i in range(2000):
        print("of a worker", i, flush=True)
refs = [many.remote(name) for name in "ab"]
count = 0
while True:
    ready, _ = ray.wait(refs, num_returns=2, timeout=0)
    for _ in range(50):
        print("own", "line", count)
        count += 1
    if len(ready) == 2 and count >= 2000:
        break
ray.shutdown()
print("write" in vars(sys.stdout))
""").succeeds()  # fmt: skip
    own = [line for line in program.out if "own" in line]
    assert own == [f"own line {i}" for i in range(len(own))]
    assert len([line for line in program.out if "of a worker" in line]) == 4000
    assert program.out[-1] == "False"
