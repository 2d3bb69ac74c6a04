"""A cluster whose nodes each have a machine of their own: real daemons in network namespaces.

The daemons are started by the package's own code, as `cluster_utils.Cluster` does it, but each from
inside its namespace (netns.py). Drivers speak to a raylet's Unix socket, which has nothing to do
with networks: this process may call `connect()`, and `program()` starts others beside a node.

    with Rig() as rig:
        rig.start(num_cpus=1)          # the head: GCS and raylet
        node = rig.add_node(num_cpus=1)
        rig.connect()
        rig.net.cut(rig.head.port, node.port)
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import netns

from skate import _node

HERE = Path(__file__).resolve().parent
PATIENCE_S = 60.0
STORE = 150 << 20
NODE_ID_DIGITS = 56  # as nodes() shows them


def until(question: Callable[[], Any], what: str, seconds: float = PATIENCE_S) -> Any:
    """The first true answer; an AssertionError naming `what` when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.005)
    return answer


class Machine:
    """One machine, and the node on it: another one each time that a raylet starts here."""

    def __init__(self, port: int, ip: str, temp: str) -> None:
        """temp: the folder that is this machine's /tmp, as far as Skate goes."""
        self.port = port
        self.ip = ip
        self.temp = temp
        self.node: _node.Node | None = None
        self.pid = 0
        self.node_id = ""
        self.record = ""

    def __repr__(self) -> str:
        return f"Machine({self.port}, node={self.node_id[:8]}, pid={self.pid})"


