"""Between machines there is TLS 1.3 without being asked: what a wire tap sees, who is refused."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
import rig as rigs

HELLO = 48  # bytes of an acceptor's clear hello: src/net/handshake.h
ETH_P_IP = 0x0800
SO_RCVBUFFORCE = 33


class Tap:
    """Every TCP payload that a machine's interface carries."""

    def __init__(self, rig: rigs.Rig, machine: rigs.Machine) -> None:
        with rig.net.inside(machine.port):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self.socket.settimeout(0.2)
        self.stop = threading.Event()
        self.flows: dict[tuple[bytes, bytes, int, int], dict[int, bytes]] = {}
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.stop.is_set():
            try:
                packet, where = self.socket.recvfrom(1 << 16)
            except TimeoutError:
                continue
            if where[0] == "lo" or packet[23] != 6:
                continue
            ip = packet[14 : 14 + int.from_bytes(packet[16:18], "big")]
            tcp = ip[(ip[0] & 15) * 4 :]
            payload = tcp[(tcp[12] >> 4) * 4 :]
            if payload:
                key = (ip[12:16], ip[16:20], *(int.from_bytes(tcp[i : i + 2], "big")
                                               for i in (0, 2)))  # fmt: skip
                number = int.from_bytes(tcp[4:8], "big")
                self.flows.setdefault(key, {})[number] = payload

    def seen(self) -> list[bytes]:
        """The first 64 KB and more of each direction of each connection that began meanwhile."""
        self.stop.set()
        self.thread.join()
        self.socket.close()
        out = []
        for parts in self.flows.values():
            first = next(iter(parts))  # numbers go round at 2**32
            numbers = sorted(parts, key=lambda n, first=first: (n - first) & 0xFFFFFFFF)
            out.append(b"".join(parts[n] for n in numbers))
        return out


@pytest.mark.timeout(120)
def test_machines_speak_tls(namespaces):
    """Join, tasks, an object of 3 MB: the hello is all that is clear."""
    with rigs.Rig() as rig:
        head = rig.start(num_cpus=0)
        tap = Tap(rig, head)
        rig.add_node(num_cpus=1)
        ray = rig.connect()

        @ray.remote
        def make(x: int) -> Any:
            return b"a secret that the wire shall not tell " * 80_000

        assert all(len(ray.get(make.remote(i))) == 80_000 * 38 for i in range(2))
        streams = tap.seen()
    assert len(streams) >= 4
    assert sum(map(len, streams)) > 1_000_000
    hellos = 0
    for stream in streams:
        assert b"secret" not in stream
        if stream.startswith(b"SKATE/"):
            hellos += 1
            assert stream[8] & 1, "the acceptor demands TLS"
            stream = stream[HELLO:]
        assert b"SKATE/" not in stream
        assert stream[:2] in (b"\x16\x03", b""), stream[:40]  # a TLS handshake, and nothing else
    assert hellos * 2 >= len(streams) - 1


@pytest.mark.timeout(120)
def test_a_wrong_key_between_machines(namespaces):
    """It is refused for what it is, and the cluster goes on."""
    with rigs.Rig() as rig:
        rig.start(num_cpus=1)
        right, rig.key = rig.key, "ab" * 32
        with pytest.raises(Exception, match="key"):
            rig.add_node(num_cpus=1)
        rig.key = right
        rig.add_node(num_cpus=1)
