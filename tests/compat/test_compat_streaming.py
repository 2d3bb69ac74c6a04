"""Streams of generators: back-pressure, dropping, crashes and replays, async actors, long ones."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest
from compat_target import ON_RAY, exceptions, ray


def values(generator):
    return [ray.get(ref) for ref in generator]


@pytest.fixture()
def marks(tmp_path):
    """mark(name) in any process, and how many there are."""

    class Marks:
        def __init__(self, folder):
            self.folder = folder

        def mark(self, name):
            open(os.path.join(self.folder, str(name)), "w").close()

        def count(self):
            return len(os.listdir(self.folder))

    return Marks(str(tmp_path))


# ----------------------------------------------------------------------------------- back-pressure


@pytest.mark.row("2.generator_options")
def test_the_producer_pauses_when_items_are_not_taken(cluster, marks, eventually):
    @ray.remote
    def work(n):
        for i in range(n):
            marks.mark(i)
            yield i

    generator = work.options(_generator_backpressure_num_objects=2).remote(10)
    eventually(lambda: marks.count() == 2)
    assert ray.get(ray.remote(lambda: "others run").options(num_cpus=1).remote()) == "others run"
    assert marks.count() == 2
    assert ray.get(next(generator)) == 0
    eventually(lambda: marks.count() == 3)
    assert values(generator) == list(range(1, 10))
    assert marks.count() == 10


@pytest.mark.row("2.generator_options")
def test_one_item_at_a_time(cluster):
    @ray.remote(_generator_backpressure_num_objects=1)
    def numbers(n):
        for i in range(n):  # noqa: UP028
            yield i

    assert values(numbers.remote(200)) == list(range(200))

    @ray.remote
    class Counter:
        @ray.method(_generator_backpressure_num_objects=1)
        def numbers(self, n):
            for i in range(n):  # noqa: UP028
                yield i

    counter = Counter.remote()
    assert values(counter.numbers.remote(20)) == list(range(20))
    more = counter.numbers.options(_generator_backpressure_num_objects=3).remote(20)
    assert values(more) == list(range(20))


@pytest.mark.row("2.generator_options")
def test_what_back_pressure_may_be(cluster):
    @ray.remote
    def numbers():
        yield 1

    with pytest.raises(ValueError):
        numbers.options(_generator_backpressure_num_objects=0).remote()
    with pytest.raises(TypeError):
        numbers.options(_generator_backpressure_num_objects="2").remote()
    for n in (None, -1, 5):
        assert values(numbers.options(_generator_backpressure_num_objects=n).remote()) == [1]


@pytest.mark.row("2.generator_options")
def test_a_paused_producer_holds_up_nobody(cluster):
    @ray.remote(num_cpus=0.5, _generator_backpressure_num_objects=1)
    def paused():
        yield "a"
        yield "b"

    @ray.remote(num_cpus=0.5)
    def short(i):
        return i

    many = [paused.remote() for _ in range(2)]
    firsts = [ray.get(next(generator)) for generator in many]
    assert ray.get([short.remote(i) for i in range(50)]) == list(range(50))
    assert firsts == ["a", "a"]
    assert [values(generator) for generator in many] == [["b"], ["b"]]


@pytest.mark.row("2.generator_options")
def test_several_objects_of_one_yield(cluster):
    @ray.remote(_num_objects_per_yield=2)
    def pairs(n):
        for i in range(n):
            yield i, -i

    @ray.remote(_num_objects_per_yield=2)
    def uneven():
        yield 1, 2
        yield 1, 2, 3

    @ray.remote
    class Pairs:
        @ray.method(_num_objects_per_yield=2)
        def pairs(self, n):
            for i in range(n):
                yield i, -i

        @ray.method(_num_objects_per_yield=2)
        async def later(self, n):
            for i in range(n):
                yield i, -i

    assert values(pairs.remote(3)) == [0, 0, 1, -1, 2, -2]
    actor = Pairs.remote()
    assert values(actor.pairs.remote(2)) == [0, 0, 1, -1]
    assert values(actor.later.remote(2)) == [0, 0, 1, -1]
    *good, bad = uneven.remote()
    assert ray.get(good) == [1, 2]
    with pytest.raises(ValueError):
        ray.get(bad)
    assert values(pairs.options(name="named").remote(1)) == [0, 0]
    with pytest.raises(ValueError):
        pairs.options(_num_objects_per_yield=3).remote(1)
    for wrong, error in ((0, ValueError), (-1, ValueError), ("2", TypeError)):
        with pytest.raises(error):
            ray.remote(_num_objects_per_yield=wrong)(lambda: 1)


# ---------------------------------------------------------------------------------------- dropping


@pytest.mark.row("4.generators")
def test_a_dropped_generator_runs_on_to_its_end(cluster, marks, eventually):
    @ray.remote(_generator_backpressure_num_objects=2)
    def work():
        for i in range(20):
            marks.mark(i)
            yield b"x" * 5000

    generator = work.remote()
    ray.get(next(generator))
    del generator
    eventually(lambda: marks.count() == 20)
    work.remote()
    eventually(lambda: marks.count() == 20)


@pytest.mark.row("4.generators")
def test_items_outlive_their_generator(cluster):
    @ray.remote
    def letters():
        yield "a"
        yield b"b" * 5000

    generator = letters.remote()
    first, second = next(generator), next(generator)
    del generator
    assert ray.get([first, second]) == ["a", b"b" * 5000]


@pytest.mark.row("4.generators")
def test_a_long_stream(cluster):
    n = 2_000 if ON_RAY else 70_000  # more than the numbers that one task's ids have

    @ray.remote
    def numbers():
        for i in range(n):  # noqa: UP028
            yield i

    total, refs = 0, []
    for i, ref in enumerate(numbers.remote()):
        total += ray.get(ref)
        if i % 100 == 0:
            refs.append(ref)
    assert total == n * (n - 1) // 2
    assert ray.get(refs) == list(range(0, n, 100))


# ------------------------------------------------------------------------------------------ crashes


@pytest.mark.row("4.crash", "5.crashed")
def test_a_crash_without_retries_is_the_last_item(cluster, tmp_path):
    gate = str(tmp_path / "gate")

    @ray.remote(max_retries=0)
    def crashes():
        yield 1
        yield 2
        while not os.path.exists(gate):
            threading.Event().wait(0.01)
        os._exit(1)

    generator = crashes.remote()
    assert [ray.get(next(generator)), ray.get(next(generator))] == [1, 2]
    open(gate, "w").close()
    last = next(generator)
    with pytest.raises(exceptions.WorkerCrashedError):
        ray.get(last)
    with pytest.raises(StopIteration):
        next(generator)
    with pytest.raises(exceptions.WorkerCrashedError):
        ray.get(generator.completed())


@pytest.mark.row("4.crash")
def test_a_retry_gives_no_item_twice(cluster, marks, tmp_path):
    @ray.remote(max_retries=2)
    def crashes_once(n):
        attempt = marks.count()
        marks.mark(f"attempt {attempt}")
        for i in range(n):
            if i == 3 and attempt == 0:
                while marks.count() == 1:
                    threading.Event().wait(0.01)
                os._exit(1)
            yield i, b"z" * 5000 * (i % 2)

    generator = crashes_once.remote(6)
    taken = [next(generator), next(generator)]
    before = ray.get(taken[1])
    marks.mark("go on")
    rest = list(generator)
    assert [i for i, _ in ray.get(taken + rest)] == list(range(6))
    assert ray.get(taken[1]) == before == (1, b"z" * 5000)
    assert ray.get(generator.completed()) is None


@pytest.mark.row("4.crash", "2.retry_exceptions")
def test_a_retry_after_an_exception(cluster, marks):
    @ray.remote(max_retries=2, retry_exceptions=True)
    def raises_once():
        attempt = marks.count()
        marks.mark(attempt)
        yield 0
        yield 1
        if attempt == 0:
            raise ValueError("once")
        yield 2

    assert values(raises_once.remote()) == [0, 1, 2]

    @ray.remote(max_retries=1, retry_exceptions=True)
    def raises_always():
        yield 0
        raise ValueError("always")

    first, last = raises_always.remote()
    assert ray.get(first) == 0
    with pytest.raises(ValueError):
        ray.get(last)


@pytest.mark.row("4.crash")
def test_a_replay_that_gives_less(cluster, marks):
    @ray.remote(max_retries=1)
    def less(n):
        attempt = marks.count()
        marks.mark(f"attempt {attempt}")
        for i in range(n if attempt == 0 else 1):  # noqa: UP028
            yield i
        if attempt == 0:
            while marks.count() == 1:
                threading.Event().wait(0.01)
            os._exit(1)

    generator = less.remote(3)
    taken = [next(generator) for _ in range(3)]
    marks.mark("go on")
    if ON_RAY:  # it just ends
        assert list(generator) == []
    else:
        last = next(generator)
        with pytest.raises(exceptions.StreamingGeneratorReplayInconsistentError):
            ray.get(last)
        assert list(generator) == []
    assert ray.get(taken) == [0, 1, 2]


@pytest.mark.row("4.crash", "5.actor_error")
def test_the_death_of_an_actor_is_the_last_item(cluster):
    @ray.remote
    class Worker:
        def numbers(self):
            yield 1
            threading.Event().wait()

    worker = Worker.remote()
    generator = worker.numbers.remote()
    assert ray.get(next(generator)) == 1
    ray.kill(worker)
    last = next(generator)
    with pytest.raises(exceptions.ActorDiedError):
        ray.get(last)
    with pytest.raises(StopIteration):
        next(generator)


@pytest.mark.row("4.crash", "3.max_task_retries")
def test_a_restarted_actor_goes_on(cluster, marks):
    @ray.remote(max_restarts=1, max_task_retries=1)
    class Worker:
        def numbers(self, n):
            attempt = marks.count()
            marks.mark(f"attempt {attempt}")
            for i in range(n):
                if i == 2 and attempt == 0:
                    while marks.count() == 1:
                        threading.Event().wait(0.01)
                    os._exit(1)
                yield i

    generator = Worker.remote().numbers.remote(4)
    taken = [next(generator), next(generator)]
    marks.mark("go on")
    assert ray.get(taken + list(generator)) == [0, 1, 2, 3]


@pytest.mark.row("1.cancel", "4.protocol")
def test_cancel_of_a_generator(cluster):
    @ray.remote
    def endless():
        i = 0
        while True:
            yield i
            i += 1
            threading.Event().wait(0.01)

    generator = endless.remote()
    assert ray.get(next(generator)) == 0
    ray.cancel(generator)
    with pytest.raises(exceptions.TaskCancelledError):
        for ref in generator:
            ray.get(ref)


# ------------------------------------------------------------------------------------ async actors


@pytest.fixture(scope="module")
def source():
    """A maker of an async actor with generators."""

    @ray.remote
    class Source:
        async def numbers(self, n):
            for i in range(n):
                await asyncio.sleep(0)
                yield i

        async def fails(self):
            yield 1
            raise KeyError("boo")

        async def gated(self, gate):
            yield "early"
            await gate[0]
            yield "late"

        async def me(self):
            yield ray.get_runtime_context().get_task_id()

        def plain(self, n):
            for i in range(n):  # noqa: UP028
                yield i

        async def one(self):
            return 1

    return Source


@pytest.mark.row("4.generators", "3.max_concurrency")
def test_async_generators_of_an_actor(cluster, source, eventually):
    actor = source.remote()
    assert values(actor.numbers.remote(5)) == list(range(5))
    assert values(actor.plain.remote(3)) == [0, 1, 2]
    first, last = actor.fails.remote()
    assert ray.get(first) == 1
    with pytest.raises(KeyError):
        ray.get(last)
    me = actor.me.remote()
    assert ray.get(next(me)) == me.completed().task_id().hex()


@pytest.mark.row("4.generators")
def test_async_generators_run_at_once(cluster, source):
    @ray.remote
    class Gate:
        def __init__(self):
            self.event = asyncio.Event()

        async def wait(self):
            await self.event.wait()

        async def open(self):
            self.event.set()

    gate, actor = Gate.remote(), source.remote()
    waits = gate.wait.remote()
    many = [actor.gated.remote([waits]) for _ in range(5)]
    assert [ray.get(next(generator)) for generator in many] == ["early"] * 5
    assert ray.get(actor.one.remote()) == 1
    ray.get(gate.open.remote())
    assert [values(generator) for generator in many] == [["late"]] * 5


@pytest.mark.row("2.generator_options")
def test_paused_async_generators_leave_the_loop_free(cluster, source):
    actor = source.remote()
    slow = actor.numbers.options(_generator_backpressure_num_objects=1)
    many = [slow.remote(5) for _ in range(20)]
    assert [ray.get(next(generator)) for generator in many] == [0] * 20
    assert ray.get(actor.one.remote()) == 1
    assert [values(generator) for generator in many] == [[1, 2, 3, 4]] * 20


@pytest.mark.row("4.fixed")
def test_an_async_generator_has_no_fixed_number_of_results(cluster, source):
    with pytest.raises(TypeError):
        ray.get(source.remote().numbers.options(num_returns=2).remote(2))


@pytest.mark.row("4.generators", "3.max_concurrency")
def test_generators_of_a_threaded_actor(cluster):
    @ray.remote(max_concurrency=3)
    class Threaded:
        def __init__(self):
            self.barrier = threading.Barrier(3)

        def together(self, n):
            self.barrier.wait()
            for i in range(n):
                yield i, threading.get_ident()

    actor = Threaded.remote()
    found = [values(generator) for generator in [actor.together.remote(4) for _ in range(3)]]
    assert [[i for i, _ in one] for one in found] == [[0, 1, 2, 3]] * 3
    assert len({thread for one in found for _, thread in one}) == 3
