"""Memory that runs out: the task that took it is ended, named and tried again; nobody else is.

The limit is that of the session (memory_limit_bytes), so that nothing depends on what else this
machine does; once it is that of a real cgroup, where one can be made.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from e2e_help import eventually

import skate as ray
from skate import _core, _wire, exceptions
from skate.cluster_utils import Cluster

MB = 1_000_000
LIMIT = 500 * MB


@pytest.fixture
def node():
    """A function that starts a session with such a limit and these settings."""
    ray.shutdown()

    def start(cpus=2, store=80 * MB, **system):
        config = {"memory_limit_bytes": LIMIT, "memory_monitor_refresh_ms": 50,
                  "task_oom_retry_delay_base_ms": 10, **system}  # fmt: skip
        ray.init(num_cpus=cpus, object_store_memory=store, _system_config=config)

    yield start
    ray.shutdown()


def take(mbytes):
    """Memory that is really there, step by step."""
    return [bytearray(b"x" * 10 * MB) for _ in range(mbytes // 10)]


def wait_for(path):
    """For what the test, or another task, has done."""
    while not os.path.exists(path):
        time.sleep(0.005)


@ray.remote
def hog(note=None, stop=None):
    """More than there is, until it is ended (or `stop` is there)."""
    if note:
        with open(note, "a") as file:
            file.write("x")
    held = []
    while not (stop and os.path.exists(stop)):
        if len(held) < 150:
            held.append(take(10))
        time.sleep(0.002)
    return len(held)


@ray.remote(max_retries=0)
def small(mbytes, until):
    held = take(mbytes)
    wait_for(until)
    return len(held)


@ray.remote
class Holder:
    def __init__(self, mbytes=0, note=None):
        if note:
            with open(note, "a") as file:
                file.write("x")
        self.held = take(mbytes)

    def more(self, mbytes, once=None):
        if once and os.path.exists(once):
            return "again"
        if once:
            Path(once).touch()
        self.held += take(mbytes)
        if mbytes:
            time.sleep(60)
        return len(self.held)

    def pid(self):
        return os.getpid()


def lines(path):
    return len(path.read_text()) if path.exists() else 0


def store_stats():
    raylet = _core.info()["proc"] >> 32 << 32
    return _wire.parse(_core.call(raylet, _wire.build("store_stats_req"), 10.0))[1]


def daemons():
    node = ray.nodes()[0]
    assert node["Alive"]
    return [d.pid for d in (ray._api._session.node.raylet, ray._api._session.node.gcs)]


def test_the_task_that_grows_is_ended_and_named(node, tmp_path, capfd):
    node(4)
    before = daemons()
    holder = Holder.remote(40)
    assert ray.get(holder.more.remote(0)) == 4
    others = [small.remote(30, str(tmp_path / "go")) for _ in range(3)]
    with pytest.raises(exceptions.OutOfMemoryError) as caught:
        ray.get(hog.options(max_retries=0).remote())
    text = caught.value.message
    assert text == str(caught.value)
    assert "Task hog was killed due to the node running low on memory" in text
    assert re.search(r"It held \d+ MB of its own, \d+ MB of it taken lately, in worker process "
                     r"\d+ on node 1 \(127", text)  # fmt: skip
    assert re.search(r"\d+ MB used of 500 MB \(\d+\.\d %\), more than the threshold of 475 MB "
                     r"\(95.0 %\)", text)  # fmt: skip
    assert re.search(r"Most of it: \d+ MB this one \(pid \d+\); \d+ MB (small|Holder.more) \(pid",
                     text)  # fmt: skip
    assert "object store" in text and "memory_usage_threshold" in text
    (tmp_path / "go").touch()
    assert ray.get(others) == [3, 3, 3]
    assert ray.get(holder.more.remote(0)) == 4
    assert daemons() == before
    # The driver's terminal has it at once.
    seen = []

    def told():
        seen.append(capfd.readouterr().err)
        return "warning: Task hog was killed" in "".join(seen)

    assert eventually(told)


def test_it_is_tried_again_when_others_had_their_part(node, tmp_path):
    node()
    tries = tmp_path / "tries"

    @ray.remote(max_retries=1)
    def half():
        with open(tries, "a") as file:
            file.write("x")
        held = take(300)
        while lines(tries) < 3:  # until one of the two was ended, and tried again
            time.sleep(0.005)
        return len(held)

    assert ray.get([half.remote(), half.remote()]) == [30, 30]
    assert lines(tries) >= 3


def test_how_often_is_counted_apart(node, tmp_path):
    node(task_oom_retries=2)
    with pytest.raises(exceptions.OutOfMemoryError):
        ray.get(hog.options(max_retries=-1).remote(str(tmp_path / "a")))
    assert lines(tmp_path / "a") == 3


def test_what_can_never_fit_uses_max_retries(node, tmp_path):
    node()
    with pytest.raises(exceptions.OutOfMemoryError, match="nearly to itself: it needs more than"):
        ray.get(hog.options(max_retries=1).remote(str(tmp_path / "a")))
    assert lines(tmp_path / "a") == 2


def test_a_pause_can_be_cancelled_and_asked_about(node, tmp_path):
    node(task_oom_retry_delay_base_ms=60_000)
    ref = hog.remote(str(tmp_path / "a"))

    def told():
        with pytest.raises(exceptions.GetTimeoutError) as caught:
            ray.get(ref, timeout=0.05)
        return "ended for want of memory" in str(caught.value)

    assert eventually(told)
    ray.cancel(ref)
    with pytest.raises(exceptions.TaskCancelledError):
        ray.get(ref, timeout=30)
    assert lines(tmp_path / "a") == 1


def test_an_actor_is_ended_with_the_reason(node):
    node()
    actor = Holder.remote()
    call = actor.more.remote(600)
    with pytest.raises(exceptions.OutOfMemoryError, match="Actor Holder.more was killed") as caught:
        ray.get(call)
    assert isinstance(caught.value, exceptions.ActorDiedError)
    with pytest.raises(exceptions.ActorDiedError, match="running low on memory"):
        ray.get(actor.pid.remote())
    with pytest.raises(exceptions.OutOfMemoryError):  # in its constructor
        ray.get(Holder.remote(600).pid.remote())


def test_an_actor_is_made_again(node, tmp_path):
    node()
    actor = Holder.options(max_restarts=1).remote(0, str(tmp_path / "lives"))
    call = actor.more.remote(600)
    with pytest.raises(exceptions.OutOfMemoryError) as caught:
        ray.get(call)
    assert isinstance(caught.value, exceptions.ActorUnavailableError)
    assert eventually(lambda: lines(tmp_path / "lives") == 2)
    assert ray.get(actor.more.remote(0)) == 0
    actor = Holder.options(max_restarts=1, max_task_retries=1).remote()
    assert ray.get(actor.more.remote(600, str(tmp_path / "once"))) == "again"


def test_memory_is_a_limit_when_asked_for(node, tmp_path):
    node(memory_limit_bytes=0, enforce_task_memory=True)
    limited = hog.options(memory=100 * MB, max_retries=1)
    inside = small.options(memory=100 * MB).remote(60, str(tmp_path / "go"))
    with pytest.raises(exceptions.OutOfMemoryError) as caught:
        ray.get(limited.remote(str(tmp_path / "a")))
    assert "killed due to its use of more memory than it asked for" in str(caught.value)
    assert "its limit is memory=100000000 (100 MB)" in str(caught.value)
    assert lines(tmp_path / "a") == 2  # max_retries, not more
    actor = Holder.options(memory=100 * MB).remote(30)
    with pytest.raises(exceptions.OutOfMemoryError, match="its limit is memory="):
        ray.get(actor.more.remote(300))
    (tmp_path / "go").touch()
    assert ray.get(inside) == 6


def test_memory_is_no_limit_otherwise(node, tmp_path):
    node(memory_limit_bytes=0)
    (tmp_path / "go").touch()
    assert ray.get(small.options(memory=10 * MB).remote(60, str(tmp_path / "go"))) == 6


def test_an_idle_worker_goes_first(node, tmp_path):
    node(idle_worker_killing_memory_threshold_bytes=100 * MB)

    @ray.remote(runtime_env={"env_vars": {"KEEPER": "1"}})
    def leave_behind():
        ray.left = take(250)
        return os.getpid()

    pid = ray.get(leave_behind.remote())
    working = small.remote(300, str(tmp_path / "go"))
    assert eventually(lambda: not os.path.exists(f"/proc/{pid}"))
    (tmp_path / "go").touch()
    assert ray.get(working) == 30


@pytest.mark.parametrize("store", [False, True])
def test_nobody_is_ended_in_vain(node, capfd, store):
    """Nobody holds enough, or the object store is what grew: that is said, and nothing done."""
    limit = 300 * MB if store else 100_000
    node(store=200 * MB, memory_limit_bytes=limit, memory_usage_threshold=0.5,
         automatic_object_spilling_enabled=False)  # fmt: skip
    holder = Holder.remote(20 if store else 0)
    pid = ray.get(holder.pid.remote())
    kept = ray.put(b"x" * 130 * MB) if store else None
    seen = []

    def told():
        seen.append(capfd.readouterr().err)
        return "is running low on memory, and " in "".join(seen)

    assert eventually(told), seen
    what = r"the object store that has grown, to \d+ MB" if store else "no worker holds enough"
    assert re.search(what, "".join(seen))
    assert ray.get(holder.pid.remote()) == pid
    del kept


def test_the_store_makes_room(node):
    """It is what grew: objects go to a file, the worker that holds its data stays."""
    node(store=200 * MB, memory_limit_bytes=300 * MB, memory_usage_threshold=0.5)
    holder = Holder.remote(20)
    pid = ray.get(holder.pid.remote())
    kept = [ray.put(bytes([i]) * 13 * MB) for i in range(10)]
    assert eventually(lambda: store_stats()["spilled"] > 0)
    assert all(ray.get(ref)[::MB] == bytes([i]) * 13 for i, ref in enumerate(kept))
    assert ray.get(holder.pid.remote()) == pid


def test_the_kernel_would_take_a_worker_first(node):
    node()
    holder = Holder.remote()
    worker = ray.get(holder.pid.remote())
    assert Path(f"/proc/{worker}/oom_score_adj").read_text().strip() == "1000"
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert all(int(Path(f"/proc/{pid}/oom_score_adj").read_text()) <= own for pid in daemons())


def test_workloads_of_all_kinds(node, tmp_path):
    """Small tasks, actors that hold something, one that takes too much: that one, each time."""
    node(6)
    pick = random.Random(6)
    for turn in range(4):
        go = tmp_path / f"go{turn}"
        actors = [Holder.remote(pick.randrange(10, 50)) for _ in range(pick.randrange(1, 3))]
        ray.get([a.pid.remote() for a in actors])
        calm = [small.remote(pick.randrange(10, 50), str(go)) for _ in range(pick.randrange(1, 3))]
        if pick.random() < 0.5:
            name, bad = "Task hog", hog.options(max_retries=0).remote()
        else:
            name, bad = "Actor Holder.more", Holder.remote().more.remote(600)
        with pytest.raises(exceptions.OutOfMemoryError, match=f"{name} was killed"):
            ray.get(bad)
        go.touch()
        assert all(ray.get(calm)) and ray.get([a.pid.remote() for a in actors])
        for actor in actors:
            ray.kill(actor)


def test_a_task_on_another_node(tmp_path):
    """Its owner here hears why it was ended there, tries again, and then says it."""
    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1, resources={"there": 1}, object_store_memory=80 * MB,
                         _system_config={"memory_limit_bytes": LIMIT,
                                         "memory_monitor_refresh_ms": 50})  # fmt: skip
        ray.init(cluster.address, _system_config={"task_oom_retries": 1,
                                                  "task_oom_retry_delay_base_ms": 10})  # fmt: skip
        there = {"resources": {"there": 1}}
        with pytest.raises(exceptions.OutOfMemoryError, match="Task hog was killed") as caught:
            ray.get(hog.options(**there).remote(str(tmp_path / "a")))
        assert "on node 2 (" in str(caught.value)
        assert lines(tmp_path / "a") == 2
        actor = Holder.options(**there).remote()
        with pytest.raises(exceptions.OutOfMemoryError, match="Holder.more was killed"):
            ray.get(actor.more.remote(600))
    finally:
        ray.shutdown()
        cluster.shutdown()


# --------------------------------------------------------------------------- a real cgroup


@contextmanager
def cgroup(limit):
    """A group of this process's own group with a memory limit; skips where none can be made."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = {names: path for _, names, path in (line.split(":", 2) for line in lines)}
    v1 = next((n for n in own if "memory" in n.split(",")), None)
    root = "/sys/fs/cgroup/memory" if v1 else "/sys/fs/cgroup"
    parent = Path(root + (own[v1] if v1 else own.get("", "/")))
    group = parent / f"skate-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    try:
        try:
            (group / ("memory.limit_in_bytes" if v1 else "memory.max")).write_text(str(limit))
        except OSError as error:
            pytest.skip(f"no cgroup here may have a memory limit: {error}")
        yield group
    finally:
        assert eventually(lambda: _removed(group))


def _removed(group):
    try:
        group.rmdir()
    except OSError:
        return False
    return True


PROGRAM = """
    import os, time
    with open(os.path.join({group!r}, "cgroup.procs"), "w") as file:
        file.write(str(os.getpid()))
    import skate as ray
    ray.init(num_cpus=2, object_store_memory=80_000_000,
             _system_config={{"memory_usage_threshold": 0.75}})
    @ray.remote(max_retries=0)
    def hog():
        held = [bytearray(b"x" * 200_000_000)]
        while True:
            held.append(bytearray(b"x" * 2_000_000))
            time.sleep(0.02)
    try:
        ray.get(hog.remote())
    except ray.exceptions.OutOfMemoryError as error:
        print("ENDED", "Task hog was killed" in str(error), "Memory of the cgroup" in str(error))
    print("LIVES", ray.get(ray.remote(lambda: 7).remote()))
"""


def test_the_limit_of_a_cgroup_counts(tmp_path):
    with cgroup(600 * MB) as group:
        program = textwrap.dedent(PROGRAM.format(group=str(group)))
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                              timeout=120, cwd=tmp_path)  # fmt: skip
    assert done.stdout.split("\n")[:2] == ["ENDED True True", "LIVES 7"], done.stderr
