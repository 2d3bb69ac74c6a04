"""What protects a node's memory: what init(), `skate start` and the environment may say."""

from __future__ import annotations

import pytest

import skate
from skate import _memory_config, _store_config
from skate._memory_config import retries, settings


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch):
    for key in (*_memory_config.KEYS, *_memory_config.RETRY_KEYS):
        monkeypatch.delenv(f"RAY_{key}", raising=False)
        monkeypatch.delenv(f"SKATE_{key}", raising=False)


def test_nothing_told_is_nothing_said():
    assert settings() == settings({}) == settings({"object_spilling_threshold": 0.5}) == []
    assert retries() == {}


def test_names_as_in_ray_and_who_stands_over_whom(monkeypatch):
    given = {"memory_usage_threshold": 0.9, "memory_monitor_refresh_ms": 0,
             "min_memory_free_bytes": -1, "enforce_task_memory": True}  # fmt: skip
    assert settings(given) == [
        ("memory_monitor_refresh_ms", 0), ("memory_usage_threshold", 0.9),
        ("enforce_task_memory", 1),
    ]  # fmt: skip
    assert settings(given) == _store_config.settings(None, given)
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.5")
    assert settings() == [("memory_usage_threshold", 0.5)]
    monkeypatch.setenv("SKATE_memory_usage_threshold", "0.6")
    assert settings() == [("memory_usage_threshold", 0.6)]
    assert settings({"memory_usage_threshold": 1}) == [("memory_usage_threshold", 1.0)]
    monkeypatch.setenv("RAY_task_oom_retries", str(2**64 - 1))  # -1 as Ray's own settings print it
    assert retries() == {"task_oom_retries": -1}
    assert retries({"task_oom_retries": 4, "task_oom_retry_delay_base_ms": 0}) == {
        "task_oom_retries": 4, "task_oom_retry_delay_base_ms": 0,
    }  # fmt: skip


@pytest.mark.parametrize(("key", "value"), [
    ("memory_usage_threshold", 1.1), ("memory_usage_threshold", "high"),
    ("memory_usage_threshold", True), ("memory_usage_threshold", float("nan")),
    ("memory_monitor_refresh_ms", -1), ("memory_monitor_refresh_ms", 0.5),
    ("min_memory_free_bytes", -2), ("memory_limit_bytes", "1 GB"),
    ("enforce_task_memory", "yes"), ("task_oom_retries", -2), ("task_oom_retries", None.__class__),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused_at_once(key, value):
    with pytest.raises(ValueError, match=f"^{key} is "):
        settings({key: value}) if key in _memory_config.KEYS else retries({key: value})
    skate.shutdown()
    with pytest.raises(ValueError, match=f"^{key} is "):
        skate.init(num_cpus=1, _system_config={key: value})


def test_the_node_s_own_business(session):
    address = skate.get_runtime_context().gcs_address
    skate.shutdown()
    from skate.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        with pytest.raises(ValueError, match="node's business.*memory_usage_threshold"):
            skate.init(cluster.address, _system_config={"memory_usage_threshold": 0.5})
        skate.init(cluster.address, _system_config={"task_oom_retries": 1})
        assert address != cluster.address
    finally:
        skate.shutdown()
        cluster.shutdown()
