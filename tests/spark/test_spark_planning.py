"""What set-up decides before it asks Spark for anything: pure functions, no Spark, no cluster."""

from __future__ import annotations

import inspect
import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from skate import _init_config
from skate.util import spark as skate_spark
from skate.util.spark import (
    _budget,
    _global,
    _gpu,
    _guards,
    _hook,
    _job,
    _read_logs,
    _scaler,
    _slots,
)
from skate.util.spark import databricks_hook as databricks
from skate.util.spark._budget import ExecutorShape, Machine
from skate.util.spark._plan import MAX_NUM_WORKER_NODES, Plan, check_limits, make_plan

GB = 1 << 30


def planned(is_global: bool = False, **given: Any) -> Plan:
    """The plan of these arguments; the others at their defaults."""
    api = skate_spark.setup_ray_cluster
    defaults = {n: p.default for n, p in inspect.signature(api).parameters.items() if n != "kwargs"}
    return make_plan({**defaults, "max_worker_nodes": 2, **given}, {}, {"A": "1"}, is_global)


# --------------------------------------------------------------------------------------- the plan


def test_nodes_of_a_plan() -> None:
    fixed = planned()
    assert not fixed.is_elastic and fixed.first_nodes(2) == 2 and fixed.awaited(2) == 2
    elastic = planned(max_worker_nodes=5, min_worker_nodes=1)
    assert elastic.is_elastic and elastic.first_nodes(5) == 1
    everything = planned(max_worker_nodes=MAX_NUM_WORKER_NODES)
    assert not everything.is_elastic and everything.first_nodes(7) == 7
    assert planned(wait="first").awaited(4) == 1 and planned(wait="none").awaited(4) == 0
    assert planned(min_worker_nodes=0, wait="first").awaited(0) == 0


def test_defaults_and_options_of_a_plan() -> None:
    assert planned().niceness == 0 and planned(mode="shared").niceness == 5
    options = {"system_config": {"worker_niceness": 3}, "node_name": "n", "node_manager_port": 7}
    plan = planned(worker_node_options=options, forward_env=["A"], autoscale_idle_timeout_minutes=2)
    assert (plan.niceness, plan.node.name, plan.node.port) == (3, "n", 7)
    assert plan.forward == ("A",) and plan.idle_timeout_s == 120
    odd = {"dashboard_port": 9999, "disable_usage_stats": None}
    assert planned(head_node_options=odd).missed == ("dashboard_port",)
    assert planned(autoscale_idle_timeout_minutes=0).idle_timeout_s == 1.0
    assert planned().idle_shutdown_s == 0
    assert planned(idle_shutdown_minutes=2).idle_shutdown_s == 120
    assert planned(collect_log_to_path="file:///x/y").logs_to == "/x/y"
    assert (planned().head.cpus, planned().head.gpus) == (0, 0)
    assert planned(is_global=True).head.cpus is None, "a global head offers the machine"


def test_where_the_head_runs() -> None:
    assert planned().head_at == "driver" and planned(is_global=True).head_at == "driver"
    assert planned(head="auto").head_at == "auto"
    with pytest.raises(ValueError, match="is one of driver, executor, auto"):
        planned(head="master")
    for more in ({"num_cpus_head_node": 1}, {"num_gpus_head_node": 1}):
        with pytest.raises(ValueError, match="it has no CPUs and GPUs to offer"):
            planned(head="executor", **more)
        assert planned(**more).head_at == "driver"


def test_the_signatures_are_rays_and_ours() -> None:
    own = set(inspect.signature(skate_spark.setup_ray_cluster).parameters)
    everywhere = set(inspect.signature(skate_spark.setup_global_ray_cluster).parameters)
    assert own - everywhere == {
        "ray_temp_root_dir", "forward_env", "head", "idle_shutdown_minutes", "kwargs",
    }  # fmt: skip
    assert everywhere - own == {"is_blocking"}


@pytest.mark.parametrize("limits", [(-1, 2), (3, 2), (0, 1.5), (True, 2), ("1", 2)])
def test_limits_that_cannot_be_meant(limits: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match=r"scale\(\)"):
        check_limits(*limits)


# --------------------------------------------------------------------------------------- memory


