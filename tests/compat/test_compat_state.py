"""util.state: rows of tasks, actors, objects, workers, nodes, jobs; filters; sums."""

from __future__ import annotations

import importlib
import os
import time
import warnings

import pytest
from compat_target import ON_RAY, ray, start

if ON_RAY:
    pytest.importorskip("aiohttp", reason="Ray's state API needs its dashboard (ray[default])")

state = importlib.import_module(f"{ray.__name__}.util.state")
errors = importlib.import_module(f"{ray.__name__}.util.state.exception")
pytestmark = pytest.mark.row("9.state")


@pytest.fixture()
def dashboard(tmp_path):
    """The shared cluster; on Ray with the dashboard, which its state API asks."""
    if not ray.is_initialized():
        start(**({"include_dashboard": True} if ON_RAY else {}))
    yield ray


@pytest.fixture()
def gate(tmp_path):
    """A path: tasks that were given it go on when it exists."""
    path = tmp_path / "open"
    yield str(path)
    path.touch()


@ray.remote
def held(path, *_):
    while not os.path.exists(path):
        time.sleep(0.01)
    return 1


@ray.remote
def failing():
    raise ValueError("on purpose")


@ray.remote
class Stateful:
    def ping(self):
        return os.getpid()

    def fail(self):
        raise ValueError("on purpose")


@ray.remote
class Needs:
    def __init__(self, value):
        self.value = value


@ray.remote(num_cpus=64)
class Wide:
    pass


def task_rows(name, **more):
    return state.list_tasks(filters=[("name", "=", name)], **more)


def states_of(name):
    return sorted(row.state for row in task_rows(name))


def test_tasks_in_each_state(dashboard, eventually, gate):
    first = held.options(name="t_run").remote(gate)
    second = held.options(name="t_args").remote(gate, first)
    eventually(lambda: states_of("t_run") == ["RUNNING"])
    wide = held.options(name="t_queue", num_cpus=2).remote(gate)
    eventually(lambda: states_of("t_args") == ["PENDING_ARGS_AVAIL"])
    eventually(lambda: states_of("t_queue") == ["PENDING_NODE_ASSIGNMENT"])
    open(gate, "w").close()
    assert ray.get([first, second, wide]) == [1, 1, 1]
    for name in ("t_run", "t_args", "t_queue"):
        eventually(lambda name=name: states_of(name) == ["FINISHED"])


def test_the_columns_of_a_task(dashboard, eventually):
    ref = held.options(name="t_columns").remote("/")
    ray.get(ref)
    row = eventually(lambda: [r for r in task_rows("t_columns") if r.state == "FINISHED"])[0]
    assert row.task_id == row["task_id"] == ref.task_id().hex()
    assert row.job_id == ray.get_runtime_context().get_job_id()
    assert row.type == "NORMAL_TASK" and row.attempt_number == 0
    assert row.name == "t_columns"
    assert row.node_id == ray.get_runtime_context().get_node_id()
    assert row.worker_pid and row.worker_pid != os.getpid()
    assert row.error_type is None and row.actor_id is None
    assert row.get("name") == "t_columns" and row.get("no such", 5) in (5, None)
    with pytest.raises(KeyError if not ON_RAY else Exception):
        row["no_such_column"]
    detailed = task_rows("t_columns", detail=True)[0]
    assert detailed.start_time_ms <= detailed.end_time_ms
    assert abs(detailed.end_time_ms / 1000 - time.time()) < 600
    assert state.get_task(row.task_id).name == "t_columns"


def test_tasks_that_failed(dashboard, eventually):
    ref = failing.options(name="t_fails", max_retries=0).remote()
    with pytest.raises(ValueError):
        ray.get(ref)
    eventually(lambda: states_of("t_fails") == ["FAILED"])
    assert task_rows("t_fails")[0].error_type == "TASK_EXECUTION_EXCEPTION"

    @ray.remote(max_retries=0, name="t_dies")
    def dies():
        os._exit(1)

    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(dies.remote())
    eventually(lambda: states_of("t_dies") == ["FAILED"])
    assert task_rows("t_dies")[0].error_type == "WORKER_DIED"


