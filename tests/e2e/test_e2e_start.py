"""`skate start` as people use `ray start`: flags, a script, keys, what it says when it fails."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sys
import threading

import pytest
from e2e_help import Site, until

# What each of several rented machines runs at its start, as written for Ray: with the same flags,
# only the program's name is another.
INIT_SCRIPT = """
both="--min-worker-port=20000 --max-worker-port=25000 --temp-dir=$TEMP"
both="$both --redis-password=$REDIS_PASS"
if [ "$ROLE" = head ]; then
    ray start $both --head --port=$RAY_PORT --include-dashboard=false
else
    ray start $both --address=$HEAD_IP:$RAY_PORT
fi
"""
PASSWORD = "correct-horse-battery-staple"
NODES = """
import sys
import skate as ray
ray.init(address=sys.argv[1])
print("nodes", len([n for n in ray.nodes() if n["Alive"]]),
      "got", ray.get(ray.remote(lambda: 7).remote()), flush=True)
"""


@pytest.fixture()
def other(no_leaks: None) -> object:
    """Another machine, as far as folders go: it has no records of the first one's clusters."""
    place = Site()
    yield place
    try:
        place.skate("stop").wait(20)
        place.assert_nothing_left()
    finally:
        place.close()


@pytest.fixture()
def stopped(site: Site) -> object:
    yield None
    site.skate("stop").wait(20)
    site.assert_nothing_left()


def address_of(program) -> str:
    found = re.search(r"has been started at (\S+:\d+)\.", program.text())
    assert found, program.text()
    return found[1]


def start_head(site: Site, *more: str, **kw) -> str:
    return address_of(site.skate("start", "--head", "--port=0", "--num-cpus=1", *more,
                                 **kw).succeeds())


def script(site: Site, **env: str):
    path = site.folder / "init.sh"
    path.write_text('ray() { "$SKATE" "$@"; }\n' + INIT_SCRIPT)
    skate = sys.executable.rpartition("/")[0] + "/skate"
    return site.start("/bin/bash", str(path), env={
        "SKATE": skate, "REDIS_PASS": PASSWORD, "TEMP": f"{site.folder}/t", **env})


def secret_in_processes(site: Site, secret: str) -> list[str]:
    """Processes of the site that show a secret in their arguments."""
    return [p.command for p in site.processes() if secret in p.command]


def test_an_init_script_written_for_ray(site, other, stopped):
    head = script(site, ROLE="head", RAY_PORT="0").succeeds()
    ip, port = address_of(head).split(":")
    assert len(head.err) == 1 and "--min-worker-port, --max-worker-port" in head.err[0]
    assert not secret_in_processes(site, PASSWORD)
    wrong = script(other, HEAD_IP=ip, RAY_PORT=port,
                   REDIS_PASS="some-other-password")
    assert wrong.wait(20) == 1 and "--redis-password" in wrong.err[-1], wrong.text()
    joined = script(other, HEAD_IP=ip, RAY_PORT=port).succeeds()
    assert "joined" in joined.text()
    assert not secret_in_processes(other, PASSWORD)
    site.python(NODES, "auto").succeeds().expect("nodes 2 got 7")
    other.python(NODES, "auto").succeeds().expect("nodes 2 got 7")  # on the node's machine, too
    assert "--redis-password" in head.text() and PASSWORD not in head.text()


def test_loopback_means_the_head_of_this_machine(site, stopped):
    """It listens on the machine's own address only, but scripts say localhost on the head."""
    port = start_head(site, "--node-ip-address=127.0.0.3").rpartition(":")[2]
    site.skate("start", f"--address=127.0.0.1:{port}", "--num-cpus=1").succeeds()
    site.python(NODES, f"localhost:{port}").succeeds().expect("nodes 2 got 7")
    site.skate("status", "--address", f"127.0.0.1:{port}").succeeds()


def test_the_password_is_not_seen_in_the_arguments(site):
    program = site.skate("start", "--head", "--port=0", "--num-cpus=1", "--block",
                         f"--redis-password={PASSWORD}")
    program.expect("has been started")
    assert site.called("start --head") and not secret_in_processes(site, PASSWORD)
    program.interrupt()
    program.wait(20)
    site.assert_nothing_left()


def test_a_blocking_head_serves_one_program_after_the_other(site, stopped):
    """And its control store is started again, as that of any head; with it end the nodes that its
    autoscaler has started."""
    file = site.folder / "cluster.json"
    file.write_text(json.dumps({"available_node_types": {
        "small": {"resources": {"CPU": 1}, "min_workers": 1}}}))  # fmt: skip
    head = site.skate("start", "--head", "--port=0", "--num-cpus=1", "--block",
                      f"--autoscaling-config={file}")
    head.expect("stop it:")
    until(lambda: len(site.raylets()) == 2, 30, "the autoscaler's node")
    for _ in range(2):
        site.python(NODES, "auto").succeeds().expect("nodes 2 got 7")
        site.skate("status").succeeds()
        [server] = site.called("skate-gcs")
        os.kill(server.pid, signal.SIGKILL)
        until(lambda old=server.pid: [p.pid for p in site.called("skate-gcs")] not in ([], [old]),
              30, "another server")  # fmt: skip
    head.interrupt()
    assert head.wait(20) == 0, head.text()
    site.assert_nothing_left()


