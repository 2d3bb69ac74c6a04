"""`ray.dag`: graphs of calls that are written down first and run later."""

from __future__ import annotations

import importlib
import random

import pytest
from compat_target import ON_RAY, ray

dag = importlib.import_module(f"{ray.__name__}.dag")
InputNode, MultiOutputNode = dag.InputNode, dag.MultiOutputNode

pytestmark = pytest.mark.row("10.dag")


@ray.remote
def add(a, b=0):
    return a + b


@ray.remote
def pair(x=0, y=0):
    return x, y


@ray.remote
def dice():
    return random.random()


@ray.remote(num_cpus=0)
class Counter:
    def __init__(self, n=0):
        self.n = n

    def inc(self, by=1):
        self.n += by
        return self.n

    def get(self):
        return self.n

    @ray.method(num_returns=2)
    def two(self):
        return 1, 2

    def fail(self):
        raise ValueError("boom")


def test_functions(cluster):
    once = add.bind(1, 2)
    assert isinstance(once, dag.FunctionNode) and isinstance(once, dag.DAGNode)
    assert ray.get(once.execute()) == 3
    assert ray.get(add.bind(once, b=once).execute()) == 6
    assert ray.get(add.options(num_cpus=2).bind(1, 1).execute()) == 2
    assert once.get_args() == (1, 2) and once.get_kwargs() == {} and once.get_options() == {}


def test_a_node_used_twice_runs_once_for_each_execution(cluster):
    roll = dice.bind()
    both = pair.bind(roll, roll)
    first, second = ray.get(both.execute()), ray.get(both.execute())
    assert len(set(first)) == len(set(second)) == 1
    assert first != second
    assert roll.execute() != roll.execute()


def test_nodes_in_containers_become_refs(cluster):
    once = add.bind(1, 2)
    inside, more = ray.get(pair.bind([once, 1], {"k": once}).execute())
    assert ray.get(inside[0]) == 3 and inside[1] == 1
    assert more["k"] == inside[0]
    ((ref,), _) = ray.get(pair.bind((once,)).execute())
    assert ray.get(ref) == 3


def test_mistakes_are_told_when_it_runs(cluster):
    for node in (add.bind(), add.bind(1, 2, 3, 4), Counter.bind(1, 2, 3)):
        with pytest.raises(TypeError):
            node.execute()
    with pytest.raises(AttributeError, match="execute"):
        add.bind(1).remote()
    with pytest.raises(TypeError):
        add.bind(1)()
    with pytest.raises(ValueError):
        ray.get(add.bind(1))


def test_one_input(cluster):
    with InputNode() as inp:
        node = add.bind(inp, 5)
    assert ray.get(node.execute(4)) == 9
    assert ray.get(node.execute(ray.put(9))) == 14
    for args, kwargs in (((), {}), ((1, 2), {}), ((), {"a": 2})):
        with pytest.raises(TypeError):  # add() cannot add all inputs together
            ray.get(node.execute(*args, **kwargs))


def test_inputs_by_number_and_by_name(cluster):
    with InputNode() as inp:
        numbers = pair.bind(inp[0], inp[1])
        names = pair.bind(inp["k"], inp.x)
        mixed = pair.bind(inp["k"], inp[0])
    assert ray.get(numbers.execute(4, 5)) == (4, 5)
    assert ray.get(numbers.execute([4, 5])) == (4, 5)
    assert ray.get(numbers.execute((4, 5))) == (4, 5)
    assert ray.get(names.execute(k=4, x=5)) == (4, 5)
    assert ray.get(mixed.execute(7, k=4)) == (4, 7)
    assert ray.get(mixed.execute({"k": 1, 0: 2})) == (1, 2)
    with pytest.raises(TypeError):
        numbers.execute(4)
    with pytest.raises(AttributeError):
        names.execute({"k": 4, "x": 5})
    with pytest.raises(IndexError):
        mixed.execute(k=4)


def test_attributes_of_the_input(cluster):
    class Given:
        x = 7

    with InputNode() as inp:
        node = pair.bind(inp.x)
    assert ray.get(node.execute(Given())) == (7, 0)
    assert ray.get(node.execute(x=3)) == (3, 0)


