"""The command line: start, status, stop, run; drivers that join a cluster; a second node."""

from __future__ import annotations

import re
import socket

import pytest
from e2e_help import kill, until

DRIVER = """
import os, sys
import skate as ray
ray.init(address=sys.argv[1] if len(sys.argv) > 1 else None)
@ray.remote
def f(x):
    return x + 1
print("got", ray.get(f.remote(1)), "nodes", len(ray.nodes()),
      "cpus", ray.cluster_resources()["CPU"], flush=True)
"""


@pytest.fixture()
def head(site):
    """A cluster of one node with 2 CPUs; its address."""
    program = site.skate("start", "--head", "--port=0", "--num-cpus=2").succeeds()
    text = "\n".join(program.out)
    found = re.search(r"(\d+\.\d+\.\d+\.\d+:\d+)", text)
    assert found, f"no address in:\n{program.text()}"
    yield found[1]
    stop = site.skate("stop")
    stop.wait(15)
    site.assert_nothing_left()


def test_version(site):
    program = site.skate("--version").succeeds()
    program.expect(r"\d+\.\d+")


def test_help_is_whole(site):
    """Each command has a line that fits."""
    text = site.skate("--help").succeeds().text()
    assert "  start " in text and "..." not in text.partition("Commands:")[2], text


def test_start_status_stop(site):
    site.skate("start", "--head", "--port=0", "--num-cpus=3").succeeds()
    assert site.raylets() and site.called("skate-gcs")
    status = site.skate("status").succeeds()
    assert "CPU" in status.text() and "3" in status.text()
    site.skate("stop").succeeds()
    site.assert_nothing_left()


def test_drivers_join_by_address_auto_and_by_default(site, head):
    for args in ((head,), ("auto",), ()):
        site.python(DRIVER, *args).succeeds().expect(r"got 2 nodes 1 cpus 2.0")
    site.python(DRIVER, env={"SKATE_ADDRESS": head}).succeeds().expect(r"got 2 nodes 1 cpus 2.0")
    assert site.raylets(), "the cluster must outlive its drivers"


def test_local_beside_a_cluster(site, head):
    program = site.python(DRIVER.replace("sys.argv[1] if len(sys.argv) > 1 else None",
                                         "'local', num_cpus=1"))
    program.succeeds().expect(r"got 2 nodes 1 cpus 1.0")


def test_a_driver_of_a_cluster_is_killed(site, head):
    program = site.python(DRIVER + """
import time
@ray.remote
class A:
    def pid(self):
        return os.getpid()
actor = A.remote()
ray.get(actor.pid.remote())
print("up", flush=True)
ray.get([ray.remote(time.sleep).remote(60)])
""", head)
    program.expect("up")
    before = {p.pid for p in site.workers()}
    assert before
    kill(program.pid)
    program.wait(5)
    until(lambda: not before & {p.pid for p in site.workers()}, 2, "the job's workers are gone")
    site.python(DRIVER, head).succeeds()


def test_named_detached_actor_between_drivers(site, head):
    first = """
import skate as ray
ray.init(address="auto", namespace="shared")
@ray.remote
class Counter:
    def __init__(self):
        self.n = 0
    def add(self):
        self.n += 1
        return self.n
actor = Counter.options(name="counter", lifetime="detached", get_if_exists=True).remote()
print("count", ray.get(actor.add.remote()), flush=True)
"""
    site.python(first).succeeds().expect("count 1")
    site.python(first).succeeds().expect("count 2")
    second = site.python("""
import skate as ray
ray.init(address="auto", namespace="shared")
actor = ray.get_actor("counter")
print("count", ray.get(actor.add.remote()), flush=True)
ray.kill(actor)
""")
    second.succeeds().expect("count 3")


