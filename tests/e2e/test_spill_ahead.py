"""What is read in the order in which it was put comes back before it is asked for; what will have
to leave is written before it has to."""

import gc
import itertools
import os
import threading

import numpy as np
import pytest
from e2e_help import eventually

import skate as ray
from skate import _memory, exceptions

MB = 1 << 20
COUNT = 160  # objects of 1 MB; the store has room for 64 of them, and reads 8 ahead


@pytest.fixture
def small_store(tmp_path):
    ray.init(num_cpus=2, object_store_memory=64 * MB, object_spilling_directory=str(tmp_path))
    yield tmp_path
    ray.shutdown()


def _value(i: int) -> np.ndarray:
    return np.arange(i, i + MB // 8, dtype=np.int64)


def _count(name: str) -> int:
    (node,) = _memory.look(None, 20.0, 1, None, 1)["nodes"]
    return int(node[name])


def _restores() -> int:
    return _count("restores")


def test_more_is_read_than_was_asked_for(small_store):
    refs = [ray.put(_value(i)) for i in range(COUNT)]
    before = _restores()
    for i in range(3):
        assert np.array_equal(ray.get(refs[i]), _value(i))
    assert eventually(lambda: _restores() - before >= 3 + 5)
    for i in range(3, COUNT):
        assert np.array_equal(ray.get(refs[i]), _value(i))


def test_out_of_order_nothing_is_read_ahead(small_store):
    refs = [ray.put(_value(i)) for i in range(COUNT)]
    before = _restores()
    asked = range(90, 0, -1)
    for i in asked:
        assert np.array_equal(ray.get(refs[i]), _value(i))
    assert _restores() - before <= len(asked)


def test_what_is_ahead_gives_way(small_store):
    refs = [ray.put(_value(i)) for i in range(COUNT)]
    for i in range(3):
        assert ray.get(refs[i])[0] == i
    del refs[3:12]  # some of them are ahead, or on their way
    gc.collect()
    views = ray.get([ray.put(_value(i)) for i in range(56)])  # nearly all the room there is
    assert all(np.array_equal(v, _value(i)) for i, v in enumerate(views))
    del views
    gc.collect()
    for i, ref in enumerate(refs[3:], 12):
        assert np.array_equal(ray.get(ref), _value(i))


def test_readers_in_order_while_others_write_and_jump(small_store):
    refs = [ray.put(_value(i)) for i in range(COUNT)]
    stop = threading.Event()
    wrong: list[object] = []

    @ray.remote
    def scan(parts: list[ray.ObjectRef], first: int) -> bool:
        return all(np.array_equal(ray.get(r), _value(first + i)) for i, r in enumerate(parts))

    def write() -> None:
        for i in itertools.count():
            if stop.is_set():
                return
            if not np.array_equal(ray.get(ray.put(_value(i))), _value(i)):
                wrong.append(i)

    def jump() -> None:
        for i in itertools.count():
            if stop.is_set():
                return
            at = i * 37 % COUNT
            if not np.array_equal(ray.get(refs[at]), _value(at)):
                wrong.append(at)

    others = [threading.Thread(target=write), threading.Thread(target=jump)]
    for t in others:
        t.start()
    try:
        scans = [scan.remote(refs[:80], 0), scan.remote(refs[80:], 80)]
        for i, ref in enumerate(refs):
            assert np.array_equal(ray.get(ref), _value(i))
        assert ray.get(scans) == [True, True]
    finally:
        stop.set()
        for t in others:
            t.join()
    assert not wrong


def test_a_bad_file_is_found_ahead_too(small_store):
    refs = [ray.put(_value(i)) for i in range(COUNT)]
    for folder, _, names in os.walk(small_store):
        for name in names:
            if name != "owner":
                path = os.path.join(folder, name)
                os.truncate(path, os.path.getsize(path) // 2)
    lost = 0
    for i, ref in enumerate(refs):
        try:
            assert np.array_equal(ray.get(ref), _value(i))
        except exceptions.ObjectLostError:
            lost += 1
    assert 0 < lost < COUNT


def test_more_is_written_than_is_over_the_threshold(small_store):
    refs = [ray.put(_value(i)) for i in range(52)]  # 1 MB more than 0.8 of the store
    assert eventually(lambda: _count("spilled_bytes") >= 6 * MB)
    assert all(np.array_equal(ray.get(r), _value(i)) for i, r in enumerate(refs))
