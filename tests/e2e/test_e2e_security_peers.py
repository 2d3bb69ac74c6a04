"""Hostile peers against real daemons: strangers in thousands, keys that are wrong or of another
cluster, a man in the middle who records, replays, cuts, swaps, repeats and forges. All are refused
within bounds, and service goes on."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import selectors
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e_help import contents, until

HELLO, ANSWER, PROOF, TAG = 48, 104, 64, 16  # bytes: src/net/handshake.h, seal.h
FLOOD = 10_000
GROWTH_BYTES = 10 << 20

DRIVER = """
import skate as ray
ray.init(address="auto")
@ray.remote
def f(x):
    return x + 1
print("got", sum(ray.get([f.remote(i) for i in range(10)])), "nodes",
      sum(n["Alive"] for n in ray.nodes()), flush=True)
"""


class Head:
    """A cluster of one node, at 127.0.0.1."""

    def __init__(self, site) -> None:
        self.site = site
        told = site.skate("start", "--head", "--port=0", "--num-cpus=1",
                          "--node-ip-address=127.0.0.1").succeeds()  # fmt: skip
        found = re.search(r"127\.0\.0\.1:(\d+)", told.text())
        assert found, told.text()
        self.address, self.port = found[0], int(found[1])
        self.key_file = next(p for p in site.folder.rglob("key") if p.is_file())

    def pids(self) -> list[int]:
        """Of its daemons."""
        return [p.pid for p in (*self.site.called("skate-gcs"), *self.site.raylets())]

    def join(self, address: str = "", key_file: str = "", expect: bool = True):
        program = self.site.skate(
            "start", f"--address={address or self.address}", "--num-cpus=1",
            *([f"--cluster-key-file={key_file}"] if key_file else []),
        )  # fmt: skip
        return program.succeeds(60) if expect else program

    def serves(self, nodes: int | str = 1) -> None:
        """A new driver runs tasks, and sees so many nodes."""
        self.site.python(DRIVER).succeeds(60).expect(rf"^got 55 nodes {nodes}$")


@pytest.fixture()
def head(site) -> Iterator[Head]:
    made = Head(site)
    yield made
    site.skate("stop").succeeds(60)


# ------------------------------------------------------------------------------------- strangers


def rss(pid: int) -> int:
    """Bytes of memory that it has written and nobody shares. (Clean ones are of its program's file:
    they are no longer its own when another node of this machine starts.)"""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(n) for n in re.findall(r"^Private_Dirty: +(\d+) kB", text, re.MULTILINE)) << 10


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ports_of(pids: list[int]) -> list[int]:
    """The TCP ports on which these processes listen."""
    inodes = set()
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                inodes.add(os.readlink(fd))
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [int(f[1].split(":")[1], 16) for f in lines
            if f[3] == "0A" and f"socket:[{f[9]}]" in inodes]  # fmt: skip


SAID = [b"", b"G", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"help\r\n", b"\xff\xff\xff\xff" * 20,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"SKATE/\x02\x01" + bytes(96),
        b"\x80\x05\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os.", b"PRI * HTTP/2.0\r\n\r\nSM\r\n",
        b"SKATE/\x02"]  # fmt: skip


class Flood:
    """Many strangers at once, who stay as long as they are let, say one thing, and a byte of it
    now and then."""

    def __init__(self, ports: list[int], count: int) -> None:
        self.ports, self.count = ports, count
        self.opened = self.closed = self.heard_most = 0
        self.done, self.stop = threading.Event(), threading.Event()
        self.sockets: list[socket.socket] = []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        selector = selectors.DefaultSelector()
        while not self.stop.is_set():
            while self.opened < self.count and self.opened - self.answered < 200:
                self._open(selector)
            for key, _ in selector.select(0.05):
                self._look(selector, key)
            if self.opened == self.count and self.answered == self.count:
                self.done.set()
        for one in self.sockets:
            one.close()
        selector.close()

    answered = 0

    def _open(self, selector: selectors.BaseSelector) -> None:
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", self.ports[self.opened % len(self.ports)]))
        selector.register(one, selectors.EVENT_READ, [self.opened, 0])
        self.sockets.append(one)
        self.opened += 1

    def _look(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        one, state = key.fileobj, key.data
        assert isinstance(one, socket.socket)
        heard = b""
        with contextlib.suppress(OSError):
            heard = one.recv(4096)
        if state[1] == 0:  # the hello, or the end
            self.answered += 1
            with contextlib.suppress(OSError):
                one.send(SAID[state[0] % len(SAID)])
        state[1] += len(heard) or 1
        self.heard_most = max(self.heard_most, state[1])
        if not heard:
            selector.unregister(one)
            self.closed += 1


def test_ten_thousand_strangers(site, head):
    """Held open, slow, silent or talking: the daemons stay small and quiet, and serve."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(FLOOD, (hard if hard != resource.RLIM_INFINITY else FLOOD * 2) - 500)
    if count < 1000:
        pytest.skip(f"this machine lets a process open {hard} files only")
    head.serves()
    pids = head.pids()
    assert len(pids) == 2
    before = {pid: rss(pid) for pid in pids}
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 400), hard))
    flood = Flood(ports_of(pids), count)
    try:
        head.join()  # in the midst of it
        head.serves(nodes=2)
        assert flood.done.wait(60), (flood.opened, flood.answered)
        head.serves(nodes=2)
        for pid in pids:
            assert rss(pid) - before[pid] < GROWTH_BYTES, (pid, before[pid], rss(pid))
        # Each is let go: the oldest when there are too many, the rest after five seconds.
        until(lambda: flood.closed >= count, 60, "every stranger is let go")
        assert flood.heard_most <= HELLO + 1
        spent, began = {pid: cpu_seconds(pid) for pid in pids}, time.monotonic()
        time.sleep(1.0)  # a time to measure over
        for pid in pids:
            assert cpu_seconds(pid) - spent[pid] < 0.05 * (time.monotonic() - began) + 0.02
    finally:
        flood.stop.set()
        flood.thread.join(20)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ------------------------------------------------------------------------------------- keys


