"""Streams of Skate alone: bounds of memory, counts, deaths of readers and producers."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import pytest

from skate import _core, exceptions


def eventually(question, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline, question
        time.sleep(0.01)
    return answer


def is_clean():
    counts = _core.stats()
    return counts["objects"] == counts["tasks_pending"] == counts["pins"] == 0


@pytest.fixture()
def count(session):
    @session.remote
    def numbers(n):
        yield from range(n)

    return numbers


def test_a_long_stream_needs_no_memory(session, count):
    assert sum(session.get(ref) for ref in count.remote(1000)) == 499_500
    total = 0
    for i, ref in enumerate(count.remote(200_000)):
        total += session.get(ref)
        if i % 1_000 == 0:
            assert _core.stats()["objects"] < 18_000
    assert total == 200_000 * 199_999 // 2
    del ref
    eventually(is_clean)


def test_a_program_that_takes_nothing_does_not_hold_the_producer_up(session, count):
    generator = count.remote(60_000)
    assert session.get(generator.completed()) is None
    assert sum(1 for _ in generator) == 60_000
    del generator
    eventually(is_clean)


def test_a_stream_larger_than_the_store():
    import skate

    skate.shutdown()
    skate.init(num_cpus=1, object_store_memory=48 << 20)

    @skate.remote
    def blocks(n):
        for i in range(n):
            yield bytes([i]) * (4 << 20)

    for i, ref in enumerate(blocks.remote(40)):
        assert skate.get(ref)[::1_000_000] == bytes([i]) * 5
        del ref
    skate.shutdown()


def test_dropped_items_are_freed(session):
    @session.remote
    def blocks(n):
        for i in range(n):
            yield b"x" * 200_000, i

    generator = blocks.remote(50)
    kept = [next(generator) for _ in range(3)]
    session.get(generator.completed())
    del generator
    eventually(lambda: _core.stats()["objects"] == 3)
    assert [i for _, i in session.get(kept)] == [0, 1, 2]
    del kept
    eventually(is_clean)


def test_a_dropped_dynamic_result_frees_its_items(session, count):
    ref = count.options(num_returns="dynamic").remote(100)
    generator = session.get(ref)
    assert _core.stats()["objects"] == 101
    first = next(iter(generator))
    del ref, generator
    eventually(lambda: _core.stats()["objects"] == 1)
    assert session.get(first) == 0
    count.options(num_returns="dynamic").remote(100)
    del first
    eventually(is_clean)


def test_yield_from_an_iterator(count, session):
    assert session.get(list(count.remote(3))) == [0, 1, 2]


def test_the_death_of_a_reader_lets_the_producer_end(session):
    @session.remote(num_cpus=0)
    class Producer:
        def numbers(self, n):
            yield from range(n)

        def ping(self):
            return "alive"

    @session.remote(num_cpus=0)
    class Reader:
        def begin(self, producer):
            self.generator = producer.numbers.options(
                _generator_backpressure_num_objects=1
            ).remote(1000)
            return session.get(next(self.generator)), os.getpid()

    producer, reader = Producer.remote(), Reader.remote()
    first, pid = session.get(reader.begin.remote(producer))
    assert first == 0
    os.kill(pid, signal.SIGKILL)
    assert session.get(producer.ping.remote(), timeout=20) == "alive"


def test_the_death_of_a_paused_producer(session, tmp_path):
    @session.remote(max_retries=1, _generator_backpressure_num_objects=1)
    def numbers(n):
        (tmp_path / str(os.getpid())).touch()
        for i in range(n):
            yield i, os.getpid()

    generator = numbers.remote(5)
    _, pid = session.get(next(generator))
    os.kill(pid, signal.SIGKILL)
    rest = [session.get(ref) for ref in generator]
    assert [i for i, _ in rest] == [1, 2, 3, 4]
    assert len(os.listdir(tmp_path)) == 2
    assert {pid for _, pid in rest[1:]} != {pid}


def test_errors_say_what_to_do(session, count):
    generator = count.remote(1)
    with pytest.raises(TypeError, match="pass the refs it gives"):
        session.put(generator)
    with pytest.raises(exceptions.NotSupportedError, match="cancel"):
        generator.close()

    with pytest.raises(ValueError, match="is none"):
        session.remote(lambda: 1).options(num_returns="streaming")


def test_an_exception_class_of_the_list_is_retried(session, tmp_path):
    @session.remote(max_retries=3, retry_exceptions=[KeyError])
    def sometimes(kind):
        attempt = len(os.listdir(tmp_path))
        (tmp_path / str(attempt)).touch()
        yield 0
        if attempt == 0:
            raise kind("once")
        yield 1

    assert [session.get(ref) for ref in sometimes.remote(KeyError)] == [0, 1]
    for name in os.listdir(tmp_path):
        (tmp_path / name).unlink()
    _, last = sometimes.remote(ValueError)
    with pytest.raises(ValueError):
        session.get(last)


def test_a_cancelled_paused_generator(session):
    @session.remote(_generator_backpressure_num_objects=1)
    def numbers():
        yield 1
        yield 2

    generator = numbers.remote()
    assert session.get(next(generator)) == 1
    session.cancel(generator)
    with pytest.raises(exceptions.TaskCancelledError):
        for ref in generator:
            session.get(ref)
    assert session.get(session.remote(lambda: "free").options(num_cpus=2).remote()) == "free"


def test_why_a_paused_generator_does_not_end(session):
    @session.remote(_generator_backpressure_num_objects=2)
    def numbers():
        yield from range(9)

    generator = numbers.remote()
    session.get(next(generator))
    eventually(lambda: "paused after item 3: its caller has taken only 1" in str(
        session.why(generator)))
    with pytest.raises(exceptions.GetTimeoutError, match="paused after item 3"):
        session.get(generator.completed(), timeout=0.3)


def test_many_streams_in_one_event_loop(session):
    @session.remote(num_cpus=0)
    class Ticks:
        async def numbers(self, n):
            for i in range(n):
                await asyncio.sleep(0.01)
                yield i

        async def nothing(self):
            await asyncio.sleep(3600)
            yield 0

    async def main():
        ticks = Ticks.remote()
        first = await anext(ticks.numbers.remote(1))
        assert await first == 0
        before = threading.active_count()
        done = asyncio.gather(*[every(ticks.numbers.remote(5)) for _ in range(200)])
        late = ticks.numbers.remote(0)
        assert (await ticks.nothing.remote()._next_async(0.001)).is_nil()
        with pytest.raises(StopAsyncIteration):
            await anext(late)
        assert await done == [list(range(5))] * 200
        assert threading.active_count() <= before

    async def every(generator):
        return [await ref async for ref in generator]

    asyncio.run(main())


def test_an_end_while_streams_run(session):
    @session.remote
    def endless():
        while True:
            yield b"x" * 3000

    first, second = endless.remote(), endless.remote()
    session.get([next(first), next(second)])
    session.shutdown()
    with pytest.raises(ValueError, match="session that has ended"):
        next(first)
