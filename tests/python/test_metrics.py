"""What util.metrics collects from the processes of a cluster, and its text for Prometheus."""

from __future__ import annotations

import time

import pytest

import skate
from skate.util import metrics


@pytest.fixture()
def session():
    skate.init(address="local", num_cpus=2)
    yield
    skate.shutdown()


@skate.remote(num_cpus=0)
class Worker:
    def __init__(self, name):
        self.name = name
        self.count = metrics.Counter("jobs", "jobs\ndone", ("kind",))
        self.depth = metrics.Gauge("queue.depth")
        self.size = metrics.Histogram("size", boundaries=[1, 10], tag_keys=("kind",))

    def work(self, n):
        for _ in range(n):
            self.count.inc(tags={"kind": self.name})
            self.count.inc(tags={"kind": 'all"'})
            self.size.observe(5, {"kind": "x"})
        self.depth.set(n)


def eventually(question):
    deadline = time.monotonic() + 20
    while not question():
        assert time.monotonic() < deadline, metrics.collect()
        time.sleep(0.02)


def test_numbers_of_all_processes_are_added_up(session):
    first, second = Worker.remote("a"), Worker.remote("b")
    skate.get([first.work.remote(3), second.work.remote(4)])
    eventually(lambda: metrics.collect().get("jobs", {}).get("series", {}).get(('all"',)) == [7.0])
    got = metrics.collect()
    assert got["jobs"]["series"][("a",)] == [3.0]
    assert got["jobs"]["series"][("b",)] == [4.0]
    assert got["size"]["series"][("x",)] == [0.0, 7.0, 0.0, 35.0]
    assert got["queue.depth"]["series"][()] in ([3.0], [4.0])
    text = metrics.prometheus_text()
    for line in (
        "# HELP ray_jobs_total jobs\\ndone",
        "# TYPE ray_jobs_total counter",
        'ray_jobs_total{kind="a"} 3.0',
        'ray_jobs_total{kind="all\\""} 7.0',
        'ray_size_bucket{kind="x",le="1.0"} 0.0',
        'ray_size_bucket{kind="x",le="10.0"} 7.0',
        'ray_size_bucket{kind="x",le="+Inf"} 7.0',
        'ray_size_sum{kind="x"} 35.0',
        'ray_size_count{kind="x"} 7.0',
        "# TYPE ray_queue_depth gauge",
    ):
        assert line in text.splitlines()


def test_a_process_that_ends_leaves_its_counts(session):
    @skate.remote
    class Short:
        def count(self):
            metrics.Counter("short").inc(5)
            skate.actor.exit_actor()

    with pytest.raises(skate.exceptions.RayActorError):
        skate.get(Short.remote().count.remote())
    eventually(lambda: "short" in metrics.collect())
    assert metrics.collect()["short"]["series"][()] == [5.0]


def test_too_many_combinations_of_tags_are_dropped(session):
    counter = metrics.Counter("many", tag_keys=("k",))
    with pytest.warns(UserWarning, match="combinations"):
        for i in range(1100):
            counter.inc(tags={"k": str(i)})
    assert len(metrics.collect()["many"]["series"]) == 1000


def test_two_objects_of_one_name_are_one_metric(session):
    metrics.Counter("twice").inc(1)
    metrics.Counter("twice").inc(2)
    assert metrics.collect()["twice"]["series"][()] == [3.0]


def test_processes_that_were_silent_for_long_make_room(session, monkeypatch):
    import json

    from skate.experimental import internal_kv as kv

    monkeypatch.setattr(metrics, "_MOST_PROCESSES", 5)
    for i in range(8):
        moment = 0.0 if i < 6 else time.time()
        data = json.dumps({"time": moment, "metrics": {}})
        kv._internal_kv_put(f"old:{i}", data, namespace=metrics._PREFIX)
    monkeypatch.setattr(metrics, "_written", False)
    metrics.Counter("room").inc()
    metrics.flush()
    left = kv._internal_kv_list("", namespace=metrics._PREFIX)
    assert {key for key in left if key.startswith(b"old:")} == {b"old:6", b"old:7"}
    assert metrics.collect()["room"]["series"][()] == [1.0]
