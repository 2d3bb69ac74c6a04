"""skate memory: who holds each byte of a real program: views, borrowed and captured refs, arguments
of waiting tasks, actor handles; leaks by line; processes that are busy or do not answer."""

from __future__ import annotations

import json
import os
import re
import signal
import time

import numpy as np
import pytest
from e2e_help import until

import skate as ray
from skate import _memory

SITES = {"SKATE_record_ref_creation_sites": "1"}
PROGRAM = """
import os, sys, time
import numpy as np
import skate as ray
ray.init(address="auto")

@ray.remote
class Holder:
    def keep(self, refs):
        self.ref = refs[0]
        return os.getpid()
    def look(self, refs):
        self.view = ray.get(refs[0])
        return os.getpid()
    def spin(self, path):
        open(path + ".spins", "w").close()
        while not os.path.exists(path):
            sum(range(1000))

@ray.remote(num_cpus=1)
def use(array, path):
    return float(array[0])

@ray.remote(num_cpus=0)
def stash():
    import builtins
    builtins.stashed = ray.put(np.zeros(450_000))
    return os.getpid()

def leak_views():
    return [ray.get(ray.put(np.zeros(400_000))) for _ in range(3)]

def load():
    return ray.put(np.zeros(1_000_000))

views = leak_views()
lent = load()
holder, looker = Holder.remote(), Holder.remote()
lender, viewer = ray.get([holder.keep.remote([lent]), looker.look.remote([lent])])
outer = ray.put([ray.put("y" * 5000)])
argument = ray.put(np.zeros(500_000))
spinning = holder.spin.remote(sys.argv[1])     # it runs now, the GIL in its hand
waiting = use.options(resources={"none": 1}).remote(argument, sys.argv[1])
given_away = ray.put(np.zeros(600_000))
keeper = Holder.remote()
third = ray.get(keeper.keep.remote([given_away]))
del given_away
idle = ray.get(stash.remote())      # when all actors have their processes
while not os.path.exists(sys.argv[1] + ".spins"):
    time.sleep(0.005)
print("ids", lent.hex(), argument.hex(), outer.hex(), holder._actor_id.hex(), flush=True)
print("pids", os.getpid(), lender, viewer, third, idle, flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
"""


@pytest.fixture()
def held(site):
    """A head and that program: its ids and pids."""
    site.skate("start", "--head", "--port=0", "--num-cpus=2", env=SITES).succeeds()
    gate = site.folder / "gate"
    program = site.python(PROGRAM, str(gate), env=SITES)
    ids = program.expect(r"ids (\w+) (\w+) (\w+) (\w+)").groups()
    pids = program.expect(r"pids (\d+) (\d+) (\d+) (\d+) (\d+)").groups()
    yield ids, tuple(map(int, pids))
    gate.touch()
    program.succeeds()
    site.skate("stop").succeeds()


def out(site, *args):
    return "\n".join(site.skate("memory", *args).succeeds().out)


def look(site, *args):
    return json.loads(out(site, "--format", "json", *args))


def by_pid(found, ref):
    return {row["pid"]: row for row in found["objects"] if row["object_id"] == ref}


def test_who_holds_what(site, held):
    check_rows(site, held)
    check_store(site, held)
    check_tables(site, held)


