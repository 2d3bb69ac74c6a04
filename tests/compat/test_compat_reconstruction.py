"""Results that were lost with a node are made again: real clusters on this machine, whose second
node is switched off."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from compat_target import ON_RAY, TARGET, exceptions, ray

HEALTH = {
    "health_check_initial_delay_ms": 0, "health_check_period_ms": 200,
    "health_check_failure_threshold": 5,
}  # fmt: skip
SIZE = 100_000


class Nodes:
    """A head without room for "far" tasks, and one other node at a time that runs them."""

    def __init__(self):
        tools = importlib.import_module(f"{TARGET}.cluster_utils")
        head = {"num_cpus": 1, "resources": {"here": 1}}
        if ON_RAY:
            head["_system_config"] = HEALTH
        self.cluster = tools.Cluster(initialize_head=True, head_node_args=head)
        self.add()
        ray.init(address=self.cluster.address)

    def add(self):
        self.far = self.cluster.add_node(num_cpus=2, resources={"far": 4})

    def lose(self, replace=True):
        """Switch the other node off; another one takes its place."""
        self.cluster.remove_node(self.far, allow_graceful=False)
        if replace:
            self.add()


@pytest.fixture
def nodes():
    ray.shutdown()
    made = Nodes()
    yield made
    ray.shutdown()
    made.cluster.shutdown()


def note(path, text):
    with open(path, "a") as file:
        file.write(f"{text}\n")


def runs(path, text):
    return path.read_text().split().count(text) if path.exists() else 0


@ray.remote(resources={"far": 1}, max_retries=3)
def make(log, value):
    note(log, f"make{value}")
    return np.full(SIZE, value)


@ray.remote(resources={"far": 1}, max_retries=3)
def double(log, array):
    note(log, "double")
    return array * 2


@ray.remote(resources={"far": 1})
def total(array):
    return int(array.sum())


def done(*refs):
    """All made, and none fetched to this node."""
    ready, _ = ray.wait(list(refs), num_returns=len(refs), timeout=60, fetch_local=False)
    assert len(ready) == len(refs)


@pytest.mark.row("14.lineage")
def test_a_lost_result_is_made_again(nodes, tmp_path):
    log = tmp_path / "log"
    ref = make.remote(str(log), 3)
    done(ref)
    nodes.lose()
    assert int(ray.get(ref, timeout=90).sum()) == 3 * SIZE
    assert runs(log, "make3") == 2


@pytest.mark.row("14.lineage")
def test_its_arguments_are_made_again_to_any_depth(nodes, tmp_path):
    log = tmp_path / "log"
    ref = make.remote(str(log), 1)
    for _ in range(4):
        ref = double.remote(str(log), ref)
    done(ref)
    nodes.lose()
    assert int(ray.get(ref, timeout=90).sum()) == 16 * SIZE
    assert (runs(log, "make1"), runs(log, "double")) == (2, 8)


@pytest.mark.row("14.lineage")
def test_a_task_with_a_lost_argument_waits_for_it(nodes, tmp_path):
    log = tmp_path / "log"
    ref = make.remote(str(log), 5)
    done(ref)
    nodes.lose()
    assert ray.get([total.remote(ref) for _ in range(3)], timeout=90) == [5 * SIZE] * 3
    assert runs(log, "make5") == 2


@pytest.mark.row("14.lineage")
def test_a_borrower_gets_what_was_made_again(nodes, tmp_path):
    log = tmp_path / "log"

    @ray.remote(resources={"here": 1})
    class Borrower:
        def hold(self, refs):
            self.refs = refs

        def total(self):
            return int(ray.get(self.refs[0], timeout=60).sum())

    borrower = Borrower.remote()
    ref = make.remote(str(log), 2)
    done(ref)
    ray.get(borrower.hold.remote([ref]), timeout=60)
    nodes.lose()
    assert ray.get(borrower.total.remote(), timeout=90) == 2 * SIZE
    assert runs(log, "make2") == 2


@pytest.mark.row("14.lineage")
@pytest.mark.row("5.lost")
def test_without_retries_it_is_lost(nodes, tmp_path):
    log = tmp_path / "log"
    ref = make.options(max_retries=0).remote(str(log), 4)
    done(ref)
    nodes.lose()
    with pytest.raises(exceptions.ObjectReconstructionFailedError) as caught:
        ray.get(ref, timeout=90)
    assert isinstance(caught.value, exceptions.ObjectLostError)
    assert caught.value.reason
    assert ref.hex() in str(caught.value) and "max_retries=0" in str(caught.value)
    with pytest.raises(exceptions.ObjectLostError):
        ray.get(total.remote(ref), timeout=90)
    assert runs(log, "make4") == 1


@pytest.mark.row("14.lineage")
def test_small_results_are_not_lost(nodes):
    refs = [total.remote(np.ones(10)) for _ in range(3)]
    done(*refs)
    nodes.lose(replace=False)
    assert ray.get(refs, timeout=60) == [10] * 3


@pytest.mark.row("14.lineage")
def test_results_of_an_actor_without_retries_are_lost(nodes, tmp_path):
    @ray.remote(resources={"far": 1}, max_restarts=-1)
    class Maker:
        def make(self):
            return np.ones(SIZE)

    maker = Maker.remote()
    ref = maker.make.remote()
    done(ref)
    nodes.lose()
    with pytest.raises(exceptions.ObjectLostError):
        ray.get(ref, timeout=90)


@pytest.mark.row("14.lineage")
def test_results_of_an_actor_with_retries_are_made_again(nodes, tmp_path):
    log = tmp_path / "log"

    @ray.remote(resources={"far": 1}, max_restarts=-1, max_task_retries=-1)
    class Maker:
        def make(self):
            note(str(log), "made")
            return np.ones(SIZE)

    maker = Maker.remote()
    ref = maker.make.remote()
    done(ref)
    nodes.lose()
    assert int(ray.get(ref, timeout=90).sum()) == SIZE
    assert runs(log, "made") == 2


@pytest.mark.row("5.lost")
def test_an_owner_is_lost_with_its_node(nodes):
    @ray.remote(resources={"far": 1})
    def put():
        return [ray.put(np.ones(SIZE))]

    (ref,) = ray.get(put.remote(), timeout=60)
    nodes.lose()
    with pytest.raises(exceptions.OwnerDiedError) as caught:
        ray.get(ref, timeout=90)
    assert ref.hex() in str(caught.value)


@pytest.mark.row("14.lineage")
def test_what_was_fetched_stays(nodes, tmp_path):
    log = tmp_path / "log"
    ref = make.remote(str(log), 6)
    array = ray.get(ref, timeout=60)
    nodes.lose(replace=False)
    assert int(array.sum()) == int(ray.get(ref, timeout=60).sum()) == 6 * SIZE
    assert runs(log, "make6") == 1


@pytest.mark.row("14.lineage")
def test_a_remade_value_is_alike(nodes, tmp_path):
    """Refs inside it, too: they are other objects, and readable."""

    @ray.remote(resources={"far": 1})
    def nest(path):
        note(path, "nest")
        return [np.ones(SIZE), make.options(resources={"far": 1}).remote(path, 9)]

    log = tmp_path / "log"
    ref = nest.remote(str(log))
    done(ref)
    nodes.lose()
    array, inner = ray.get(ref, timeout=90)
    assert int(array.sum()) == SIZE
    assert int(ray.get(inner, timeout=90).sum()) == 9 * SIZE
    assert runs(log, "nest") == 2