def test_a_second_node(site, head):
    site.skate("start", f"--address={head}", "--num-cpus=1", '--resources={"far": 1}').succeeds()
    program = site.python("""
import os, sys, time
import numpy as np
import skate as ray
ray.init(address=sys.argv[1])
deadline = time.monotonic() + 10
while len([n for n in ray.nodes() if n["Alive"]]) < 2 and time.monotonic() < deadline:
    time.sleep(0.01)
here = ray.get_runtime_context().get_node_id()

@ray.remote(resources={"far": 0.1})
def far(array):
    return ray.get_runtime_context().get_node_id(), float(array.sum()), array * 2

@ray.remote(resources={"far": 0.1})
class Far:
    def where(self, box):
        return ray.get_runtime_context().get_node_id(), float(ray.get(box[0]).sum())

data = ray.put(np.ones(1_000_000))
node, total, back = ray.get(far.remote(data))
print("task", node != here, total, back.sum(), flush=True)
node, total = ray.get(Far.remote().where.remote([data]))
print("actor", node != here, total, "cpus", ray.cluster_resources()["CPU"], flush=True)
""", head)
    program.expect("task True 1000000.0 2000000.0")
    program.expect("actor True 1000000.0 cpus 3.0")
    program.succeeds()


def test_the_loss_of_a_node(site, head):
    first = {p.pid for p in site.raylets()}
    site.skate("start", f"--address={head}", "--num-cpus=1", '--resources={"far": 1}').succeeds()
    second = [p.pid for p in site.raylets() if p.pid not in first]
    assert len(second) == 1
    program = site.python("""
import os, sys, time
import skate as ray
ray.init(address=sys.argv[1])

@ray.remote(resources={"far": 1}, num_cpus=0)
class Far:
    def wait(self):
        print("waiting", flush=True)
        time.sleep(60)

far = Far.remote()
try:
    ray.get(far.wait.remote(), timeout=50)
except ray.exceptions.ActorDiedError as error:
    print("died", str(error).replace("\\n", " "), flush=True)
deadline = time.monotonic() + 10
while time.monotonic() < deadline:
    alive = [n["Alive"] for n in ray.nodes()]
    if alive.count(True) == 1:
        break
    time.sleep(0.01)
print("nodes", sorted(alive), flush=True)
print("works", ray.get(ray.remote(lambda: 5).remote()), flush=True)
""", head)
    program.expect("waiting")
    kill(second[0])
    program.expect("died", 20)
    program.expect(r"nodes \[False, True\]", 15)
    program.expect("works 5")
    program.succeeds()


def test_a_task_that_waits_for_a_node(site, head):
    program = site.python("""
import sys
import skate as ray
ray.init(address=sys.argv[1])
ref = ray.remote(lambda: "ran").options(resources={"late": 1}).remote()
print("submitted", flush=True)
print("result", ray.get(ref, timeout=40), flush=True)
""", head)
    program.expect("submitted")
    program.expect("late", 2, stream="err")
    site.skate("start", f"--address={head}", "--num-cpus=1", '--resources={"late": 1}').succeeds()
    program.expect("result ran")
    program.succeeds()


# ------------------------------------------------------------------------------------ wrong input


def test_port_in_use(site):
    with socket.create_server(("127.0.0.1", 0)) as taken, \
            socket.create_server(("0.0.0.0", 0)) as everywhere:
        for port in (taken.getsockname()[1], everywhere.getsockname()[1]):
            program = site.skate("start", "--head", "--node-ip-address=127.0.0.1",
                                 f"--port={port}", "--num-cpus=1")
            assert program.wait(10) != 0
            assert str(port) in program.text() and "Traceback" not in program.text()
            site.assert_nothing_left()


def test_start_twice(site, head):
    program = site.skate("start", "--head", f"--port={head.rpartition(':')[2]}")
    assert program.wait(10) != 0
    assert "Traceback" not in program.text()


@pytest.mark.parametrize("args, word", [
    (("start",), "--head"),
    (("start", "--head", "--num-cpus=-1"), "num"),
    (("start", "--head", "--resources={broken"), "resources"),
    (("start", "--head", '--resources={"gold": -1}'), "gold"),
    (("start", "--head", "--port=0", '--system-config={"health_check_timeout_ms": 1}'),
     "health_check_timeout_ms"),
    (("start", "--address=127.0.0.1:1"), "127.0.0.1:1"),
    (("start", "--address=nonsense"), "nonsense"),
    (("no-such-command",), "no-such-command"),
    (("run",), ""),
    (("run", "no_such_file.py"), "no_such_file.py"),
    (("run", "-m", "no_such_module_at_all"), "no_such_module_at_all"),
])
def test_bad_arguments(site, args, word):
    program = site.skate(*args)
    assert program.wait(10) != 0
    assert program.err or program.out
    assert word in program.text()
    if args[0] != "run":
        assert "Traceback" not in program.text()
    site.assert_nothing_left()


