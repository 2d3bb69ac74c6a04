"""Generator tasks and methods: what `.remote()` gives, taking items, errors, num_returns."""

from __future__ import annotations

import asyncio
import pickle
import threading

import pytest
from compat_target import exceptions, ray

GENERATOR_ROW = pytest.mark.row("4.generators")


@pytest.fixture()
def count(cluster):
    """A remote generator of the numbers below n."""

    @ray.remote
    def numbers(n):
        for i in range(n):  # noqa: UP028 (on Ray `yield from` of an iterator fails: no send())
            yield i

    return numbers


@pytest.fixture()
def fails(cluster):
    """A remote generator that gives one item and raises."""

    @ray.remote
    def one_then_error():
        yield 1
        raise KeyError("boo")

    return one_then_error


def values(generator):
    return [ray.get(ref) for ref in generator]


# ------------------------------------------------------------------------------- what a call gives


@GENERATOR_ROW
def test_a_generator_function_gives_a_generator_of_refs(count):
    generator = count.remote(3)
    assert isinstance(generator, ray.ObjectRefGenerator)
    refs = list(generator)
    assert all(isinstance(ref, ray.ObjectRef) for ref in refs)
    assert ray.get(refs) == [0, 1, 2]
    assert len({*refs, generator.completed()}) == 4
    assert {ref.task_id() for ref in refs} == {generator.completed().task_id()}


@GENERATOR_ROW
def test_streaming_may_be_said(count):
    assert values(count.options(num_returns="streaming").remote(2)) == [0, 1]

    @ray.remote(num_returns="streaming")
    def letters():
        yield "a"
        yield "b"

    assert values(letters.remote()) == ["a", "b"]


@GENERATOR_ROW
def test_a_method_that_is_a_generator(cluster):
    @ray.remote
    class Counter:
        def __init__(self):
            self.calls = 0

        def numbers(self, n):
            for i in range(n):
                self.calls += 1
                yield i

        def seen(self):
            return self.calls

    counter = Counter.remote()
    assert values(counter.numbers.remote(3)) == [0, 1, 2]
    assert values(counter.numbers.options(num_returns="streaming").remote(2)) == [0, 1]
    assert ray.get(counter.seen.remote()) == 5


@GENERATOR_ROW
def test_streaming_of_what_is_no_generator_is_refused(cluster):
    def plain():
        return [1, 2]

    @ray.remote
    class Plain:
        def numbers(self):
            return [1, 2]

    handle = Plain.remote()
    for returns in ("streaming", "dynamic"):
        with pytest.raises(ValueError):
            ray.remote(num_returns=returns)(plain)
        with pytest.raises(ValueError):
            ray.remote(plain).options(num_returns=returns).remote()
        with pytest.raises(ValueError):
            handle.numbers.options(num_returns=returns).remote()


@GENERATOR_ROW
def test_an_empty_generator(count):
    generator = count.remote(0)
    with pytest.raises(StopIteration):
        next(generator)
    assert generator.is_finished()
    assert ray.get(generator.completed()) is None


@GENERATOR_ROW
def test_items_of_all_sizes_and_refs(cluster):
    @ray.remote
    def mixed():
        yield b"x" * 3_000_000
        yield None
        yield [ray.put("inner")]
        yield {"k": b"y" * 5000}

    big, none, refs, small = values(mixed.remote())
    assert big == b"x" * 3_000_000
    assert none is None
    assert ray.get(refs) == ["inner"]
    assert small == {"k": b"y" * 5000}


@GENERATOR_ROW
def test_items_are_arguments_of_other_tasks(count):
    @ray.remote
    def double(x):
        return 2 * x

    assert ray.get([double.remote(ref) for ref in count.remote(4)]) == [0, 2, 4, 6]


@GENERATOR_ROW
def test_a_generator_called_in_a_task(cluster, count):
    @ray.remote
    def total(n):
        return sum(ray.get(ref) for ref in count.remote(n))

    @ray.remote
    def relay(n):
        for ref in count.remote(n):
            yield ray.get(ref) + 100

    assert ray.get(total.remote(5)) == 10
    assert values(relay.remote(2)) == [100, 101]


@GENERATOR_ROW
def test_items_are_there_before_the_end(cluster, eventually):
    @ray.remote
    class Gate:
        def __init__(self):
            self.open = False

        def set(self):
            self.open = True

        def is_open(self):
            return self.open

    @ray.remote
    def gated(gate):
        yield "early"
        while not ray.get(gate.is_open.remote()):
            pass
        yield "late"

    gate = Gate.options(num_cpus=0).remote()
    generator = gated.remote(gate)
    assert ray.get(next(generator)) == "early"
    assert not generator.next_ready()
    ready, rest = ray.wait([generator.completed()], timeout=0)
    assert (len(ready), len(rest)) == (0, 1)
    ray.get(gate.set.remote())
    assert ray.get(next(generator)) == "late"
    assert list(generator) == []


