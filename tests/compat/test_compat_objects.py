"""get, put, wait; refs inside values; borrowed refs; numpy arrays."""

from __future__ import annotations

import gc
import os
import pickle
import time

import numpy as np
import pytest
from compat_target import exceptions, ray


@ray.remote
def echo(x):
    return x


@ray.remote
def kind_of(x):
    return type(x).__name__


@ray.remote
def gated(path):
    while not os.path.exists(path):
        time.sleep(0.005)
    return path


# --------------------------------------------------------------------------------------------- get


VALUES = [
    None, True, -1, 2**100, 1.5, float("inf"), 1 + 2j, "text", "ü" * 1000, b"bytes",
    bytearray(b"x"),
    [1, [2, [3]]], (1, "a"), {"a": {1: 2}}, {1, 2}, frozenset({1}), range(5), slice(1, 2), int,
    ValueError, b"x" * 200_000, list(range(50_000)),
]


@pytest.mark.row("1.get", "1.put")
@pytest.mark.parametrize("value", VALUES, ids=lambda v: f"{type(v).__name__}")
def test_values_come_back(cluster, value):
    assert ray.get(ray.put(value)) == value
    back = ray.get(echo.remote(value))
    assert back == value
    # Ray gives a bytearray back as bytes.
    assert type(back) is type(value) or isinstance(value, bytearray)


@pytest.mark.row("1.get")
def test_get_of_lists(cluster):
    a, b = ray.put("a"), ray.put("b")
    assert ray.get([a, b, a]) == ["a", "b", "a"]
    assert ray.get([]) == []


@pytest.mark.row("1.get")
@pytest.mark.parametrize("bad", [None, 5, "x", set()])
def test_get_of_something_else(cluster, bad):
    with pytest.raises((ValueError, TypeError)):
        ray.get(bad)


@pytest.mark.row("1.get")
def test_get_of_a_tuple(cluster):
    with pytest.raises(ValueError):
        ray.get((ray.put(1),))


@pytest.mark.row("1.get")
def test_get_of_a_list_with_a_non_ref(cluster):
    with pytest.raises(TypeError):
        ray.get([ray.put(1), 2])


@pytest.mark.row("1.get", "5.timeout")
def test_get_timeouts(cluster, tmp_path):
    ref = gated.remote(str(tmp_path / "gate"))
    for timeout in (0, 0.1):
        began = time.monotonic()
        with pytest.raises(exceptions.GetTimeoutError) as caught:
            ray.get(ref, timeout=timeout)
        assert timeout <= time.monotonic() - began < timeout + 5
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, exceptions.RayError)
    assert ray.get(ray.put(1), timeout=0) == 1
    (tmp_path / "gate").touch()
    assert ray.get(ref, timeout=60) == str(tmp_path / "gate")


@pytest.mark.row("1.get", "5.timeout")
def test_get_timeout_of_a_list(cluster, tmp_path):
    with pytest.raises(exceptions.GetTimeoutError):
        ray.get([ray.put(1), gated.remote(str(tmp_path / "gate"))], timeout=0.1)
    (tmp_path / "gate").touch()


@pytest.mark.row("14.copies")
def test_each_get_gives_a_fresh_copy(cluster):
    ref = ray.put({"a": [1]})
    first = ray.get(ref)
    first["a"].append(2)
    assert ray.get(ref) == {"a": [1]}


@pytest.mark.row("14.copies")
def test_aliasing_inside_a_value_is_kept(cluster):
    class Local:
        pass

    inner = Local()
    back = ray.get(ray.put([inner, inner]))
    assert back[0] is back[1]


# --------------------------------------------------------------------------------------------- put


@pytest.mark.row("1.put")
def test_put_of_a_ref(cluster):
    with pytest.raises(TypeError):
        ray.put(ray.put(1))


@pytest.mark.row("1.put", "14.unpicklable")
def test_put_of_something_unpicklable(cluster):
    import threading

    with pytest.raises(TypeError):
        ray.put(threading.Lock())


@pytest.mark.row("14.unpicklable")
def test_unpicklable_argument(cluster):
    import threading

    with pytest.raises(TypeError):
        echo.remote(threading.Lock())
    with pytest.raises(TypeError):
        echo.remote([1, {"deep": threading.Lock()}])
    assert ray.get(echo.remote(1)) == 1


