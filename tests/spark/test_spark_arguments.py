"""Arguments of setup_ray_cluster(): no Spark is started here."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from skate import _core
from skate.util import spark as skate_spark
from skate.util.spark._attach import choose
from skate.util.spark._job import short_error
from skate.util.spark._plan import MAX_NUM_WORKER_NODES, make_plan
from skate.util.spark._task import Grant, NodeSettings, settings_line

BAD: list[tuple[dict[str, Any], str]] = [
    ({"max_worker_nodes": 0}, "positive integer"),
    ({"max_worker_nodes": -2}, "positive integer"),
    ({"max_worker_nodes": "2"}, "positive integer"),
    ({"max_worker_nodes": True}, "positive integer"),
    ({"max_worker_nodes": 2, "min_worker_nodes": 3}, "<= 'max_worker_nodes'"),
    ({"max_worker_nodes": 2, "min_worker_nodes": -1}, "<= 'max_worker_nodes'"),
    ({"max_worker_nodes": MAX_NUM_WORKER_NODES, "min_worker_nodes": 1}, "cannot be set"),
    ({"max_worker_nodes": 2, "num_cpus_worker_node": 0}, "num_cpus_worker_node"),
    ({"max_worker_nodes": 2, "num_cpus_worker_node": -1}, "num_cpus_worker_node"),
    ({"max_worker_nodes": 2, "num_cpus_worker_node": 1.5}, "whole"),
    ({"max_worker_nodes": 2, "num_cpus_head_node": -1}, "num_cpus_head_node"),
    ({"max_worker_nodes": 2, "num_gpus_head_node": -1}, "num_gpus_head_node"),
    ({"max_worker_nodes": 2, "num_gpus_worker_node": 1}, "num_cpus_worker_node"),
    ({"max_worker_nodes": 2, "object_store_memory_worker_node": 0}, "object_store_memory"),
    ({"max_worker_nodes": 2, "start_timeout_s": 0}, "start_timeout_s"),
    ({"max_worker_nodes": 2, "ray_temp_root_dir": 5}, "ray_temp_root_dir"),
    ({"max_worker_nodes": 2, "worker_node_options": {"num-cpus": 1}}, "foo_bar"),
    ({"max_worker_nodes": 2, "worker_node_options": {"num_cpus": 1}}, "num_cpus_worker_node"),
    ({"max_worker_nodes": 2, "worker_node_options": {"address": "x"}}, "not allowed"),
    ({"max_worker_nodes": 2, "head_node_options": {"port": 1}}, "not allowed"),
    ({"max_worker_nodes": 2, "head_node_options": {"no_such": 1}}, "no option"),
    ({"max_worker_nodes": 2, "worker_node_options": {"resources": "{oops"}}, "not JSON"),
    ({"max_worker_nodes": 2, "worker_node_options": {"resources": {"CPU": 1}}}, "of its own"),
    ({"max_worker_nodes": 2, "worker_node_options": {"resources": {"a": -1}}}, ">= 0"),
    ({"max_worker_nodes": 2, "mode": "sharing"}, "exclusive, shared"),
    ({"max_worker_nodes": 2, "tls": True}, "off, psk"),
    ({"max_worker_nodes": 2, "wait": "all"}, "min, first, none"),
    ({"max_worker_nodes": 2, "forward_env": "HOME"}, "list of names"),
    ({"max_worker_nodes": 2, "forward_env": ["NO_SUCH_VARIABLE"]}, "is not set"),
    ({"max_worker_nodes": 2, "forward_env": ["A=B"]}, "not the name"),
    ({"max_worker_nodes": 2, "autoscale_idle_timeout_minutes": -1}, "autoscale_idle"),
    ({"max_worker_nodes": 2, "autoscale_upscaling_speed": "fast"}, "autoscale_upscaling"),
    ({"max_worker_nodes": 2, "collect_log_to_path": "s3://bucket/x"}, "file system"),
    ({"max_worker_nodes": 2, "worker_node_options": {"node_manager_port": 70000}}, "a port"),
    ({"max_worker_nodes": 2, "worker_node_options": {"node_name": "a,b"}}, "short text"),
    (
        {"max_worker_nodes": 2, "worker_node_options": {"system_config": {"worker_niceness": 20}}},
        "from 0 to 19",
    ),
    ({"max_worker_nodes": 2, "num_worker_nodes": 2}, "removed"),
    ({"max_worker_nodes": 2, "autoscale": True}, "removed"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=[str(a) for a, _ in BAD])
def test_bad_argument(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        skate_spark.setup_ray_cluster(**arguments)


def test_unknown_and_missing_arguments() -> None:
    with pytest.raises(TypeError, match="nodes_please"):
        skate_spark.setup_ray_cluster(max_worker_nodes=1, nodes_please=2)
    with pytest.raises(TypeError):
        skate_spark.setup_ray_cluster()
    with pytest.raises(TypeError):
        skate_spark.setup_ray_cluster(2)


def test_old_name_is_taken_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match="num_cpus_worker_node"):
        with pytest.raises(RuntimeError, match="no active Spark session"):
            skate_spark.setup_ray_cluster(max_worker_nodes=1, num_cpus_per_node=1)
    with pytest.raises(ValueError, match="old name"):
        skate_spark.setup_ray_cluster(
            max_worker_nodes=1, num_cpus_per_node=1, num_cpus_worker_node=1
        )


def test_without_spark_or_cluster() -> None:
    with pytest.raises(RuntimeError, match="no active Spark session"):
        skate_spark.setup_ray_cluster(max_worker_nodes=1, num_cpus_worker_node=1)
    with pytest.raises(RuntimeError, match="no active cluster"):
        skate_spark.shutdown_ray_cluster()


def test_connected_already(session: Any) -> None:
    with pytest.raises(RuntimeError, match="connected to a cluster already"):
        skate_spark.setup_ray_cluster(max_worker_nodes=1, num_cpus_worker_node=1)


def test_attach_without_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "SKATE_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    _core.carry("", 0)  # what other tests have unpickled without a session
    with pytest.raises(ConnectionError, match="RAY_ADDRESS is not set"):
        skate_spark.attach()


def test_the_node_of_the_own_executor_is_chosen() -> None:
    head, first, second = {"socket": "h"}, {"socket": "1", "executor": 7}, {"socket": "2"}
    second["executor"] = 8
    records = [head, first, second]
    assert choose(records, 8) is second
    assert choose(records, 9) is first, "a node without tasks must not be preferred"
    assert choose(records, 9, in_task=False) is head, "beside Spark's driver"
    assert choose(records, 8, in_task=False) is second
    assert choose([first], 9, in_task=False) is first
    assert choose([head], 8) is head
    assert choose([], 8) is None


def settings(**changes: Any) -> NodeSettings:
    fields: dict[str, Any] = {
        "key": "ab" * 32, "gcs": "127.0.0.1:5", "session": "s", "cpus": 2, "gpus": None,
        "memory": None, "object_store_memory": 1 << 27, "resources": {"disk": 15},
        "labels": {"zone": "a"}, "temp_root": None, "logs_to": None, "session_dir": "/s",
        "python_path": (),
    }  # fmt: skip
    return NodeSettings(**{**fields, **changes})


def test_settings_of_a_node() -> None:
    line = settings_line(settings(), Grant(3, 1, 2, ("0", "4")), "/run")
    assert line.endswith("\n") and line.count("\n") == 1
    pairs = dict(pair.split("=", 1) for pair in line.rstrip("\n").split("\t"))
    amounts = dict(amount.split(":", 1) for amount in pairs["resources"].split(","))
    assert pairs["cluster_key"] == "ab" * 32 and line.startswith("cluster_key=")
    assert pairs["node_name"] == "spark-3.1" and pairs["run_dir"] == "/run"
    assert float(amounts["CPU"]) == 2 and float(amounts["GPU"]) == 2
    assert float(amounts["disk"]) == 15 and pairs["arena_bytes"] == str(1 << 27)
    assert "tls" not in pairs and "shared_cpus" not in pairs
    other = settings_line(settings(tls=True, shared=True, name="n"), Grant(3, 1, 1, ()), "/run")
    assert {"tls=1", "shared_cpus=1", "lend_cpus=1", "node_name=n-3.1"} <= set(
        other.rstrip("\n").split("\t")
    )
    assert "zone=a" in pairs["labels"] and "spark-partition=3" in pairs["labels"]


def test_where_a_node_spills(tmp_path: Any) -> None:
    line = settings_line(
        settings(spills_to=str(tmp_path), system={"store_wait_s": 5}), Grant(0, 0, 1, ()), "/run"
    )
    assert {f"spill={tmp_path}", "store_wait_s=5.0"} <= set(line.rstrip("\n").split("\t"))
    options = {"object_spilling_directory": "/disk", "system_config": '{"store_wait_s": 5}'}
    named = {name: None for name in inspect.signature(skate_spark.setup_ray_cluster).parameters}
    plan = make_plan({**named, "max_worker_nodes": 1, "start_timeout_s": 1,
                      "worker_node_options": options, "head_node_options": {}}, {})  # fmt: skip
    assert (plan.node.spills_to, plan.node.system) == ("/disk", {"store_wait_s": 5})
    assert (plan.head.spills_to, plan.head.system) == (None, {})


def test_the_key_does_not_show() -> None:
    assert "abab" not in repr(settings()) and "abab" not in str(settings())


def test_sparks_errors_are_cut_to_what_matters() -> None:
    spark_text = (
        "org.apache.spark.SparkException: Job aborted: Task 0 failed 4 times\n"
        "org.apache.spark.api.python.PythonException: Traceback (most recent call last):\n"
        '  File "x.py", line 3, in run_node\n'
        "skate.util.spark._task.NodeError: the raylet died; its last lines on stderr:\nno luck\n"
        "\n\tat org.apache.spark.api.python.BasePythonRunner.f(PythonRunner.scala:581)\n"
        "\tat java.base/java.lang.Thread.run(Thread.java:840)\n"
    )
    assert short_error(spark_text) == "the raylet died; its last lines on stderr:\nno luck"
    other = "java.io.IOException: Cannot run program\n\tat java.base/x\n\t... 3 more\n"
    assert short_error(other) == "java.io.IOException: Cannot run program"