class Rig(AbstractContextManager["Rig"]):
    """Machines, the daemons on them, and what can happen to both."""

    def __init__(
        self, switch: bool = False, seed: int = 1, net: Any = None, log: bool | Path = False
    ) -> None:
        """switch: packets can be delayed, doubled, reordered (and are slower always). net: in place
        of netns.Net, for instance tcpnet.Net where there may be no namespaces. log: the GCS keeps
        one, in this folder, and may be killed and started again."""
        self.folder = Path(tempfile.mkdtemp(prefix="f", dir="/tmp"))
        self.net = net or netns.Net(self.folder, switch, seed)
        self.key = _node.new_key()
        self.machines: dict[int, Machine] = {}
        self.gcs: _node.Daemon | None = None
        self.gcs_folder = ""
        self.gcs_around: list[str] = []  # a command that becomes the one at its end
        self.address = ""  # host:port of the GCS
        self.log = str((self.folder if log is True else log) / "gcs.db") if log else ""
        self.head: Machine | None = None
        self.programs: list[subprocess.Popen[str]] = []

    # ------------------------------------------------------------------------------- start

    @contextmanager
    def _binaries(self) -> Iterator[None]:
        """Where there is something around the GCS, it is started through that."""
        if not self.gcs_around:
            yield
            return
        script = self.folder / "bin" / "skate-gcs"
        script.parent.mkdir(exist_ok=True)
        words = [*self.gcs_around, _node.binary("skate-gcs")]
        script.write_text(f"#!/bin/sh\nexec {shlex.join(words)}\n")
        script.chmod(0o700)
        before = os.environ.get("SKATE_BIN_DIR")
        os.environ["SKATE_BIN_DIR"] = str(script.parent)
        try:
            yield
        finally:
            os.environ.pop("SKATE_BIN_DIR")
            if before is not None:
                os.environ["SKATE_BIN_DIR"] = before

    def machine(self) -> Machine:
        """A new machine, with nothing on it."""
        port = next(p for p in range(1, 64) if p not in self.machines)
        self.net.add(port)
        temp = self.folder / f"m{port}"
        temp.mkdir()
        self.machines[port] = Machine(port, self.net.ip(port), str(temp))
        return self.machines[port]

    def start(self, **node: Any) -> Machine:
        """The head: a GCS, and a raylet beside it (arguments: as add_node)."""
        machine = self.machine()
        self.head = machine
        self.gcs_folder = _node.new_session_dir(machine.temp)
        self.start_gcs()
        return self.add_node(machine, **node)

    def start_gcs(self) -> None:
        """Start the GCS, or start it again: at the address and with the log that it had."""
        assert self.head is not None
        settings = [
            ("cluster_key", self.key), ("listen_ip", self.head.ip),
            ("listen_port", self.address.rpartition(":")[2] or 0),
            ("session_dir", self.gcs_folder), ("local_session", 0),
            ("lifeline_pid", os.getpid()), *([("log", self.log)] if self.log else []),
        ]  # fmt: skip
        with self.net.inside(self.head.port), self._binaries():
            self.gcs = _node.Daemon("skate-gcs", settings, None)
        self.address = f"{self.head.ip}:{self.gcs.wait_ready()['port']}"

    def add_node(
        self,
        machine: Machine | None = None,
        num_cpus: float = 1,
        resources: dict[str, float] | None = None,
        store: int = STORE,
        more: list[tuple[str, Any]] | None = None,
    ) -> Machine:
        """Start a raylet, on a new machine or on this one, and wait until the GCS knows it."""
        machine = machine or self.machine()
        head = machine is self.head
        node = _node.Node(_node.new_session_dir(machine.temp), self.key)
        node.gcs_address = self.address
        amounts = _node.node_resources(machine.ip, head, num_cpus, 0, 1 << 30, store, resources)
        with self.net.inside(machine.port):
            node.start_raylet(machine.ip, amounts, store, head=head, alone=True, more=more)
        assert node.raylet is not None
        try:
            ready = node.raylet.wait_ready()
        except BaseException:
            node.stop()
            raise
        machine.node, machine.pid = node, node.raylet.pid
        machine.node_id = ready["node_id"].ljust(NODE_ID_DIGITS, "0")
        base = _node.base_dir(machine.temp)
        machine.record = _node.record_node(
            base, self.address, ready["socket"], machine.pid, node.session_dir
        )
        key = os.path.join(_node.cluster_dir(base, self.address), "key")
        _node.write_private(key, self.key)
        return machine

    def _environment(self, at: Machine | None) -> dict[str, str]:
        machine = at or self.head
        assert machine is not None, "start() first"
        return {"SKATE_TMPDIR": machine.temp}

    def connect(self, at: Machine | None = None, **more: Any) -> Any:
        """init() this process as a driver of the node on a machine (the head's)."""
        import skate

        before = os.environ.get("SKATE_TMPDIR")
        os.environ.update(self._environment(at))
        try:
            skate.init(address=self.address, log_to_driver=False, **more)
        finally:
            os.environ.pop("SKATE_TMPDIR")
            if before is not None:
                os.environ["SKATE_TMPDIR"] = before
        return skate

    def program(self, source: str, *args: str, at: Machine | None = None) -> subprocess.Popen[str]:
        """A Python program on a machine (the head's), its output a pipe. Its first argument is the
        address of the cluster."""
        path = self.folder / f"program_{len(self.programs)}.py"
        path.write_text(textwrap.dedent(source))
        env = os.environ | {"PYTHONPATH": str(HERE)} | self._environment(at)
        machine = at or self.head
        assert machine is not None
        with self.net.inside(machine.port):
            popen = subprocess.Popen(
                [sys.executable, str(path), self.address, *args], env=env, text=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.programs.append(popen)
        return popen

    # ------------------------------------------------------------------------------- faults

    def kill_raylet(self, machine: Machine) -> None:
        """kill -9 of a node's raylet; the machine stays and may get a new one (add_node)."""
        node, machine.node = machine.node, None
        assert node is not None and node.raylet is not None
        os.kill(machine.pid, signal.SIGKILL)
        self._forget(machine, node)

    def gcs_says(self) -> str:
        """The last that the GCS wrote on stderr."""
        return self.gcs._last_words() if self.gcs else ""

    def kill_gcs(self) -> None:
        """kill -9 of the GCS; start_gcs() starts the next one."""
        gcs, self.gcs = self.gcs, None
        assert gcs is not None
        os.kill(gcs.pid, signal.SIGKILL)
        gcs.wait_end()

    def stop_raylet(self, machine: Machine) -> None:
        """End a node in order."""
        node, machine.node = machine.node, None
        assert node is not None
        self._forget(machine, node)

    def _forget(self, machine: Machine, node: _node.Node) -> None:
        node.stop()
        if os.path.exists(machine.record):
            os.unlink(machine.record)

    def switch_off(self, machine: Machine) -> None:
        """The whole machine at once: off the net first, so that no one hears of its end."""
        self.net.isolate(machine.port)
        self.kill_raylet(machine)

    def pause(self, pid: int) -> None:
        """SIGSTOP: what a machine under great load looks like to others."""
        os.kill(pid, signal.SIGSTOP)

    def resume(self, pid: int) -> None:
        """SIGCONT."""
        os.kill(pid, signal.SIGCONT)

    # --------------------------------------------------------------------------------- ends

    def close(self) -> None:
        """End everything and take the machines away."""
        import skate

        for popen in self.programs:
            popen.kill()
            popen.wait()
            if popen.stdout:
                popen.stdout.close()
        self.net.heal()
        if skate.is_initialized():
            skate.shutdown()
        nodes = [m.node for m in self.machines.values() if m.node is not None]
        for daemon in [*(n.raylet for n in nodes), self.gcs]:
            if daemon is not None:
                self.resume(daemon.pid)
                daemon.close_lifeline()
        for node in nodes:
            node.stop()
        if self.gcs is not None:
            self.gcs.wait_end()
        self.net.close()
        _node.remove_tree(str(self.folder))

    def __exit__(self, *exc: object) -> None:
        self.close()


