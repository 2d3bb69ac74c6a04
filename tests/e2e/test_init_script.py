"""Machines that start head and nodes of one cluster by a script, in any order and without a sleep.

A machine is a network namespace with a temp folder of its own; where there may be no namespaces it
is the folder alone.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_help import Site, until

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "faults"))
import netns  # noqa: E402

PASSWORD = "a-password-of-many-words"
BIN = Path(sys.executable).parent
# What rented machines ran at their start in 2021, with the program's name changed and the sleep
# before the nodes left out: the same flags in the same order.
OLD_SCRIPT = """
ports="--min-worker-port=20000 --max-worker-port=25000"
if [ ! -z $DB_IS_DRIVER ] && [ $DB_IS_DRIVER = TRUE ] ; then
  skate start $ports --temp-dir="$TEMP" --head --port=$RAY_PORT --redis-password="$REDIS_PASS" --include-dashboard=false
else
  skate start $ports --temp-dir="$TEMP" --address="$DB_DRIVER_IP:$RAY_PORT" --redis-password="$REDIS_PASS"
fi
"""  # noqa: E501
# In a notebook: stdout has no file behind it.
NOTEBOOK = """
import sys, time
import skate as ray

sys.stdout.fileno = lambda: 0
ray.init(address="auto", **eval(sys.argv[1]))

@ray.remote(num_cpus=0.01, scheduling_strategy="SPREAD")
def where(i):
    print("hello from", i)
    return ray.get_runtime_context().get_node_id()

while len([n for n in ray.nodes() if n["Alive"]]) < int(sys.argv[2]):
    time.sleep(0.02)  # asks again
places = set()
while len(places) < int(sys.argv[2]):  # a node that has just come may get none of the first ones
    places |= set(ray.get([where.remote(i) for i in range(40)]))
