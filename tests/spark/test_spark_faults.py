"""kill -9 of everything that a node or the head hangs on; and again and again at random.

Times are printed (-s), never judged. SKATE_SPARK_KILLS=50 makes the last test as long as
docs/spark/faults.md tells of; SKATE_SPARK_SEED chooses other victims.
"""

from __future__ import annotations

import os
import random
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fault_help as faults
import pytest
from fault_help import Chain, Seen, chains, kill, lives, node_of, numbered
from spark_help import has_java, processes, session_files, until

import skate
from skate.util.spark import setup_ray_cluster

SLOTS = 2
KILLS = int(os.environ.get("SKATE_SPARK_KILLS", "6"))
SEED = int(os.environ.get("SKATE_SPARK_SEED", "3"))


@pytest.fixture(scope="module")
def spark(no_leaks: None) -> Iterator[Any]:
    """Two executors of one core: a node is a whole executor."""
    if not has_java():
        pytest.skip("there is no Java")
    from skate.util.spark import local_cluster

    with local_cluster(SLOTS, 1, 1024) as session:
        yield session


@pytest.fixture()
def cluster(clean: Any) -> Any:
    """Two nodes; nothing of them is left after the test."""
    made = setup_ray_cluster(max_worker_nodes=SLOTS)
    skate.init()
    yield made
    made.shutdown()
    name = made.cluster_unique_id
    until(lambda: not list(faults.owners(name)), 10, "no raylet of Spark is left")
    until(lambda: not skate_processes(), 10, "no process is left")
    until(lambda: not session_files(os.environ["TMPDIR"])[1:], 10, "no file but Spark's is left")


def skate_processes() -> dict[int, str]:
    """Daemons, keepers, zygotes and workers of this run."""
    words = ("skate-raylet", "skate-gcs", "skate-keeper", "skate._zygote", "frozen_modules")
    return {pid: cmd for pid, cmd in processes().items() if any(w in cmd for w in words)}


def add(x: int) -> int:
    """A Skate task that takes a moment."""
    import time

    time.sleep(0.02)
    return x + 1


def works() -> None:
    """Tasks run, whatever node they were given to."""
    task = skate.remote(add).options(max_retries=-1)
    assert skate.get([task.remote(i) for i in range(8)], timeout=60) == list(range(1, 9))


def watch_loss(victim: Chain, node: str, began: float) -> Seen:
    """Until that node of `victim` is gone, is listed as dead, and all are there again."""
    seen = Seen()

    def over() -> bool:
        now = numbered(skate.nodes())
        since = time.monotonic() - began
        if not seen.gone and not lives(victim.raylet):
            seen.gone = since
        if not seen.noticed and node not in now:
            seen.noticed = since
        if seen.noticed and len(now) == SLOTS:
            seen.back = since
        return bool(seen.gone and seen.noticed and seen.back)

    until(over, 150, "gone, noticed, and replaced")
    return seen


