"""Sizes and numbers around the borders that an implementation may have, and crowds of things."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from compat_target import ON_RAY, ray

# Around every border that a value may cross: slots, frames, rings, inlining, extents.
SIZES = [
    0, 1, 63, 64, 65, 1_000, 1_900, 2_000, 2_047, 2_048, 2_049, 2_200, 3_900, 4_000, 4_095, 4_096,
    4_097, 4_200, 8_192, 65_000, 65_535, 65_536, 65_537, 66_000, 100_000, 102_399, 102_400, 102_401,
    1_000_000, 2_097_152, 4_194_304, 10_000_001,
]


@ray.remote
def echo(x):
    return x


@ray.remote
def size_of(*values):
    return sum(len(value) for value in values)


@ray.remote
def make(kind, size):
    return b"x" * size if kind == "bytes" else np.full(size, 7, dtype=np.uint8)


@ray.remote
class Echo:
    def echo(self, x):
        return x


@pytest.mark.row("14.sizes")
def test_bytes_of_every_size(cluster):
    actor = Echo.remote()
    for size in SIZES:
        data = bytes(size % 251 for _ in range(1)) * size
        assert ray.get(ray.put(data)) == data
        assert ray.get(echo.remote(data)) == data
        assert ray.get(actor.echo.remote(data)) == data
        assert len(ray.get(make.remote("bytes", size))) == size


@pytest.mark.row("14.sizes")
def test_arrays_of_every_size(cluster):
    actor = Echo.remote()
    for size in SIZES:
        data = np.arange(size, dtype=np.uint8)
        for back in (ray.get(ray.put(data)), ray.get(echo.remote(data)),
                     ray.get(actor.echo.remote(data))):
            assert np.array_equal(back, data)
        assert int(ray.get(make.remote("array", size)).sum(dtype=np.int64)) == 7 * size


@pytest.mark.row("14.sizes")
def test_several_arguments_that_together_cross_a_border(cluster):
    for size, count in itertools.product((100, 1_000, 2_000, 5_000), (1, 2, 3, 5, 10, 40)):
        assert ray.get(size_of.remote(*[b"a" * size] * count)) == size * count


@pytest.mark.row("14.sizes")
def test_strings_and_containers_of_every_size(cluster):
    for size in (0, 1, 100, 700, 2_000, 4_100, 70_000, 1_000_000):
        text = "aü✓" * (size // 3)
        numbers = list(range(size // 8))
        assert ray.get(echo.remote({"t": text, "n": numbers})) == {"t": text, "n": numbers}


@pytest.mark.row("14.sizes")
def test_integers_of_every_width(cluster):
    values = [sign * (2**bits + extra) for bits in (0, 5, 7, 8, 15, 16, 31, 32, 53, 62, 63, 64, 65,
              200) for extra in (-1, 0, 1) for sign in (1, -1)]
    assert ray.get(echo.remote(values)) == values
    assert [ray.get(echo.remote(value)) for value in values] == values


@pytest.mark.row("14.limits")
def test_many_returns(cluster):
    @ray.remote
    def spread(n):
        return list(range(n))

    for n in (2, 10, 100):
        refs = spread.options(num_returns=n).remote(n)
        assert ray.get(refs) == list(range(n))


@pytest.mark.row("14.limits")
def test_many_refs_as_arguments(cluster):
    @ray.remote
    def total(*numbers):
        return sum(numbers)

    for n in (1, 10, 100, 300):
        assert ray.get(total.remote(*[echo.remote(i) for i in range(n)])) == n * (n - 1) // 2


@pytest.mark.row("14.limits")
def test_many_refs_in_a_container(cluster):
    @ray.remote
    def total(refs):
        return sum(ray.get(refs))

    for n in (1, 10, 100, 1000):
        assert ray.get(total.remote([ray.put(i) for i in range(n)])) == n * (n - 1) // 2


@pytest.mark.row("14.limits")
def test_a_deep_queue(cluster):
    refs = [echo.remote(i) for i in range(20_000)]
    assert sum(ray.get(refs)) == 199_990_000


@pytest.mark.row("14.limits")
def test_a_deep_queue_of_medium_results(cluster):
    refs = [make.remote("bytes", 3_000) for _ in range(2_000)]
    assert {len(value) for value in ray.get(refs)} == {3_000}


@pytest.mark.row("14.limits")
def test_a_deep_queue_of_large_results(cluster):
    refs = [make.remote("array", 200_000) for _ in range(300)]
    assert sum(int(a[0]) for a in ray.get(refs)) == 2_100


@pytest.mark.row("14.limits")
def test_a_deep_queue_of_large_arguments(cluster):
    refs = [size_of.remote(b"a" * 20_000) for _ in range(1_000)]
    assert sum(ray.get(refs)) == 20_000_000


@pytest.mark.row("14.limits")
def test_many_actor_calls_in_flight(cluster):
    actor = Echo.remote()
    assert ray.get([actor.echo.remote(i) for i in range(20_000)]) == list(range(20_000))


@pytest.mark.row("14.limits")
def test_many_puts_alive(cluster):
    refs = [ray.put(i) for i in range(20_000)]
    assert sum(ray.get(refs)) == 199_990_000
    large = [ray.put(np.full(50_000, i)) for i in range(200)]
    assert [int(ray.get(ref)[0]) for ref in large] == list(range(200))


@pytest.mark.row("14.limits")
def test_refs_dropped_before_they_are_done(cluster):
    for i in range(5_000):
        echo.remote(i)
    assert ray.get(echo.remote("after")) == "after"


@pytest.mark.row("14.limits")
def test_two_chains_side_by_side(cluster):
    @ray.remote
    def add(a, b):
        return a + b

    left = right = ray.put(1)
    for _ in range(40):
        left, right = add.remote(left, right), add.remote(right, left)
    assert ray.get(left) == ray.get(right) == 2**40


@pytest.mark.row("14.limits")
def test_grid_of_dependencies(cluster):
    @ray.remote
    def cell(up, left):
        return up + left

    n = 12
    grid = {(0, j): ray.put(1) for j in range(n)} | {(i, 0): ray.put(1) for i in range(n)}
    for i, j in itertools.product(range(1, n), range(1, n)):
        grid[i, j] = cell.remote(grid[i - 1, j], grid[i, j - 1])
    assert ray.get(grid[n - 1, n - 1]) == 705_432


@pytest.mark.row("14.limits")
def test_actors_and_tasks_in_a_ring(cluster):
    actors = [Echo.remote() for _ in range(4)]
    value = ray.put(0)
    for i in range(100):
        value = actors[i % 4].echo.remote(echo.remote(value))
    assert ray.get(value) == 0


@pytest.mark.row("14.limits")
def test_long_sleepers_do_not_hold_up_short_tasks(cluster):
    @ray.remote
    def nap(seconds):
        time.sleep(seconds)
        return seconds

    slow = nap.remote(1.0)
    refs = [nap.remote(0.0) for _ in range(100)]
    ready, _ = ray.wait([slow, *refs], num_returns=100)
    assert slow not in ready
    assert ray.get(slow) == 1.0


@pytest.mark.row("14.limits")
def test_uneven_tasks_are_shared_out(cluster):
    @ray.remote
    def nap(seconds):
        time.sleep(seconds)
        return seconds

    began = time.monotonic()
    ray.get([nap.remote(0.1 if i % 5 == 0 else 0.0) for i in range(40)])
    assert time.monotonic() - began < 0.8 + 2.5


@pytest.mark.row("14.threads")
@pytest.mark.parametrize("count", [2, 8])
def test_concurrent_getters_of_one_ref(cluster, count):
    from concurrent.futures import ThreadPoolExecutor

    @ray.remote
    def nap(x):
        time.sleep(0.1)
        return x

    ref = nap.remote("shared")
    with ThreadPoolExecutor(count) as pool:
        assert list(pool.map(lambda _: ray.get(ref), range(count))) == ["shared"] * count


@pytest.mark.row("14.threads")
def test_threads_that_submit_wait_and_put(cluster):
    from concurrent.futures import ThreadPoolExecutor

    actor = Echo.remote()

    def work(me):
        total = 0
        for i in range(50):
            a, b, c = echo.remote((me, i)), actor.echo.remote(i), ray.put(np.full(30_000, i))
            ready, rest = ray.wait([a, b], num_returns=2)
            assert len(ready) == 2 and not rest
            assert ray.get(a) == (me, i)
            total += ray.get(b) + int(ray.get(c)[-1])
        return total

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(6))) == [2450] * 6


@pytest.mark.row("14.limits")
def test_ten_thousand_refs_as_arguments_of_one_call(cluster):
    @ray.remote
    def one(i):
        return i

    @ray.remote
    def total(*values):
        return sum(values)

    n = 1_000 if ON_RAY else 10_000
    assert ray.get(total.remote(*[one.remote(i) for i in range(n)])) == n * (n - 1) // 2


@pytest.mark.row("14.limits")
@pytest.mark.parametrize("what", ["task", "call"])
def test_many_objects_dropped_just_before_a_call(cluster, what):
    """Their makers are told to free them: that fills the path which the next call takes."""

    @ray.remote
    class Maker:
        def make(self, size):
            return b"x" * size

    n, size = (100 if ON_RAY else 3_000), 3_000
    actor = Maker.remote()
    for _ in range(3):
        if what == "task":
            refs = [make.remote("bytes", size) for _ in range(n)]
        else:
            refs = [actor.make.remote(size) for _ in range(n)]
        assert ray.wait(refs, num_returns=n, timeout=60)[1] == []
        del refs
        ray.wait([ray.put(1)], timeout=0)
        ref = make.remote("bytes", 5) if what == "task" else actor.make.remote(5)
        assert ray.get(ref, timeout=30) == b"xxxxx"