def test_a_nodes_share_of_its_machine() -> None:
    half = _budget.plan(Machine(memory=100 * GB, cores=8), 4)
    assert half.store == int(40 * GB * 0.3) & ~4095 and half.memory + half.store <= 40 * GB
    assert half.note == ""
    beside = _budget.plan(Machine(memory=100 * GB, cores=8), 4, ExecutorShape(4, 10 * GB))
    assert beside.memory + beside.store <= 30 * GB, "the executor's heap is not the node's"
    packed = _budget.plan(Machine(100 * GB, 8, group_limit=12 * GB), 4, ExecutorShape(4, 2 * GB))
    assert packed.memory + packed.store <= 8 * GB, "its container, less the heap"
    shared = _budget.plan(Machine(100 * GB, 8, group_limit=12 * GB), 2, ExecutorShape(4, 2 * GB))
    assert shared.memory + shared.store <= 4 * GB, "half of the executor, half of the container"


def test_what_the_caller_says_of_memory_stands() -> None:
    asked = _budget.plan(Machine(8 * GB, 8), 8, None, memory=123, store=5 * GB)
    assert (asked.memory, asked.store, asked.note) == (123, 5 * GB, "")
    much = _budget.plan(Machine(8 * GB, 8), 8, None, store=7 * GB)
    assert much.store == 7 * GB and "may run out" in much.note
    small = _budget.plan(Machine(8 * GB, 8, shared=64 << 20), 1)
    assert small.store == _budget.LEAST_STORE and "object_store_memory_worker_node" in small.note


def test_the_variables_that_stand_over_what_is_measured() -> None:
    own = _budget.measure({})
    assert own.memory > 1 << 27 and own.cores >= 1 and own.shared is None
    env = {
        "RAY_ON_SPARK_WORKER_CPU_CORES": "16",
        "RAY_ON_SPARK_WORKER_PHYSICAL_MEMORY_BYTES": str(64 * GB),
        "RAY_ON_SPARK_WORKER_SHARED_MEMORY_BYTES": str(2 * GB),
        "RAY_ON_SPARK_DRIVER_PHYSICAL_MEMORY_BYTES": str(4 * GB),
    }
    assert _budget.measure(env) == Machine(64 * GB, 16, None, 2 * GB)
    assert _budget.measure(env, driver=True).memory == 4 * GB
    capped = _budget.plan(_budget.measure(env), 8)
    assert capped.store == int(2 * GB * 0.8) // 2 & ~4095
    with pytest.raises(ValueError, match="RAY_ON_SPARK_WORKER_CPU_CORES is a whole number"):
        _budget.measure({"RAY_ON_SPARK_WORKER_CPU_CORES": "many"})


def test_sparks_sizes() -> None:
    sizes = {"1g": GB, "512m": 512 << 20, "2GB": 2 * GB, "100": 100, "x": 0, "1.5g": 0}
    assert {text: _budget.spark_bytes(text) for text in sizes} == sizes
    assert _budget.executor_shape({"spark.executor.memory": "3g"}, 2, False).heap == 3 * GB
    assert _budget.executor_shape({"spark.driver.memory": "2g"}, 2, True).heap == 2 * GB
    assert _budget.executor_shape({}, 2, False).heap == GB


def test_the_container_that_spark_asked_for() -> None:
    plain = _budget.executor_shape({}, 2, False, "spark://host:7077")
    assert plain.container is None, "a standalone worker looks at no memory"
    small = _budget.executor_shape({"spark.executor.memory": "2g"}, 2, False, "yarn")
    assert small.container == 2 * GB + (384 << 20)
    conf = {"spark.executor.memory": "2g", "spark.executor.memoryOverhead": "6g",
            "spark.executor.pyspark.memory": "1g"}  # fmt: skip
    large = _budget.executor_shape(conf, 2, False, "k8s://https://x")
    assert large.container == 9 * GB
    budget = _budget.plan(Machine(100 * GB, 8), 2, large)
    assert budget.memory + budget.store <= int(7 * GB * 0.8), "all but the heap"


# --------------------------------------------------------------------------------------- GPUs


def test_gpus_of_a_grant() -> None:
    assert _gpu.names(("1", "0"), {}) == ("1", "0")
    assert _gpu.names(("1",), {"CUDA_VISIBLE_DEVICES": "4, 7"}) == ("7",)
    assert _gpu.names(("GPU-abc",), {"CUDA_VISIBLE_DEVICES": "GPU-abc"}) == ("GPU-abc",)
    with pytest.raises(ValueError, match="GPU discovery script"):
        _gpu.names(("2",), {"CUDA_VISIBLE_DEVICES": "4,7"})


