"""Objects leave memory for files and come back, byte for byte."""

import contextlib
import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from e2e_help import eventually

import skate as ray
from skate import exceptions

MB = 1 << 20


@pytest.fixture
def small_store(tmp_path):
    """A store of 64 MB; what waits for room gives up after 2 s."""
    ray.init(
        num_cpus=2,
        object_store_memory=64 * MB,
        object_spilling_directory=str(tmp_path),
        _system_config={"store_wait_s": 2},
    )
    yield tmp_path
    ray.shutdown()


def _pattern(i: int, n: int) -> np.ndarray:
    return np.arange(i, i + n, dtype=np.int64)


def test_five_times_the_store_comes_back(small_store):
    refs = [ray.put(_pattern(i, MB)) for i in range(40)]  # 320 MB
    files = [f for _, _, names in os.walk(small_store) for f in names]
    assert len(files) > 1
    for order in (range(40), reversed(range(40)), (i * 7 % 40 for i in range(40))):
        for i in order:
            got = ray.get(refs[i])
            assert not got.flags.writeable
            assert np.array_equal(got, _pattern(i, MB))
            del got
    del refs
    gc.collect()


def test_small_objects_and_arguments(small_store):
    refs = [ray.put(_pattern(i, 1000)) for i in range(20_000)]  # 8 KB each
    assert all(np.array_equal(ray.get(refs[i]), _pattern(i, 1000)) for i in range(0, 20_000, 7))

    @ray.remote
    def total(*parts: np.ndarray) -> int:
        return int(sum(int(p[0]) for p in parts))

    sums = ray.get([total.remote(*refs[i : i + 50]) for i in range(0, 20_000, 500)])
    assert sums == [sum(range(i, i + 50)) for i in range(0, 20_000, 500)]


def test_a_view_stays_where_it_is(small_store):
    kept = ray.get(ray.put(_pattern(7, MB)))  # its ref is gone, the view is not
    ref = ray.put(_pattern(8, MB))
    held = ray.get(ref)
    for i in range(30):
        ray.put(_pattern(i, MB))
    refs = [ray.put(_pattern(i, MB)) for i in range(20)]
    assert np.array_equal(kept, _pattern(7, MB))
    assert np.array_equal(held, _pattern(8, MB))
    copy = ray.get(refs[3], copy=True)
    copy[0] = -1
    assert ray.get(refs[3])[0] == 3


def test_results_of_tasks_and_actors(small_store):
    @ray.remote
    def make(i: int) -> np.ndarray:
        return _pattern(i, MB)

    @ray.remote
    class Keeper:
        def __init__(self) -> None:
            self.refs: list[ray.ObjectRef] = []

        def make(self, n: int) -> int:
            self.refs += [ray.put(_pattern(i, MB)) for i in range(n)]
            return len(self.refs)

        def check(self) -> bool:
            return all(np.array_equal(ray.get(r), _pattern(i, MB))
                       for i, r in enumerate(self.refs))

    keeper = Keeper.remote()
    refs = [make.remote(i) for i in range(20)]
    assert ray.get(keeper.make.remote(20)) == 20
    assert all(np.array_equal(ray.get(r), _pattern(i, MB)) for i, r in enumerate(refs))
    assert ray.get(keeper.check.remote())


@pytest.fixture
def impatient():
    """A store of 64 MB that lets a put wait for 2.5 s."""
    ray.init(num_cpus=1, object_store_memory=64 * MB, _system_config={"store_wait_s": 2.5})
    yield
    ray.shutdown()


def test_pinned_whole_waits_then_says_who(impatient, capfd):
    views = [ray.get(ray.put(_pattern(i, MB))) for i in range(7)]
    with pytest.raises(exceptions.ObjectStoreFullError, match=r"process 1 .* views"):
        ray.put(_pattern(9, MB))
    said = []
    assert eventually(lambda: said.append(capfd.readouterr().err) or "store of this node is full"
                      in "".join(said))
    views.pop()
    assert ray.get(ray.put(_pattern(9, MB)))[0] == 9


def test_a_put_goes_on_when_another_thread_lets_go(small_store):
    views = [ray.get(ray.put(_pattern(i, MB))) for i in range(7)]
    done = threading.Event()

    def put() -> None:
        ray.get(ray.put(_pattern(9, MB)))
        done.set()

    thread = threading.Thread(target=put)
    thread.start()
    assert not done.wait(0.2)
    views.clear()
    assert done.wait(20)
    thread.join()


def test_the_last_ref_frees_the_file(small_store):
    refs = [ray.put(_pattern(i, MB)) for i in range(30)]

    def on_disk() -> int:
        used = 0
        for folder, _, names in os.walk(small_store):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    used += os.stat(os.path.join(folder, name)).st_blocks * 512
        return used

    assert on_disk() > 100 * MB
    refs.clear()
    assert eventually(lambda: on_disk() < MB)


