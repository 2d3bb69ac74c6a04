"""Drivers on a machine without a node of the cluster: init("skate://host:port"), client()."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from e2e_help import Site, kill, until
from test_e2e_cut_links import cut

from skate.cluster_utils import Cluster


class Far:
    """The other machine: it has a copy of the cluster's key and none of its folders."""

    def __init__(self, cluster: Cluster, site: Site) -> None:
        self.cluster = cluster
        self.site = site
        self.key = site.folder / "key"
        self.key.write_text(cluster._key)

    def run(self, source: str, *args: str, **env: str):
        env = {"SKATE_CLUSTER_KEY_FILE": str(self.key), **env}
        return self.site.python(source, self.cluster.address, *args, env=env)


@pytest.fixture()
def far(cluster: Cluster, site: Site) -> Far:
    """A head and a second node; a driver's machine."""
    cluster.add_node(num_cpus=2, resources={"second": 100})
    return Far(cluster, site)


EVERYTHING = """
import sys
import numpy as np
import skate as ray

ray.init("skate://" + sys.argv[1], namespace="far", runtime_env={"env_vars": {"FAR": "yes"}})
cluster_nodes = {node["NodeID"] for node in ray.nodes()}
assert len(cluster_nodes) == 2, ray.nodes()
own = ray.get_runtime_context().get_node_id()
assert own not in cluster_nodes

def where():
    return ray.get_runtime_context().get_node_id()

@ray.remote
def add(a, b):
    return a + b

@ray.remote
def nested(refs):
    return sum(ray.get(refs)), ray.put(np.full(300_000, 7.0)), where()

@ray.remote(num_cpus=0)
def nothing():
    return where()

@ray.remote
def items(n):
    for i in range(n):
        yield np.full(200_000, i)

@ray.remote
def fails():
    import os
    raise ValueError("far away: " + os.environ["FAR"])

@ray.remote
class Counter:
    def __init__(self, start):
        self.n, self.kept = start, None
    def add(self, by=1):
        self.n += by
        return self.n
    def keep(self, box):
        self.kept = box[0]
    def total(self):
        return float(ray.get(self.kept).sum()), where()

second = {"resources": {"second": 1}}
assert ray.get([add.remote(i, 1) for i in range(500)]) == [i + 1 for i in range(500)]
assert ray.get([nothing.remote() for _ in range(8)]) != [] and own not in set(
    ray.get([nothing.remote() for _ in range(8)]))
data = ray.put(np.arange(2_000_000.0))                    # 16 MB that lie here
for options in ({}, second):
    assert ray.get(add.options(**options).remote(data, data)).sum() == 2 * np.arange(2e6).sum()
total, inner, there = ray.get(nested.options(**second).remote([add.remote(1, 2), ray.put(4)]))
assert total == 7 and ray.get(inner).sum() == 2_100_000.0 and there in cluster_nodes
assert [int(ray.get(item)[0]) for item in items.options(**second).remote(5)] == list(range(5))

near, distant = Counter.remote(0), Counter.options(**second, name="distant").remote(100)
assert ray.get([near.add.remote() for _ in range(300)]) == list(range(1, 301))
assert ray.get([distant.add.remote(2) for _ in range(300)])[-1] == 700
ray.get([near.keep.remote([data]), distant.keep.remote([data])])  # borrowed by two nodes
expected = float(np.arange(2e6).sum())
del data
totals = ray.get([near.total.remote(), distant.total.remote()])
assert [t for t, _ in totals] == [expected] * 2 and {n for _, n in totals} <= cluster_nodes
assert ray.get(ray.get_actor("distant").add.remote(0)) == 700

@ray.remote
def through(handle, value):                     # from a worker to an actor and to our own object
    return ray.get(handle.add.remote(1)) + float(ray.get(value[0])[0])

assert ray.get(through.options(**second).remote(near, [ray.put(np.full(300_000, 0.5))])) == 301.5
try:
    ray.get(fails.options(**second).remote())
    raise SystemExit("no error")
except ValueError as error:
    assert "far away: yes" in str(error)
ray.kill(distant)
try:
    for _ in range(100_000):                    # kill() does not wait
        ray.get(distant.add.remote(), timeout=30)
    raise SystemExit("no error")
except ray.exceptions.ActorDiedError:
    pass

@ray.remote
def says():
    print("said far away", flush=True)

ray.get(says.remote())
print("all", len(ray.nodes()), flush=True)
"""