@pytest.mark.row("1.put")
def test_put_copies_at_once(cluster):
    value = np.zeros(100_000)
    small = [1]
    refs = ray.put(value), ray.put(small)
    value[:] = 1
    small.append(2)
    assert ray.get(refs[0]).sum() == 0 and ray.get(refs[1]) == [1]


@pytest.mark.row("14.copies")
def test_arguments_are_copied_at_the_call(cluster, tmp_path):
    @ray.remote
    def total(_, values):
        return float(np.sum(values))

    gate = gated.remote(str(tmp_path / "gate"))
    small, large = [1], np.ones(200_000)
    refs = total.remote(gate, small), total.remote(gate, large)
    small.append(5)
    large[:] = 0
    (tmp_path / "gate").touch()
    assert ray.get(list(refs)) == [1.0, 200_000.0]


# -------------------------------------------------------------------------------------------- wait


@pytest.mark.row("1.wait")
def test_wait_returns_ready_and_rest(cluster, tmp_path):
    slow = gated.remote(str(tmp_path / "gate"))
    fast = echo.remote(1)
    ready, rest = ray.wait([slow, fast])
    assert ready == [fast] and rest == [slow]
    (tmp_path / "gate").touch()
    ready, rest = ray.wait([slow, fast], num_returns=2)
    assert ready == [slow, fast] and rest == []


@pytest.mark.row("1.wait")
def test_wait_never_gives_more_than_asked(cluster):
    refs = [ray.put(i) for i in range(5)]
    ready, rest = ray.wait(refs, num_returns=2)
    assert len(ready) == 2 and len(rest) == 3
    assert sorted(ready + rest, key=refs.index) == refs


@pytest.mark.row("1.wait")
def test_wait_timeout(cluster, tmp_path):
    slow = gated.remote(str(tmp_path / "gate"))
    done = ray.put(1)
    for timeout in (0, 0.1):
        began = time.monotonic()
        ready, rest = ray.wait([slow, done], num_returns=2, timeout=timeout)
        assert ready == [done] and rest == [slow]
        assert time.monotonic() - began < timeout + 5
    (tmp_path / "gate").touch()


@pytest.mark.row("1.wait")
def test_wait_of_nothing(cluster):
    assert ray.wait([]) == ([], [])


@pytest.mark.row("1.wait")
def test_wait_counts_errors_as_ready(cluster):
    @ray.remote(max_retries=0)
    def fail():
        raise ValueError("no")

    ref = fail.remote()
    assert ray.wait([ref], timeout=60) == ([ref], [])


@pytest.mark.row("1.wait")
def test_wait_one_by_one(cluster):
    refs = [echo.remote(i) for i in range(200)]
    seen = []
    while refs:
        ready, refs = ray.wait(refs)
        seen.extend(ray.get(ready))
    assert sorted(seen) == list(range(200))


@pytest.mark.row("1.wait")
def test_wait_errors(cluster):
    a, b = ray.put(1), ray.put(2)
    for bad in (a, (a, b), [a, 5], [1], "x"):
        with pytest.raises(TypeError):
            ray.wait(bad)
    with pytest.raises(ValueError):
        ray.wait([a, a])
    for count in (0, -1, 3):
        with pytest.raises(ValueError):
            ray.wait([a, b], num_returns=count)
    with pytest.raises(ValueError):
        ray.wait([a], timeout=-1)


@pytest.mark.row("1.wait")
def test_wait_with_fetch_local_false(cluster):
    ref = echo.remote(np.zeros(100_000))
    assert ray.wait([ref], fetch_local=False, timeout=60) == ([ref], [])


# -------------------------------------------------------------------------------------------- refs


@pytest.mark.row("14.arguments")
def test_a_ref_as_an_argument_is_resolved(cluster):
    assert ray.get(echo.remote(ray.put(5))) == 5
    assert ray.get(echo.remote(x=ray.put(6))) == 6
    assert ray.get(echo.remote(echo.remote(7))) == 7


