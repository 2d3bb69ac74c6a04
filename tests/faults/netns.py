"""Machines in little: network namespaces, joined by a bridge or by a switch of our own.

Each machine is a namespace with a device `eth0`, address 10.77.0.PORT, and rules of nftables that
say what it does not hear. The wires are veth pairs on a bridge (the kernel's, fast), or the
switch of shaper.c, which also delays, doubles and reorders packets. Nothing outside of these
namespaces is touched, and all of it is gone after close(); what a killed run has left goes when
the next one starts.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cuts import Cuts

HERE = Path(__file__).resolve().parent
FOLDER = Path("/run/netns")
PREFIX = "skf"
CLONE_NEWNET = 0x40000000


def why_not() -> str:
    """Why there can be no network namespaces here; "" when there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool in ("ip", "nft", "tc"):
        if not shutil.which(tool):
            return f"no `{tool}` here (Debian: iproute2, nftables)"
    name = f"{PREFIX}{os.getpid():x}-try"
    steps = (f"ip netns add {name}", f"ip netns exec {name} nft add table inet try",
             f"ip -n {name} link add br0 type bridge",
             f"ip -n {name} link add t0 type veth peer name t1")  # fmt: skip
    try:
        for step in steps:
            done = subprocess.run(step.split(), capture_output=True, text=True, check=False)
            if done.returncode:
                return f"`{step}` is refused here: {done.stderr.strip()}"
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return ""


def why_no_switch() -> str:
    """Why the switch of shaper.c cannot run here; "" when it can."""
    if reason := why_not():
        return reason
    if not os.path.exists("/dev/net/tun"):
        return "no /dev/net/tun here"
    return "" if shutil.which("cc") else "no C compiler here"


def sweep() -> None:
    """Remove the namespaces of runs that were killed."""
    for path in FOLDER.glob(f"{PREFIX}*"):
        pid = re.match(rf"{PREFIX}([0-9a-f]+)-", path.name)
        if pid and not os.path.exists(f"/proc/{int(pid[1], 16)}"):
            subprocess.run(["ip", "netns", "del", path.name], capture_output=True, check=False)


@contextmanager
def entered(name: str) -> Iterator[None]:
    """This thread, and the programs that it starts meanwhile, are in a namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    # A thread's own one: /proc/self would be that of the process.
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(FOLDER / name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {name}")
        try:
            yield
        finally:
            if libc.setns(home, CLONE_NEWNET):
                os.abort()  # this thread is lost, and nobody would find out why
    finally:
        os.close(home)
        os.close(there)


def run(*command: str, text: str | None = None) -> str:
    """Run a program to its end; its output. RuntimeError with what it said."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def build_shaper(folder: Path) -> Path:
    """Compile the switch."""
    out = folder / "shaper"
    run("cc", "-O2", "-Wall", "-Wextra", "-Werror", "-std=gnu11", "-o", str(out),
        str(HERE / "shaper.c"))  # fmt: skip
    return out