def test_several_outputs(cluster):
    with InputNode() as inp:
        node = MultiOutputNode([add.bind(inp, 1), add.bind(inp, 2)])
        with_input = MultiOutputNode((inp, add.bind(inp, 2)))
    assert ray.get(node.execute(4)) == [5, 6]
    given, ref = with_input.execute(4)
    assert given == 4 and ray.get(ref) == 6
    assert MultiOutputNode([]).execute() == []
    for bad in (add.bind(1), 5):
        with pytest.raises(ValueError):
            MultiOutputNode(bad)


def test_the_input_is_used_in_a_block(cluster):
    with pytest.raises(ValueError):
        InputNode(1)
    with pytest.raises(AssertionError):
        add.bind(InputNode(), 1).execute(1)


def test_a_class_node_makes_a_new_actor_each_time(cluster):
    counter = Counter.bind(10)
    assert isinstance(counter, dag.ClassNode)
    one = counter.inc.bind()
    assert isinstance(one, dag.ClassMethodNode)
    assert [ray.get(one.execute()) for _ in range(3)] == [11, 11, 11]
    handle = counter.execute()
    assert ray.get(handle.inc.remote()) == 11
    assert ray.get(handle.inc.remote()) == 12
    assert ray.get(Counter.options(max_restarts=1).bind(add.bind(3)).get.bind().execute()) == 3


def test_calls_of_a_class_node_run_in_the_order_they_were_bound(cluster):
    counter = Counter.bind(0)
    five, seven, get = counter.inc.bind(5), counter.inc.bind(7), counter.get.bind()
    assert ray.get(get.execute()) == 12
    assert ray.get(five.execute()) == 5
    assert ray.get(pair.bind(seven, get).execute()) == (12, 12)
    assert ray.get(counter.inc.options(name="z").bind().execute()) == 13


def test_a_living_actor_keeps_its_state(cluster):
    handle = Counter.remote(100)
    node = handle.inc.bind()
    assert [ray.get(node.execute()) for _ in range(2)] == [101, 102]
    handle.inc.bind(1000)  # bound, never executed
    assert ray.get(handle.get.bind().execute()) == 102
    assert ray.get(handle.inc.bind(add.bind(1, 2)).execute()) == 105
    assert ray.get(handle.inc.options(name="z").bind(1).execute()) == 106
    assert ray.get(pair.bind(handle).execute())[0] == handle


def test_methods_with_several_results(cluster):
    handle = Counter.remote()
    first, second = handle.two.bind()
    assert ray.get(add.bind(first, second).execute()) == 3
    assert ray.get(MultiOutputNode([first, second]).execute()) == [1, 2]
    if ON_RAY:
        return  # it does not look at the decorator of a method of a class node
    first, second = Counter.bind().two.bind()
    assert ray.get(add.bind(first, second).execute()) == 3


def test_errors_pass_through(cluster):
    handle = Counter.remote()
    for node in (handle.fail.bind(), add.bind(handle.fail.bind(), 1)):
        with pytest.raises(ValueError, match="boom"):
            ray.get(node.execute())


def test_what_class_nodes_refuse(cluster):
    counter = Counter.bind()
    with pytest.raises(AttributeError):
        counter.nothing  # noqa: B018
    with pytest.raises(AttributeError):
        counter.inc.remote()
    with pytest.raises(TypeError):
        counter.inc()
    with InputNode() as inp, pytest.raises(ValueError):
        Counter.bind(inp)


def test_a_node_can_be_sent_and_run_elsewhere(cluster):
    with InputNode() as inp:
        node = add.bind(add.bind(inp, 1), Counter.bind(5).inc.bind())

    @ray.remote
    def run(node):
        return ray.get(node.execute(10))

    assert ray.get(run.remote(node)) == 17
    assert ray.get(ray.get(ray.put(node)).execute(10)) == 17


def test_a_long_chain(cluster):
    node = add.bind(0, 1)
    for _ in range(300):
        node = add.bind(node, 1)
    assert ray.get(node.execute()) == 301