@pytest.mark.row("14.arguments")
def test_a_ref_inside_a_container_is_not_resolved(cluster):
    class Ordinary:
        def __init__(self, value):
            self.value = value

    ref = ray.put(5)
    for container in ([ref], (ref,), {"k": ref}, Ordinary(ref)):
        back = ray.get(echo.remote(container))
        inner = back.value if hasattr(back, "value") else list(
            back.values() if isinstance(back, dict) else back
        )[0]
        assert isinstance(inner, ray.ObjectRef)
        assert inner == ref
        assert ray.get(inner) == 5


@pytest.mark.row("14.arguments")
def test_a_nested_ref_does_not_delay_the_task(cluster, tmp_path):
    slow = gated.remote(str(tmp_path / "gate"))
    assert ray.get(kind_of.remote([slow]), timeout=60) == "list"
    (tmp_path / "gate").touch()
    ray.get(slow)


@pytest.mark.row("14.arguments")
def test_put_of_a_container_resolves_one_level(cluster):
    inner = ray.put("in")
    outer = ray.put([inner])

    @ray.remote
    def look(container):
        return ray.get(container[0])

    assert ray.get(look.remote(outer)) == "in"


@pytest.mark.row("1.object_ref")
def test_refs_are_hashable_and_comparable(cluster):
    a, b = ray.put(1), ray.put(1)
    assert a != b and a == a and len({a, b, a}) == 2
    assert len(a.binary()) == 28 and a.hex() == a.binary().hex()
    assert not a.is_nil()


@pytest.mark.row("14.borrowing")
def test_refs_deeply_nested(cluster):
    ref = ray.put(0)
    for _ in range(10):
        ref = ray.put([ref])
    for _ in range(10):
        [ref] = ray.get(ref)
    assert ray.get(ref) == 0


@pytest.mark.row("14.borrowing")
def test_a_borrowed_ref_outlives_the_lender(cluster):
    @ray.remote
    class Keeper:
        def keep(self, box):
            self.box = box

        def read(self):
            return ray.get(self.box[0])

    keeper = Keeper.remote()
    small, large = ray.put("small"), ray.put(np.arange(200_000))
    for ref, check in ((small, lambda v: v == "small"), (large, lambda v: v.sum() == 19999900000)):
        ray.get(keeper.keep.remote([ref]))
        del ref
        gc.collect()
        [ray.get(ray.put(np.zeros(200_000))) for _ in range(5)]
        assert check(ray.get(keeper.read.remote()))
    del small, large
    gc.collect()
    assert ray.get(keeper.read.remote()).sum() == 19999900000


@pytest.mark.row("14.borrowing")
def test_a_ref_made_by_a_worker_outlives_its_task(cluster):
    @ray.remote
    def make():
        return [ray.put("inner"), ray.put(np.ones(150_000))]

    small, large = ray.get(make.remote())
    assert ray.get(small) == "inner"
    assert ray.get(large).sum() == 150_000


@pytest.mark.row("14.borrowing")
def test_a_dependency_survives_its_ref(cluster, tmp_path):
    @ray.remote
    def second(_, value):
        return value

    gate = gated.remote(str(tmp_path / "gate"))
    ref = second.remote(gate, ray.put("kept"))
    gc.collect()
    (tmp_path / "gate").touch()
    assert ray.get(ref) == "kept"


@pytest.mark.row("14.borrowing")
def test_a_ref_in_a_closure(cluster):
    ref = ray.put("closed over")

    @ray.remote
    def look():
        return ray.get(ref)

    assert ray.get(look.remote()) == "closed over"


@pytest.mark.row("1.get")
def test_get_inside_a_worker_of_a_slow_ref(cluster, tmp_path):
    @ray.remote
    def ask(box):
        return ray.get(box[0])

    slow = gated.remote(str(tmp_path / "gate"))
    ref = ask.remote([slow])
    (tmp_path / "gate").touch()
    assert ray.get(ref) == str(tmp_path / "gate")


@pytest.mark.row("1.wait")
def test_wait_inside_a_worker(cluster):
    @ray.remote
    def race(refs):
        ready, rest = ray.wait(refs, num_returns=len(refs))
        return len(ready), len(rest)

    assert ray.get(race.remote([echo.remote(i) for i in range(4)])) == (4, 0)


# ------------------------------------------------------------------------------------------- numpy


