"""`experimental_compile()`: graphs of actor methods that are checked once and run often."""

from __future__ import annotations

import asyncio
import importlib
import time

import pytest
from compat_target import ON_RAY, exceptions, ray

dag = importlib.import_module(f"{ray.__name__}.dag")
InputNode, MultiOutputNode = dag.InputNode, dag.MultiOutputNode

pytestmark = pytest.mark.row("10.compiled")


@ray.remote(num_cpus=0)
class Adder:
    def __init__(self, by=0):
        self.by = by
        self.calls = 0

    def add(self, x):
        self.calls += 1
        return x + self.by

    def both(self, x, y):
        return x, y

    def seen(self):
        return self.calls

    def slow(self, x):
        time.sleep(0.3)
        return x


@pytest.fixture()
def compiled(cluster):
    made = []

    def make(node, **options):
        made.append(node.experimental_compile(**options))
        return made[-1]

    yield make
    for one in made:
        one.teardown()


def test_a_chain(compiled):
    first, second = Adder.remote(1), Adder.remote(10)
    with InputNode() as inp:
        graph = compiled(second.add.bind(first.add.bind(inp)))
    ref = graph.execute(5)
    assert ray.get(ref) == 16
    with pytest.raises(ValueError):
        ray.get(ref)
    assert graph.execute(6).get() == 17
    assert graph.execute(7).get(timeout=30) == 18
    assert ray.get([graph.execute(1), graph.execute(2)]) == [12, 13]
    assert ray.get(first.seen.remote()) == 5  # the actor takes other calls, too


def test_several_outputs_and_inputs(compiled):
    one, two = Adder.remote(1), Adder.remote(2)
    with InputNode() as inp:
        graph = compiled(MultiOutputNode([one.add.bind(inp), two.add.bind(inp)]))
    refs = graph.execute(1)
    assert isinstance(refs, list) and ray.get(refs) == [2, 3]
    three = Adder.remote()
    with InputNode() as inp:
        graph = compiled(three.both.bind(inp[0], inp.y))
    assert graph.execute(1, y=2).get() == (1, 2)
    for args, kwargs in (((), {"y": 2}), ((1,), {}), ((1, 2), {"y": 2})):
        with pytest.raises(ValueError):
            graph.execute(*args, **kwargs)


def test_errors_pass_through(compiled):
    adder = Adder.remote(1)
    with InputNode() as inp:
        graph = compiled(adder.add.bind(adder.add.bind(inp)))
    with pytest.raises(TypeError):
        graph.execute("a").get()
    assert graph.execute(1).get() == 3
    with pytest.raises(ValueError):
        graph.execute()
    with pytest.raises(ValueError):
        graph.execute(1, 2)


def test_too_many_in_flight(compiled):
    adder = Adder.remote(1)
    with InputNode() as inp:
        graph = compiled(adder.add.bind(inp), _max_inflight_executions=2)
    refs = [graph.execute(i) for i in range(2)]
    with pytest.raises(exceptions.RayCgraphCapacityExceeded):
        graph.execute(9)
    assert [ref.get() for ref in refs] == [1, 2]
    for i in range(5):
        assert graph.execute(i).get() == i + 1


def test_timeout(compiled):
    adder = Adder.remote()
    with InputNode() as inp:
        graph = compiled(adder.slow.bind(inp))
    ref = graph.execute(1)
    with pytest.raises(exceptions.RayChannelTimeoutError):
        ref.get(timeout=0.01)
    if not ON_RAY:  # there a result that came late is lost
        assert ref.get(timeout=30) == 1


def test_teardown(compiled):
    adder = Adder.remote(1)
    with InputNode() as inp:
        graph = compiled(adder.add.bind(inp))
    assert graph.execute(1).get() == 2
    graph.teardown()
    graph.teardown()
    assert graph.is_teardown
    with pytest.raises(exceptions.RayChannelError):
        graph.execute(1)
    assert ray.get(adder.seen.remote()) == 1


def test_what_is_refused(compiled):
    @ray.remote
    def plain(x):
        return x

    adder = Adder.remote()
    with pytest.raises(ValueError):
        adder.add.bind(1).experimental_compile()  # no input
    with InputNode() as inp:
        graph = plain.bind(inp)
    with pytest.raises(NotImplementedError):
        graph.experimental_compile()
    with InputNode() as inp:
        graph = Adder.bind().add.bind(inp)
    with pytest.raises(ValueError):
        graph.experimental_compile()
    with pytest.raises(TypeError):
        with InputNode() as inp:
            ray.wait([compiled(adder.add.bind(inp)).execute(1)])


@pytest.mark.skipif(ON_RAY, reason="hangs in asyncio.run()")
def test_asyncio(compiled):
    adder = Adder.remote(1)
    with InputNode() as inp:
        graph = compiled(adder.add.bind(inp), enable_asyncio=True)

    async def main():
        future = await graph.execute_async(5)
        assert await future == 6
        with pytest.raises(ValueError):
            await future

    asyncio.run(main())
    with pytest.raises(ValueError):
        graph.execute(1)


def test_dropped_results_make_room(compiled):
    if ON_RAY:
        return  # there a result that was dropped is waited for at the next get()
    adder = Adder.remote(1)
    with InputNode() as inp:
        graph = compiled(adder.add.bind(inp), _max_inflight_executions=2)
    for i in range(10):
        graph.execute(i)
    assert graph.execute(1).get() == 2