@pytest.mark.parametrize("command", [("start", "--head", "--port=0"), ("status",), ("stop",)])
def test_a_temp_folder_that_cannot_be_made(site, command):
    program = site.skate(*command, env={"SKATE_TMPDIR": "/proc/nothing"})
    assert program.wait(20) == 1
    assert program.err == ["Error: cannot make the folder of Skate's sessions: "
                           "[Errno 2] No such file or directory: '/proc/nothing'"]


def test_status_and_stop_without_a_cluster(site):
    status = site.skate("status")
    assert status.wait(10) != 0
    assert "Traceback" not in status.text()
    site.skate("stop").succeeds()


# ---------------------------------------------------------------------------------------- run FILE

FOR_RAY = """
import sys
import ray
from ray.exceptions import GetTimeoutError, RayTaskError
import ray.util

def plain():
    import ray as inside
    return inside.__name__, inside.is_initialized()

@ray.remote
def f(x):
    import ray
    from ray.exceptions import RayError
    return ray.get(g.remote(x)) + 1

@ray.remote
def g(x):
    return x * 10

@ray.remote
class A:
    def m(self):
        import ray
        return ray.get_runtime_context().get_actor_id()

if __name__ == "__main__":
    ray.init(num_cpus=2)
    print("got", ray.get(f.remote(4)), len(ray.get(A.remote().m.remote())),
          ray.get(ray.remote(plain).remote()), sys.argv[1:], flush=True)
    assert ray.__name__ == "skate" or ray.__version__
    ray.shutdown()
    sys.exit(3)
"""


def test_run_a_file_written_for_ray(site):
    path = site.folder / "for_ray.py"
    path.write_text(FOR_RAY)
    program = site.skate("run", str(path), "one", "--two")
    assert program.wait(20) == 3, program.text()
    assert "got 41 32 ('skate', True) ['one', '--two']" in program.out, program.text()


def test_run_a_module_written_for_ray(site):
    package = site.folder / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text("import ray\n@ray.remote\ndef h(x):\n    return x + 100\n")
    (package / "main.py").write_text(
        "import sys, ray\nfrom pack.helper import h\n"
        "if __name__ == '__main__':\n"
        "    ray.init(num_cpus=1)\n"
        "    print('got', ray.get(h.remote(1)), sys.argv[1:], flush=True)\n"
    )
    program = site.skate("run", "-m", "pack.main", "x")
    program.succeeds()
    assert "got 101 ['x']" in program.out, program.text()


def test_run_a_module_beside_the_file(site):
    (site.folder / "beside.py").write_text("import ray\ndef where():\n    return ray.__name__\n")
    path = site.folder / "uses_beside.py"
    path.write_text("import ray, beside\nray.init(num_cpus=1)\n"
                    "print('got', ray.get(ray.remote(beside.where).remote()), flush=True)\n")
    site.skate("run", str(path), cwd="/").succeeds().expect("got skate")


def test_the_alias_is_nowhere_else(site):
    program = site.python("""
import importlib.util
import skate as ray
ray.init(num_cpus=1)
@ray.remote
def see():
    import sys, importlib.util
    spec = importlib.util.find_spec("ray")
    return None if spec is None else spec.origin
print("alias", ray.get(see.remote()), importlib.util.find_spec("ray"), flush=True)
""").succeeds()
    line = program.expect("alias .*")[0]
    assert "skate" not in line.replace("site-packages", "")


def test_a_traceback_of_a_run_program_is_its_own(site):
    path = site.folder / "raises.py"
    path.write_text("import ray\ndef boom():\n    raise ValueError('mine')\nboom()\n")
    program = site.skate("run", str(path))
    assert program.wait(10) == 1
    text = "\n".join(program.err)
    assert "ValueError: mine" in text and "raises.py" in text
