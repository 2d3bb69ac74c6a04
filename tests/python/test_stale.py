"""What a kill -9 of everything leaves in the temp folder goes when the next session starts."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from skate import _node, _stale


@pytest.fixture()
def dead():
    """The record of a process that is gone."""
    done = subprocess.Popen([sys.executable, "-c", "pass"])
    record = {"pid": done.pid, "start_time": _node.start_time(done.pid), "by": ""}
    done.wait()
    return record


@pytest.fixture()
def refused():
    """A port of loopback at which nobody listens, for as long as the test lasts."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


def folder(base, name, files, age=2 * _stale.QUIET_S):
    made = base / name
    made.mkdir()
    for file, content in files.items():
        (made / file).write_text(json.dumps(content))
    then = os.stat(made).st_mtime - age
    os.utime(made, (then, then))
    return str(made)


def cluster(sock):
    ip, port = sock.getsockname()
    return f"cluster_{ip}_{port}"


def test_a_killed_program_s_cluster_goes(tmp_path, dead, refused):
    path = folder(tmp_path, cluster(refused), {"key": "x", "node_1.json": dead})
    assert _stale.sweep(str(tmp_path)) == [path]
    assert not os.path.exists(path)


def test_one_that_may_live_stays(tmp_path, dead, refused):
    name = cluster(refused)
    living = {"pid": os.getpid(), "start_time": _node.start_time(os.getpid()), "by": ""}
    for files, age in (
        ({"node_1.json": dead, "node_2.json": living}, 2 * _stale.QUIET_S),
        ({"node_1.json": {**dead, "by": _node.BY_START}}, 2 * _stale.QUIET_S),
        ({"node_1.json": "cut off"}, 2 * _stale.QUIET_S),
        ({"key": "x"}, 2 * _stale.QUIET_S),
        ({"node_1.json": dead}, 0),
    ):
        path = folder(tmp_path, name, files, age)
        assert _stale.sweep(str(tmp_path)) == [], files
        _node.remove_tree(path)
    refused.listen()  # its control store
    folder(tmp_path, name, {"node_1.json": dead})
    assert _stale.sweep(str(tmp_path)) == []


def test_sessions_without_a_store(tmp_path, dead):
    name = "session_999999999"  # short: a socket lies there
    path = folder(tmp_path, name, {"gcs.pids": dead["pid"]})
    assert _stale.sweep(str(tmp_path)) == [path]
    sleeper = tmp_path / "skate-gcs"
    shutil.copy(shutil.which("sleep"), sleeper)
    store = subprocess.Popen([str(sleeper), "600"])
    try:
        comm = Path(f"/proc/{store.pid}/comm")  # the kernel writes it at the end of an exec
        while comm.read_text().strip() != "skate-gcs":
            assert store.poll() is None
        folder(tmp_path, name, {"gcs.pids": store.pid})
        assert _stale.sweep(str(tmp_path)) == []
    finally:
        store.kill()
        store.wait()