def test_how_many_gpus_a_node_asks_for() -> None:
    conf = {"spark.executor.resource.gpu.amount": "2"}
    assert _gpu.wanted(conf, None, False) == 2, "a whole executor, GPUs and all"
    assert _gpu.wanted(conf, None, True) == 0 and _gpu.wanted(conf, 1, True) == 1
    conf["spark.executorEnv.RAY_ON_SPARK_WORKER_GPU_NUM"] = "1"
    assert _gpu.wanted(conf, None, False) == 1
    assert _gpu.wanted({}, None, False) == 0
    part = {"spark.task.resource.gpu.amount": "0.5"}
    assert _gpu.offered(part, 0) == 0, "others have the rest of it"
    assert _gpu.offered(part, 2) == 2 and _gpu.offered({}, 0) is None


# --------------------------------------------------------------------------------------- guards


def test_settings_of_spark_that_harm_nodes() -> None:
    assert _guards.of_settings({}) == []
    [found] = _guards.of_settings({"spark.speculation": "true"})
    assert not found.fatal and "spark.speculation=false" in found.text
    idle = {"spark.python.worker.killOnIdleTimeout": "true"}
    assert _guards.of_settings(idle) == [], "without a time-out it kills nobody"
    [found] = _guards.of_settings({**idle, "spark.python.worker.idleTimeoutSeconds": "30s"})
    assert found.fatal and "killOnIdleTimeout=false" in found.text and "30 s" in found.text
    [found] = _guards.of_settings({"spark.task.resource.gpu.amount": "0.25"})
    assert "0.25" in found.text and not found.fatal
    [found] = _guards.of_settings({"spark.executor.pyspark.memory": "1g"})
    assert "address space" in found.text


def test_no_java_is_said(tmp_path: Path) -> None:
    assert "Java 17" in _guards.why_no_session({}, None)
    assert "no bin/java" in _guards.why_no_session({"JAVA_HOME": str(tmp_path)}, None)
    plain = _guards.why_no_session({}, "/usr/bin/java")
    assert "getOrCreate" in plain and "Java" not in plain


def test_errors_of_a_first_task_in_plain_words() -> None:
    text = (
        "pyspark.errors.PySparkRuntimeError: [PYTHON_VERSION_MISMATCH] Python in worker has "
        "different version: 3.9 than that in driver: 3.11, PySpark cannot run with different minor"
    )
    told = _guards.explain(text, "/opt/python3.9", "/usr/bin/python3.11 (Python 3.11)") or ""
    assert "/opt/python3.9, which is Python 3.9" in told and "/usr/bin/python3.11" in told
    assert "PYSPARK_PYTHON" in told
    text = 'java.io.IOException: Cannot run program "/no/python": error=2, No such file'
    assert "/no/python" in (_guards.explain(text, "/no/python") or "")
    text = "ModuleNotFoundError: No module named 'skate'\n\tat org.apache"
    told = _guards.explain(text, "/opt/python3") or ""
    assert "/opt/python3" in told and sys.executable in told and "ship()" in told
    text = "org.apache.spark.SparkException: Python worker exited unexpectedly (crashed). Consider"
    assert "it was killed" in (_guards.explain(text, "python3") or "")
    assert _guards.explain("NodeError: no luck", "python3") is None
    assert _guards.wrong_package("1.0", "1.0", "p") is None
    assert "1.0" in (_guards.wrong_package("2.0", "1.0", "/p") or "")


def test_pauses_between_jobs_that_fail() -> None:
    pauses = [_job.pause_before(n) for n in range(12)]
    assert pauses[:5] == [0, 0, 0, 0, 1] and pauses[5:8] == [2, 4, 8] and pauses[-1] == 30


def test_executors_that_come_by_themselves() -> None:
    of = _slots.expected_executors
    assert of("local-cluster[3,1,1024]", {}) == 3 and of("spark://x:1", {}) == 1
    assert of("yarn", {"spark.executor.instances": "4"}) == 4
    grows = {"spark.dynamicAllocation.enabled": "true"}
    assert of("local-cluster[3,1,1024]", grows) == 0, "none before a task asks for one"
    assert of("yarn", {**grows, "spark.dynamicAllocation.minExecutors": "2"}) == 2
    assert _slots.can_grow(grows) and not _slots.can_grow({})
    executors = [_slots.Executor("0", "h", 4), _slots.Executor("1", "h", 2)]
    assert _slots.slots(executors, 2) == 3 and _slots.slots(executors, 1, 1, 2) == 4


