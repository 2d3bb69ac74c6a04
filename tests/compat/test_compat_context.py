"""Where am I? The runtime context in drivers, tasks and actors; the names of 1.8."""

from __future__ import annotations

import os
import re
import warnings

import pytest
from compat_target import ray, start

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def here():
    return ray.get_runtime_context()


@ray.remote
def names():
    context = here()
    return (
        context.get_task_name(),
        context.get_task_function_name(),
        context.get_actor_name(),
        context.get_actor_id(),
    )


@ray.remote
class Named:
    def __init__(self):
        self.at_birth = here().get_task_name(), here().get_task_function_name()

    def birth(self):
        return self.at_birth

    def names(self):
        context = here()
        return context.get_task_name(), context.get_actor_name(), context.get_actor_id()

    def rest(self):
        context = here()
        return context.was_current_actor_reconstructed, context.namespace, context.gcs_address

    def me(self):
        return here().current_actor

    def value(self):
        return 7

    def ask_me(self):
        return type(here().current_actor).__name__


@pytest.mark.row("6.names")
def test_names_in_the_driver(cluster):
    context = here()
    assert context.get_task_name() is None
    assert context.get_task_function_name() is None
    assert context.get_actor_name() is None
    assert context.get_task_id() is None and context.get_actor_id() is None


@pytest.mark.row("6.names")
def test_names_in_a_task(cluster):
    name, function, actor, actor_id = ray.get(names.remote())
    assert name == "names" and function.endswith(".names") and actor is None and actor_id is None
    name, function, _, _ = ray.get(names.options(name="other").remote())
    assert name == "other" and function.endswith(".names")


@pytest.mark.row("6.names")
def test_names_in_an_actor(cluster):
    plain = Named.remote()
    assert ray.get(plain.birth.remote())[0] == "Named.__init__"
    task, actor, actor_id = ray.get(plain.names.remote())
    assert task == "Named.names" and actor == "" and re.fullmatch("[0-9a-f]{32}", actor_id)
    named = Named.options(name="somebody").remote()
    assert ray.get(named.birth.remote())[0] == "somebody:Named.__init__"
    assert ray.get(named.names.remote())[1] == "somebody"
    ray.kill(named)


@pytest.mark.row("6.rest")
def test_the_rest_in_an_actor(cluster):
    actor = Named.remote()
    again, space, address = ray.get(actor.rest.remote())
    assert again is False and space == here().namespace and address == here().gcs_address
    me = ray.get(actor.me.remote())
    assert ray.get(me.value.remote()) == 7 and me == actor
    assert ray.get(actor.ask_me.remote()) == "ActorHandle"


@pytest.mark.row("6.rest")
def test_the_rest_outside_of_actors(cluster):
    with pytest.raises(RuntimeError):
        _ = here().current_actor
    with pytest.raises(AssertionError):
        _ = here().was_current_actor_reconstructed

    @ray.remote
    def task():
        try:
            _ = here().current_actor
        except RuntimeError:
            return "no actor"

    assert ray.get(task.remote()) == "no actor"


@pytest.mark.row("6.rest")
def test_folders_and_addresses(cluster):
    context = here()
    folder = context.get_session_name()
    assert folder.startswith("session_") and os.path.isdir(
        os.path.join(context.get_temp_dir(), folder)
    )
    assert re.fullmatch(r".+:\d+", context.gcs_address)

    @ray.remote
    def same():
        return here().get_session_name(), here().gcs_address, here().namespace

    assert ray.get(same.remote()) == (folder, context.gcs_address, context.namespace)
    assert context.should_capture_child_tasks_in_placement_group is False
    assert context.get_placement_group_id() is None


@pytest.mark.row("6.rest")
def test_labels_of_the_node(no_cluster):
    start(labels={"zone": "north"})
    assert here().get_node_labels()["zone"] == "north"

    @ray.remote
    def labels():
        return here().get_node_labels()

    assert ray.get(labels.remote())["zone"] == "north"


@pytest.mark.row("6.old")
def test_ids_as_objects(cluster):
    @ray.remote
    def ids():
        context = here()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return context.job_id, context.node_id, context.task_id

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        job, node = here().job_id, here().node_id
    assert isinstance(job, ray.JobID) and isinstance(node, ray.NodeID)
    assert job.hex() == here().get_job_id() and node.hex() == here().get_node_id()
    in_job, in_node, in_task = ray.get(ids.remote())
    assert (in_job, in_node) == (job, node) and isinstance(in_task, ray.TaskID)


@pytest.mark.row("6.old")
def test_the_dict_of_ids(cluster):
    @ray.remote
    class Asker:
        def get(self):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return here().get(), here().actor_id

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mine = here().get()
    assert set(mine) == {"job_id", "node_id", "namespace"}
    theirs, actor = ray.get(Asker.remote().get.remote())
    assert set(theirs) >= {"job_id", "node_id", "namespace", "task_id", "actor_id"}
    assert isinstance(actor, ray.ActorID) and theirs["actor_id"] == actor


@pytest.mark.row("6.rest")
def test_a_restarted_actor_knows(cluster, eventually):
    @ray.remote(max_restarts=1, max_task_retries=-1)
    class Phoenix:
        def again(self):
            return here().was_current_actor_reconstructed

        def pid(self):
            return os.getpid()

    phoenix = Phoenix.remote()
    assert ray.get(phoenix.again.remote()) is False
    pid = ray.get(phoenix.pid.remote())
    ray.kill(phoenix, no_restart=False)
    eventually(lambda: ray.get(phoenix.pid.remote()) != pid, 20.0)
    assert ray.get(phoenix.again.remote()) is True