print("nodes", len(places), "cpus", ray.cluster_resources()["CPU"] >= int(sys.argv[2]))
"""


class Machine(Site):
    """A site that may be in a network namespace."""

    def __init__(self, name: str, ip: str) -> None:
        super().__init__()
        self.name, self.ip = name, ip

    def start(self, *command: str, **kw):
        prefix = ("ip", "netns", "exec", self.name) if self.name else ()
        return super().start(*prefix, *command, **kw)

    def script(self, text: str, **env: str):
        """Run a shell script here, with `skate` and this Python on its PATH."""
        path = self.folder / "init.sh"
        path.write_text(text)
        return self.start("/bin/sh", str(path), env={
            "PATH": f"{BIN}:{os.environ['PATH']}", "TEMP": f"{self.folder}/t", **env})


class Machines(list):
    """Four of them; `port` is free on the first."""

    def __init__(self, net: netns.Net | None) -> None:
        self.held = socket.socket()
        if net:
            super().__init__(Machine(net.add(n), net.ip(n)) for n in range(1, 5))
            self.port = 9339
            return
        from skate import _node

        ip = _node.own_ip()
        if ipaddress.ip_address(ip).is_global:
            pytest.skip("the one address of this machine is public: no cluster listens there")
        self.held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.held.bind((ip, 0))  # nobody else gets it, and a head may still listen there
        self.port = self.held.getsockname()[1]
        super().__init__(Machine("", ip) for _ in range(4))


@pytest.fixture(params=["namespaces", "folders"])
def machines(request, no_leaks, tmp_path) -> Iterator[Machines]:
    """Four that know nothing of one another."""
    net = None
    if request.param == "namespaces":
        if reason := netns.why_not():
            pytest.skip(reason)
        net = netns.Net(tmp_path)
    made = Machines(net)
    try:
        yield made
        for machine in made:
            machine.skate("stop").wait(20)
        for machine in made:
            machine.assert_nothing_left()
    finally:
        for machine in made:
            machine.close()
        made.held.close()
        if net:
            net.close()


def start_in_disorder(machines: Machines, text: str, env) -> list:
    """Run the script everywhere, on the head's machine as the third; all succeed.

    env(i): variables of machine i; the head is the first one."""
    early = [machines[i].script(text, **env(i)) for i in (1, 2)]
    for program in early:
        program.expect("asking again", stream="err")  # there is no head, and they stay
    programs = [machines[0].script(text, **env(0)), *early, machines[3].script(text, **env(3))]
    for program in programs:
        program.succeeds(60)
    assert "has been started at" in programs[0].text()
    assert all("has joined" in program.text() for program in programs[1:])
    return programs


def test_the_script_of_2021(machines):
    def env(i: int) -> dict[str, str]:
        role = {"DB_IS_DRIVER": "TRUE"} if i == 0 else {"DB_IS_DRIVER": "FALSE"}
        return {"DB_DRIVER_IP": machines[0].ip, "RAY_PORT": str(machines.port),
                "REDIS_PASS": PASSWORD, **role}  # fmt: skip

    programs = start_in_disorder(machines, OLD_SCRIPT, env)
    assert not [line for p in programs for line in p.err + p.out if PASSWORD in line]
    for machine in machines:
        assert not [p for p in machine.processes() if PASSWORD in p.command]
    given = repr({"_redis_password": PASSWORD})
    machines[0].python(NOTEBOOK, given, "4").succeeds(60).expect("nodes 4 cpus True")


@pytest.mark.parametrize("target", ["generic", "databricks"])
def test_the_printed_script(machines, target):
    key = os.urandom(32).hex()
    shown = machines[0].skate("spark-init-script", f"--target={target}",
                              f"--port={machines.port}").succeeds().out  # fmt: skip
    text = "\n".join(shown) + "\n"
    assert "sleep" not in text and 'version=0' in text

    def env(i: int) -> dict[str, str]:
        if target == "databricks":
            role = {"DB_IS_DRIVER": "TRUE" if i == 0 else "FALSE", "DB_DRIVER_IP": machines[0].ip,
                    "SKATE_PYTHON": sys.executable}  # fmt: skip
            return {**role, "SKATE_CLUSTER_KEY": key}
        role = {} if machines[0].name else {"SKATE_ROLE": "head" if i == 0 else "node"}
        file = machines[i].folder / "key"
        file.write_text(key)
        file.chmod(0o600)
        return {**role, "SKATE_HEAD": machines[0].ip, "PYSPARK_PYTHON": sys.executable,
                "SKATE_CLUSTER_KEY_FILE": str(file)}  # fmt: skip

    seen: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            seen.extend(p.command for m in machines for p in m.processes() if key in p.command)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        start_in_disorder(machines, text, env)
    finally:
        over.set()
        watcher.join()
    assert not seen
    machines[3].python(NOTEBOOK, "{}", "4").succeeds(60).expect("nodes 4 cpus True")


def test_what_the_script_says(site):
    text = "\n".join(site.skate("spark-init-script", "--head=10.0.0.1").succeeds().out) + "\n"
    assert "head=${SKATE_HEAD:-10.0.0.1}" in text
    path = site.folder / "s.sh"
    path.write_text(text)

    def run(**env: str) -> str:
        done = site.start("/bin/sh", str(path), env={"SKATE_PYTHON": sys.executable, **env})
        assert done.wait(20) == 1
        return done.text()

    assert "set SKATE_CLUSTER_KEY" in run()
    key = {"SKATE_CLUSTER_KEY": "0" * 64}
    assert "SKATE_ROLE is head or node, not king" in run(SKATE_ROLE="king", **key)
    assert "loopback" in run(SKATE_HEAD="127.0.0.1", **key)
    other = "\n".join(site.skate("spark-init-script", "--version=99.1", "--package=/no/such-99.whl"
                                 ).succeeds().out) + "\n"  # fmt: skip
    path.write_text(other)
    assert "such-99.whl" in run(SKATE_HEAD="10.0.0.1", **key)  # it is not there, and is named
    for bad in ("--version=;reboot", "--head=a b", "--port=0", "--target=nobody"):
        refused = site.skate("spark-init-script", bad)
        assert refused.wait(20) != 0 and "Traceback" not in refused.text() and refused.err
    shown = site.skate("spark-init-script", "--help").succeeds().text()
    assert "--target" in shown and "no secret" in shown
    for target in ("generic", "databricks"):
        text = "\n".join(site.skate("spark-init-script", f"--target={target}").succeeds().out)
        assert subprocess.run(["/bin/sh", "-n"], input=text, text=True, check=False).returncode == 0


def test_how_long_a_node_waits(site):
    """As long as it is told; not at all for this machine's own loopback address."""
    free = socket.socket()
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
    at_once = site.skate("start", f"--address={address}")
    assert at_once.wait(20) == 1 and "asking" not in at_once.text()
    told = site.skate("start", f"--address={address}", "--wait=0.3")
    assert told.wait(20) == 1 and "asked for 0.3 s" in told.text(), told.text()
    free.close()
    wrong = site.skate("start", "--head", "--wait=1")
    assert wrong.wait(20) == 1 and "--wait" in wrong.err[-1]


def test_something_that_says_nothing_is_not_the_head(site):
    """It may be a head that starts just now: asked again for a while, then named."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        program = site.skate("start", f"--address={address}", "--wait=0.5")
        assert program.wait(20) == 1 and "not a Skate cluster" in program.text()
    until(lambda: not site.processes(), 5, "nothing runs")
