"""Which nodes the autoscaler starts and ends, by rules alone."""

from __future__ import annotations

import json
import random

import pytest

from skate.autoscaler import _config, sdk
from skate.autoscaler._policy import Node, Plan, State, Want, decide

CPU, GPU = {"CPU": 4.0}, {"CPU": 8.0, "GPU": 2.0}


def config(types=None, **more):
    types = types or {"cpu": {"resources": CPU}, "gpu": {"resources": GPU}}
    return _config.check({"max_workers": 10, "available_node_types": types, **more})


def node(name, kind, total=CPU, free=None, idle=0.0, labels=None):
    return Node(name, kind, dict(total), dict(total if free is None else free), labels or {}, idle)


def plan(state_nodes=(), waiting=(), requested=(), starting=None, of=None):
    state = State(list(state_nodes), starting or {}, list(waiting), list(requested))
    return decide(of or config(), state)


def test_nothing_waits_nothing_starts():
    assert plan([node("1", None)]).start == {}


def test_what_fits_now_starts_nothing():
    assert plan([node("1", None)], [Want({"CPU": 1.0})] * 4).start == {}
    assert plan([node("1", None)], [Want({"CPU": 1.0})] * 5).start == {"cpu": 1}


def test_what_is_on_its_way_counts():
    assert plan(waiting=[Want({"CPU": 1.0})] * 4, starting={"cpu": 1}).start == {}


def test_the_type_that_is_used_best():
    assert plan(waiting=[Want({"GPU": 1.0})]).start == {"gpu": 1}
    assert plan(waiting=[Want({"CPU": 1.0})]).start == {"cpu": 1}  # no GPU for what needs none
    assert plan(waiting=[Want({"CPU": 6.0})]).start == {"gpu": 1}  # unless nothing else holds it


def test_limits_of_type_cluster_and_pace():
    few = config({"cpu": {"resources": CPU, "max_workers": 2}})
    assert plan(waiting=[Want(CPU)] * 9, of=few).start == {"cpu": 2}
    assert plan(waiting=[Want(CPU)] * 9, of=config(max_workers=3)).start == {"cpu": 3}
    assert plan(waiting=[Want(CPU)] * 90, of=config(max_workers=90)).start == {"cpu": 5}
    there = [node(str(i), "cpu", free={}) for i in range(20)]
    assert plan(there, [Want(CPU)] * 90, of=config(max_workers=90)).start == {"cpu": 20}


def test_the_least_is_always_there():
    least = config({"cpu": {"resources": CPU, "min_workers": 2}})
    assert plan(of=least).start == {"cpu": 2}
    assert plan([node("1", "cpu")], of=least).start == {"cpu": 1}
    old = [node(str(i), "cpu", idle=1e6) for i in range(3)]
    assert len(plan(old, of=least).end) == 1


def test_apart_and_labels():
    apart = [Want({"CPU": 1.0}, apart="group")] * 3
    assert plan([node("1", None)], apart).start == {"cpu": 2}
    labelled = config({"a": {"resources": CPU, "labels": {"zone": "a"}}, "b": {"resources": CPU}})
    assert plan([node("1", None)], [Want({"CPU": 1.0}, {"zone": "a"})], of=labelled).start == {
        "a": 1
    }


def test_what_no_type_holds_is_said():
    made = plan(waiting=[Want({"CPU": 64.0}), Want({"CPU": 1.0})])
    assert [w.resources for w in made.never] == [{"CPU": 64.0}]
    assert made.start == {"cpu": 1}


def test_the_idle_go_when_it_is_time():
    nodes = [node("1", "cpu", idle=299), node("2", "cpu", idle=301), node("3", None, idle=1e9)]
    assert plan(nodes).end == ["2"]
    assert plan(nodes, [Want(CPU)] * 3).end == []  # not while something waits that has room there


def test_the_idle_go_although_something_waits_that_cannot_use_them():
    """Else it would wait for ever: they are as many as there may be."""
    of = config(max_workers=2)
    idle = [node("1", "cpu", idle=1e6), node("2", "cpu", idle=1e6)]
    assert plan(idle, [Want({"GPU": 1.0})], of=of) == Plan(end=["1", "2"])
    assert plan(idle[1:], [Want({"GPU": 1.0})], of=of).start == {"gpu": 1}
    assert plan(idle, [Want({"GPU": 1.0}), Want({"CPU": 1.0})], of=of).end == ["2"]
    assert len(plan(idle, [Want({"CPU": 99.0})]).end) == 2  # no node can ever hold this