@GENERATOR_ROW
def test_what_a_generator_returns_is_lost(cluster):
    @ray.remote
    def with_result():
        yield 1
        return 2

    generator = with_result.remote()
    assert values(generator) == [1]
    assert ray.get(generator.completed()) is None


# --------------------------------------------------------------------------------------- protocol


@pytest.mark.row("4.protocol")
def test_completed_finished_and_next_ready(count, eventually):
    generator = count.remote(2)
    assert ray.get(generator.completed()) is None
    assert eventually(generator.next_ready)
    assert not generator.is_finished()
    assert values(generator) == [0, 1]
    assert generator.is_finished()
    assert not generator.next_ready()
    with pytest.raises(StopIteration):
        next(generator)


@pytest.mark.row("4.protocol")
def test_an_error_midway_is_the_last_item(fails):
    generator = fails.remote()
    assert ray.get(next(generator)) == 1
    last = next(generator)
    with pytest.raises(KeyError) as caught:
        ray.get(last)
    assert isinstance(caught.value, exceptions.RayTaskError)
    with pytest.raises(StopIteration):
        next(generator)
    assert ray.get(generator.completed()) is None


@pytest.mark.row("4.protocol")
def test_an_item_that_cannot_be_pickled_is_the_last(cluster):
    @ray.remote
    def lock_inside():
        yield 1
        yield threading.Lock()
        yield 3

    refs = list(lock_inside.remote())
    assert len(refs) == 2
    assert ray.get(refs[0]) == 1
    with pytest.raises(TypeError):
        ray.get(refs[1])


@pytest.mark.row("4.protocol")
def test_a_failed_argument_is_the_only_item(count):
    @ray.remote
    def bad():
        raise ValueError("argument")

    generator = count.remote(bad.remote())
    only = next(generator)
    with pytest.raises(ValueError, match="argument"):
        ray.get(only)
    with pytest.raises(StopIteration):
        next(generator)
    with pytest.raises(ValueError):
        ray.get(generator.completed())


@pytest.mark.row("4.protocol")
def test_a_generator_stays_where_it_is(count):
    generator = count.remote(1)

    @ray.remote
    def take(x):
        return x

    @ray.remote
    def give():
        return count.remote(1)

    for attempt in (
        lambda: pickle.dumps(generator),
        lambda: take.remote(generator),
        lambda: take.remote([generator]),
        lambda: ray.put(generator),
        lambda: ray.get(give.remote()),
    ):
        with pytest.raises(TypeError):
            attempt()


@pytest.mark.row("4.protocol")
def test_what_generators_here_cannot_do(count):
    generator = count.remote(1)
    for attempt in (lambda: generator.send(1), lambda: generator.throw(ValueError()),
                    generator.close):
        with pytest.raises(NotImplementedError):
            attempt()
    for later in (lambda: generator.asend(1), lambda: generator.athrow(ValueError()),
                  generator.aclose):
        with pytest.raises(NotImplementedError):
            asyncio.run(later())
    with pytest.raises(TypeError):
        len(generator)


@pytest.mark.row("4.protocol")
def test_next_with_a_time_limit(count):
    never = count.remote(count.options(resources={"no such": 1}).remote(1).completed())
    assert never._next_sync(0).is_nil()
    assert never._next_sync(timeout_s=0.05).is_nil()
    assert ray.get(count.remote(1)._next_sync(None)) == 0


@pytest.mark.row("4.protocol", "1.get")
def test_get_gives_a_generator_back(count):
    generator = count.remote(1)
    assert ray.get(generator) is generator
    with pytest.raises(TypeError):
        ray.get([generator])


@pytest.mark.row("4.protocol", "1.wait")
def test_wait_for_generators_and_refs(count):
    generator, ref = count.remote(1), ray.put(5)
    never = count.remote(count.options(resources={"no such": 1}).remote(1).completed())
    assert ray.wait([generator]) == ([generator], [])
    assert ray.wait([never, generator, ref], num_returns=2) == ([generator, ref], [never])
    ready, rest = ray.wait([never, ref, generator], num_returns=3, timeout=0.1)
    assert (ready, rest) == ([ref, generator], [never])
    assert values(generator) == [0]
    assert ray.wait([generator, never]) == ([generator], [never])
    with pytest.raises(ValueError):
        ray.wait([generator, generator])
    with pytest.raises(TypeError):
        ray.wait(generator)
    with pytest.raises(TypeError):
        ray.wait([generator, 5])