class Switch:
    """The process of shaper.c."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.popen = subprocess.Popen(
            [str(build_shaper(folder)), str(seed)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip

    def say(self, line: str) -> str:
        """One command; its answer. RuntimeError when it is refused."""
        assert self.popen.stdin and self.popen.stdout
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()
        answer = self.popen.stdout.readline().strip()
        if not answer.startswith("ok"):
            raise RuntimeError(f"shaper: {line}: {answer or 'it has ended'}")
        return answer[2:].strip()

    def close(self) -> None:
        """End it."""
        assert self.popen.stdin and self.popen.stdout
        self.popen.stdin.close()
        self.popen.wait(10)
        self.popen.stdout.close()


class Net(Cuts):
    """The namespaces of one run."""

    def __init__(self, folder: Path, switch: bool = False, seed: int = 1) -> None:
        """folder: for the compiled switch. switch: shaper.c instead of a bridge."""
        super().__init__()
        sweep()
        self.lossy: dict[int, float] = {}  # port: percent
        Net.count = getattr(Net, "count", 0) + 1
        self.stem = f"{PREFIX}{os.getpid():x}-{Net.count}"
        self.middle = f"{self.stem}-br"
        self.switch = Switch(folder, seed) if switch else None
        try:
            if not switch:
                run("ip", "netns", "add", self.middle)
                run("ip", "-n", self.middle, "link", "add", "br0", "type", "bridge")
                run("ip", "-n", self.middle, "link", "set", "br0", "up")
        except BaseException:
            self.close()
            raise

    @staticmethod
    def ip(port: int) -> str:
        """The address of a machine."""
        return f"10.77.0.{port}"

    def add(self, port: int) -> str:
        """A machine more; the name of its namespace. port: 1 to 63."""
        name = f"{self.stem}-{port}"
        run("ip", "netns", "add", name)
        self.names[port], self.deaf[port], self.lossy[port] = name, set(), 0.0
        if self.switch:
            self.switch.say(f"add {port} {FOLDER / name}")
        else:
            run("ip", "-n", self.middle, "link", "add", f"v{port}", "type", "veth",
                "peer", "name", "eth0", "netns", name)  # fmt: skip
            run("ip", "-n", self.middle, "link", "set", f"v{port}", "master", "br0", "up")
        run("ip", "-n", name, "-batch", "-", text=(
            f"link set lo up\naddr add {self.ip(port)}/24 dev eth0\nlink set eth0 up\n"))
        return name

    def remove(self, port: int) -> None:
        """Take a machine's network away; its processes are the caller's."""
        if self.switch:
            self.switch.say(f"remove {port}")
        run("ip", "netns", "del", self.names.pop(port))
        self._write_all()

    # ------------------------------------------------------------------------------- faults

    def _write(self, port: int) -> None:
        """What a machine does not hear, as one change."""
        # At the hearing end: a packet dropped where it is sent would be an error for the sender.
        rules = "".join(f"  ip saddr {self.ip(p)} drop\n" for p in sorted(self.deaf[port]))
        if lossy := self.lossy[port]:
            rules += (f"  iif != lo numgen random mod 1000 < {int(lossy * 10)} drop\n")
        run("ip", "netns", "exec", self.names[port], "nft", "-f", "-", text=(
            "table inet faults\ndelete table inet faults\ntable inet faults {\n chain in {\n"
            f"  type filter hook input priority 0; policy accept;\n{rules} }}\n}}\n"))

    def _write_all(self) -> None:
        for port in self.names:
            self._write(port)

    def drop(self, source: int, target: int) -> None:
        """target hears nothing of source any more; the other way is as it was."""
        super().drop(source, target)
        self._write(target)

    def loss(self, percent: float) -> None:
        """Every machine fails to hear so many of its packets, by chance."""
        for port in self.names:
            self.lossy[port] = percent
        self._write_all()

    def bandwidth(self, port: int, bits: int) -> None:
        """What a machine sends, bits a second; 0: as fast as it goes."""
        name = self.names[port]
        if not bits:
            subprocess.run(["tc", "-n", name, "qdisc", "del", "dev", "eth0", "root"],
                           capture_output=True, check=False)  # fmt: skip
            return
        run("tc", "-n", name, "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate",
            f"{bits}bit", "burst", str(max(70000, bits // 800)), "latency", "200ms")  # fmt: skip

    def shape(self, source: int | None = None, target: int | None = None, **what: float) -> None:
        """Only with the switch. delay_ms, jitter_ms, loss, dup, reorder (percent) of what goes
        from source to target (None: from or to each); what is not named is none."""
        assert self.switch, "a bridge has no delays"
        words = [f"{'*' if p is None else p}" for p in (source, target)]
        for key, value in what.items():
            stem, ms, _ = key.partition("_ms")
            words.append(f"{stem}={value * 1000 if ms else value:g}")
        self.switch.say("set " + " ".join(words))

    def stats(self) -> dict[str, int]:
        """What the switch did: passed, lost, doubled, behind, refused."""
        assert self.switch, "a bridge does not count"
        pairs = (word.split("=") for word in self.switch.say("stats").split())
        return {key: int(value) for key, value in pairs}

    def heal(self) -> None:
        """No fault any more, but for bandwidth."""
        for port in self.names:
            self.deaf[port], self.lossy[port] = set(), 0.0
        self._write_all()
        if self.switch:
            self.shape()

    # ---------------------------------------------------------------------------------- use

    def inside(self, port: int) -> Any:
        """A context: this thread is on that machine."""
        return entered(self.names[port])

    def close(self) -> None:
        """Everything is as before."""
        steps: list[Callable[[], Any]] = [
            lambda name=name: subprocess.run(["ip", "netns", "del", name], capture_output=True)
            for name in [*self.names.values(), self.middle]
        ]
        if self.switch:
            steps.append(self.switch.close)
        for step in steps:
            try:
                step()
            except OSError:
                pass
        self.names = {}
