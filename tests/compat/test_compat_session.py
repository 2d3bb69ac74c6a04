"""init, shutdown, second sessions, automatic init, nodes and resources, the runtime context."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap

import pytest
from compat_target import CPUS, ON_RAY, TARGET, exceptions, ray, start

HERE = os.path.dirname(os.path.abspath(__file__))


def run_driver(source: str, *args: str, cwd: str | None = None) -> str:
    """Standard output of a fresh driver process."""
    env = dict(os.environ, SKATE_COMPAT_TARGET=TARGET)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [HERE, env.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), *args],
        env=env, cwd=cwd, capture_output=True, text=True, timeout=120,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


# ------------------------------------------------------------------------------ init and shutdown


@pytest.mark.row("1.init", "1.shutdown")
def test_init_and_shutdown(no_cluster):
    assert not ray.is_initialized()
    start()
    assert ray.is_initialized()
    ray.shutdown()
    assert not ray.is_initialized()
    ray.shutdown()


@pytest.mark.row("1.init")
def test_second_init_is_an_error_unless_ignored(no_cluster):
    start()
    with pytest.raises(RuntimeError):
        start()
    assert ray.is_initialized()
    start(ignore_reinit_error=True)
    assert ray.is_initialized()


@pytest.mark.row("1.context")
def test_init_returns_a_context(no_cluster):
    context = start()
    assert re.fullmatch("[0-9a-f]{56}", context["node_id"])
    assert context["node_id"] == context.address_info["node_id"]
    assert ":" in context.address_info["gcs_address"]
    assert os.path.isdir(context.address_info["session_dir"])
    assert context.python_version.count(".") == 2


@pytest.mark.row("1.context")
def test_context_manager_shuts_down(no_cluster):
    with start():
        assert ray.is_initialized()
    assert not ray.is_initialized()


@pytest.mark.row("1.init")
def test_unknown_keyword(no_cluster):
    with pytest.raises(RuntimeError):
        start(no_such_option=1)
    assert not ray.is_initialized()


@pytest.mark.row("1.shutdown")
def test_two_sessions_in_one_process(no_cluster):
    @ray.remote
    def twice(x):
        return 2 * x

    @ray.remote
    class Holder:
        def __init__(self, x):
            self.x = x

        def get(self):
            return self.x

    for x in (1, 2):
        start()
        assert ray.get(twice.remote(x)) == 2 * x
        assert ray.get(Holder.remote(x).get.remote()) == x
        ray.shutdown()


@pytest.mark.row("1.shutdown")
def test_old_refs_fail_in_a_new_session(no_cluster):
    start()
    old = ray.put([1, 2, 3])
    ray.shutdown()
    start()
    with pytest.raises((ValueError, exceptions.RayError)):
        ray.get(old, timeout=5)


@pytest.mark.row("1.auto_init")
def test_calls_without_init_start_a_cluster():
    # In a process of its own; "local": Ray would join any cluster that somebody else started.
    out = run_driver(
        """
        import os
        os.environ["RAY_ADDRESS"] = "local"
        from compat_target import ray
        @ray.remote
        def f(x):
            return x + 1
        assert not ray.is_initialized()
        print(ray.get(f.remote(1)), ray.is_initialized())
        """
    )
    assert out.split() == ["2", "True"]


@pytest.mark.row("1.init", "7.whole")
@pytest.mark.parametrize("options", [{"num_cpus": -1}, {"resources": {"gold": -2}}])
def test_negative_resources_of_a_node(no_cluster, options):
    if ON_RAY:
        pytest.skip("raises the same, but Ray leaves processes behind")
    with pytest.raises(ValueError):
        start(**options)
    ray.shutdown()


@pytest.mark.row("1.init")
def test_a_wrong_address_fails(no_cluster):
    if ON_RAY:
        pytest.skip("takes Ray more than 10 s")
    with pytest.raises((ConnectionError, ValueError, RuntimeError)):
        ray.init(address="127.0.0.1:1")
    assert not ray.is_initialized()


@pytest.mark.row("1.init")
def test_methods_before_init_say_so(no_cluster):
    for call in (ray.nodes, ray.cluster_resources, ray.available_resources):
        with pytest.raises((exceptions.RaySystemError, RuntimeError)):
            call()
    assert not ray.is_initialized()


# ------------------------------------------------------------------------------ what a node offers


@pytest.mark.row("1.nodes")
def test_nodes(cluster):
    [node] = ray.nodes()
    assert node["Alive"] is True and node["alive"] is True
    assert re.fullmatch("[0-9a-f]{56}", node["NodeID"])
    assert node["Resources"]["CPU"] == CPUS
    assert node["Resources"]["gold"] == 4
    for key in ("NodeManagerAddress", "NodeManagerHostname", "NodeManagerPort", "NodeName"):
        assert key in node


@pytest.mark.row("1.resources")
def test_cluster_and_available_resources(cluster, eventually):
    total = ray.cluster_resources()
    assert total["CPU"] == CPUS and total["gold"] == 4.0
    assert isinstance(total["CPU"], float)
    assert total["memory"] > 0 and total["object_store_memory"] > 0
    assert any(key.startswith("node:") for key in total)
    assert eventually(lambda: ray.available_resources().get("CPU") == CPUS)


@pytest.mark.row("1.resources")
def test_available_resources_fall_and_rise(cluster, eventually, tmp_path):
    @ray.remote(num_cpus=1, resources={"gold": 3})
    def hold(path):
        import time

        while not os.path.exists(path):
            time.sleep(0.01)

    gate = tmp_path / "gate"
    ref = hold.remote(str(gate))
    eventually(lambda: ray.available_resources().get("gold") == 1)
    eventually(lambda: ray.available_resources().get("CPU") == CPUS - 1)
    gate.touch()
    ray.get(ref)
    eventually(lambda: ray.available_resources().get("gold") == 4)


# ------------------------------------------------------------------------------ the runtime context


@pytest.mark.row("6.ids")
def test_runtime_context_in_the_driver(cluster):
    context = ray.get_runtime_context()
    assert re.fullmatch("[0-9a-f]{8}", context.get_job_id())
    assert re.fullmatch("[0-9a-f]{56}", context.get_node_id())
    assert re.fullmatch("[0-9a-f]{56}", context.get_worker_id())
    assert context.get_actor_id() is None
    assert context.get_task_name() is None
    assert context.get_node_id() == ray.nodes()[0]["NodeID"]


@pytest.mark.row("6.ids", "6.names")
def test_runtime_context_in_a_task(cluster):
    @ray.remote
    def describe():
        context = ray.get_runtime_context()
        return {
            "job": context.get_job_id(),
            "node": context.get_node_id(),
            "task": context.get_task_id(),
            "actor": context.get_actor_id(),
            "name": context.get_task_name(),
            "resources": context.get_assigned_resources(),
        }

    ref = describe.remote()
    seen = ray.get(ref)
    here = ray.get_runtime_context()
    assert seen["job"] == here.get_job_id() and seen["node"] == here.get_node_id()
    assert re.fullmatch("[0-9a-f]{48}", seen["task"])
    assert seen["task"] == ref.task_id().hex()
    assert seen["actor"] is None
    assert seen["name"].endswith("describe")
    assert seen["resources"] == {"CPU": 1.0}
    assert ray.get(describe.options(name="other").remote())["name"] == "other"


@pytest.mark.row("6.ids")
def test_runtime_context_in_an_actor(cluster):
    @ray.remote
    class Describe:
        def ids(self):
            context = ray.get_runtime_context()
            return context.get_actor_id(), context.was_current_actor_reconstructed

        def me(self):
            return ray.get_runtime_context().current_actor

    actor = Describe.remote()
    actor_id, reconstructed = ray.get(actor.ids.remote())
    assert actor_id == actor._actor_id.hex()
    assert re.fullmatch("[0-9a-f]{32}", actor_id)
    assert reconstructed is False
    assert ray.get(actor.me.remote()) == actor


@pytest.mark.row("6.ids")
def test_job_ids_differ_between_drivers():
    source = """
        from compat_target import ray, start
        start()
        print(ray.get_runtime_context().get_job_id(), ray.get_runtime_context().namespace)
        """
    assert run_driver(source).split()[-1] != run_driver(source).split()[-1]


@pytest.mark.row("8.script_dir")
def test_a_module_beside_the_script_is_importable_in_workers(tmp_path):
    (tmp_path / "beside_module.py").write_text("def triple(x):\n    return 3 * x\n")
    script = tmp_path / "main_script.py"
    script.write_text(textwrap.dedent(
        """
        from compat_target import ray, start
        import beside_module

        @ray.remote
        def f(x):
            return beside_module.triple(x)

        @ray.remote
        def g(x):
            import beside_module as again
            return again.triple(x)

        start()
        print("answer", ray.get(f.remote(2)), ray.get(g.remote(3)),
              ray.get(ray.remote(beside_module.triple).remote(4)))
        """
    ))
    env = dict(os.environ, SKATE_COMPAT_TARGET=TARGET)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [HERE, env.get("PYTHONPATH", "")]))
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True,
                          timeout=120)
    assert "answer 6 9 12" in done.stdout, done.stdout + done.stderr


@pytest.mark.row("14.closures")
def test_main_functions_and_classes_travel(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(
        """
        from compat_target import ray, start

        FACTOR = 7

        class Point:
            def __init__(self, x):
                self.x = x
            def scaled(self):
                return Point(self.x * FACTOR)

        @ray.remote
        def scale(point):
            assert isinstance(point, Point)
            return point.scaled()

        if __name__ == "__main__":
            start()
            back = ray.get(scale.remote(Point(2)))
            print("answer", type(back) is Point, back.x)
        """
    ))
    env = dict(os.environ, SKATE_COMPAT_TARGET=TARGET)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [HERE, env.get("PYTHONPATH", "")]))
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True,
                          timeout=120)
    assert "answer True 14" in done.stdout, done.stdout + done.stderr
