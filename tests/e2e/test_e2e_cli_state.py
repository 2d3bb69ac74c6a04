"""skate list, get, summary, memory, timeline, stack, status: on a cluster with a program in it."""

from __future__ import annotations

import json
import re

import pytest
from e2e_help import until

PROGRAM = """
import os, sys, time
import skate as ray
ray.init(address="auto", namespace="cli")

@ray.remote
def busy(path):
    open(path + ".started", "w").close()
    while not os.path.exists(path):
        sum(range(1000))
    return 1

@ray.remote
class Keeper:
    def keep(self, n):
        self.n = n
        return os.getpid()

keeper = Keeper.options(name="keeper").remote()
pid = ray.get(keeper.keep.remote(1))
big = ray.put(b"x" * 5_000_000)
running = busy.remote(sys.argv[1])
while not os.path.exists(sys.argv[1] + ".started"):
    time.sleep(0.005)
wide = busy.options(num_cpus=2, name="wide").remote(sys.argv[1])
never = busy.options(num_cpus=64, name="never").remote(sys.argv[1])

@ray.remote(num_cpus=128)
class Huge:
    pass

huge = Huge.remote()
print("ref", big.hex(), "pid", pid, flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
print("got", ray.get([running, wide]), flush=True)
"""


@pytest.fixture()
def busy_cluster(site):
    """A head with two CPUs, and a program that keeps one busy; (ref, pid of its actor)."""
    site.skate("start", "--head", "--port=0", "--num-cpus=2").succeeds()
    gate = site.folder / "gate"
    program = site.python(PROGRAM, str(gate))
    found = program.expect(r"ref (\w+) pid (\d+)")
    yield found[1], int(found[2])
    gate.touch()
    program.expect(r"got \[1, 1\]")
    program.succeeds()
    site.skate("stop").succeeds()


def out(site, *args):
    return "\n".join(site.skate(*args).succeeds().out)


def rows(site, *args):
    return json.loads(out(site, "list", *args, "--format", "json"))


def test_list(site, busy_cluster):
    ref, pid = busy_cluster
    until(lambda: rows(site, "tasks", "-f", "name=busy", "-f", "state=RUNNING"), 20, "busy runs")
    names = {row["name"]: row["state"] for row in rows(site, "tasks")}
    assert names["wide"] == names["never"] == "PENDING_NODE_ASSIGNMENT"
    assert names["keeper:Keeper.__init__"] == names["Keeper.keep"] == "FINISHED"
    others = rows(site, "tasks", "--filter", "name!=busy", "--limit", "2")
    assert len(others) == 2 and "busy" not in {row["name"] for row in others}
    actor = rows(site, "actors", "-f", "state=ALIVE")[0]
    assert (actor["name"], actor["pid"]) == ("keeper", pid)
    assert [row["object_id"] for row in rows(site, "objects", "-f", f"object_id={ref}")] == [ref]
    assert len(rows(site, "nodes")) == 1
    job = rows(site, "jobs")[0]
    assert job["status"] == "RUNNING" and "program_" in job["entrypoint"]
    assert {row["worker_type"] for row in rows(site, "workers")} == {"DRIVER", "WORKER"}
    assert rows(site, "placement-groups") == []
    table = out(site, "list", "tasks")
    assert "======== List:" in table and "Total: " in table and "TASK_ID" in table
    assert re.search(r"^0 +\w{48} ", table, re.M)
    assert "wide" in table and "PENDING_NODE_ASSIGNMENT" in table
    detail = out(site, "list", "actors", "--detail")
    assert detail.startswith("---") and "num_restarts: 0" in detail and 'name: "keeper"' in detail


def test_get_and_summary(site, busy_cluster):
    actor = rows(site, "actors", "-f", "name=keeper")[0]
    text = out(site, "get", "actors", actor["actor_id"])
    assert f"pid: {actor['pid']}" in text and 'state: "ALIVE"' in text
    refused = site.skate("get", "actors", "00")
    assert refused.wait() == 1
    assert "there is no actor with the id '00'" in refused.text()
    assert "`skate list actors`" in refused.text()
    text = out(site, "summary", "tasks")
    assert re.search(r"Keeper\.keep +ACTOR_TASK +FINISHED: 1", text), text
    assert "total_actor_scheduled: 2" in text
    assert re.search(r"Keeper +ALIVE: 1", out(site, "summary", "actors"))
    assert "total_objects: " in out(site, "summary", "objects")


def test_memory(site, busy_cluster):
    ref, _ = busy_cluster
    text = out(site, "memory")
    line = next(line for line in text.splitlines() if ref in line)
    assert "LOCAL_REFERENCE" in line and re.search(r"\b50000\d\d B\b", line), line
    assert "--- Summary for node address:" in text
    assert "Mem Used by Objects" in text and "Actor Handles" in text
    assert re.search(r"Object store memory usage \d+ MiB of \d+ MiB, [\d.]+% full, 1 node", text)
    text = out(site, "memory", "--units", "MB", "--sort-by", "PID", "--group-by", "STACK_TRACE",
               "-n", "1", "--no-format")  # fmt: skip
    assert "4.77 MB" in text and "--- Summary for stack trace: disabled ---" in text
    assert ref not in out(site, "memory", "--stats-only")


