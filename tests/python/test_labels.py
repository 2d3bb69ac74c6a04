"""Selectors by labels, beside tests/compat: who waits is told for what; bounds; the CLI."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

import skate


@skate.remote
def zone():
    return skate.get_runtime_context().get_node_labels().get("zone")


def test_it_says_which_labels_are_missing(session):
    ref = zone.options(label_selector={"zone": "in(east, west)", "disk": "!slow"}).remote()
    with pytest.raises(skate.exceptions.GetTimeoutError) as told:
        skate.get(ref, timeout=0.5)
    wanted = "labels zone in (east, west), disk not in (slow), and no node has such"
    assert wanted in str(told.value)

    @skate.remote(label_selector={"zone": "east"})
    class Actor:
        def f(self):
            pass

    assert "labels zone in (east)" in str(skate.why(Actor.remote().f.remote()))


def test_a_selector_has_a_bound(session):
    many = {f"label{i}": "x" * 63 for i in range(20)}
    with pytest.raises(ValueError, match="too long"):
        zone.options(label_selector=many).remote()
    strange = skate.util.scheduling_strategies
    where = strange.NodeLabelSchedulingStrategy({"zone": strange.In("a;b|c")})
    with pytest.raises(ValueError, match="label 'zone'"):
        zone.options(scheduling_strategy=where).remote()


def test_labels_of_init():
    skate.shutdown()
    with pytest.raises(ValueError, match=r"ray\.io/"):
        skate.init(num_cpus=1, labels={"ray.io/zone": "x"})
    for labels in ({"-a": "b"}, {"a": "b c"}, {"a b/c": "d"}, {"a": "x" * 64}, {"a": 1}):
        with pytest.raises(ValueError, match="label"):
            skate.init(num_cpus=1, labels=labels)
    with pytest.raises(ValueError, match="943 bytes"):
        skate.init(num_cpus=1, labels={f"label{i}": "x" * 63 for i in range(20)})
    skate.init(num_cpus=1, labels={"zone": "north"})
    assert skate.get(zone.options(label_selector={"zone": "north"}).remote(), timeout=20) == "north"
    skate.shutdown()


@pytest.mark.parametrize("text", ["zone", "zone=a=b", "-x=y", "ray.io/x=y"])
def test_labels_of_the_command(text, tmp_path):
    done = subprocess.run(
        [pathlib.Path(sys.executable).parent / "skate", "start", "--head", "--labels", text],
        capture_output=True, text=True, timeout=60, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 1 and "label" in done.stderr
    assert "Traceback" not in done.stderr