def test_nothing_stays_after_the_session(tmp_path):
    ray.init(num_cpus=1, object_store_memory=64 * MB, object_spilling_directory=str(tmp_path))
    refs = [ray.put(_pattern(i, MB)) for i in range(20)]
    assert os.listdir(tmp_path)
    ray.shutdown()
    del refs
    assert os.listdir(tmp_path) == []


def test_larger_than_the_store(small_store):
    whole = np.arange(15 * MB)  # 120 MB in a store of 64
    ref = ray.put(whole)
    got = ray.get(ref)
    assert not got.flags.writeable and np.array_equal(got, whole)
    mine = ray.get(ref, copy=True)
    mine[:] = 0
    assert np.array_equal(got, whole)

    @ray.remote
    def twice(x: np.ndarray) -> np.ndarray:
        return x * 2

    assert np.array_equal(ray.get(twice.remote(ref)), whole * 2)


def test_more_views_than_the_store_has_room_for(small_store):
    refs = [ray.put(_pattern(i, MB)) for i in range(20)]
    views = ray.get(refs)  # 160 MB at once: what finds no room is read from files
    assert all(np.array_equal(v, _pattern(i, MB)) for i, v in enumerate(views))

    @ray.remote
    def firsts(*arrays: np.ndarray) -> list[int]:
        return [int(a[0]) for a in arrays]

    assert ray.get(firsts.remote(*refs)) == list(range(20))
    del views
    gc.collect()
    again = [ray.get(r) for r in refs]
    assert all(np.array_equal(v, _pattern(i, MB)) for i, v in enumerate(again))


def test_without_spilling_the_store_is_the_limit():
    ray.init(num_cpus=1, object_store_memory=64 * MB,
             _system_config={"automatic_object_spilling_enabled": False, "store_wait_s": 0.2})
    try:
        with pytest.raises(exceptions.ObjectStoreFullError, match="whole object store has"):
            ray.put(np.arange(15 * MB))
        refs = [ray.put(_pattern(i, MB)) for i in range(7)]
        with pytest.raises(exceptions.ObjectStoreFullError, match="switched off"):
            ray.put(_pattern(9, MB))
        assert ray.get(refs[0])[0] == 0
    finally:
        ray.shutdown()


def _damage(folder, step: int = 100_000) -> None:
    """Flips a bit here and there in every spill file."""
    for d, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(d, name)
            if name == "owner":
                continue
            with open(path, "r+b") as f:
                for at in range(5000, os.path.getsize(path), step):
                    f.seek(at)
                    byte = f.read(1)
                    f.seek(at)
                    f.write(bytes([byte[0] ^ 1]))


def test_a_damaged_file_is_made_again_or_says_so(small_store):
    @ray.remote
    def make(i: int) -> np.ndarray:
        return _pattern(i, MB)

    made = [make.remote(i) for i in range(15)]
    ray.wait(made, num_returns=15)
    stored = [ray.put(_pattern(i, MB)) for i in range(15)]
    _damage(small_store)
    assert all(np.array_equal(ray.get(r), _pattern(i, MB)) for i, r in enumerate(made))
    lost = 0
    for i, ref in enumerate(stored):
        try:
            assert np.array_equal(ray.get(ref), _pattern(i, MB))
        except exceptions.ObjectLostError as error:
            assert "written to cannot be read" in str(error)
            lost += 1
    assert lost


def test_a_killed_worker_leaves_what_it_had_spilled(small_store):
    @ray.remote
    class Keeper:
        def make(self, n: int) -> list[ray.ObjectRef]:
            return [ray.put(_pattern(i, MB)) for i in range(n)]

    keeper = Keeper.remote()
    refs = ray.get(keeper.make.remote(20))
    ray.kill(keeper)
    assert all(np.array_equal(ray.get(r), _pattern(i, MB)) for i, r in enumerate(refs))


def test_few_addresses_are_enough():
    """A limit on addresses (ulimit -v): the store takes fewer, and spills all the same."""
    source = f"""
import resource
resource.setrlimit(resource.RLIMIT_AS, ({48 << 30}, {48 << 30}))
import numpy as np
import skate as ray
ray.init(num_cpus=1, object_store_memory=1 << 30)
refs = [ray.put(np.full(1 << 20, i)) for i in range(40)]
@ray.remote
def first(x):
    return int(x[0])
print(ray.get([first.remote(r) for r in refs]) == list(range(40)))
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True,
                          timeout=60)
    assert done.stdout.strip() == "True", done.stderr