def test_each_attempt_is_a_row(dashboard, eventually, tmp_path):
    mark = str(tmp_path / "mark")

    @ray.remote(max_retries=2, retry_exceptions=True, name="t_again")
    def again():
        if not os.path.exists(mark):
            open(mark, "w").close()
            raise ValueError("first time")
        return 1

    assert ray.get(again.remote()) == 1
    eventually(lambda: states_of("t_again") == ["FAILED", "FINISHED"])
    rows = task_rows("t_again")
    assert {r.attempt_number for r in rows} == {0, 1}
    assert len(state.get_task(rows[0].task_id)) == 2


def test_actors(dashboard, eventually):
    actor = Stateful.options(name="stateful").remote()
    pid = ray.get(actor.ping.remote())
    rows = eventually(lambda: state.list_actors(filters=[("name", "=", "stateful"),
                                                         ("state", "=", "ALIVE")]))
    row = rows[0]
    assert row.class_name == "Stateful" and row["pid"] == pid
    assert row.actor_id == actor._actor_id.hex()
    assert row.job_id == ray.get_runtime_context().get_job_id()
    assert row.node_id == ray.get_runtime_context().get_node_id()
    assert row.ray_namespace == ray.get_runtime_context().namespace
    assert state.get_actor(row.actor_id).state == "ALIVE"
    calls = eventually(lambda: [r for r in task_rows("Stateful.ping") if r.state == "FINISHED"])
    assert calls[0].type == "ACTOR_TASK" and calls[0].actor_id == row.actor_id
    made = eventually(lambda: state.list_tasks(filters=[("type", "=", "ACTOR_CREATION_TASK"),
                                                        ("actor_id", "=", row.actor_id)]))
    assert made[0].func_or_class_name == "Stateful.__init__"
    assert made[0].name == "stateful:Stateful.__init__"
    ray.kill(actor)
    eventually(lambda: state.get_actor(row.actor_id).state == "DEAD")
    assert state.get_actor(row.actor_id).death_cause


def test_an_actor_that_waits(dashboard, eventually, gate):
    argument = held.remote(gate)

    needs, wide = Needs.remote(argument), Wide.remote()

    def state_of(cls):
        return [r.state for r in state.list_actors(filters=[("class_name", "=", cls)])]

    eventually(lambda: state_of("Needs") == ["DEPENDENCIES_UNREADY"])
    eventually(lambda: state_of("Wide") == ["PENDING_CREATION"])
    open(gate, "w").close()
    eventually(lambda: state_of("Needs") == ["ALIVE"])
    ray.kill(needs)
    ray.kill(wide)


def test_objects(dashboard, eventually, gate):
    ref = ray.put(b"x" * 3_000_000)
    used = ray.put([1])
    waiting = held.options(name="t_object").remote(gate, used)

    def rows(r):
        return state.list_objects(filters=[("object_id", "=", r.hex())], limit=1000)

    row = eventually(lambda: rows(ref))[0]
    assert row.object_size >= 3_000_000
    assert row.reference_type == "LOCAL_REFERENCE"
    assert row.pid == os.getpid() and row.type == "DRIVER"
    assert row["ip"] and row["call_site"]
    eventually(lambda: any(r.reference_type == "USED_BY_PENDING_TASK" for r in rows(used)))
    assert state.get_objects(ref.hex())[0].object_id == ref.hex()
    open(gate, "w").close()
    ray.get(waiting)


