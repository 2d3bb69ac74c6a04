"""Spilled objects and more than one node: served, pulled, lost with their files."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from e2e_help import eventually

import skate as ray
from skate.cluster_utils import Cluster

MB = 1 << 20
COUNT = 24  # of 4 MB: three times a store


@pytest.fixture
def two(tmp_path):
    """The driver's node has 32 MB, and so has another, with 3 CPUs and the resource far."""
    places = tmp_path / "near", tmp_path / "far"
    for place in places:
        place.mkdir()
    made = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "object_store_memory": 32 * MB,
            "object_spilling_directory": str(places[0]),
        },
    )
    made.add_node(
        num_cpus=3,
        resources={"far": 10},
        object_store_memory=32 * MB,
        object_spilling_directory=str(places[1]),
    )
    ray.init(address=made.address)
    yield places
    ray.shutdown()
    made.shutdown()


def _value(i: int) -> np.ndarray:
    return np.arange(i, i + MB // 2, dtype=np.int64)


def _right(i: int, value: np.ndarray) -> bool:
    return bool(np.array_equal(value, _value(i)))


@ray.remote(resources={"far": 1})
def _make(i: int) -> np.ndarray:
    return _value(i)


@ray.remote(resources={"far": 1}, num_cpus=0)
class Reader:
    """Holds refs on the other node, and nothing else."""

    def hold(self, refs: list) -> None:
        self.refs = refs

    def right(self, i: int) -> bool:
        return _right(i, ray.get(self.refs[i]))


def _wreck(folder: Path) -> int:
    """Each spill file loses its content, and keeps its length."""
    count = 0
    for where, _, names in os.walk(folder):
        for name in names:
            path = Path(where) / name
            if (size := path.stat().st_size) > MB:
                with path.open("r+b") as f:
                    f.truncate(0)
                    f.truncate(size)
                count += 1
    return count


def test_what_another_node_has_spilled_is_read(two):
    refs = [_make.remote(i) for i in range(COUNT)]
    for i in (*range(COUNT), *range(0, COUNT, 5)):
        assert _right(i, ray.get(refs[i], timeout=60)), i


def test_copies_that_are_lost_with_their_files_are_fetched_again(two):
    refs = [ray.put(_value(i)) for i in range(COUNT)]
    far = Reader.remote()
    ray.get(far.hold.remote(refs))
    for i in range(COUNT):
        assert ray.get(far.right.remote(i), timeout=60)
    eventually(lambda: _wreck(two[1]) > 0, 20)
    for i in range(COUNT):
        assert ray.get(far.right.remote(i), timeout=60), i


def test_what_is_lost_on_another_node_is_made_again(two):
    refs = [_make.remote(i) for i in range(COUNT)]
    ray.wait(refs, num_returns=COUNT, timeout=60, fetch_local=False)
    eventually(lambda: _wreck(two[1]) > 0, 20)
    for i in range(COUNT):
        assert _right(i, ray.get(refs[i], timeout=60)), i


def test_a_worker_that_is_killed_while_it_reads_leaves_all_as_it_was(two):
    @ray.remote(resources={"far": 1}, max_retries=3)
    def look(mark: str, *parts: np.ndarray) -> int:
        if not os.path.exists(mark):
            Path(mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return sum(int(p[0]) for p in parts)

    refs = [_make.remote(i) for i in range(COUNT)]
    marks = [str(two[0] / f"mark{k}") for k in range(4)]
    sums = [look.remote(marks[k], *refs[k * 6 : k * 6 + 6]) for k in range(4)]
    assert ray.get(sums, timeout=60) == [sum(range(k * 6, k * 6 + 6)) for k in range(4)]


def test_arrays_that_are_kept_after_shutdown(tmp_path):
    place = tmp_path / "near"
    place.mkdir()
    made = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 2,
            "object_store_memory": 32 * MB,
            "object_spilling_directory": str(place),
        },
    )

    @ray.remote
    def make(i: int) -> np.ndarray:
        return _value(i)

    try:
        ray.init(address=made.address)
        mine, result = ray.put(_value(1)), make.remote(2)
        kept = [ray.get(mine), ray.get(result)]
        del mine, result
        ray.shutdown()
        for k in range(2):  # others fill the store, twice
            ray.init(address=made.address)
            refs = [ray.put(_value(i + k)) for i in range(COUNT)]
            assert all(_right(i + k, ray.get(ref)) for i, ref in enumerate(refs))
            assert _right(1, kept[0])
            assert _right(2, kept[1])
            del refs
            ray.shutdown()
    finally:
        ray.shutdown()
        made.shutdown()
