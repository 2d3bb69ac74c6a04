"""Nodes come when something waits and go when they are idle: real raylets on this machine."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from e2e_help import eventually

import skate as ray
from skate import _node
from skate.autoscaler import _provider, _start
from skate.autoscaler._config import NodeType
from skate.autoscaler.sdk import request_resources
from skate.cluster_utils import AutoscalingCluster, Cluster
from skate.util import placement_group, remove_placement_group

PATIENCE = 45.0


@pytest.fixture
def cluster():
    made = AutoscalingCluster(
        {"CPU": 1}, {"small": {"resources": {"CPU": 2, "special": 1}, "max_workers": 2}},
        idle_timeout_minutes=0.02, max_workers=2,
    )  # fmt: skip
    made.start()
    ray.init(address=made.address)
    yield made
    ray.shutdown()
    made.shutdown()


def workers():
    return [n for n in ray.nodes() if n["Alive"] and n["Labels"].get("ray.io/node-group")]


@ray.remote(num_cpus=1, resources={"special": 0.5})
def where():
    return ray.get_runtime_context().get_node_id()


def test_tasks_bring_nodes_and_idle_ones_go(cluster):
    assert workers() == []
    found = ray.get([where.remote() for _ in range(4)], timeout=PATIENCE)
    assert set(found) <= {n["NodeID"] for n in ray.nodes()}
    assert eventually(lambda: workers() == [], PATIENCE)
    assert ray.get(where.remote(), timeout=PATIENCE)  # and again


def test_objects_keep_their_node(cluster):
    @ray.remote(num_cpus=1, resources={"special": 0.5}, max_retries=0)
    def make():
        return np.ones(1 << 18)

    kept = make.remote()
    ray.wait([kept], timeout=PATIENCE, fetch_local=False)
    request_resources(num_cpus=5)  # one more node, which nothing needs
    assert eventually(lambda: len(workers()) == 2, PATIENCE)
    request_resources(num_cpus=0)
    assert eventually(lambda: len(workers()) == 1, PATIENCE)
    assert ray.get(kept, timeout=PATIENCE).sum() == 1 << 18
    del kept
    gc.collect()  # the test's own frames may hold it
    assert eventually(lambda: workers() == [], PATIENCE)


def test_groups_and_actors_bring_nodes(cluster):
    group = placement_group([{"special": 1}] * 2, strategy="STRICT_SPREAD")
    assert group.wait(PATIENCE)
    assert len(workers()) == 2
    remove_placement_group(group)
    assert eventually(lambda: workers() == [], PATIENCE)

    @ray.remote(resources={"special": 1})
    class Held:
        def node(self):
            return ray.get_runtime_context().get_node_id()

    actor = Held.remote()
    assert ray.get(actor.node.remote(), timeout=PATIENCE) in {w["NodeID"] for w in workers()}


def test_a_node_that_outlives_the_autoscaler_is_ended_in_order():
    cluster = Cluster(initialize_head=True, connect=True)
    try:
        nodes = _provider.LocalProvider(_node.base_dir(), cluster.address, cluster._key, True)
        nodes.end(nodes.start(NodeType("brief", {"CPU": 1.0})))
        [gone] = eventually(lambda: [n for n in ray.nodes() if not n["Alive"]])
        assert gone["DeathReasonMessage"].startswith("it ended: it was told to")
        said = skate("status", "--address", cluster.address, env=command_env()).stdout
        assert "brief" not in said and "(no failures)" in said
    finally:
        cluster.shutdown()


def command_env(**more):
    return {**os.environ, **more,
            "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}  # fmt: skip


def skate(*args, env, check=True):
    done = subprocess.run(["skate", *args], env=env, capture_output=True, text=True, timeout=60)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture
def short():
    """A folder with a short path, for sockets."""
    path = tempfile.mkdtemp(prefix="sk", dir="/tmp")
    yield Path(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def up(short):
    """skate up of a file with one worker; its environment, the file, the cluster's address."""
    env = command_env(SKATE_TMPDIR=str(short))
    file = short / "cluster.json"
    file.write_text(json.dumps({
        "cluster_name": "mine", "max_workers": 2, "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 1}},
            "worker": {"resources": {"CPU": 1, "there": 1}, "min_workers": 1, "max_workers": 2},
        },
    }))  # fmt: skip
    try:
        said = skate("up", str(file), "--port", "0", env=env).stdout
        yield env, file, said.split("started at ")[1].split()[0].rstrip(".")
    finally:
        skate("stop", env=env)


def test_the_autoscaler_outlives_the_nodes(up, short):
    env, file, address = up
    base = _node.base_dir(str(short))
    assert eventually(lambda: len(_node.cluster_nodes(base, address)) == 2, PATIENCE)
    monitor = _start.clusters(base)["mine"]
    killed = _node.cluster_nodes(base, address)
    for record in killed:
        os.kill(record["pid"], signal.SIGKILL)
    assert eventually(lambda: not any(_node.is_alive(record) for record in killed), PATIENCE)
    assert eventually(lambda: _node.cluster_nodes(base, address), PATIENCE)  # it makes another
    assert _node.is_alive(monitor)
    again = skate("up", str(file), "--port", "0", env=env, check=False)
    assert again.returncode == 1 and "runs already" in again.stderr
    assert "of mine" in skate("down", str(file), env=env).stdout
    assert eventually(lambda: not _node.is_alive(monitor), PATIENCE)


def test_up_and_down(up, short):
    env, file, address = up
    try:
        again = skate("up", str(file), "--port", "0", env=env, check=False)
        assert again.returncode == 1 and "runs already" in again.stderr
        assert eventually(
            lambda: " worker (" in skate("status", "--address", address, env=env).stdout, PATIENCE
        )
        base = _node.base_dir(str(short))
        monitor = _start.clusters(base)["mine"]["pid"]
        pids = [r["pid"] for r in _node.cluster_nodes(base, address)]
        assert len(pids) == 2
        os.kill(monitor, signal.SIGKILL)  # nodes stay, and `down` finds them all the same
    finally:
        ended = skate("down", str(file), env=env)
    assert "Stopped 3 daemon(s) of mine" in ended.stdout
    assert eventually(lambda: not any(_node.start_time(pid) for pid in pids), PATIENCE)
    assert "No cluster mine" in skate("down", str(file), env=env).stdout