def check_rows(site, held):
    (lent, argument, outer, _), (driver, lender, viewer, *_) = held
    found = look(site)
    assert found["silent"] == [] and found["rows_left_out"] == 0
    rows = by_pid(found, lent)
    assert set(rows) == {driver, lender, viewer}
    assert rows[driver]["reference_type"] == "LOCAL_REFERENCE"
    assert sorted(rows[driver]["borrower_pids"]) == sorted([lender, viewer])
    assert re.search(r"\(put object\) \| .*:load:\d+$", rows[driver]["call_site"])
    # The one that spins answers too: it holds the ref alone, and says which call brought it.
    assert rows[lender]["local_refs"] == 1 and rows[lender]["pins"] == 0
    assert rows[lender]["call_site"] == "(deserialize task arg) | Holder.keep"
    assert rows[lender]["where"] == "in memory" and rows[lender]["owner_pid"] == driver
    assert rows[viewer]["reference_type"] == "PINNED_IN_MEMORY"  # a view, and no ref
    assert rows[viewer]["pins"] >= 1 and rows[viewer]["local_refs"] == 0
    assert rows[viewer]["object_size"] == rows[driver]["object_size"] >= 8_000_000
    (waits,) = by_pid(found, argument).values()
    assert waits["reference_type"] == "USED_BY_PENDING_TASK" and waits["used_by_tasks"] == 1
    (captor,) = by_pid(found, outer).values()
    assert captor["reference_type"] == "LOCAL_REFERENCE" and captor["where"] == "inline"
    captured = [r for r in found["objects"] if r["reference_type"] == "CAPTURED_IN_OBJECT"]
    assert [(r["pid"], r["captured_in"]) for r in captured] == [(driver, 1)]
    handles = [r for r in found["objects"] if r["reference_type"] == "ACTOR_HANDLE"]
    assert len({r["object_id"] for r in handles}) == 3
    assert {r["pid"] for r in handles} == {driver}
    assert all("(actor creation)" in r["call_site"] for r in handles)
    pending = [r for r in found["objects"] if r["task_status"] == "PENDING_NODE_ASSIGNMENT"]
    assert [r["where"] for r in pending] == ["pending"] and pending[0]["object_size"] == -1


def test_leaks_by_line(site, held):
    _, (driver, _, _, third, idle) = held

    def leaks():
        found = look(site, "--leaks-after", "0.5")["leaks"]
        by = {(row["held_by"], row["call_site"].rsplit(":", 2)[-2]): row for row in found}
        wanted = {("views", "leak_views"), ("other process", "<module>"), ("refs", "stash")}
        return by if wanted <= set(by) and by["refs", "stash"]["idle_worker"] else None

    by = until(leaks, 30, "leaked views and a ref that only another process has")
    views = by["views", "leak_views"]
    assert (views["count"], views["pid"]) == (3, driver)
    assert 3 * 3_200_000 <= views["bytes"] < 3 * 3_210_000
    assert views["oldest_s"] >= 0.5
    away = by["other process", "<module>"]
    assert (away["count"], away["pid"], away["owner_pid"]) == (1, third, driver)
    assert away["idle_worker"] is False  # an actor: it may need it
    forgotten = by["refs", "stash"]
    assert (forgotten["count"], forgotten["pid"]) == (1, idle)
    # What a task waits for, what another process holds as well: no leak.
    assert not any(row["call_site"].rsplit(":", 2)[-2] == "load" for row in by.values())
    text = out(site, "--leaks-after", "0.5")
    part = text[text.index("--- Leaked?") :]
    assert re.search(rf"9\.2 MiB +3 +\d+ s +views of pid {driver} .*:leak_views:\d+", part), part
    assert re.search(rf"3\.4 MiB +1 +\d+ s +refs of idle worker {idle} .*:stash:\d+", part), part
    assert re.search(rf"pid {third} \(owner {driver}\)", part), part
    assert "--- Leaked?" not in out(site, "--leaks-after", "100000")


def check_store(site, held):
    (lent, *_), (driver, *_) = held
    (node,) = look(site)["nodes"]
    arena = node["object_bytes"]
    assert node["objects"] == 8 and arena >= 3 * 3_200_000 + 8_000_000 + 8_800_000 + 3_600_000
    assert node["used"] >= arena and node["lent"] == node["used"]
    assert node["unexplained"] + node["spare"] + arena == node["used"]
    (process,) = [p for p in node["processes"] if p["pid"] == driver]
    assert process["objects"] == node["objects"] - 1 and process["answered"]
    assert node["budget"] > 0 and node["spills"] == node["evictions"] == node["waiting"] == 0
    text = out(site, "--stats-only")
    assert lent not in text and "--- Object references" not in text
    assert re.search(r"^memory +[\d.]+ MiB of [\d.]+ [GM]iB \([\d.]+ %\)$", text, re.M), text
    assert re.search(r"^objects +8 objects, [\d.]+ MiB$", text, re.M), text
    assert re.search(rf"^pid {driver} +[\d.]+ MiB +7 ", text, re.M), text
    assert re.search(r"^Plasma memory usage \d+ MiB, 8 objects, [\d.]+% full$", text, re.M)
    assert "Spilled" not in text and "Left out" not in text


