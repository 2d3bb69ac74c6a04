"""The log of a head in a real Redis server: kills of both, wrong passwords, a second head."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess

import pytest
from e2e_help import until
from test_head import PROGRAM, kill_both, pids, turn

PASSWORD = "of-the-test-only"


class Redis:
    """A server in a folder; Debian's redis-tools hold its program, under another name."""

    def __init__(self, folder):
        self.program = shutil.which("redis-server") or shutil.which("redis-check-rdb")
        if not self.program:
            pytest.skip("no Redis here (Debian: redis-tools)")
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.start()

    def start(self):
        self.popen = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir",
             str(self.folder), "--appendonly", "yes", "--appendfsync", "always", "--save", "",
             "--requirepass", PASSWORD],
            executable=self.program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until(self.answers, 30, "Redis listens")

    def answers(self):
        try:
            return self.command("PING")
        except OSError:
            return None

    def command(self, *words):
        with socket.create_connection(("127.0.0.1", self.port), 10) as s:
            for line in (("AUTH", PASSWORD), words):
                parts = "".join(f"${len(w)}\r\n{w}\r\n" for w in line)
                s.sendall(f"*{len(line)}\r\n{parts}".encode())
                got = s.recv(65536).decode(errors="replace")
            return got

    def kill(self):
        self.popen.kill()
        self.popen.wait()


@pytest.fixture()
def redis(site, tmp_path):
    made = Redis(tmp_path)
    yield made
    site.skate("stop").wait(20)
    made.kill()


def start_head(site, redis, *more, password=PASSWORD, port=0):
    return site.skate("start", "--head", f"--port={port}", "--num-cpus=2",
                      "--node-ip-address=127.0.0.1", f"--redis-address={redis.address}",
                      f"--redis-password={password}", *more)


def address_of(program):
    found = re.search(r"(\d+\.\d+\.\d+\.\d+:\d+)", "\n".join(program.succeeds().out))
    assert found, program.text()
    return found[1]


def epoch_of(redis):
    return int(redis.command("GET", "skate:{default}:epoch").split()[1])


def test_kills_of_the_control_store_and_of_the_head(site, redis):
    address = address_of(start_head(site, redis))
    program = site.python(PROGRAM + """
a = Counter.options(name="a", lifetime="detached").remote()
for i in range(1, 4):
    assert ray.get(a.add.remote()) == i
    turn(f"kill{i}")
    b = Counter.remote()
    assert ray.get(b.add.remote(), timeout=60) == 1
print("well")
""", address, str(site.folder))
    for i in range(1, 4):
        turn(site, program, f"kill{i}", lambda: os.kill(pids(site)[1], signal.SIGKILL))
    program.succeeds().expect("well")
    for raylet in site.raylets():
        os.kill(raylet.pid, signal.SIGKILL)
    kill_both(site)
    start_head(site, redis, port=address.rpartition(":")[2]).succeeds().expect("goes on")
    site.python(PROGRAM + "print('n', ray.get(ray.get_actor('a').add.remote(), timeout=60))",
                address).succeeds().expect("n 1")


def test_redis_is_killed_and_comes_back(site, redis):
    """Changes wait, or are refused with the reason; what runs goes on."""
    address = address_of(start_head(site, redis))
    program = site.python(PROGRAM + """
a = Counter.options(name="a", lifetime="detached").remote()
assert ray.get(a.add.remote()) == 1
turn("away")
refused = False
while not refused:
    try:
        ray.get(Counter.remote().add.remote(), timeout=1)
    except ray.exceptions.GetTimeoutError:
        pass
    except ray.exceptions.RayError as error:
        refused = "Redis" in str(error)
assert ray.get(a.add.remote()) == 2 and ray.get(f.remote(1)) == 2
turn("back")
while True:
    try:
        assert ray.get(Counter.remote().add.remote(), timeout=60) == 1
        break
    except ray.exceptions.ActorDiedError:
        time.sleep(0.05)
print("well")
""", address, str(site.folder))
    turn(site, program, "away", redis.kill)
    turn(site, program, "back", redis.start)
    program.succeeds(60).expect("well")


def test_redis_comes_back_empty(site, redis):
    """The control store has all that was lost, and writes it anew."""
    address = address_of(start_head(site, redis))
    program = site.python(PROGRAM + """
for i in range(4):
    a = Counter.options(name=f"a{i}", lifetime="detached").remote()
    assert ray.get(a.add.remote()) == 1
    turn(f"turn{i}")
names = [ray.get(ray.get_actor(f"a{i}").add.remote(), timeout=60) for i in range(4)]
print("well", names)
""", address, str(site.folder))

    def empty():
        redis.kill()
        shutil.rmtree(redis.folder / "appendonlydir")
        redis.start()

    acts = [
        empty,
        lambda: redis.command("DEL", "skate:{default}:log"),
        lambda: redis.command("SET", "skate:{default}:seq", "1"),  # as from an old snapshot
        lambda: os.kill(pids(site)[1], signal.SIGKILL),
    ]
    for i, act in enumerate(acts):
        turn(site, program, f"turn{i}", act)
    program.succeeds(60).expect(r"well \[2, 2, 2, 2\]")


def test_a_wrong_password_and_a_missing_server(site, redis):
    wrong = start_head(site, redis, password="wrong")
    assert wrong.wait(60) == 1
    wrong.expect("refuses us.*--redis-password", stream="err")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        nobody_there = site.skate("start", "--head", "--port=0", "--num-cpus=1",
                                  f"--redis-address=127.0.0.1:{nobody.getsockname()[1]}")
        assert nobody_there.wait(60) == 1
    nobody_there.expect("Redis at 127.0.0.1:.*refused", stream="err")
    for program in (wrong, nobody_there):
        assert "Traceback" not in program.text()


def test_the_later_of_two_heads_wins(site, redis):
    """They have one name in Redis. The earlier ends at its next change, and its keeper with it."""
    first = address_of(start_head(site, redis))
    pair, epoch = pids(site), epoch_of(redis)
    second = address_of(start_head(site, redis))
    assert first != second
    assert epoch_of(redis) > epoch
    site.python(PROGRAM + "print('got', ray.get(f.remote(1)))", second).succeeds().expect("got 2")
    late = site.python(PROGRAM + "print('got', ray.get(f.remote(1)))", first)
    until(lambda: not any(p.pid in pair for p in site.processes()), 60, "the first head's end")
    late.close()
    site.python(PROGRAM + "print('got', ray.get(f.remote(1)))", second).succeeds().expect("got 2")


def test_damaged_rows_are_said(site, redis):
    address = address_of(start_head(site, redis))
    for raylet in site.raylets():
        os.kill(raylet.pid, signal.SIGKILL)
    kill_both(site)
    redis.command("HSET", "skate:{default}:log", "\x01nonsense", "of somebody else's making")
    refused = start_head(site, redis, port=address.rpartition(":")[2])
    assert refused.wait(60) == 1
    refused.expect("damaged.*--recover", stream="err")
    address = address_of(start_head(site, redis, "--recover", port=address.rpartition(":")[2]))
    site.python(PROGRAM + "print('got', ray.get(f.remote(1)))", address).succeeds().expect("got 2")