@pytest.mark.row("4.protocol")
def test_async_for(count, fails):
    async def main():
        found = []
        async for ref in count.remote(3):
            found.append(await ref)
        async for ref in fails.remote():
            try:
                found.append(await ref)
            except KeyError as error:
                found.append(type(error.cause).__name__)
        many = await asyncio.gather(*[everything(count.remote(n)) for n in range(5)])
        return found, many

    async def everything(generator):
        return [await ref async for ref in generator]

    found, many = asyncio.run(main())
    assert found == [0, 1, 2, 1, "KeyError"]
    assert many == [list(range(n)) for n in range(5)]


@pytest.mark.row("4.protocol")
def test_the_task_of_a_generator_knows_itself(cluster):
    @ray.remote(name="the name")
    def who():
        context = ray.get_runtime_context()
        yield context.get_task_id(), context.get_task_name()

    generator = who.remote()
    task_id, name = ray.get(next(generator))
    assert task_id == generator.completed().task_id().hex()
    assert name == "the name"


# -------------------------------------------------------------------------------------- num_returns


@pytest.mark.row("4.fixed")
@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_fixed_number_of_results(count, n):
    refs = count.options(num_returns=n).remote(3)
    assert ray.get(refs) == ([0, 1, 2][:n] if n > 1 else 0)


@pytest.mark.row("4.fixed")
def test_no_result_wanted(count):
    assert count.options(num_returns=0).remote(3) is None


@pytest.mark.row("4.fixed")
def test_too_few_items_for_a_fixed_number(count):
    first, second, third = count.options(num_returns=3).remote(1)
    assert ray.get(first) == 0
    for missing in (second, third):
        with pytest.raises(ValueError):
            ray.get(missing)


@pytest.mark.row("4.fixed")
def test_an_error_among_a_fixed_number(fails):
    first, second, third = fails.options(num_returns=3).remote()
    assert ray.get(first) == 1
    for missing in (second, third):
        with pytest.raises(KeyError):
            ray.get(missing)


@pytest.mark.row("4.fixed")
def test_a_fixed_number_of_a_method(cluster):
    @ray.remote
    class Two:
        @ray.method(num_returns=2)
        def both(self):
            yield 1
            yield 2

    assert ray.get(Two.remote().both.remote()) == [1, 2]


@pytest.mark.row("4.fixed", "4.generators")
def test_a_plain_function_that_returns_a_generator(cluster):
    @ray.remote
    def generator_object():
        return (i for i in range(5))

    @ray.remote
    class Plain:
        def generator_object(self):
            return (i for i in range(5))

    assert ray.get(generator_object.remote()) == 0
    assert ray.get(generator_object.options(num_returns=2).remote()) == [0, 1]
    assert ray.get(Plain.remote().generator_object.remote()) == 0


@pytest.mark.row("4.dynamic")
def test_a_dynamic_number_of_results(count):
    ref = count.options(num_returns="dynamic").remote(3)
    assert isinstance(ref, ray.ObjectRef)
    generator = ray.get(ref)
    assert isinstance(generator, ray.DynamicObjectRefGenerator)
    assert len(generator) == 3
    assert values(generator) == [0, 1, 2]
    assert values(generator) == []
    assert values(ray.get(ref)) == [0, 1, 2]
    with pytest.raises(TypeError):
        next(generator)


@pytest.mark.row("4.dynamic")
def test_dynamic_results_may_be_passed_on(count):
    @ray.remote
    def total(generator):
        return sum(ray.get(ref) for ref in generator)

    ref = count.options(num_returns="dynamic").remote(4)
    assert ray.get(total.remote(ref)) == 6
    assert ray.get(total.remote(ray.get(ref))) == 6
    kept = list(ray.get(ref))
    del ref
    assert ray.get(kept) == [0, 1, 2, 3]


@pytest.mark.row("4.dynamic")
def test_an_error_among_dynamic_results(fails):
    first, second = ray.get(fails.options(num_returns="dynamic").remote())
    assert ray.get(first) == 1
    with pytest.raises(KeyError):
        ray.get(second)


@pytest.mark.row("4.dynamic")
def test_dynamic_results_of_a_method(cluster):
    @ray.remote
    class Counter:
        def numbers(self, n):
            for _ in range(n):
                yield b"z" * 5000

    ref = Counter.remote().numbers.options(num_returns="dynamic").remote(3)
    assert values(ray.get(ref)) == [b"z" * 5000] * 3
