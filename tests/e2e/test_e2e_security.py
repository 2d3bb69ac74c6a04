"""Closed by default: the key is seen by nobody, nothing but loopback is bound, and neither a
stranger on a port nor another user of the machine gets in."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from e2e_help import contents, until

SESSION = """
import gc, os, sys, time
import skate as ray
ray.init(num_cpus=2)
from skate._node import Node
key = next(o for o in gc.get_objects() if isinstance(o, Node)).key
with open(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
    file.write(key)
@ray.remote
def f(x):
    print("printed", x)
    return x + 1
@ray.remote
class A:
    def f(self):
        raise ValueError("on purpose")
assert ray.get([f.remote(i) for i in range(4)]) == [1, 2, 3, 4]
a = A.remote()
try:
    ray.get(a.f.remote())
except ValueError as error:
    print(error)
print("ready", flush=True)
for line in sys.stdin:
    pass
while True:
    time.sleep(0.02)
    if os.path.exists(sys.argv[1] + ".go"):
        print("still", ray.get(f.remote(7)), flush=True)
        break
time.sleep(30)
"""


@pytest.fixture()
def session(site):
    """A driver with a plain init(), its work done, and the key of its session."""
    path = site.folder / "told"
    program = site.python(SESSION, str(path))
    program.expect("^ready$")
    return program, path.read_text(), path


def memory_with(pid: int, wanted: list[bytes]) -> list[str]:
    """The regions of a process that hold one of these and would be part of a core dump."""
    found = []
    text = Path(f"/proc/{pid}/smaps").read_text()
    regions = re.findall(
        r"^([0-9a-f]+)-([0-9a-f]+) (r\S+) .*?^VmFlags: ([a-z ]+)$", text, re.DOTALL | re.MULTILINE
    )
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for start, end, _, flags in regions:
            size = int(end, 16) - int(start, 16)
            if "dd" in flags.split() or size > 256 << 20:
                continue
            try:
                memory.seek(int(start, 16))
                data = memory.read(size)
            except (OSError, OverflowError):
                continue
            found += [f"{start}-{end}" for one in wanted if one in data]
    return found


def listening(pids: set[int]) -> dict[int, list[tuple[str, int]]]:
    """(address, port) of each listening TCP socket and each UDP socket of these processes."""
    inodes: dict[str, int] = {}
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = os.readlink(fd)
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes[target[8:-1]] = pid
    found: dict[int, list[tuple[str, int]]] = {}
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, port = fields[1].split(":")
            if fields[9] not in inodes or (table.startswith("tcp") and fields[3] != "0A"):
                continue
            if len(address) == 8:
                address = socket.inet_ntoa(bytes.fromhex(address)[::-1])
            found.setdefault(inodes[fields[9]], []).append((address, int(port, 16)))
    return found


def test_the_key_is_nowhere(site, session):
    program, key, told = session
    assert re.fullmatch("[0-9a-f]{64}", key)
    assert key not in program.text()
    seen = site.processes()
    assert len(seen) >= 5, seen
    for process in seen:
        folder = Path(f"/proc/{process.pid}")
        assert key.encode() not in (folder / "cmdline").read_bytes()
        assert key.encode() not in (folder / "environ").read_bytes()
    ps = subprocess.run(["ps", "axeww"], capture_output=True, text=True, check=False)
    assert key not in ps.stdout
    for path, data in contents(site.folder):
        assert path == told or key.encode() not in data, path
    # Only the driver, whose session it is, may have it in what a core dump would show.
    for process in seen:
        if process.pid != program.pid:
            assert not memory_with(process.pid, [key.encode(), bytes.fromhex(key)]), process


def test_the_key_of_a_cluster_is_in_one_file(site):
    started = site.skate("start", "--head", "--port=0", "--num-cpus=1").succeeds()
    try:
        look_for_the_key(site, started)
        before = site.called("skate-gcs")
        assert len(before) == 1
        os.kill(before[0].pid, signal.SIGKILL)
        until(lambda: after(site, before[0].pid), 30, "the control store is started again")
        look_for_the_key(site, started)
        assert os.stat(f"/proc/{after(site, before[0].pid)}/fd/0").st_size == 0
    finally:
        site.skate("stop").succeeds()


def after(site, pid: int) -> int:
    """The control store that follows that one, when it serves; else 0."""
    found = [p.pid for p in site.called("skate-gcs") if p.pid != pid]
    return found[0] if found and listening(set(found)) else 0


def look_for_the_key(site, started):
    """Everywhere but in its file."""
    files = [p for p in site.folder.rglob("key") if p.is_file()]
    assert len(files) == 1
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600
    key = files[0].read_text().strip()
    status = site.skate("status").succeeds()
    for text in (started.text(), status.text()):
        assert key not in text
    for path, data in contents(site.folder):
        assert path == files[0] or key.encode() not in data, path
    for process in site.processes():
        folder = Path(f"/proc/{process.pid}")
        assert key.encode() not in (folder / "cmdline").read_bytes()
        assert key.encode() not in (folder / "environ").read_bytes()
        assert not memory_with(process.pid, [key.encode(), bytes.fromhex(key)]), process


def test_modes_of_what_lies_on_disk(site, session):
    base = site.folder / f"skate-{os.getuid()}"
    sockets = 0
    for path in [base, *base.rglob("*")]:
        mode = path.lstat().st_mode
        assert not path.is_symlink(), path
        if stat.S_ISDIR(mode):
            assert stat.S_IMODE(mode) == 0o700, path
        else:
            assert stat.S_IMODE(mode) == 0o600, path
        sockets += stat.S_ISSOCK(mode)
    assert sockets == 1


def test_only_loopback_is_bound(site, session):
    ports = listening({p.pid for p in site.processes()})
    everything = [pair for pairs in ports.values() for pair in pairs]
    assert len(everything) == 2, everything  # the raylet's port and the control store's
    assert all(len(pairs) == 1 for pairs in ports.values())
    assert {address for address, _ in everything} == {"127.0.0.1"}


STRANGERS = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "length": b"\xff" * 64,
    "zeros": bytes(4096),
    "pickle": b"\x80\x05\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os.",
    "silence": b"",
}


def test_strangers_at_every_port_hear_nothing(site, session):
    program, _, path = session
    ports = [
        port for pairs in listening({p.pid for p in site.processes()}).values() for _, port in pairs
    ]
    strangers = []
    for port in ports:
        for name, bytes_sent in STRANGERS.items():
            stranger = socket.create_connection(("127.0.0.1", port), 5)
            stranger.settimeout(8)
            stranger.sendall(bytes_sent)
            strangers.append((port, name, stranger))
    for port, name, stranger in strangers:  # the silent ones are cut off after five seconds
        heard = b""
        with stranger, contextlib.suppress(ConnectionError):
            while more := stranger.recv(65536):
                heard += more
        assert len(heard) <= 48, (port, name, heard)  # a hello: magic, flags, 32 random bytes
    Path(f"{path}.go").touch()
    program.expect("^still 8$")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_cannot_connect(site, session):
    program, _, path = session
    found = [p for p in site.folder.rglob("raylet.sock")]
    assert len(found) == 1
    code = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "s.settimeout(5)\n"
        "s.connect(sys.argv[1])\n"
        "print('heard', s.recv(4096))\n"
    )
    command = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        sys.executable,
        "-S",
        "-c",
        code,
        str(found[0]),
    ]
    closed = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert closed.returncode != 0
    assert "heard" not in closed.stdout
    # Even where somebody opened all doors, the peer's credentials decide.
    for folder in found[0].parents:
        if folder == Path("/tmp"):
            break
        folder.chmod(0o755)
    found[0].chmod(0o666)
    python = Path(sys.executable).resolve()
    command[4] = str(python)
    opened = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert "heard b''" in opened.stdout or "ConnectionReset" in opened.stderr, opened
    Path(f"{path}.go").touch()
    program.expect("^still 8$")