def test_requested_holds_and_starts():
    idle = [node("1", "cpu", idle=1e6), node("2", "cpu", idle=1e6)]
    assert plan(idle, requested=[Want({"CPU": 1.0})] * 8).end == []
    assert len(plan(idle, requested=[Want({"CPU": 1.0})] * 4).end) == 1
    assert plan(idle, requested=[Want({"CPU": 1.0})] * 9).start == {"cpu": 1}
    busy = [node("1", "cpu", free={"CPU": 0.0})]
    assert plan(busy, requested=[Want({"CPU": 1.0})] * 4).start == {}  # what there is, not is free


def test_limits_hold_whatever_comes():
    pick = random.Random(7)
    for _ in range(300):
        types = {
            str(k): {"resources": {"CPU": float(pick.randint(1, 8))},
                     "min_workers": (low := pick.randint(0, 2)),
                     "max_workers": low + pick.randint(0, 4)}
            for k in range(pick.randint(1, 4))
        }  # fmt: skip
        of = config(types, max_workers=(most := pick.randint(4, 12)))
        nodes = []
        for i in range(pick.randint(0, 6)):
            kind = of.types[pick.choice(list(of.types))]
            nodes.append(node(str(i), kind.name, kind.resources,
                              {"CPU": pick.random() * kind.resources["CPU"]},
                              pick.choice([0, 1e6])))  # fmt: skip
        waiting = [Want({"CPU": float(pick.randint(1, 9))}) for _ in range(pick.randint(0, 30))]
        made = plan(nodes, waiting, of=of)
        for name, kind in of.types.items():
            there = sum(n.type == name for n in nodes)
            gone = sum(n.id in made.end and n.type == name for n in nodes)
            assert there + made.start.get(name, 0) <= max(there, kind.max_workers)
            assert there - gone >= min(there, kind.min_workers)
        assert len(nodes) + sum(made.start.values()) <= max(len(nodes), most)
        assert not (made.start and made.end)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"provider": {"type": "aws"}}, "skate start --address"),
        ({"provider": {"type": "local", "worker_ips": ["10.0.0.2"]}}, "skate start --address"),
        ({"available_node_types": {}}, "at least one"),
        ({"available_node_types": {"a": {}}}, "must have resources"),
        ({"available_node_types": {"a": {"resources": {"CPU": -1}}}}, "CPU must be"),
        ({"available_node_types": {"a": {"resources": CPU, "min_workers": 3,
                                         "max_workers": 1}}}, "more than max_workers"),
        ({"head_node_type": "nobody"}, "nobody"),
        ({"max_workers": "many"}, "max_workers"),
        ({"colour": "red"}, "colour"),
    ],
)  # fmt: skip
def test_bad_descriptions(change, words):
    found = {"available_node_types": {"a": {"resources": CPU}}, **change}
    with pytest.raises(ValueError, match=words):
        _config.check(found)


def test_files(tmp_path):
    path = tmp_path / "cluster.json"
    path.write_text(json.dumps({"available_node_types": {"a": {"resources": CPU}}}))
    assert _config.check(_config.load(str(path))).types["a"].resources == CPU
    path.write_text("a: [")
    with pytest.raises(ValueError, match="is not JSON: .*line 1"):
        _config.load(str(path))
    yaml = tmp_path / "cluster.yaml"
    yaml.write_text("a: [")
    with pytest.raises(ValueError, match="neither JSON nor YAML|PyYAML") as raised:
        _config.load(str(yaml))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ({"num_cpus": "4"}, TypeError), ({"num_cpus": -1}, ValueError),
        ({"bundles": [{}]}, TypeError), ({"bundles": {"CPU": 1}}, TypeError),
        ({"bundles": [{"CPU": "1"}]}, TypeError), ({"bundles": [{"CPU": -1}]}, ValueError),
        ({"bundles": [{"CPU": 1}], "bundle_label_selectors": []}, ValueError),
    ],
)  # fmt: skip
def test_bad_requests(args, error):
    args = {"num_cpus": None, "bundles": None, "selectors": None, **args}
    args["selectors"] = args.pop("bundle_label_selectors", args["selectors"])
    with pytest.raises(error):
        sdk._checked(**args)
