"""timeline(): Chrome trace events of what ran."""

from __future__ import annotations

import json
import time

import pytest
from compat_target import ON_RAY, ray


def complete(events, category):
    return [e for e in events if e.get("ph") == "X" and e["cat"] == category]


@pytest.mark.row("1.timeline")
def test_a_task_has_its_events(cluster, eventually):
    @ray.remote
    def traced_task():
        time.sleep(0.05)
        return 1

    assert ray.get(traced_task.remote()) == 1
    found = eventually(lambda: complete(ray.timeline(), "task::traced_task"))
    event = found[0]
    assert event["dur"] >= 50_000  # microseconds
    assert abs(event["ts"] / 1e6 - time.time()) < 600
    assert {"name", "pid", "tid", "args", "cname"} <= set(event)
    assert event["pid"] == ray.nodes()[0]["NodeManagerAddress"]
    assert event["tid"].startswith("worker:")
    mine = [e for e in ray.timeline() if e["tid"] == event["tid"]]
    kinds = {e["cat"] for e in mine}
    assert {"task:execute", "task:deserialize_arguments", "task:store_outputs"} <= kinds
    inside = [e for e in complete(mine, "task:execute") if e["ts"] >= event["ts"] - 1][0]
    assert inside["ts"] + inside["dur"] <= event["ts"] + event["dur"] + 1


@pytest.mark.row("1.timeline")
def test_a_file_that_viewers_read(cluster, eventually, tmp_path):
    @ray.remote
    class Traced:
        def method(self):
            return 1

    actor = Traced.remote()
    ray.get([actor.method.remote() for _ in range(3)])
    path = tmp_path / "trace.json"

    def written():
        ray.timeline(filename=str(path))
        events = json.loads(path.read_text())
        return len(complete(events, "task::Traced.method")) >= 3 and events

    events = eventually(written)
    assert {e["ph"] for e in events} == {"X"}
    assert all(e["dur"] >= 0 and e["cat"] and e["tid"] for e in events)


@pytest.mark.row("1.timeline")
def test_before_init(no_cluster):
    with pytest.raises(RuntimeError):
        ray.timeline()


@pytest.mark.row("1.timeline")
@pytest.mark.skipif(ON_RAY, reason="Ray notes submissions only when profiling is asked for")
def test_submissions_are_noted(cluster, eventually):
    @ray.remote
    def sent():
        return 1

    def noted():  # a sample of them: under much load one may be left out
        ray.get(sent.remote())
        return [e for e in complete(ray.timeline(), "submit_task")
                if e["args"]["func_or_class_name"] == "sent"]  # fmt: skip

    assert eventually(noted)
