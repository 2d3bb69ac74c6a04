"""`ray.util.multiprocessing.Pool`: the standard library's pool on actors."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import threading

import pytest
from compat_target import ON_RAY, exceptions, ray

mp = importlib.import_module(f"{ray.__name__}.util.multiprocessing")

pytestmark = pytest.mark.row("9.pool")


@pytest.fixture()
def pool(cluster):
    with mp.Pool(2) as made:
        yield made


def square(x):
    if x == 13:
        raise ValueError("thirteen")
    return x * x


def add(a, b=1):
    return a + b


def pid_of(_):
    return os.getpid()


@ray.remote(num_cpus=0)
class Gate:
    def __init__(self):
        self.open = False

    def set(self):
        self.open = True

    def is_open(self):
        return self.open


def wait_for(gate):
    import time

    while not ray.get(gate.is_open.remote()):
        time.sleep(0.005)
    return "through"


def test_map_keeps_the_order(pool):
    assert pool.map(square, range(10)) == [x * x for x in range(10)]
    assert pool.map(square, []) == []
    assert pool.map(square, (x for x in (3, 2, 1))) == [9, 4, 1]
    for size in (1, 3, 100):
        assert pool.map(square, range(10), chunksize=size) == [x * x for x in range(10)]
    assert pool.map_async(square, [4, 5]).get() == [16, 25]


def test_an_error_of_map_is_the_function_s_own(pool):
    with pytest.raises(ValueError, match="thirteen") as caught:
        pool.map(square, [1, 13, 2])
    assert type(caught.value) is ValueError
    with pytest.raises(TypeError):
        pool.map(square, 5)
    with pytest.raises((ValueError, AssertionError)):
        pool.map(square, [1], chunksize=0)


def test_starmap_and_apply(pool):
    assert pool.starmap(add, [(1, 2), [3, 4], (5,)]) == [3, 7, 6]
    assert pool.starmap_async(add, [(1, 2)]).get() == [3]
    assert pool.apply(add, (1,)) == 2
    assert pool.apply(add, (1,), {"b": 5}) == 6
    assert pool.apply_async(add, (2, 3)).get() == 5
    with pytest.raises(ValueError):
        pool.apply(square, (13,))
    with pytest.raises(TypeError):
        pool.apply(5)
    with pytest.raises(TypeError):
        pool.starmap(add, [1])


def test_async_result(pool):
    right, wrong = pool.apply_async(square, (3,)), pool.apply_async(square, (13,))
    assert right.wait() is None and wrong.wait() is None
    assert right.ready() and wrong.ready()
    assert right.successful() and not wrong.successful()
    assert right.get() == right.get() == 9
    for _ in range(2):
        with pytest.raises(ValueError, match="thirteen"):
            wrong.get()


def test_a_result_that_is_not_there_yet(pool):
    gate = Gate.remote()
    result = pool.apply_async(wait_for, (gate,))
    assert not result.ready()
    with pytest.raises(ValueError):
        result.successful()
    with pytest.raises(mp.TimeoutError):
        result.get(timeout=0.05)
    assert mp.TimeoutError is multiprocessing.TimeoutError
    assert result.wait(0.01) is None
    ray.get(gate.set.remote())
    assert result.get(timeout=30) == "through"


def test_callbacks(pool):
    heard, event = [], threading.Event()

    def hear(value):
        heard.append(value)
        event.set()

    for call, expected in (
        (lambda: pool.apply_async(square, (7,), callback=hear), 49),
        (lambda: pool.map_async(square, range(3), callback=hear), [0, 1, 4]),
        (lambda: pool.starmap_async(add, [(1, 2), (5, 6)], callback=hear), [3, 11]),
    ):
        event.clear()
        assert call().get() == expected
        assert event.wait(30)
        (value,) = heard
        heard.clear()
        if ON_RAY and isinstance(value, list):
            value.sort()  # Ray gives a callback the chunks as they ended
        assert value == expected


def test_error_callback(pool):
    heard, event = [], threading.Event()

    def hear(value):
        heard.append(value)
        event.set()

    for call in (
        lambda: pool.apply_async(square, (13,), callback=heard.append, error_callback=hear),
        lambda: pool.map_async(square, [1, 13], callback=heard.append, error_callback=hear),
    ):
        event.clear()
        call().wait()
        assert event.wait(30)
        (error,) = heard
        heard.clear()
        assert type(error).__name__ == "PoolTaskError"
        assert isinstance(error.underlying, ValueError)


def test_imap(pool):
    results = pool.imap(square, range(6))
    assert next(results) == 0
    assert results.next() == 1
    assert results.next(timeout=30) == 4
    assert list(results) == [9, 16, 25]
    with pytest.raises(StopIteration):
        next(results)
    assert list(pool.imap(square, range(7), chunksize=3)) == [x * x for x in range(7)]
    assert sorted(pool.imap_unordered(square, range(7), chunksize=2)) == [x * x for x in range(7)]
    assert list(pool.imap(square, [])) == []
    with pytest.raises(TypeError):
        pool.imap(square, 5)
    with pytest.raises((ValueError, ZeroDivisionError)):
        pool.imap(square, [1], chunksize=0)


def test_an_error_of_imap_does_not_end_it(pool):
    for imap in (pool.imap, pool.imap_unordered):
        results, seen = imap(square, [1, 13, 2]), []
        for _ in range(3):
            try:
                value = next(results)
            except ValueError as error:
                value = error
            if ON_RAY and type(value).__name__ == "PoolTaskError":
                value = value.underlying  # Ray hands the exception out as a value
            seen.append(value if isinstance(value, int) else str(value))
        assert sorted(map(str, seen)) == ["1", "4", "thirteen"]
        with pytest.raises(StopIteration):
            next(results)


def test_imap_reads_its_items_lazily(pool):
    read = []

    def items():
        for i in range(10_000):
            read.append(i)
            yield i

    results = pool.imap(add, items())
    assert [next(results) for _ in range(5)] == [1, 2, 3, 4, 5]
    assert len(read) < 50
    unordered = pool.imap_unordered(add, iter(int, 1))  # an endless one
    assert [next(unordered) for _ in range(5)] == [1] * 5


def test_imap_timeout(pool):
    gate = Gate.remote()
    for imap in (pool.imap, pool.imap_unordered):
        results = imap(wait_for, [gate])
        with pytest.raises(mp.TimeoutError):
            results.next(timeout=0.05)
        ray.get(gate.set.remote())
        assert results.next(timeout=30) == "through"
        gate = Gate.remote()


def test_unordered_results_come_as_they_end(pool):
    gate = Gate.remote()

    def late_or_at_once(i):
        return wait_for(gate) if i == 0 else i

    results = pool.imap_unordered(late_or_at_once, range(3))
    first = next(results)
    assert first in (1, 2)
    ray.get(gate.set.remote())
    assert {str(first), *map(str, results)} == {"through", "1", "2"}


def test_initializer_runs_in_each_process(cluster):
    def mark(a, b):
        os.environ["POOL_MARK"] = f"{a}-{b}"

    def read(_):
        return os.getpid(), os.environ.get("POOL_MARK")

    with mp.Pool(2, initializer=mark, initargs=(1, 2)) as pool:
        seen = set(pool.map(read, range(20), chunksize=1))
    assert {mark for _, mark in seen} == {"1-2"}
    assert len(seen) == 2
    with pytest.raises(exceptions.RayActorError, match="not right"):
        def fail():
            raise KeyError("not right")

        mp.Pool(1, initializer=fail)


def test_maxtasksperchild(cluster):
    with mp.Pool(1, maxtasksperchild=2) as pool:
        pids = pool.map(pid_of, range(6), chunksize=1)
        assert len(set(pids)) == 3
        assert all(pids.count(pid) == 2 for pid in pids)
        assert len(set(pool.map(pid_of, range(6), chunksize=6))) == 1


def test_processes_are_reused(pool):
    pids = set(pool.map(pid_of, range(40), chunksize=1))
    assert len(pids) <= 2
    assert os.getpid() not in pids
    assert set(pool.map(pid_of, range(40), chunksize=1)) == pids


def test_the_life_of_a_pool(cluster):
    pool = mp.Pool(1)
    with pytest.raises(ValueError):
        pool.join()
    last = pool.apply_async(square, (4,))
    pool.close()
    for call in (
        lambda: pool.map(square, [1]),
        lambda: pool.apply(square, (1,)),
        lambda: pool.apply_async(square, (1,)),
        lambda: pool.imap(square, [1]),
        lambda: pool.imap_unordered(square, [1]),
        lambda: pool.starmap(add, [(1,)]),
    ):
        with pytest.raises(ValueError):
            call()
    pool.join()
    assert last.get() == 16
    pool.terminate()
    pool.join()
    with mp.Pool(1) as pool:
        assert pool.map(square, [2]) == [4]
    with pytest.raises(ValueError):
        pool.map(square, [2])


def test_terminate_ends_what_runs(cluster):
    pool = mp.Pool(1)
    gate = Gate.remote()
    result = pool.apply_async(wait_for, (gate,))
    pool.terminate()
    with pytest.raises(exceptions.RayActorError):
        result.get(timeout=30)


def test_what_a_pool_refuses(cluster):
    for processes in (0, -1, 1000):
        with pytest.raises(ValueError):
            mp.Pool(processes)
    with pytest.raises(TypeError):
        mp.Pool("a")


def test_a_process_that_dies(cluster):
    def die(_):
        os._exit(1)

    with mp.Pool(1) as pool:
        with pytest.raises(exceptions.RayActorError):
            pool.map(die, [1])
        if ON_RAY:
            return  # this pool is of no use any more
        assert pool.map(square, [1, 2]) == [1, 4]


def test_options_of_the_actors(cluster):
    with mp.Pool(1, ray_remote_args={"num_cpus": 0, "resources": {"gold": 1}}) as pool:
        def held(_):
            return ray.get_runtime_context().get_assigned_resources().get("gold")

        assert pool.map(held, [1]) == [1.0]


def test_a_pool_in_a_task(cluster):
    @ray.remote
    def outer(x):
        with importlib.import_module(f"{ray.__name__}.util.multiprocessing").Pool(1) as pool:
            return pool.map(square, [x])

    assert ray.get(outer.remote(4)) == [16]


def test_a_pool_starts_a_cluster(no_cluster):
    with mp.Pool(2) as pool:
        assert pool.map(square, [3]) == [9]
        assert ray.cluster_resources()["CPU"] == 2
