"""Connections between two living nodes are cut again and again: nothing is lost or comes twice.

The sockets of the raylets are shut down from here, through copies of their descriptors.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading

import numpy as np
import pytest

import skate as ray

PIDFD_GETFD = 438  # on every machine that Linux runs on
PATIENCE = 60.0


def connections(pid):
    """(descriptor, port here, port there) of each TCP connection of a process."""
    known = {}
    with open(f"/proc/{pid}/net/tcp") as table:
        for line in table.readlines()[1:]:
            words = line.split()
            if words[3] == "01":
                known[f"socket:[{words[9]}]"] = [int(a.split(":")[1], 16) for a in words[1:3]]
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            at = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue
        if at in known:
            yield int(fd), *known[at]


def cut(pid, but):
    """Shut down its connections, but those with this port. How many."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle, count = os.pidfd_open(pid), 0
    try:
        for fd, *ports in connections(pid):
            copy = -1 if but in ports else libc.syscall(PIDFD_GETFD, handle, fd, 0)
            if copy < 0:
                if but not in ports and ctypes.get_errno() in (1, 38):
                    pytest.skip("this system does not let us at another process's sockets")
                continue
            with socket.socket(fileno=copy) as theirs:
                try:
                    theirs.shutdown(socket.SHUT_RDWR)
                    count += 1
                except OSError:
                    pass  # it was at its end
    finally:
        os.close(handle)
    return count


@pytest.fixture()
def scissors(cluster):
    """Two nodes, connected to; a thread that cuts between them until the test is over."""
    far = cluster.add_node(num_cpus=2, resources={"far": 100})
    cluster.connect()
    gcs = int(cluster.address.rpartition(":")[2])
    over, cuts = threading.Event(), []
    pids = (cluster.head_node.pid, far.pid)

    def work():
        while not over.wait(0.05):
            cuts.extend(pid for pid in pids if cut(pid, gcs))

    cut(far.pid, gcs)  # may we?
    thread = threading.Thread(target=work)
    thread.start()
    yield cuts
    over.set()
    thread.join()


@ray.remote(resources={"far": 0.01}, num_cpus=1)
def twice(i):
    return 2 * i


@ray.remote(resources={"far": 1}, num_cpus=0)
class Counter:
    def __init__(self):
        self.seen = []

    def add(self, i):
        self.seen.append(i)
        return i

    def all(self):
        return self.seen


def test_tasks_and_calls_survive_cut_connections(scissors):
    counter, calls = Counter.remote(), 0
    while len(scissors) < 12:
        refs = [twice.remote(i) for i in range(50)]
        acks = [counter.add.remote(i) for i in range(calls, calls + 50)]
        assert ray.get(refs, timeout=PATIENCE) == [2 * i for i in range(50)]
        assert ray.get(acks, timeout=PATIENCE) == list(range(calls, calls + 50))
        calls += 50
    seen = ray.get(counter.all.remote(), timeout=PATIENCE)
    assert seen == list(range(calls))  # each once, in order


def test_objects_survive_cut_connections(scissors):
    @ray.remote(resources={"far": 0.01}, num_cpus=1)
    def large(seed):
        return np.random.default_rng(seed).integers(0, 255, 8 << 20, dtype=np.uint8)

    seed = 0
    while len(scissors) < 6:
        there = large.remote(seed)
        here = ray.get(there, timeout=PATIENCE)
        assert np.array_equal(here, np.random.default_rng(seed).integers(0, 255, 8 << 20, "uint8"))
        seed += 1