@pytest.mark.parametrize("what", ["raylet", "task", "executor"])
def test_a_lost_node(cluster: Any, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The executor dies after pyspark.daemon did: then nobody ends Spark's Python worker."""
    victim = chains(cluster)[0]
    before = numbered(skate.nodes())
    if what == "executor":
        kill(victim.daemon)
        until(lambda: not lives(victim.daemon), 5, "pyspark.daemon is gone")
        works()
        assert numbered(skate.nodes()) == before, "the node lives without it"
    old = node_of(skate.nodes(), victim)
    seen = watch_loss(victim, old, kill(getattr(victim, what)))
    with capsys.disabled():
        print(f"\n{what}: noticed {seen.noticed:.2f} s, gone {seen.gone:.2f} s, "
              f"another node {seen.back:.2f} s")  # fmt: skip
    until(lambda: not victim.left, 10, "its workers are gone")
    after = numbered(skate.nodes())
    [new] = after.keys() - before.keys()
    assert before.keys() - after.keys() == {old}
    assert after[new] != before[old] and after[new].split(".")[0] == before[old].split(".")[0]
    assert not [p for p in session_files(os.environ["TMPDIR"]) if p.endswith(before[old][6:])]
    works()


def test_pyspark_daemon_then_raylet(cluster: Any) -> None:
    """Spark starts another daemon for the next attempt."""
    victim = chains(cluster)[0]
    node = node_of(skate.nodes(), victim)
    kill(victim.daemon)
    watch_loss(victim, node, kill(victim.raylet))
    works()


@pytest.mark.parametrize("whole", [False, True], ids=["server", "keeper and server"])
def test_the_control_store(cluster: Any, whole: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """Killed alone its keeper starts it again, with its keeper the driver: nothing is forgotten."""

    class Counter:
        def __init__(self) -> None:
            self.n = 0

        def add(self) -> int:
            self.n += 1
            return self.n

    actor = skate.remote(Counter).options(name="counter", num_cpus=0).remote()
    assert skate.get(actor.add.remote()) == 1
    nodes, server = numbered(skate.nodes()), faults.of_head("skate-gcs")
    if whole:
        kill(faults.of_head("skate-keeper"))
    else:
        kill(server)
    until(lambda: not lives(server), 10, "the server is gone")
    works()
    assert skate.get(skate.get_actor("counter").add.remote(), timeout=30) == 2
    until(lambda: numbered(skate.nodes()) == nodes, 20, "the nodes are those that were there")
    if whole:
        assert "It was started again" in capfd.readouterr().err


def test_the_heads_raylet(cluster: Any, capfd: pytest.CaptureFixture[str]) -> None:
    nodes = numbered(skate.nodes())
    kill(faults.of_head("skate-raylet"))
    text = [""]

    def told() -> bool:
        text[0] += capfd.readouterr().err
        return "It was started again; programs beside the driver" in text[0]

    until(told, 30, "the user is told what to do")
    with pytest.raises(skate.exceptions.LocalRayletDiedError):
        works()
    skate.shutdown()
    skate.init()
    works()
    assert numbered(cluster.nodes()) == nodes
    assert [n["NodeName"] for n in cluster.nodes() if n["Alive"]].count("head") == 1


def test_a_head_that_cannot_be_mended(
    clean: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its nodes go, the slots are free, and the next cluster starts."""
    from skate import _node

    lost = setup_ray_cluster(max_worker_nodes=SLOTS)

    def refuse(*_: Any) -> Any:
        raise _node.StartError("no luck")

    monkeypatch.setattr(lost._head, "_start", {"gcs": refuse, "raylet": refuse})
    kill(faults.of_head("skate-keeper"))
    text = [""]

    def told() -> bool:
        text[0] += capfd.readouterr().err
        return "the head of the cluster is gone, and all nodes with it: no luck" in text[0]

    until(told, 20, "the user is told")
    assert clean.sparkContext.parallelize(range(2), 2).count() == 2, "the slots are free"
    lost.shutdown()
    until(lambda: not skate_processes(), 15, "no process is left")


def test_no_free_slot(clean: Any, tmp_path: Path) -> None:
    """Another job holds them all: an error that names it, and nothing of the cluster stays."""
    stop = tmp_path / "stop"

    def hold(_: int) -> int:
        while not stop.exists():
            time.sleep(0.02)  # until the test has seen the error
        return 1

    context = clean.sparkContext
    job = threading.Thread(target=lambda: context.parallelize(range(2), 2).map(hold).count())
    job.start()
    try:
        tracker = context.statusTracker()
        until(tracker.getActiveJobsIds, 20, "the job runs")
        with pytest.raises(RuntimeError, match=r"(?s)within 1 s .*held by Spark job \d+ \("):
            setup_ray_cluster(max_worker_nodes=SLOTS, start_timeout_s=1)
    finally:
        stop.touch()
        job.join(60)
    assert not skate_processes()


class Witness:
    """Looks as often as it can whether there is ever one node too many."""

    def __init__(self, session: str) -> None:
        self.session, self.looks = session, 0
        self.wrong: list[str] = []
        self.names: dict[str, str] = {}  # NodeID -> NodeName of all that ever lived
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.005):
            self.looks += 1
            by_executor: dict[int, list[int]] = {}
            for pid, owner in faults.owners(self.session):
                by_executor.setdefault(owner.executor, []).append(pid)
            self.wrong += [f"raylets {p} on executor {e}" for e, p in by_executor.items()
                           if sum(map(lives, p)) > 1]  # fmt: skip
            living = numbered(skate.nodes())
            self.names |= living
            if len(living) > SLOTS:
                self.wrong.append(f"living nodes: {living}")


def choose(rng: random.Random, cluster: Any) -> tuple[str, Chain, str]:
    """Something to kill of a node that is whole; its NodeID."""
    what = rng.choice(["raylet", "raylet", "task", "task", "executor"])

    def whole() -> list[tuple[Chain, str]]:
        rows = skate.nodes()
        return [(c, node_of(rows, c)) for c in chains(cluster) if node_of(rows, c)]

    found: Any = until(whole, 90, "there is a node")
    return what, *rng.choice(found)


def test_never_two_nodes_on_one_slot(cluster: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Raylets, Python workers and executors are killed, often before the last loss is mended."""
    rng = random.Random(SEED)
    seen: dict[str, list[Seen]] = {"raylet": [], "task": [], "executor": []}
    refs = []
    task = skate.remote(add).options(max_retries=-1)
    began = time.monotonic()
    with Witness(cluster.cluster_unique_id) as witness:
        for _ in range(KILLS):
            refs += [task.remote(len(refs) + i) for i in range(5)]
            what, victim, node = choose(rng, cluster)
            try:
                killed = kill(getattr(victim, what))
            except ProcessLookupError:
                continue  # it went with a job that Spark has just given up
            if rng.random() < 0.7:
                seen[what].append(watch_loss(victim, node, killed))
            else:  # and another at once
                until(lambda v=victim: not lives(v.raylet), 20, "its raylet is gone")
        until(lambda: len(numbered(skate.nodes())) == SLOTS, 150, "all are there again")
        assert skate.get(refs, timeout=120) == [i + 1 for i in range(len(refs))]
    assert not witness.wrong
    assert len(set(witness.names.values())) == len(witness.names), "a name was used twice"
    with capsys.disabled():
        print(f"\n{KILLS} kills, seed {SEED}, {time.monotonic() - began:.0f} s, {witness.looks} "
              f"looks, {len(witness.names)} nodes, {len(refs)} tasks")  # fmt: skip
        for what, losses in seen.items():
            for field in ("noticed", "gone", "back"):
                values = [getattr(loss, field) for loss in losses]
                if values:
                    print(f"  {what:9}{field:8} median {statistics.median(values):6.3f} s, most "
                          f"{max(values):6.3f} s of {len(values)}")  # fmt: skip