def test_everything_of_a_driver(far):
    program = far.run(EVERYTHING)
    program.expect("all 2")
    program.expect("said far away")
    program.succeeds()


def test_a_folder_of_the_driver_s_machine(far):
    folder = far.site.folder / "code"
    folder.mkdir()
    (folder / "only_there.py").write_text("def answer():\n    return 42\n")
    far.run("""
import sys
import skate as ray
ray.init("ray://" + sys.argv[1], runtime_env={"working_dir": sys.argv[2]})
@ray.remote(resources={"second": 1})
def f():
    import only_there
    return only_there.answer()
print("got", ray.get(f.remote()), flush=True)
""", str(folder)).succeeds(60).expect("got 42")


HOLDS = """
import sys, time
import skate as ray
ray.init(sys.argv[1], namespace="x")
@ray.remote(num_cpus=0)
class A:
    def pid(self):
        import os
        return os.getpid()
a = A.remote()
b = A.options(lifetime="detached", name="stays").remote()
print("pids", ray.get(a.pid.remote()), ray.get(b.pid.remote()), flush=True)
time.sleep(600)
"""


def test_a_driver_that_dies_takes_its_raylet_and_its_job(far):
    program = far.run(HOLDS)
    found = program.expect(r"pids (\d+) (\d+)")
    until(lambda: len(far.site.raylets()) == 1, 5, "its own raylet")
    raylet = far.site.raylets()[0].pid
    assert not listening(far.site), "nobody can dial it"
    assert not [p for p in far.site.processes() if p.parent == raylet], "no zygote, no worker"
    kill(program.pid)
    program.wait(10)
    until(lambda: not far.site.raylets(), 10, "the raylet is gone")
    until(lambda: not os.path.exists(f"/proc/{found[1]}"), 4, "the job's actor is gone")
    assert os.path.exists(f"/proc/{found[2]}"), "a detached actor stays"
    until(lambda: not list(far.site.folder.glob("skate-*/session_*")), 10, "no files are left")
    far.run("""
import sys
import skate as ray
ray.init(sys.argv[1], namespace="x")
ray.kill(ray.get_actor("stays"))
ray.shutdown()
ray.init(sys.argv[1])
print("again", ray.get(ray.remote(lambda: 5).remote()), flush=True)
""").succeeds().expect("again 5")


def test_ray_client_builder(far):
    far.run("""
import os, sys
import skate as ray
with ray.client(sys.argv[1]).namespace("n").env({"env_vars": {"X": "1"}}).connect() as context:
    assert ray.is_initialized() and ray.get_runtime_context().namespace == "n"
    print("x", ray.get(ray.remote(lambda: os.environ["X"]).remote()), context.ray_version)
assert not ray.is_initialized()
context = ray.client(sys.argv[1]).connect()
print("one", ray.get(ray.remote(lambda: 1).remote()))
context.disconnect()
assert not ray.is_initialized()
print("done", flush=True)
""").succeeds().expect("done")


def test_status_and_lists_from_the_other_machine(far):
    env = {"SKATE_CLUSTER_KEY_FILE": str(far.key)}
    address = f"--address={far.cluster.address}"
    status = far.site.skate("status", address, env=env).succeeds().text()
    assert "/3.0 CPU" in status and status.count(" 1 127.0.0.1") == 2, status
    rows = far.site.skate("list", "nodes", address, env=env).succeeds().text()
    assert rows.count("ALIVE") == 2, rows


REFUSED = """
import sys
import skate as ray
try:
    ray.init(*sys.argv[1:2], _redis_password=sys.argv[2] if len(sys.argv) > 2 else None)
    print("joined", flush=True)
except ConnectionError as error:
    print("refused", error, flush=True)
"""


def test_no_key_and_a_wrong_key(far):
    program = far.run(REFUSED, SKATE_CLUSTER_KEY_FILE="")
    program.expect("refused .*SKATE_CLUSTER_KEY_FILE")
    program = far.run(REFUSED, SKATE_CLUSTER_KEY="1" * 64, SKATE_CLUSTER_KEY_FILE="")
    program.expect("refused .*key is wrong")
    program = far.run(REFUSED, SKATE_CLUSTER_KEY_FILE="/no/such/file")
    program.expect("refused .*/no/such/file")
    far.site.programs[-1].succeeds()