@pytest.mark.row("14.copies")
@pytest.mark.parametrize("dtype", ["u1", "i4", "f8", "c16", "M8[s]", "U5", "?"])
@pytest.mark.parametrize("size", [0, 10, 100_000])
def test_arrays_come_back(cluster, dtype, size):
    array = np.arange(size).astype(dtype) if dtype != "M8[s]" else np.arange(size).astype("M8[s]")
    for back in (ray.get(ray.put(array)), ray.get(echo.remote(array))):
        assert back.dtype == array.dtype and back.shape == array.shape
        assert np.array_equal(back, array)


@pytest.mark.row("14.copies")
def test_large_arrays_are_read_only_views(cluster):
    ref = ray.put(np.arange(300_000))
    first, second = ray.get(ref), ray.get(ref)
    assert not first.flags.writeable
    with pytest.raises(ValueError):
        first[0] = 1
    assert np.shares_memory(first, second)
    assert first.ctypes.data == second.ctypes.data


@pytest.mark.row("14.copies")
def test_array_arguments_are_read_only(cluster):
    @ray.remote
    def writable(array):
        return bool(array.flags.writeable)

    assert ray.get(writable.remote(ray.put(np.zeros(300_000)))) is False
    assert ray.get(writable.remote(np.zeros(300_000))) is False


@pytest.mark.row("14.copies")
def test_a_view_keeps_its_memory(cluster):
    ref = ray.put(np.arange(300_000))
    view = ray.get(ref)[1000:]
    del ref
    gc.collect()
    for i in range(10):
        ray.get(ray.put(np.full(300_000, i)))
    assert view[0] == 1000 and view[-1] == 299_999


@pytest.mark.row("14.copies")
def test_result_array_is_a_view_too(cluster):
    @ray.remote
    def make():
        return np.ones((500, 500))

    back = ray.get(make.remote())
    assert not back.flags.writeable and back.sum() == 250_000


@pytest.mark.row("14.copies")
def test_object_arrays_are_writable(cluster):
    array = ray.get(ray.put(np.array([1, "a", None], dtype=object)))
    array[0] = 2
    assert array.tolist() == [2, "a", None]


@pytest.mark.row("14.copies")
def test_fortran_order_and_strides(cluster):
    array = np.asfortranarray(np.arange(250_000.0).reshape(500, 500))
    assert np.array_equal(ray.get(ray.put(array)), array)
    assert np.array_equal(ray.get(ray.put(array[::2, 1::3])), array[::2, 1::3])


@pytest.mark.row("14.copies")
def test_dictionary_of_arrays(cluster):
    value = {"w": np.ones(200_000), "b": np.zeros(3), "name": "layer"}
    back = ray.get(echo.remote(value))
    assert back["w"].sum() == 200_000 and back["b"].shape == (3,) and back["name"] == "layer"


@pytest.mark.row("14.sizes")
def test_a_large_bytes_value(cluster):
    data = os.urandom(5_000_000)
    assert ray.get(ray.put(data)) == data
    assert ray.get(echo.remote(data)) == data


@pytest.mark.row("1.put")
def test_many_puts_do_not_fill_the_store(cluster):
    for i in range(60):
        ref = ray.put(np.full(1_000_000, i))
        assert ray.get(ref)[0] == i
        del ref


@pytest.mark.row("14.borrowing")
def test_pickled_by_hand(cluster):
    from importlib import import_module

    cloudpickle = import_module(ray.__name__ + ".cloudpickle")
    ref = ray.put("value")
    try:
        text = cloudpickle.dumps(ref)
    except pickle.PicklingError:
        pytest.fail("a ref must be picklable by cloudpickle")
    assert ray.get(cloudpickle.loads(text)) == "value"


@pytest.mark.row("14.borrowing")
def test_results_stay_while_their_maker_reads_them(cluster):
    """Large results that come back to the process that made them, as arguments, again and again."""
    @ray.remote
    def big(i):
        return np.full(200_000, i, dtype=np.float64)

    @ray.remote
    def firsts(*arrays):
        return [float(a[0]) for a in arrays]

    for round_ in range(10):
        refs = [big.remote(round_ * 10 + i) for i in range(6)]
        want = [float(round_ * 10 + i) for i in range(6)]
        assert ray.get(firsts.remote(*refs)) == want
        assert ray.get(firsts.remote(*refs)) == want
        assert [float(a[-1]) for a in ray.get(refs)] == want
