"""create_buffer() and ndarray(): memory of the store that is filled where it lies."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import skate
from skate import _core, exceptions

MB = 1 << 20
SIZES = [0, 1, 100, 4096, 65_536, 65_537, 300_000, 5 * MB]


@skate.remote
def total(data):
    return int(np.frombuffer(data, "u1").sum())


@skate.remote
def describe(array):
    return array.shape, str(array.dtype), array.flags.writeable, array.reshape(-1)[-1:].tolist()


def held():
    gc.collect()
    return _core.stats()["arena_held"]


def objects():
    gc.collect()
    skate.put(0)  # what was dropped is applied by the next call
    return _core.stats()["objects"] - 1


@pytest.mark.parametrize("size", SIZES)
def test_a_buffer_is_stored_as_it_lies(session, size):
    buffer = skate.create_buffer(size)
    assert len(buffer) == buffer.nbytes == size and not buffer.sealed
    memory = memoryview(buffer)
    assert not memory.readonly
    memory[:] = bytes(size)
    memory[size // 2 :] = b"\x05" * (size - size // 2)
    before = _core.stats()["arena_held"]
    ref = skate.put(buffer)
    if size > 65_536:
        assert buffer.sealed and _core.stats()["arena_held"] == before  # nothing was copied
        assert memoryview(buffer).readonly
    back = skate.get(ref)
    assert type(back) is memoryview and back.readonly and back == memory
    assert skate.get(total.remote(ref)) == 5 * (size - size // 2)
    again = skate.put(buffer)
    assert skate.get(again) == back and (size <= 65_536 or again == ref)
    del memory, buffer, ref  # the view alone keeps the bytes
    assert sum(back) == 5 * (size - size // 2)


def test_arrays_of_all_kinds(session):
    kinds = ["u1", "i8", "f4", "f8", "c16", "?", "f2", "M8[s]", "U3", [("a", "i4"), ("b", "f8")]]
    for kind in [*kinds, ">i4"]:
        for shape in ((), 7, (0, 3), (50, 2000), (100, 100, 10), (10,) + (1,) * 8 + (10_000,)):
            array = skate.ndarray(shape, kind)
            assert type(array) is np.ndarray and array.dtype == np.dtype(kind)
            assert array.flags.c_contiguous and array.flags.writeable
            assert array.shape == ((shape,) if isinstance(shape, int) else shape)
            array[...] = np.zeros(array.shape, kind)
            flat = array.reshape(-1)
            flat[len(flat) // 2 :] = np.ones(1, "i4").astype(array.dtype)[0]
            expected = array.copy()
            ref = skate.put(array)
            assert not array.flags.writeable or array.size == 0
            back = skate.get(ref)
            assert back.dtype == array.dtype and back.shape == array.shape
            assert np.array_equal(back, expected) and np.array_equal(array, expected)
            mine = skate.get(ref, copy=True)
            if array.size:
                mine[...] = expected.reshape(-1)[0]
            assert np.array_equal(skate.get(ref), expected)


def test_another_process_reads_it(session):
    array = skate.ndarray((1000, 500), np.float32)
    array[:] = 3
    ref = skate.put(array)
    assert skate.get(describe.remote(ref)) == ((1000, 500), "float32", False, [3.0])
    assert skate.get(describe.remote(array)) == ((1000, 500), "float32", False, [3.0])


def test_an_array_of_a_worker(session):
    @skate.remote
    class Maker:
        def make(self, value):
            array = skate.ndarray(200_000, "i4")
            array[:] = value
            return skate.put(array)

    maker = Maker.remote()
    refs = [skate.get(maker.make.remote(i)) for i in range(3)]
    assert [int(skate.get(ref).sum()) for ref in refs] == [0, 200_000, 400_000]


def test_sealed_once_and_refused_afterwards(session):
    array = skate.ndarray(100_000, np.float64)
    array[:] = 1
    part = array[10:20]
    ref, part_ref = skate.put(array), skate.put(part)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 5
    assert skate.put(array) == ref and part_ref != ref
    assert skate.get(part_ref).tolist() == [1.0] * 10
    array.shape = (1000, 100)  # another value of the same bytes
    other = skate.put(array)
    assert skate.get(other).shape == (1000, 100) and skate.get(ref).shape == (100_000,)


def test_views_and_slices_are_copied(session):
    array = skate.ndarray(100_000, np.int64)
    array[:] = 7
    refs = [skate.put(v) for v in (array[:], array[5:], array[::2], array.reshape(100, 1000))]
    refs.append(skate.put({"inside": array}))
    array[:] = 8  # it is not sealed
    assert all(int(np.max(skate.get(ref))) == 7 for ref in refs[:-1])
    assert skate.get(refs[-1])["inside"].max() == 7
    ref = skate.put(array)
    assert skate.get(ref).min() == 8
    buffer = skate.create_buffer(1 * MB)
    view = np.frombuffer(buffer, "u1")
    view[:] = 1
    seen = [skate.put(view), skate.put(bytes(buffer)), skate.put(bytearray(buffer))]
    view[:] = 2
    assert [int(np.frombuffer(skate.get(r), "u1").max()) for r in seen] == [1, 1, 1]
    assert set(bytes(skate.get(skate.put(buffer)))) == {2}


def test_dropped_ones_give_their_memory_back():
    skate.shutdown()
    skate.init(num_cpus=1, object_store_memory=100 * MB)
    before = objects()
    for i in range(40):  # 1.2 GB in all
        array = skate.ndarray(30 * MB, "u1")
        array[:: 4 * MB] = i
        if i % 2:
            ref = skate.put(array)
            assert skate.get(ref)[0] == i
    del array, ref
    assert objects() == before
    assert held() <= 100 * MB


def test_the_ref_goes_first_or_last(session):
    before = objects()
    array = skate.ndarray(300_000, "u1")
    array[:] = 9
    ref = skate.put(array)
    del ref
    skate.put(0)
    assert array.min() == 9 and skate.get(skate.put(array)).max() == 9
    del array
    assert objects() == before
    array = skate.ndarray(300_000, "u1")
    array[:] = 4
    ref = skate.put(array)
    del array
    gc.collect()
    assert skate.get(ref).max() == 4


def test_larger_than_the_store():
    skate.shutdown()
    skate.init(num_cpus=1, object_store_memory=80 * MB)
    array = skate.ndarray(100 * MB, "u1")
    array[:] = 3
    ref = skate.put(array)
    assert array.base.sealed and array.max() == 3
    small = [skate.put(np.full(10 * MB, i, "u1")) for i in range(12)]  # they go to files
    assert skate.get(total.remote(ref)) == 300 * MB
    assert [int(skate.get(r)[-1]) for r in small] == list(range(12))
    assert skate.get(ref).min() == array.min() == 3


def test_sealed_bytes_stay_while_somebody_looks():
    """What is spilled meanwhile are others; nobody reads zeros where pages were taken away."""
    skate.shutdown()
    skate.init(num_cpus=1, object_store_memory=100 * MB)
    array = skate.ndarray(20 * MB, "u1")
    array[:] = 7
    ref = skate.put(array)
    others = [skate.put(np.full(20 * MB, i, "u1")) for i in range(12)]
    assert array.min() == array.max() == 7
    del array
    others += [skate.put(np.full(20 * MB, i, "u1")) for i in range(12, 18)]
    assert skate.get(ref).min() == 7  # it may have left by now
    assert [int(skate.get(r)[MB]) for r in others] == list(range(18))


def test_wrong_asks_are_refused(session):
    for wrong in (-1, -(1 << 70)):
        with pytest.raises(ValueError, match=str(wrong)):
            skate.create_buffer(wrong)
    for wrong in ("10", 1.5, None):
        with pytest.raises(TypeError, match=type(wrong).__name__):
            skate.create_buffer(wrong)
    with pytest.raises(ValueError, match="shape"):
        skate.ndarray((3, -1))
    for wrong in ("ab", 2.5, (1, "x")):
        with pytest.raises(TypeError):
            skate.ndarray(wrong)
    with pytest.raises(TypeError, match="object"):
        skate.ndarray(3, object)
    for big in (1 << 40, 1 << 62, 1 << 100):
        with pytest.raises(exceptions.ObjectStoreFullError):
            skate.create_buffer(big)
    with pytest.raises(exceptions.ObjectStoreFullError):
        skate.ndarray((1 << 40, 1 << 40), "f8")
    with pytest.raises(TypeError):
        _core.StoreBuffer()


def test_two_threads_put_the_same_one(session):
    for _ in range(20):
        array = skate.ndarray(50_000, "i4")
        array[:] = 6
        refs, gate = [], threading.Barrier(3)

        def put(array=array, refs=refs, gate=gate):
            gate.wait()
            refs.append(skate.put(array))

        threads = [threading.Thread(target=put) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refs) == 3 and all((skate.get(ref) == 6).all() for ref in refs)


def test_they_outlive_the_session():
    skate.shutdown()
    skate.init(num_cpus=1)
    small, opened, array = skate.create_buffer(10), skate.create_buffer(MB), skate.ndarray(MB, "u1")
    memoryview(opened)[:4] = memoryview(small)[:4] = b"open"
    array[:] = 3
    part = array[5:]
    ref = skate.put(array)
    skate.shutdown()
    skate.init(num_cpus=1)
    others = [skate.put(np.full(MB, i, "u1")) for i in range(5)]  # in the pages of the old ones
    assert array.min() == part.max() == 3 and bytes(memoryview(opened)[:4]) == b"open"
    memoryview(opened)[:4] = b"more"
    assert bytes(skate.get(skate.put(opened)))[:4] == b"more"  # copied: it is of no session
    assert skate.get(skate.put(array)).max() == 3
    del array, part, opened, ref
    gc.collect()
    assert [int(skate.get(r).max()) for r in others] == [0, 1, 2, 3, 4]


def program(text):
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONFAULTHANDLER": "0"},
    )  # fmt: skip


@pytest.mark.parametrize("view", ["array[5:]", "memoryview(array)", "array.base"])
@pytest.mark.parametrize("size", [100, 1_000_000])
def test_memory_itself_refuses_what_numpy_does_not(view, size):
    """Whoever kept a view from before cannot change the stored value."""
    done = program(f"""