def test_a_password_for_a_program(site):
    head = Site()
    try:
        started = head.skate("start", "--head", "--port=0", "--num-cpus=1",
                             "--redis-password=a-rather-long-password").succeeds()
        address = re.search(r"at (\S+:\d+)\.", started.text())[1]
        site.python(REFUSED, "ray://" + address, "a-rather-long-password").succeeds().expect(
            "joined")
        site.python(REFUSED, address, "another-long-password").expect(
            "refused .*_redis_password is wrong")
        head.skate("stop").succeeds()
        head.assert_nothing_left()
    finally:
        head.close()


STEADY = """
import sys
import numpy as np
import skate as ray
ray.init(sys.argv[1])

@ray.remote(resources={"second": 0.01}, num_cpus=1)
def twice(i):
    return 2 * i

@ray.remote(resources={"second": 0.01}, num_cpus=1)
def large(seed):
    return np.random.default_rng(seed).integers(0, 255, 4 << 20, dtype=np.uint8)

@ray.remote(resources={"second": 1}, num_cpus=0)
class Counter:
    def __init__(self):
        self.seen = []
    def add(self, i):
        self.seen.append(i)
        return i
    def all(self):
        return self.seen

counter, n = Counter.remote(), 0
ray.get(counter.all.remote())
print("up", flush=True)
while True:
    refs = [twice.remote(i) for i in range(50)]
    acks = [counter.add.remote(n * 50 + i) for i in range(50)]
    there = large.remote(n)
    assert ray.get(refs, timeout=60) == [2 * i for i in range(50)]
    assert ray.get(acks, timeout=60) == [n * 50 + i for i in range(50)]
    want = np.random.default_rng(n).integers(0, 255, 4 << 20, "uint8")
    assert np.array_equal(ray.get(there, timeout=60), want)
    n += 1
    print("round", n, flush=True)
    if n >= 4 and __import__("os").path.exists(sys.argv[2]):
        break
assert ray.get(counter.all.remote(), timeout=60) == list(range(n * 50))
print("whole", flush=True)
"""


def test_relayed_connections_are_cut(far):
    """Those between the GCS's port and the nodes; what was on its way comes once, in order."""
    gcs = int(far.cluster.address.rpartition(":")[2])
    cut_while_it_runs(far, lambda: [n.pid for n in far.cluster.list_all_nodes()], gcs, 0.1)


def test_all_connections_of_the_driver_s_machine_are_cut(far):
    """As when its network is away for a moment: also the one to the control store."""
    cut_while_it_runs(far, lambda: [p.pid for p in far.site.raylets()], 0, 0.3)


def cut_while_it_runs(far, whose, but: int, each_s: float) -> None:
    """Cut connections of these processes, but those with this port, until it was enough."""
    enough = far.site.folder / "enough"
    program = far.run(STEADY, str(enough))
    program.expect("up")
    pids = whose()
    over, cuts = threading.Event(), []

    def work() -> None:
        while not over.wait(each_s):
            with contextlib.suppress(ProcessLookupError):  # at its end
                cuts.extend(pid for pid in pids if cut(pid, but))
            if len(cuts) > 8:
                enough.touch()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        program.expect("whole", 90)
        program.succeeds()
    finally:
        over.set()
        thread.join()


def test_the_control_store_is_killed(site):
    """All that the driver's machine has goes through that process: it comes back and goes on."""
    head = Site()
    try:
        started = head.skate("start", "--head", "--port=0", "--num-cpus=1",
                             '--resources={"second": 100}').succeeds()
        address = re.search(r"at (\S+:\d+)\.", started.text())[1]
        [key] = head.folder.glob("skate-*/cluster_*/key")
        copy, enough = site.folder / "key", site.folder / "enough"
        shutil.copy(key, copy)
        program = site.python(STEADY, address, str(enough),
                              env={"SKATE_CLUSTER_KEY_FILE": str(copy)})
        program.expect("up")
        for i in (1, 2, 3):
            program.expect(rf"round {len(rounds(program)) + 1}$", 60)
            store = until(lambda: store_of(head), 10, "the control store runs")
            kill(store)
            until(lambda killed=store: not os.path.exists(f"/proc/{killed}"), 10, f"its end, {i}")
        enough.touch()
        program.expect("whole", 90)
        program.succeeds()
        head.skate("stop").succeeds()
        head.assert_nothing_left()
    finally:
        head.close()