def test_keys_that_are_not_the_clusters(site, head):
    """Wrong, another cluster's, none, malformed: each said for what it is, and nobody joined."""
    wrong = site.folder / "wrong"
    wrong.write_text("ab" * 32)
    program = head.join(key_file=str(wrong), expect=False)
    assert program.wait(60) == 1
    assert "key is wrong" in program.text(), program.text()
    wrong.write_text("no key at all")
    program = head.join(key_file=str(wrong), expect=False)
    assert program.wait(60) == 1
    assert "key" in program.text(), program.text()
    program = head.join(key_file=str(site.folder / "nowhere"), expect=False)
    assert program.wait(60) == 1
    assert "key" in program.text(), program.text()
    head.serves(nodes=1)


def test_the_key_file_is_private_and_the_key_in_no_log(site, head):
    assert stat.S_IMODE(head.key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(head.key_file.parent.stat().st_mode) == 0o700
    wrong = site.folder / "wrong"
    wrong.write_text("cd" * 32)
    head.join(key_file=str(wrong), expect=False).wait(60)
    crashed = set(head.pids())
    for pid in crashed:  # what a crash leaves behind holds no key either
        os.kill(pid, 6)
    until(lambda: not crashed & set(head.pids()), 20, "the daemons are gone")
    until(lambda: len(head.pids()) > 0, 20, "the control store is started again")
    for path, data in contents(site.folder):
        if path in (head.key_file, wrong):
            continue
        for key in (head.key_file.read_text().strip(), "cd" * 32):
            assert key.encode() not in data, path
            assert bytes.fromhex(key) not in data, path


# ----------------------------------------------------------------------- the man in the middle


class Middle:
    """Between a node and the control store: hands on whole messages, those of the first connection
    bent. bend(from_node, number, message) -> the messages to send instead, or None to hang up.
    The number counts from 0 for each way: hello 0 and proof 1, answer 0; then records."""

    def __init__(self, port: int, bend: Callable[[bool, int, bytes], list[bytes] | None]) -> None:
        self.target, self.bend = port, bend
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.ends: list[str] = []  # who hung up, per connection
        self.recorded: list[bytes] = []  # what nodes said
        self.live, self.count = True, 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while self.live:
            try:
                node = self.listener.accept()[0]
                head = socket.create_connection(("127.0.0.1", self.target), 10)
            except OSError:
                return
            bend = self.bend if not self.count else lambda from_node, number, data: [data]
            self.count += 1
            for pair in ((node, head, True), (head, node, False)):
                threading.Thread(target=self._pass, args=(*pair, bend), daemon=True).start()

    def _pass(self, source: socket.socket, to: socket.socket, from_node: bool, bend: Any) -> None:
        try:
            source.settimeout(60)
            number = 0
            while True:
                fixed = ([ANSWER] if from_node else [HELLO, PROOF])[number : number + 1]
                message = self._message(source, fixed[0] if fixed else 0)
                if from_node:
                    self.recorded.append(message)
                bent = bend(from_node, number, message)
                if bent is None:
                    break
                to.sendall(b"".join(bent))
                number += 1
        except (OSError, EOFError):
            pass
        self.ends.append("node" if from_node else "head")
        for one in (source, to):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _message(source: socket.socket, size: int) -> bytes:
        def exactly(n: int) -> bytes:
            data = b""
            while len(data) < n:
                more = source.recv(n - len(data))
                if not more:
                    raise EOFError
                data += more
            return data

        if size:
            return exactly(size)
        head = exactly(4)
        return head + exactly(int.from_bytes(head, "little") + TAG)

    def close(self) -> None:
        self.live = False
        self.listener.close()


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :]


