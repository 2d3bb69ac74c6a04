"""TLS by one flag on one machine: all of it, nobody gets by it, certificates where they are given.
Between machines it is there without being asked: tests/faults/test_faults_tls.py."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import threading

import pytest

DRIVER = """
import skate as ray
ray.init(address="auto")
@ray.remote
def f(x):
    return bytes(x)
print("got", sum(len(ray.get(f.remote(i))) for i in (1, 10, 3000000)), "nodes",
      sum(n["Alive"] for n in ray.nodes()), flush=True)
"""
ALONE = """
import skate as ray
ray.init(num_cpus=1)
@ray.remote
def f(x):
    return x + 1
print("got", ray.get(f.remote(1)), flush=True)
"""


def start(site, *more: str, env: dict[str, str] | None = None) -> str:
    """The address of a new cluster, which the test stops."""
    told = site.skate("start", "--head", "--port=0", "--num-cpus=1",
                      "--node-ip-address=127.0.0.1", *more, env=env).succeeds()  # fmt: skip
    found = re.search(r"127\.0\.0\.1:\d+", told.text())
    assert found, told.text()
    return found[0]


class Wire:
    """Hands bytes on between a node and the control store, and keeps the first of both."""

    def __init__(self, address: str) -> None:
        self.target = int(address.rpartition(":")[2])
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.said: list[dict[bool, bytes]] = []  # by the node, by the control store
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                node = self.listener.accept()[0]
                head = socket.create_connection(("127.0.0.1", self.target), 10)
                self.said.append({True: b"", False: b""})
                for one in ((node, head, True), (head, node, False)):
                    threading.Thread(target=self._pass, args=(*one, self.said[-1]),
                                     daemon=True).start()  # fmt: skip

    @staticmethod
    def _pass(source: socket.socket, to: socket.socket, by_node: bool,
              said: dict[bool, bytes]) -> None:  # fmt: skip
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                said[by_node] += data[: max(0, 100_000 - len(said[by_node]))]
                to.sendall(data)
        for one in (source, to):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def test_one_flag(site):
    """The head demands it: nodes and programs come as ever, and all but the hello is TLS."""
    address = start(site, "--tls")
    key = next(p for p in site.folder.rglob("key") if p.is_file())
    wire = Wire(address)
    try:
        site.skate("start", f"--address={wire.address}", f"--cluster-key-file={key}",
                   "--num-cpus=1").succeeds()  # fmt: skip
        site.python(DRIVER).succeeds(60).expect("^got 3000011 nodes 2$")
        site.skate("status").succeeds()
    finally:
        wire.listener.close()
        site.skate("stop").succeeds(60)
    spoken = [said for said in wire.said if said[True]]  # a probe of the address says nothing
    assert spoken
    for said in spoken:
        assert said[True][:2] == b"\x16\x03", said[True][:60]
        assert said[False][:6] == b"SKATE/" and said[False][8] == 1
        assert b"SKATE/" not in said[True] + said[False][48:]


def test_a_wrong_key_with_tls(site):
    address = start(site, "--tls")
    try:
        wrong = site.folder / "wrong"
        wrong.write_text("ab" * 32)
        program = site.skate("start", f"--address={address}", f"--cluster-key-file={wrong}",
                             "--tls")  # fmt: skip
        assert program.wait(60) == 1
        assert "key is wrong" in program.text(), program.text()
        site.python(DRIVER).succeeds(60).expect("^got 3000011 nodes 1$")
    finally:
        site.skate("stop").succeeds(60)


def test_programs_with_the_variable(site):
    """A session of its own, by either name; a value that is none is said at once."""
    for name in ("SKATE_USE_TLS", "RAY_USE_TLS"):
        site.python(ALONE, env={name: "1"}).succeeds(60).expect("^got 2$")
    program = site.python(ALONE, env={"RAY_USE_TLS": "perhaps"})
    assert program.wait(60) == 1
    assert "RAY_USE_TLS must be 1 or 0" in program.text()
    program = site.python(ALONE, env={"RAY_USE_TLS": "1", "RAY_TLS_CA_CERT": "/nowhere"})
    assert program.wait(60) == 1
    assert "RAY_TLS_SERVER_CERT" in program.text()


@pytest.fixture()
def certificates(site) -> dict[str, str]:
    """The variables that name a certificate, its key and the authority of both."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl command here")

    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=site.folder, check=True, capture_output=True)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(*new, "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
    openssl(*new, "-keyout", "node.key", "-out", "node.csr", "-subj", "/CN=node")
    openssl("x509", "-req", "-in", "node.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", "node.pem", "-days", "2")  # fmt: skip
    return {"RAY_USE_TLS": "1", "RAY_TLS_SERVER_CERT": str(site.folder / "node.pem"),
            "RAY_TLS_SERVER_KEY": str(site.folder / "node.key"),
            "RAY_TLS_CA_CERT": str(site.folder / "ca.pem")}  # fmt: skip


def test_certificates(site, certificates):
    """By Ray's variables: who has the key and no certificate stays outside; so does a bad file."""
    address = start(site, env=certificates)
    try:
        program = site.skate("start", f"--address={address}", "--num-cpus=1")
        assert program.wait(60) == 1
        site.skate("start", f"--address={address}", "--num-cpus=1", env=certificates).succeeds()
        site.python(DRIVER).succeeds(60).expect("^got 3000011 nodes 2$")
    finally:
        site.skate("stop").succeeds(60)
    bad = certificates | {"RAY_TLS_CA_CERT": str(site.folder / "node.key")}
    program = site.skate("start", "--head", "--port=0", "--node-ip-address=127.0.0.1", env=bad)
    assert program.wait(60) == 1
    assert "TLS authority" in program.text(), program.text()
    bad = certificates | {"RAY_TLS_SERVER_CERT": str(site.folder / "nothing")}
    program = site.skate("start", "--head", "--port=0", "--node-ip-address=127.0.0.1", env=bad)
    assert program.wait(60) == 1 and "No such file" in program.text(), program.text()