@pytest.mark.parametrize("daemon", ["skate-raylet", "skate-keeper"])
def test_block_says_which_daemon_was_killed(site, stopped, daemon):
    """And by its status, so that who looks after it starts it again."""
    program = site.skate("start", "--head", "--port=0", "--num-cpus=1", "--block")
    program.expect("stop it:")
    [found] = site.called(daemon)
    os.kill(found.pid, signal.SIGKILL)
    assert program.wait(20) == 1, program.text()
    said = next(line for line in program.err if line.startswith("Error: "))
    assert "signal 9" in said and "signal 11" not in said
    assert not site.called("skate-raylet")


def test_join_with_a_key_from_stdin_file_or_variable(site, other, stopped):
    address = start_head(site)
    [key] = site.folder.glob("skate-*/cluster_*/key")
    text = key.read_text()
    refused = other.skate("start", f"--address={address}", "--num-cpus=1")
    assert refused.wait(20) == 1 and "--cluster-key-file" in refused.text()
    line = next(line for line in site.programs[0].out if "ssh" in line).strip()
    found = re.fullmatch(r"ssh \S+ (cat \S+ \| skate start --address=(\S+) --cluster-key-file=-)",
                         line)
    assert found and found[2] == address, line
    # The line itself, without the way to the other machine.
    other.start("/bin/sh", "-c", 'skate() { "$SKATE" "$@"; }\n' + found[1], env={
        "SKATE": other.skate("--version").succeeds().popen.args[0]}).succeeds()
    copy = other.folder / "copy"
    copy.write_text(text)
    other.skate("start", f"--address={address}", "--num-cpus=1",
                f"--cluster-key-file={copy}").succeeds()
    other.skate("start", f"--address={address}", "--num-cpus=1",
                env={"SKATE_CLUSTER_KEY": text.strip()}).succeeds()
    for process in other.processes():
        with contextlib.suppress(OSError), open(f"/proc/{process.pid}/environ", "rb") as file:
            assert text.strip().encode() not in file.read()
    site.python(NODES, "auto").succeeds().expect("nodes 4 got 7")


def test_a_key_of_one_s_own(site, other, stopped):
    key = site.folder / "own"
    key.write_text("5a" * 32 + "\n")
    address = start_head(site, f"--cluster-key-file={key}")
    other.skate("start", f"--address={address}", f"--cluster-key-file={key}").succeeds()
    wrong = other.skate("start", f"--address={address}",
                        env={"SKATE_CLUSTER_KEY": "6b" * 32})
    assert wrong.wait(20) == 1 and "key is wrong" in wrong.text(), wrong.text()
    key.write_text("short")
    wrong = other.skate("start", f"--address={address}", f"--cluster-key-file={key}")
    assert wrong.wait(20) == 1 and "holds no cluster key" in wrong.text(), wrong.text()


FLAGS = """--object-manager-port=1 --node-manager-port=0 --min-worker-port=2 --max-worker-port=3
--worker-port-list=4,5 --ray-client-server-port=10001 --include-dashboard=true
--dashboard-host=0.0.0.0 --dashboard-port=8265 --dashboard-agent-listen-port=6
--dashboard-agent-grpc-port=7 --runtime-env-agent-port=8 --metrics-export-port=9
--plasma-directory=/dev/shm --disable-usage-stats
--include-log-monitor=true --enable-resource-isolation --system-reserved-cpu=1
--system-reserved-memory=1 --cgroup-path=/x --log-style=pretty --log-color=false --verbose
--node-name=mine --memory=1000000000 --object-store-memory=100000000 --num-gpus=0
--labels=zone=a --node-ip-address=localhost"""


def test_all_flags_of_ray_start(site, stopped):
    start_head(site, *FLAGS.split(), '--resources={"gold": 2}',
               '--system-config={"object_spilling_threshold": 0.7}',
               f"--object-spilling-directory={site.folder}/spill", f"--temp-dir={site.folder}/t")
    notices = site.programs[0].err
    assert len(notices) == 1 and "--worker-port-list" in notices[0], notices
    assert "--node-name" not in notices[0] and "--labels" not in notices[0]
    site.python("""
import skate as ray
ray.init()
[node] = ray.nodes()
print(node["NodeName"], node["Resources"]["gold"], node["Labels"]["zone"],
      node["NodeManagerAddress"], flush=True)
""").succeeds().expect(r"mine 2.0 a 127.0.0.1")
    site.skate("stop").succeeds().expect("Stopped 2")
    assert not list((site.folder / "t").glob("skate-*/session_*"))