def check_tables(site, held):
    (lent, *_), (driver, *_) = held
    text = out(site, "--units", "MB", "--sort-by", "PID", "--n", "3")
    (head,) = [line for line in text.splitlines() if line.startswith("IP Address")]
    assert re.split(r"  +", head) == [
        "IP Address", "PID", "Type", "Call Site", "Status", "Attempt", "Where", "Size", "Age",
        "Reference Type", "Owner", "Holders", "Object Ref",
    ]  # fmt: skip
    table = text[text.index(head) :].splitlines()[1:4]
    pids = [int(line.split()[1]) for line in table]
    assert pids == sorted(pids)  # of the three largest: two know the size of `lent`
    assert [lent in line and "7.63 MB" in line for line in table].count(True) == 2, table
    assert any("4.58 MB" in line for line in table), table
    assert "the smallest, are counted above and not shown" in text
    text = out(site, "--group-by", "STACK_TRACE")
    assert re.search(r"^--- Summary for stack trace: \(put object\) \| .*:leak_views:\d+ ---$",
                     text, re.M), text  # fmt: skip
    lines = out(site, "--no-format").splitlines()
    assert any(line.startswith("IP Address, PID, Type, ") for line in lines)
    assert any(line.endswith(f", {lent}") for line in lines)


def test_who_does_not_answer_is_named(site, held):
    (lent, *_), (driver, _, viewer, *_) = held
    os.kill(viewer, signal.SIGSTOP)
    try:
        start = time.monotonic()

        def silent():  # on a busy machine others may need longer, too
            found = look(site, "--timeout", "3")
            return found["silent"] if len(found["silent"]) == 1 else None, found

        (named,), found = until(lambda: (got := silent())[0] and got, 60, "one does not answer")
        took = time.monotonic() - start
        text = out(site, "--timeout", "1", "-n", "1")
    finally:
        os.kill(viewer, signal.SIGCONT)
    assert took < 120
    assert (named["what"], named["pid"]) == ("process", viewer)
    assert set(by_pid(found, lent)) >= {driver} and viewer not in by_pid(found, lent)
    (left_out,) = [line for line in text.splitlines() if line.startswith("Left out, for no answer")]
    assert f"process {viewer} of node" in left_out


def test_a_wrong_wish(site):
    for args, words in (
        (("--format", "yaml"), "is not one of"), (("-n", "0"), "--num-entries"),
        (("--leaks-after", "-1"), "--leaks-after"), (("--timeout", "0"), "--timeout"),
    ):  # fmt: skip
        program = site.skate("memory", *args)
        assert program.wait() == 2
        assert words in program.text() and "Traceback" not in program.text()


def test_copies_of_other_nodes_objects(cluster):
    cluster.add_node(num_cpus=1, resources={"far": 1}, object_store_memory=48 << 20)
    cluster.connect()

    @ray.remote(resources={"far": 0.1}, num_cpus=0)
    class Reader:
        def read(self, refs):
            self.view = ray.get(refs[0])
            return os.getpid()

        def forget(self):
            self.view = None

        def fill(self):
            self.mine = ray.put(bytes(36 << 20))

    reader, big = Reader.remote(), ray.put(np.zeros(20 << 20, np.uint8))
    pid = ray.get(reader.read.remote([big]))

    def look():
        found = _memory.look(None, 20.0, 100, None, 100)
        return found, next(n for n in found["nodes"] if not n["is_head"])

    def copies(count, unused):
        found, node = look()
        return (node["copies"], node["unused_copies"]) == (count, unused) and (found, node)

    found, node = until(lambda: copies(1, 0), 20, "a copy on the other node")
    assert node["copies_bytes"] >= 20 << 20 and node["pulls"] == 1
    assert [p["what"] for p in node["processes"]] == ["copies"] and node["unexplained"] < 1 << 20
    rows = {r["pid"]: r for r in found["objects"] if r["object_id"] == big.hex()}
    assert rows[pid]["where"] == "pulled copy" and rows[os.getpid()]["where"] == "in memory"
    ray.get(reader.forget.remote())
    until(lambda: copies(1, 1), 20, "a copy that nobody has")
    ray.get(reader.fill.remote())
    _, node = until(lambda: copies(0, 0), 20, "the copy has made room")
    assert node["evictions"] == 1 and node["evicted_bytes"] >= 20 << 20
