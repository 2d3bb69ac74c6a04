"""The rig's own faults are what they say: datagrams between machines are counted and timed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time

import netns
import pytest
from rig import until

PORT = 5005


class Wire:
    """Numbered datagrams from one machine to another."""

    def __init__(self, net, source, target):
        with net.inside(target):
            self.ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.ear.bind((net.ip(target), 0))
        with net.inside(source):
            self.mouth = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.mouth.connect(self.ear.getsockname())

    def say(self, count):
        for number in range(count):
            self.mouth.send(b"%d" % number)

    def hear(self, expected=1 << 30, silence=1.0):
        """The numbers that come: as many as expected, and what more there is; or until silence."""
        heard = []
        while True:
            self.ear.settimeout(10.0 if len(heard) < expected < 1 << 30 else silence)
            try:
                heard.append(int(self.ear.recv(100)))
            except TimeoutError:
                return heard
            silence = 0.1 if len(heard) >= expected else silence

    def works(self):
        self.say(1)
        return self.hear(1) == [0]

    def is_dead(self):
        self.say(3)
        return self.hear(silence=0.3) == []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ear.close()
        self.mouth.close()


@pytest.mark.parametrize("switched", [False, True], ids=["bridge", "switch"])
def test_cuts_are_one_way_or_both(nets, switched):
    net = nets(3, switched)
    with Wire(net, 1, 2) as there, Wire(net, 2, 1) as back, Wire(net, 1, 3) as else_:
        assert there.works() and back.works() and else_.works()
        net.drop(1, 2)
        assert there.is_dead() and back.works() and else_.works()
        net.heal()
        assert there.works()
        net.cut(1, 2)
        assert there.is_dead() and back.is_dead() and else_.works()
        net.isolate(1)
        assert else_.is_dead()
        net.heal()
        assert there.works() and back.works() and else_.works()


def test_a_bridge_loses_what_it_should(nets):
    net = nets(2)
    with Wire(net, 1, 2) as wire:
        net.loss(50)
        wire.say(400)
        assert 100 < len(wire.hear()) < 300  # 200 +- 10 standard deviations
        net.heal()
        wire.say(100)
        assert wire.hear(100) == list(range(100))


def test_a_switch_loses_doubles_and_reorders(nets):
    net = nets(2, switched=True)
    with Wire(net, 1, 2) as wire, Wire(net, 2, 1) as back:
        net.shape(1, 2, loss=50)
        wire.say(400)
        assert 100 < len(wire.hear()) < 300
        assert back.works()
        net.shape(1, 2, dup=100)
        wire.say(100)
        assert sorted(wire.hear(200)) == sorted([*range(100), *range(100)])
        net.shape(reorder=30)
        wire.say(200)
        heard = wire.hear(200)
        assert heard != sorted(heard) and sorted(heard) == list(range(200))
        net.heal()
        wire.say(100)
        assert wire.hear(100) == list(range(100))
    stats = net.stats()
    assert stats["lost"] > 100 and stats["doubled"] >= 100 and stats["behind"] > 20


def test_a_switch_delays(nets):
    net = nets(2, switched=True)
    with Wire(net, 1, 2) as wire:
        net.shape(delay_ms=150, jitter_ms=50)
        begun = time.monotonic()
        wire.say(50)
        heard = wire.hear(50)
        assert time.monotonic() - begun > 0.15  # the last of fifty, and a moment of silence
        assert heard == list(range(50))  # jitter alone does not reorder


def test_bandwidth_is_bounded(nets):
    net = nets(2)
    net.bandwidth(1, 8_000_000)
    with net.inside(2):
        server = socket.create_server((net.ip(2), 0))
    with net.inside(1):
        client = socket.create_connection(server.getsockname())
    peer, _ = server.accept()
    size = 400_000
    with server, client, peer:
        begun = time.monotonic()
        thread = threading.Thread(target=client.sendall, args=(bytes(size),))
        thread.start()
        while size > 0:
            size -= len(peer.recv(1 << 20))
        thread.join()
        assert time.monotonic() - begun > 0.25  # 0.33 s less what the bucket holds at first


def test_nothing_is_left(nets):
    net = nets(2)
    names = {*net.names.values(), net.middle}
    assert names <= set(os.listdir(netns.FOLDER))
    net.close()
    assert not names & set(os.listdir(netns.FOLDER))


def test_what_a_killed_run_has_left_is_removed(nets, tmp_path):
    program = subprocess.run(
        [sys.executable, "-c", "import netns, os, pathlib, sys; n = netns.Net(pathlib.Path('.'));"
         "n.add(1); print(n.stem, flush=True); os.kill(os.getpid(), 9)"],
        cwd=os.path.dirname(netns.__file__), stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    stem = program.stdout.strip()
    assert any(name.startswith(stem) for name in os.listdir(netns.FOLDER))
    netns.sweep()
    until(lambda: not any(n.startswith(stem) for n in os.listdir(netns.FOLDER)), "swept")


def test_wrong_commands_are_refused(nets):
    net = nets(1, switched=True)
    assert net.switch
    for line in ("add 1 /run/netns/none", "add 64 /", "add x /", "set 1", "set 1 2 loss=x",
                 "set 1 2 loss=-1", "set 1 2 speed=1", "remove 7", "fly", "add 2 /nowhere"):
        with pytest.raises(RuntimeError, match="shaper: "):
            net.switch.say(line)
    assert net.stats()["lost"] == 0