def store_of(head: Site) -> int:
    """The control store itself, which its keeper starts anew; 0: it is not there just now."""
    return next((p.pid for p in head.called("skate-gcs")), 0)


def rounds(program) -> list[str]:
    return [line for line in program.out if line.startswith("round")]


# ------------------------------------------------------- a network that lets one port through


def sh(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)


class Wall:
    """A network namespace behind a packet filter: out of it only to one port, in only answers."""

    def __init__(self) -> None:
        self.name = f"skt{os.getpid()}"
        low = os.getpid() % 16000
        self.host = f"10.{200 + low // 4000}.{low % 4000 // 16}.{low % 16 * 16 + 1}"
        self.inner = self.host.rpartition(".")[0] + f".{low % 16 * 16 + 2}"

    def __enter__(self) -> Wall:
        sh("ip", "netns", "add", self.name)
        try:
            sh("ip", "link", "add", self.name, "type", "veth", "peer", "name", "out0", "netns",
               self.name)
            sh("ip", "addr", "add", f"{self.host}/30", "dev", self.name)
            sh("ip", "link", "set", self.name, "up")
            for words in (("ip", "addr", "add", f"{self.inner}/30", "dev", "out0"),
                          ("ip", "link", "set", "out0", "up"), ("ip", "link", "set", "lo", "up")):
                sh(*self.inside(), *words)
        except BaseException:
            self.__exit__()
            raise
        return self

    def allow(self, port: int) -> None:
        sh(*self.inside(), "nft", f"""
            table ip wall {{
                chain outgoing {{ type filter hook output priority 0; policy drop;
                    oif lo accept
                    ip daddr {self.host} tcp dport {port} accept
                }}
                chain incoming {{ type filter hook input priority 0; policy drop;
                    iif lo accept
                    ip saddr {self.host} tcp sport {port} accept
                }}
            }}""")

    def inside(self) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.name)

    def __exit__(self, *exc: object) -> None:
        for words in (("ip", "netns", "del", self.name), ("ip", "link", "del", self.name)):
            with contextlib.suppress(subprocess.CalledProcessError):
                sh(*words)


@pytest.fixture()
def wall():
    if os.geteuid() or not shutil.which("nft") or not shutil.which("ip"):
        pytest.skip("needs root, ip and nft for a network namespace")
    made = Wall()
    try:
        made.__enter__()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace here: {error.stderr}")
    yield made
    made.__exit__()


BEHIND = """
import socket
for port in sys.argv[2].split(","):
    try:
        socket.create_connection((sys.argv[1].split(":")[0], int(port)), 0.2)
        raise SystemExit("the wall has a hole: " + port)
    except OSError:
        pass
"""


def test_behind_a_wall_with_one_open_port(site, wall):
    """The driver's machine reaches the head's port and nothing else, and nobody reaches it."""
    head = Site()
    try:
        started = head.skate("start", "--head", "--port=0", "--num-cpus=1",
                             f"--node-ip-address={wall.host}").succeeds()
        address = re.search(r"at (\S+:\d+)\.", started.text())[1]
        wall.allow(int(address.rpartition(":")[2]))
        head.skate("start", f"--address={address}", "--num-cpus=2",
                   '--resources={"second": 100}').succeeds()
        assert address.startswith(wall.host)
        [key] = head.folder.glob("skate-*/cluster_*/key")
        copy = site.folder / "key"
        shutil.copy(key, copy)
        ports = [p for p in listening(head) if p != int(address.rpartition(":")[2])]
        assert len(ports) == 2, ports
        path = site.folder / "behind.py"
        path.write_text("import sys\n" + BEHIND + EVERYTHING)
        program = site.start(*wall.inside(), sys.executable, str(path), address,
                             ",".join(map(str, ports)),
                             env={"SKATE_CLUSTER_KEY_FILE": str(copy)})
        program.expect("all 2", 40)
        program.succeeds()
        head.skate("stop").succeeds()
        head.assert_nothing_left()
    finally:
        head.close()


def listening(place: Site) -> list[int]:
    """The TCP ports on which processes of a site listen."""
    out = []
    for process in place.processes():
        with contextlib.suppress(OSError):
            sockets = {os.readlink(fd) for fd in Path(f"/proc/{process.pid}/fd").iterdir()}
            for line in Path(f"/proc/{process.pid}/net/tcp").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                    out.append(int(words[1].split(":")[1], 16))
    return out