def test_a_session_of_a_program_is_found(site):
    """Nobody named a cluster: the only program with a session of its own; with two, it asks."""
    source = """
import signal
import skate as ray
ray.init(num_cpus=1, address="local")
one = ray.put(b"x" * 5000)
print("ready", flush=True)
signal.pause()
"""
    first = site.python(source)
    first.expect("ready")
    assert "LOCAL_REFERENCE" in out(site, "memory")
    second = site.python(source)
    second.expect("ready")
    site.skate("memory").expect("several programs", stream="err")


def test_memory_names_the_line(site):
    env = {"RAY_record_ref_creation_sites": "1"}
    site.skate("start", "--head", "--port=0", "--num-cpus=1", env=env).succeeds()
    program = site.python("""
import skate as ray
ray.init(address="auto")

def make_one():
    return ray.put(1)

one = make_one()
print(one.call_site(), flush=True)
from skate.util.state import summarize_objects
print(list(summarize_objects()["cluster"]["summary"]), flush=True)
@ray.remote
def f():
    return 1
two = f.remote()
ray.get(two)
print(two.call_site(), flush=True)
""", env=env)
    program.succeeds()
    program.expect(r"\(put object\) \| .*program_1\.py:make_one:6")
    program.expect(r"\['\(put object\) .*make_one:6'\]")
    program.expect(r"\(task call\) \| .*program_1\.py:<module>:15")
    site.skate("stop").succeeds()


def test_status_says_what_waits_and_why(site, busy_cluster):
    def said():
        text = out(site, "status")
        return "1.0/2.0 CPU" in text and "never" in text and text

    text = until(said, 20, "the usage and the demands in `skate status`")
    assert "Pending:\n (no pending nodes)" in text
    assert re.search(r"\{'CPU': 2\.0\}: 1\+ pending tasks/actors \(wide\)", text), text
    assert re.search(r"\{'CPU': 64\.0\}: 1\+ pending tasks/actors \(never\)", text), text
    assert "needs 64 CPU, but the largest node has 2 CPU" in text
    assert "Huge" in text and "needs 128 CPU" in text


def test_timeline(site, busy_cluster):
    path = site.folder / "trace.json"
    text = out(site, "timeline", "-o", str(path))
    assert str(path) in text and "perfetto" in text
    events = json.loads(path.read_text())
    assert "task::Keeper.keep" in {event["cat"] for event in events}


def test_stack_of_a_busy_worker(site, busy_cluster):
    until(lambda: rows(site, "tasks", "-f", "name=busy", "-f", "state=RUNNING"), 20, "busy runs")
    text = out(site, "stack")
    part = next(p for p in text.split("========") if "in busy" in p)
    assert re.search(r'File ".*program_\d+\.py", line \d+ in busy', part)
    assert re.search(r"worker pid \d+ runs busy", text)
    again = out(site, "stack")
    assert "in busy" in again and len(again) < 2 * len(text), "old stacks must not pile up"
    refused = site.skate("stack", "1")
    assert refused.wait() == 1 and "none of these is a worker" in refused.text()


def test_looking_disturbs_nothing(site, busy_cluster):
    """A look is no job and leaves no process."""
    before = sorted(p.pid for p in site.processes())
    for args in (("list", "tasks"), ("memory",), ("status",), ("summary", "tasks")):
        out(site, *args)
    assert len(rows(site, "jobs")) == 1
    assert {row["worker_type"] for row in rows(site, "workers")} == {"DRIVER", "WORKER"}
    assert sorted(p.pid for p in site.processes()) == before


@pytest.mark.parametrize("args", [
    ("list", "tasks"), ("get", "nodes", "00"), ("summary", "actors"), ("memory",), ("timeline",),
    ("stack",), ("status",),
])  # fmt: skip
def test_without_a_cluster(site, args):
    program = site.skate(*args)
    assert program.wait() == 1
    assert "no Skate cluster runs on this machine" in program.text()
    assert "skate start --head" in program.text()
    assert "Traceback" not in program.text()


def test_wrong_usage(site):
    for args, words in (
        (("list", "things"), "is not one of"),
        (("list", "tasks", "--filter", "state"), "key=value"),
        (("list", "tasks", "--limit", "0"), "--limit"),
        (("memory", "--units", "TB"), "is not one of"),
    ):
        program = site.skate(*args)
        assert program.wait() == 2, program.text()
        assert words in program.text() and "Traceback" not in program.text()
    for command in ("list", "get", "summary", "memory", "timeline", "stack", "status", "start",
                    "stop"):  # fmt: skip
        assert "--help" in out(site, command, "--help")
