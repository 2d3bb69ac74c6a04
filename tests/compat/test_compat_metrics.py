"""`ray.util.metrics`: counters, gauges and histograms; what they refuse."""

from __future__ import annotations

import importlib

import pytest
from compat_target import ray

metrics = importlib.import_module(f"{ray.__name__}.util.metrics")
Counter, Gauge, Histogram = metrics.Counter, metrics.Gauge, metrics.Histogram

pytestmark = pytest.mark.row("9.metrics")


def test_what_names_and_tags_may_be(cluster):
    with pytest.raises(ValueError):
        Counter("")
    for name, options in ((5, {}), ("a", {"tag_keys": ["k"]}), ("a", {"tag_keys": "ab"}),
                          ("a", {"tag_keys": (1,)})):
        with pytest.raises(TypeError):
            Counter(name, **options)
    for bounds in (None, [], [0, 1], [-1, 1]):
        with pytest.raises(ValueError):
            Histogram("h", boundaries=bounds)
    for bounds in ([1, "a"], 5):
        with pytest.raises(TypeError):
            Histogram("h", boundaries=bounds)


def test_info(cluster):
    counter = Counter("c_info", "words", ("a", "b"))
    assert counter.info == {
        "name": "c_info", "description": "words", "tag_keys": ("a", "b"), "default_tags": {},
    }
    assert counter.set_default_tags({"a": "1"}) is counter
    assert counter.info["default_tags"] == {"a": "1"}
    assert Histogram("h_info", "d", [1, 2], ("k",)).info["boundaries"] == [1, 2]


def test_a_counter_only_grows(cluster):
    counter = Counter("c_grow")
    assert counter.inc() is None
    assert counter.inc(2.5) is None
    for value in (0, -1):
        with pytest.raises(ValueError):
            counter.inc(value)
    for value in ("1", None):
        with pytest.raises(TypeError):
            counter.inc(value)


def test_tags(cluster):
    counter = Counter("c_tags", tag_keys=("a", "b"))
    for tags in (None, {"a": "x"}):
        with pytest.raises(ValueError):
            counter.inc(1, tags)
    with pytest.raises(TypeError):
        counter.inc(1, {"a": "x", "b": 5})
    counter.inc(1, {"a": "x", "b": "y"})
    counter.inc(1, {"a": "x", "b": "y", "unknown": "z"})
    counter.set_default_tags({"a": "1"})
    counter.inc(1, {"b": "y"})
    with pytest.raises(ValueError):
        counter.set_default_tags({"unknown": "1"})
    with pytest.raises(TypeError):
        counter.set_default_tags({"a": 1})


def test_gauge_and_histogram(cluster):
    gauge, histogram = Gauge("g_values"), Histogram("h_values", boundaries=[1, 2])
    for value in (1, -1, 0.5, None):
        assert gauge.set(value) is None
    for value in (1.5, -1, 100):
        assert histogram.observe(value) is None
    with pytest.raises(TypeError):
        gauge.set("a")
    for value in ("a", None):
        with pytest.raises(TypeError):
            histogram.observe(value)


def test_a_metric_can_be_sent(cluster):
    counter = Counter("c_sent", "words", ("a",))

    @ray.remote
    def use(counter):
        counter.inc(3, {"a": "1"})
        return counter.info

    assert ray.get(use.remote(counter)) == counter.info