def test_executors_that_do_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    class Context:
        master = "spark://host:7077"

    there = [_slots.Executor("0", "h", 2)]
    monkeypatch.setattr(_slots, "executors", lambda context: list(there))
    monkeypatch.setattr(_slots, "settings", lambda context: {"spark.executor.instances": "2"})
    monkeypatch.setattr(_slots, "EXECUTORS_SLOW_S", 0.0)
    said: list[str] = []
    assert _slots.wait_executors(Context(), 1, said.append) == there and said == []
    assert _slots.wait_executors(Context(), 2, said.append, 0.1) == there
    assert "1 of 2 executors are registered" in said[0] and "spark.executor.cores" in said[0]
    assert "going on with them" in said[1]


def test_too_few_slots_and_waiting() -> None:
    assert _guards.too_few_slots(2, 2, 1, False) is None
    text = _guards.too_few_slots(6, 4, 1, False) or ""
    assert "room for 4 of the 6 nodes" in text and "max_worker_nodes=4" in text
    assert "when it gets more executors" in (_guards.too_few_slots(6, 4, 1, True) or "")
    assert "smaller nodes" in (_guards.too_few_slots(1, 0, 8, False) or "")
    assert "3 (count)" in _guards.why_waiting(0, 2, ["3 (count)"])
    assert "free Spark slots" in _guards.why_waiting(1, 2, [])
    assert "4 tasks" in _guards.stuck_barrier(7, 4, 2, 2)


def test_nodes_with_hardly_any_memory_for_objects() -> None:
    rows = [
        {"NodeName": name, "Alive": alive, "Resources": {"object_store_memory": size}}
        for name, alive, size in (("a", True, 75), ("b", True, 76), ("c", False, 75))
    ]
    text = _guards.small_stores(rows, 75) or ""
    assert "on a: " in text and "object_store_memory_worker_node" in text
    assert _guards.small_stores(rows[1:], 75) is None


# --------------------------------------------------------------------------------------- hooks


class HookOfTheTest(skate_spark.RayOnSparkStartHook):
    """Named by its path."""

    def get_default_temp_root_dir(self) -> str:
        """Its own."""
        return "/somewhere"

    def custom_environment_variables(self) -> dict[str, str]:
        """One."""
        return {"OF_THE_HOOK": "1"}


def test_the_hook_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = _hook.make(False, {})
    assert type(plain) is skate_spark.RayOnSparkStartHook and not plain.is_global
    assert _hook.temp_root(plain) is None and _hook.variables(plain) == {}
    module = types.ModuleType("hooks_of_the_test")
    module.Hook = HookOfTheTest  # type: ignore[attr-defined]
    module.Nothing = lambda is_global: object()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hooks_of_the_test", module)
    hook = _hook.make(True, {_hook.VARIABLE: "hooks_of_the_test.Hook"})
    assert isinstance(hook, HookOfTheTest) and hook.is_global
    assert _hook.temp_root(hook) == "/somewhere"
    assert _hook.variables(hook) == {"OF_THE_HOOK": "1"}
    for bad in ("hooks_of_the_test.Missing", "no_such_module.Hook", "Hook"):
        with pytest.raises(ValueError, match="package.module.Class"):
            _hook.make(False, {_hook.VARIABLE: bad})
    with pytest.raises(ValueError, match="get_default_temp_root_dir"):
        _hook.make(False, {_hook.VARIABLE: "hooks_of_the_test.Nothing"})
    monkeypatch.setattr(HookOfTheTest, "custom_environment_variables", lambda self: {"A": 1})
    with pytest.raises(ValueError, match="names variables and texts"):
        _hook.variables(hook)


def test_the_hook_of_databricks() -> None:
    hook = _hook.make(False, {_hook.DATABRICKS: "15.4"})
    assert isinstance(hook, databricks.DefaultDatabricksRayOnSparkStartHook)
    assert hook.get_default_temp_root_dir() == "/local_disk0/tmp"
    token = {"DATABRICKS_HOST": "h", "DATABRICKS_TOKEN": "t"}
    assert databricks.account({**token, "X": "y"}) == token
    assert databricks.account({"DATABRICKS_HOST": "h"}) is None
    assert databricks.idle_minutes({}, False) == 30 and databricks.idle_minutes({}, True) == 0
    with pytest.raises(ValueError, match="number of minutes"):
        databricks.idle_minutes({databricks.AUTO_SHUTDOWN: "-1"}, False)


def test_an_idle_notebook_ends_the_cluster() -> None:
    class Entry:
        def __init__(self) -> None:
            self.idle = iter([0, 59_000, 61_000])

        def getIdleTimeMillisSinceLastNotebookExecution(self) -> int:
            return next(self.idle)

    class Cluster:
        is_shutdown = False

        def shutdown(self) -> None:
            self.is_shutdown = True

    cluster = Cluster()
    databricks.watch(Entry(), cluster, 1.0, period_s=0.0)
    assert cluster.is_shutdown


