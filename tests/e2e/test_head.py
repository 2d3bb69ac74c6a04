"""A head that may be killed: its control store starts again, or `skate start --head` goes on."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
from pathlib import Path

import pytest
from e2e_help import until

PROGRAM = """
import os, sys, time
import skate as ray
ray.init(address=sys.argv[1], namespace="x")
@ray.remote(max_restarts=-1)
class Counter:
    def __init__(self):
        self.n = 0
    def add(self):
        self.n += 1
        return self.n
    def pid(self):
        return os.getpid()
@ray.remote
def f(x):
    return x + 1
def turn(name):
    print("turn", name, flush=True)
    while not os.path.exists(f"{sys.argv[2]}/{name}"):
        time.sleep(0.01)
"""


def turn(site, program, name, act):
    """Do it when the program waits there, then let it go on."""
    program.expect(f"turn {name}$", 90)
    act()
    (site.folder / name).touch()


def start_head(site, port=0, *more):
    """Start one; its address."""
    program = site.skate("start", "--head", f"--port={port}", "--num-cpus=2",
                         "--node-ip-address=127.0.0.1", *more).succeeds()
    found = re.search(r"(\d+\.\d+\.\d+\.\d+:\d+)", "\n".join(program.out))
    assert found, program.text()
    return found[1], program


def pids(site):
    """The keeper and the server."""
    found = list(site.folder.glob("skate-*/session_*/gcs.pids"))
    found.sort(key=lambda p: p.stat().st_mtime)
    return [int(word) for word in found[-1].read_text().split()]


def kill_both(site):
    keeper, server = pids(site)
    os.kill(server, signal.SIGSTOP)  # it would make itself another keeper
    os.kill(keeper, signal.SIGKILL)
    os.kill(server, signal.SIGKILL)
    until(lambda: not site.called("skate-gcs") and not site.called("skate-keeper"), 30, "both gone")


def cluster_dir(site, address):
    return next(site.folder.glob("skate-*")) / ("cluster_" + address.replace(":", "_"))


@pytest.fixture()
def ended(site):
    yield
    site.skate("stop").wait(20)


def test_the_control_store_is_killed_again_and_again(site, ended):
    address, _ = start_head(site)
    program = site.python(PROGRAM + """
a = Counter.options(name="a", lifetime="detached").remote()
pid = ray.get(a.pid.remote())
made = []
for i in range(1, 6):
    turn(f"kill{i}")
    assert ray.get(a.add.remote()) == i
    assert ray.get(f.remote(i)) == i + 1
    assert ray.get(ray.get_actor("a").pid.remote()) == pid
    made.append(Counter.options(name=f"b{i}").remote())
    assert ray.get(made[-1].add.remote(), timeout=60) == 1
print("names", sum(ray.get_actor(f"b{i}") is not None for i in range(1, 6)), flush=True)
""", address, str(site.folder))
    for i in range(1, 6):
        turn(site, program, f"kill{i}", lambda: os.kill(pids(site)[1], signal.SIGKILL))
    program.succeeds().expect("names 5")


def test_its_keeper_is_killed(site, ended):
    address, _ = start_head(site)
    for _ in range(2):
        keeper, server = pids(site)
        os.kill(keeper, signal.SIGKILL)
        until(lambda k=keeper: pids(site)[0] != k, 30, "a new keeper")
        assert pids(site)[1] == server
    os.kill(server, signal.SIGKILL)
    until(lambda: pids(site)[1] != server, 30, "a new server")
    # What `skate stop` and `skate start --head` know it by.
    assert Path(f"/proc/{pids(site)[1]}/comm").read_text() == "skate-gcs\n"
    site.python(PROGRAM + "print('got', ray.get(f.remote(1)))", address).succeeds().expect("got 2")
    assert [name_of(pid) for pid in pids(site)] == ["skate-keeper", "skate-gcs"]
    until(lambda: nodes(site) == [("ALIVE", None)], 30, "the node is back, nothing is said of it")


def name_of(pid):
    """As ps and top show it, and `skate stop` looks for it."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


def nodes(site):
    found = json.loads("\n".join(site.skate("list", "nodes", "--format=json").succeeds().out))
    return [(node["state"], node["state_message"]) for node in found]


def test_a_new_start_finds_the_control_store_gone(site, ended):
    address, _ = start_head(site)
    site.python(PROGRAM + """
a = Counter.options(name="a", lifetime="detached").remote()
print("pid", ray.get(a.pid.remote()))
""", address).succeeds()
    raylets = [p.pid for p in site.raylets()]
    kill_both(site)
    status = site.skate("status")
    waits = site.python(PROGRAM + "print('got', ray.get(f.remote(1)))", address)
    assert status.wait(30) == 1 and "skate start --head" in status.err[-1], status.text()
    waits.expect("warning: .*control store does not answer.*waiting", 30, stream="err")
    _, program = start_head(site, address.rpartition(":")[2])
    program.expect("runs again")
    waits.succeeds().expect("got 2")
    assert [p.pid for p in site.raylets()] == raylets
    site.python(PROGRAM + "print('n', ray.get(ray.get_actor('a').add.remote()))",
                address).succeeds().expect("n 1")