class Attacks:
    """Each bends what a node says to the control store (or hears from it) in its own way."""

    def __init__(self) -> None:
        self.kept: bytes | None = None

    def flipped(self, from_node: bool, number: int, data: bytes) -> list[bytes] | None:
        return [flip(data, 9) if from_node and number == 1 else data]

    def repeated(self, from_node: bool, number: int, data: bytes) -> list[bytes] | None:
        return [data, data] if from_node and number == 1 else [data]

    def cut(self, from_node: bool, number: int, data: bytes) -> list[bytes] | None:
        return [data[:-5], bytes(5)] if from_node and number == 1 else [data]

    def dropped(self, from_node: bool, number: int, data: bytes) -> list[bytes] | None:
        return [] if from_node and number == 2 else [data]

    def swapped(self, from_node: bool, number: int, data: bytes) -> list[bytes] | None:
        if not from_node or number not in (2, 3):
            return [data]
        if number == 2:
            self.kept = data
            return []
        return [data, self.kept or b""]

    def oversized(self, from_node: bool, number: int, data: bytes) -> list[bytes] | None:
        return [b"\xff\xff\xff\xff" + data[4:]] if from_node and number == 1 else [data]

    def hello(self, from_node: bool, number: int, data: bytes) -> list[bytes] | None:
        """The nonce of the cluster is another: no proof fits."""
        return [data if from_node or number else flip(data, 20)]

    def share(self, from_node: bool, number: int, data: bytes) -> list[bytes] | None:
        """His own key in the exchange."""
        return [data if from_node or number != 1 else flip(data, 3)]


@pytest.mark.parametrize("attack", [n for n in vars(Attacks) if not n.startswith("_")])
def test_a_man_in_the_middle(site, head, attack):
    """Whatever he changes: that connection ends (the node may come again), the cluster serves."""
    middle = Middle(head.port, getattr(Attacks(), attack))
    try:
        program = head.join(f"127.0.0.1:{middle.port}", str(head.key_file), expect=False)
        until(lambda: middle.ends, 30, "one side hangs up")
        program.wait(60)
        head.serves(nodes=r"\d")
    finally:
        middle.close()


def test_a_recorded_session_is_worth_nothing(site, head):
    """All that an honest node said, said again to the control store: refused at the first proof."""
    middle = Middle(head.port, lambda from_node, number, data: [data])
    try:
        head.join(f"127.0.0.1:{middle.port}", str(head.key_file))
        head.serves(nodes=2)
        recorded = list(middle.recorded)
        assert len(recorded) > 1 and len(recorded[0]) == ANSWER
        with socket.create_connection(("127.0.0.1", head.port), 10) as again:
            again.settimeout(30)
            heard = b""
            with contextlib.suppress(ConnectionError):
                again.sendall(b"".join(recorded))
            with contextlib.suppress(ConnectionError):
                while more := again.recv(4096):
                    heard += more
        assert len(heard) <= HELLO
        head.serves(nodes=2)
    finally:
        middle.close()