# --------------------------------------------------------------------------------------- the rest


def test_one_global_cluster_at_a_time(tmp_path: Path) -> None:
    base = str(tmp_path)
    first = _global.Claim(base)
    with pytest.raises(ValueError, match=rf"process {os.getpid()}"):
        _global.Claim(base)
    first.record("127.0.0.1:5")
    assert (tmp_path / "current_cluster").read_text() == "127.0.0.1:5"
    first.release()
    first.release()
    assert not (tmp_path / "current_cluster").exists()
    second = _global.Claim(base)
    second.record("127.0.0.1:6")
    (tmp_path / "current_cluster").write_text("127.0.0.1:7")  # `skate start --head` came later
    second.release()
    assert (tmp_path / "current_cluster").read_text() == "127.0.0.1:7"


def test_variables_for_the_workers_of_this_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_TEST", "s")
    monkeypatch.setenv(_init_config.FORWARD, "SECRET_OF_THE_TEST,NOT_THERE")
    merged = _init_config.merge(None, None, None)
    assert merged["forwarded"] == {"SECRET_OF_THE_TEST": "s"}
    assert merged["runtime_env"] is None, "which lists show"
    monkeypatch.delenv(_init_config.FORWARD)
    assert "forwarded" not in _init_config.merge(None, None, None)


def test_counting_nodes_while_lines_are_on_their_way() -> None:
    count = _scaler.Count()
    count.hear({"held": 1, "started": 0})
    count.started += 2
    assert count.held == 3, "asked for, and the driver has not answered"
    count.hear({"held": 1, "started": 0})
    assert count.held == 3, "a line from before it heard"
    count.hear({"held": 3, "started": 2})
    count.hear({"config": {}})
    assert count.held == 3
    count.hear({"held": 2, "started": 2})
    assert count.held == 2, "one has ended"


def test_nodes_that_are_late_are_told_once() -> None:
    late = _scaler.Lateness(10.0)
    assert [late.is_news(2, 1, t) for t in (0.0, 9.0, 11.0, 12.0)] == [False, False, True, False]
    assert not late.is_news(2, 2, 13.0)
    assert [late.is_news(2, 1, t) for t in (14.0, 25.0)] == [False, True], "missing again"


def node(name: str, number: str, alive: bool = True) -> dict[str, Any]:
    """A row of nodes()."""
    labels = {"spark-partition": number} if number else {}
    return {"NodeID": f"{name}-id-0000", "NodeName": name, "Alive": alive, "Labels": labels}


def test_which_nodes_logs_are_meant() -> None:
    head, zero, one = node("head", ""), node("spark-0.0", "0"), node("spark-1.0", "1", False)
    again = node("spark-1.1", "1")
    rows = [head, zero, one, again]
    assert _read_logs.pick(rows, "head") is head and _read_logs.pick(rows, 0) is zero
    assert _read_logs.pick(rows, 1) is again, "the dead one's replacement"
    assert _read_logs.pick(rows, zero) is zero and _read_logs.pick(rows, "spark-0.0-id") is zero
    assert _read_logs.pick(rows, "spark-1.0") is one, "it has ended"
    said = _read_logs.of_ended({**one, "DeathReasonMessage": "cable cut"}, "a\nb\n", 2)
    assert said["raylet.err"].startswith("b\n(the node has ended: cable cut. collect_log_to_path")
    assert _read_logs.of_ended({**one, "DeathReasonMessage": ""}, "", 0) == {"raylet.err": ""}
    with pytest.raises(ValueError, match="is no node 'x'.*spark-1.1"):
        _read_logs.pick(rows, "x")


def test_the_end_of_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.log"
    path.write_text("one\ntwo\nthree\n")
    assert _read_logs.last_lines(str(path), 2) == "two\nthree\n"
    assert _read_logs.last_lines(str(path), None) == "one\ntwo\nthree\n"
    assert _read_logs.last_lines(str(path), 0) == ""
    assert _read_logs.read_folder(str(tmp_path), 1) == {"a.log": "three\n"}
    monkeypatch.setattr(_read_logs, "MOST_BYTES", 9)
    assert _read_logs.last_lines(str(path), None) == "three\n", "no half of a line"
    assert "cannot be read" in _read_logs.last_lines(str(tmp_path / "b.log"), 1)