import ctypes, resource, skate
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
skate.init(num_cpus=1)
array = skate.ndarray({size}, "u1")
array[:] = 1
view = memoryview({view}).cast("B")
view[3] = 2
ref = skate.put(array)
assert skate.get(ref)[:10].max() == view[3] if len(view) == {size} else True
print("sealed", flush=True)
view[3] = 9
print("written", flush=True)
""")
    assert done.stdout == "sealed\n" and done.returncode == -signal.SIGSEGV, done.stderr


def test_a_forked_child_may_drop_its_copies():
    done = program("""
import os, skate
skate.init(num_cpus=1)
open_, array = skate.create_buffer(1 << 20), skate.ndarray(1 << 20, "u1")
array[:] = 7
ref = skate.put(array)
child = os.fork()
if child == 0:
    ok = array.max() == 7
    del open_, array, ref
    os._exit(0 if ok else 1)
assert os.waitpid(child, 0)[1] == 0
memoryview(open_)[:3] = b"abc"
assert bytes(skate.get(skate.put(open_))[:3]) == b"abc" and skate.get(ref).min() == 7
print("fine")
""")
    assert done.stdout == "fine\n", done.stderr


def test_without_numpy():
    done = program("""
import sys
sys.modules["numpy"] = None
import skate
skate.init(num_cpus=1)
try:
    skate.ndarray(3)
except ImportError as error:
    print(error)
buffer = skate.create_buffer(200_000)
memoryview(buffer)[:2] = b"ab"
print(bytes(skate.get(skate.put(buffer))[:2]), skate.get(skate.put(buffer)).readonly)
""")
    assert done.returncode == 0, done.stderr
    assert "create_buffer()" in done.stdout and "b'ab' True" in done.stdout