def test_nodes_workers_jobs(dashboard, eventually):
    ray.get(held.remote("/"))
    node = state.list_nodes()[0]
    assert node.state == "ALIVE" and node.is_head_node is True
    assert node.node_id == ray.get_runtime_context().get_node_id()
    assert node.resources_total["CPU"] == 2.0
    assert state.get_node(node.node_id).node_ip == node.node_ip
    workers = eventually(lambda: state.list_workers(
        filters=[("worker_type", "=", "WORKER"), ("is_alive", "=", True)],
        raise_on_missing_output=False))
    assert all(w.node_id == node.node_id and w.pid for w in workers)
    pids = [w.pid for w in workers]
    found = state.get_worker(workers[0].worker_id)
    assert found.worker_type == "WORKER" and found.pid == pids[0]
    drivers = state.list_workers(filters=[("worker_type", "=", "DRIVER")],
                                 raise_on_missing_output=False)
    assert os.getpid() in [w.pid for w in drivers]
    job = [j for j in state.list_jobs() if j.job_id == ray.get_runtime_context().get_job_id()][0]
    assert job.status == "RUNNING" and job.type == "DRIVER"
    assert job.entrypoint and job.driver_info.pid == str(os.getpid())


def test_filters_and_limits(dashboard, eventually):
    ray.get([held.options(name=f"t_filter_{i % 2}").remote("/") for i in range(6)])
    eventually(lambda: len(task_rows("t_filter_0")) == len(task_rows("t_filter_1")) == 3)
    others = state.list_tasks(filters=[("name", "!=", "t_filter_0"), ("state", "=", "FINISHED")],
                              limit=1000)
    names = {row.name for row in others}
    assert "t_filter_1" in names and "t_filter_0" not in names
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there are more, they say
        assert len(task_rows("t_filter_0", limit=2)) == 2
    assert task_rows("no such name") == []
    assert state.get_actor("0" * 32) is None
    for wrong in ([("name", "=")], [("name", ">", "a")]):
        with pytest.raises((ValueError, errors.RayStateApiException)):
            state.list_tasks(filters=wrong)
    with pytest.raises(errors.RayStateApiException):
        state.list_tasks(filters=[("no_such_key", "=", "a")])
    with pytest.raises((errors.RayStateApiException, ValueError)):
        state.list_tasks(limit=1_000_000)


def test_sums(dashboard, eventually):
    actor = Stateful.remote()
    ray.get(actor.ping.remote())
    refs = [held.options(name="t_sum").remote("/") for _ in range(3)]
    ray.get(refs)

    def counts():
        group = state.summarize_tasks()["cluster"]["summary"]
        return {name: entry["state_counts"] for name, entry in group.items()}

    eventually(lambda: counts().get("t_sum", {}).get("FINISHED", 0) >= 3)
    whole = state.summarize_tasks()["cluster"]
    assert whole["total_tasks"] >= 3 and whole["summary_by"] == "func_name"
    assert whole["total_actor_tasks"] >= 1 and whole["total_actor_scheduled"] >= 1
    actors = state.summarize_actors()["cluster"]
    assert actors["summary"]["Stateful"]["state_counts"]["ALIVE"] >= 1
    assert actors["total_actors"] >= 1
    big = ray.put(b"x" * 2_000_000)
    objects = eventually(lambda: state.summarize_objects()["cluster"])
    assert objects["total_objects"] >= 1 and objects["total_size_mb"] > 1.9
    del big


def test_runtime_envs(dashboard, eventually, gate):
    ref = held.options(runtime_env={"env_vars": {"STATE_TEST": "1"}}).remote(gate)

    def mine():
        rows = state.list_runtime_envs(raise_on_missing_output=False)
        return [r for r in rows if r.runtime_env.get("env_vars") == {"STATE_TEST": "1"}]

    row = eventually(mine)[0]
    assert row.success is True
    assert row.node_id == ray.get_runtime_context().get_node_id()
    open(gate, "w").close()
    ray.get(ref)


def test_names_can_be_imported():
    for name in ("list_actors", "list_jobs", "list_nodes", "list_objects", "list_placement_groups",
                 "list_runtime_envs", "list_tasks", "list_workers", "get_actor", "get_job",
                 "get_node", "get_objects", "get_placement_group", "get_task", "get_worker",
                 "summarize_actors", "summarize_objects", "summarize_tasks", "StateApiClient"):
        assert callable(getattr(state, name))
    assert issubclass(errors.ServerUnavailable, errors.RayStateApiException)


def test_without_a_cluster(no_cluster):
    with pytest.raises((errors.RayStateApiException, ConnectionError)):
        state.list_tasks(timeout=2)