def test_stop_leaves_a_program_s_own_cluster(site, stopped):
    start_head(site)
    program = site.python("""
import sys
import skate as ray
from skate.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, connect=True)
cluster.add_node()
cluster.wait_for_nodes()
print("up", cluster.remaining_processes_alive(), flush=True)
open(sys.argv[1]).read()  # a pipe: until the test has stopped the others
print("alive", cluster.remaining_processes_alive(), ray.get(ray.remote(lambda: 3).remote()),
      flush=True)
cluster.shutdown()
""", str(fifo(site)))
    program.expect("up True")
    site.skate("stop").succeeds().expect("Stopped 2")
    (site.folder / "pipe").write_text("go")
    program.expect("alive True 3")
    program.succeeds()


def fifo(site: Site):
    os.mkfifo(site.folder / "pipe")
    return site.folder / "pipe"


def test_a_second_head_and_other_programs_on_the_port(site, stopped):
    address = start_head(site)
    port = address.rpartition(":")[2]
    again = site.skate("start", "--head", f"--port={port}")
    assert again.wait(20) == 1 and "skate stop" in again.err[-1], again.text()
    with listener(b"HTTP/1.1 400 Bad Request\r\n\r\n") as taken:
        program = site.skate("start", "--head", f"--port={taken}",
                             "--node-ip-address=127.0.0.1")
        assert program.wait(20) == 1 and "another program" in program.err[-1], program.text()
    with listener(b"-NOAUTH Authentication required.\r\n") as taken:
        program = site.skate("start", "--head", f"--port={taken}",
                             "--node-ip-address=127.0.0.1")
        assert program.wait(20) == 1 and "a Redis server" in program.err[-1], program.text()
    with listener(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))) as taken:  # as gRPC begins
        for args in (("--head", f"--port={taken}", "--node-ip-address=127.0.0.1"),
                     (f"--address=127.0.0.1:{taken}",)):
            program = site.skate("start", *args)
            assert program.wait(20) == 1 and "a real Ray cluster" in program.err[-1]
    program = site.skate("start", f"--address={address}", f"--node-manager-port={port}")
    assert program.wait(20) == 1 and "--node-manager-port" in program.err[-1], program.text()
    before = sorted(site.folder.glob("skate-*/*"))
    program = site.skate("start", "--head", "--port=0", f"--node-manager-port={port}")
    assert program.wait(20) == 1 and "--node-manager-port" in program.err[-1], program.text()
    assert sorted(site.folder.glob("skate-*/*")) == before  # no log to go on from


def test_two_heads_at_once(site, stopped):
    """One has the port; the other takes nothing of it away."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    both = [site.skate("start", "--head", f"--port={port}", "--num-cpus=1",
                       "--node-ip-address=127.0.0.1") for _ in range(2)]  # fmt: skip
    assert sorted(program.wait(30) for program in both) == [0, 1], [p.text() for p in both]
    site.skate("start", f"--address=127.0.0.1:{port}", "--num-cpus=1").succeeds()
    site.python(NODES, "auto").succeeds().expect("nodes 2 got 7")


class listener:  # noqa: N801
    """A server on loopback that greets whoever connects; its port."""

    def __init__(self, greeting: bytes) -> None:
        self.greeting = greeting
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.guests: list[socket.socket] = []

    def serve(self) -> None:
        try:
            while True:
                guest, _ = self.socket.accept()
                self.guests.append(guest)
                guest.sendall(self.greeting)
        except OSError:
            return

    def __enter__(self) -> int:
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        return self.socket.getsockname()[1]

    def __exit__(self, *exc: object) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(5)
        for guest in self.guests:
            guest.close()


def test_the_known_default_password_is_no_key(site, other, stopped):
    address = start_head(site, "--redis-password=5241590000000000")
    assert "everybody knows" in site.programs[0].text()
    program = other.skate("start", f"--address={address}", "--redis-password=5241590000000000")
    assert program.wait(20) == 1 and "--cluster-key-file" in program.text()


def test_help_is_grouped(site):
    text = site.skate("start", "--help").succeeds().text()
    for word in ("What to start", "The cluster's key", "Network:", "--node-manager-port"):
        assert word in text
    assert "--worker-port-list" not in text


def test_a_fixed_port_of_a_node(site, other, stopped):
    address = start_head(site)
    [key] = site.folder.glob("skate-*/cluster_*/key")
    with socket.create_server((address.split(":")[0], 0)) as probe:
        port = probe.getsockname()[1]
    other.skate("start", f"--address={address}", f"--node-manager-port={port}",
                f"--cluster-key-file={key}").succeeds()
    with socket.create_connection((address.split(":")[0], port), 5) as there:
        assert until(lambda: there.recv(6), 5, "a greeting") == b"SKATE/"