def test_the_whole_head_is_killed(site, ended):
    address, _ = start_head(site)
    key = (cluster_dir(site, address) / "key").read_text()
    site.python(PROGRAM + """
a = Counter.options(name="a", lifetime="detached").remote()
print(ray.get(a.pid.remote()))
""", address).succeeds()
    for raylet in site.raylets():
        os.kill(raylet.pid, signal.SIGKILL)
    kill_both(site)
    _, program = start_head(site, address.rpartition(":")[2])
    program.expect("goes on from the log")
    assert (cluster_dir(site, address) / "key").read_text() == key
    site.python(PROGRAM + """
print("n", ray.get(ray.get_actor('a').add.remote(), timeout=60), ray.get(f.remote(1)))
""", address).succeeds().expect("n 1 2")


def test_the_log_is_copied_to_another_place(site, ended):
    """As to another host that takes over the address."""
    address, _ = start_head(site)
    site.python(PROGRAM + """
a = Counter.options(name="a", lifetime="detached").remote()
print(ray.get(a.pid.remote()))
""", address).succeeds()
    kill_both(site)
    folder = cluster_dir(site, address)
    other = site.folder / "other"
    moved = other / folder.parent.name / folder.name
    moved.parent.mkdir(parents=True)
    other.chmod(0o700)
    moved.parent.chmod(0o700)
    moved.mkdir(mode=0o700)
    for name in ("key", "gcs.db", "gcs.db-wal", "gcs.db-seq"):
        shutil.copy(folder / name, moved / name)
    env = {"SKATE_TMPDIR": str(other)}
    site.skate("start", "--head", f"--port={address.rpartition(':')[2]}", "--num-cpus=1",
               "--node-ip-address=127.0.0.1", env=env).succeeds().expect("goes on from the log")
    try:
        site.python(PROGRAM + "print('n', ray.get(ray.get_actor('a').add.remote(), timeout=60))",
                    address, env=env).succeeds().expect("n 1")
    finally:
        site.skate("stop", env=env).wait(20)


def test_fresh_and_stop_forget(site, ended):
    address, _ = start_head(site)
    port = address.rpartition(":")[2]
    make = PROGRAM + """
a = Counter.options(name='a', lifetime='detached').remote()
ray.get(a.add.remote())
"""
    look = PROGRAM + """
try:
    ray.get_actor("a")
    print("there")
except ValueError:
    print("forgotten")
"""
    site.python(make, address).succeeds()
    for raylet in site.raylets():
        os.kill(raylet.pid, signal.SIGKILL)
    kill_both(site)
    start_head(site, port, "--fresh")
    site.python(look, address).succeeds().expect("forgotten")
    site.python(make, address).succeeds()
    site.skate("stop").succeeds()
    start_head(site, port)
    site.python(look, address).succeeds().expect("forgotten")


def test_a_damaged_log_is_said_and_recovered(site, ended):
    address, _ = start_head(site)
    for raylet in site.raylets():
        os.kill(raylet.pid, signal.SIGKILL)
    kill_both(site)
    log = cluster_dir(site, address) / "gcs.db"
    for name in ("gcs.db", "gcs.db-wal"):
        with open(log.parent / name, "r+b") as file:
            file.write(b"nonsense" * 64)
    port = address.rpartition(":")[2]
    refused = site.skate("start", "--head", f"--port={port}", "--num-cpus=1",
                         "--node-ip-address=127.0.0.1")
    assert refused.wait(60) != 0
    refused.expect("--recover", stream="err")
    assert "Traceback" not in refused.text()
    start_head(site, port, "--recover")
    assert list(log.parent.glob("gcs.db.damaged-*"))
    site.python(PROGRAM + "print('got', ray.get(f.remote(1)))", address).succeeds().expect("got 2")


def test_a_full_disk_is_said_and_survived(site, ended):
    address, _ = start_head(site)
    program = site.python(PROGRAM + """
a = Counter.options(name="a").remote()
assert ray.get(a.add.remote()) == 1
turn("full")
end = time.time() + 60
while True:
    b = Counter.remote()
    try:
        ray.get(b.add.remote(), timeout=1)
        assert time.time() < end
    except ray.exceptions.GetTimeoutError:
        pass  # made just before it was known: it waits
    except ray.exceptions.RayError as error:
        print("refused:", error, flush=True)
        break
assert ray.get(a.add.remote()) == 2 and ray.get(f.remote(1)) == 2
turn("room")
while True:
    try:
        assert ray.get(Counter.remote().add.remote(), timeout=60) == 1
        break
    except ray.exceptions.ActorDiedError:
        assert time.time() < end
print("well", flush=True)
""", address, str(site.folder))
    server = pids(site)[1]
    old = resource.prlimit(server, resource.RLIMIT_FSIZE)
    turn(site, program, "full",
         lambda: resource.prlimit(server, resource.RLIMIT_FSIZE, (4096, old[1])))
    program.expect("refused:.*cannot keep changes now", 90)
    turn(site, program, "room", lambda: resource.prlimit(server, resource.RLIMIT_FSIZE, old))
    program.succeeds().expect("well")
    assert pids(site)[1] == server


def test_it_is_in_cluster_json(site, ended):
    address, _ = start_head(site)
    record = json.loads((cluster_dir(site, address) / "cluster.json").read_text())
    assert record["pid"] == pids(site)[0]
    assert (cluster_dir(site, address) / "gcs.db").stat().st_mode & 0o777 == 0o600
