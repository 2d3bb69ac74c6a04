"""A full store: who waits for room, for how long, and what ends it."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import skate as ray
from skate.exceptions import ObjectStoreFullError

MB = 1 << 20


@pytest.fixture
def full():
    """A session whose store is full of arrays that this program looks at."""

    def init(store_wait_s):
        ray.shutdown()
        ray.init(num_cpus=2, object_store_memory=32 * MB,
                 _system_config={"store_wait_s": store_wait_s})  # fmt: skip
        ray.get(array.remote(10_000, 0))  # a worker is there
        held, size = [], 4 * MB
        while size > 50_000:
            try:
                held.append(ray.get(ray.put(np.zeros(size, np.uint8))))
            except ObjectStoreFullError:
                size //= 2
        return held

    yield init
    ray.shutdown()


@ray.remote
def array(size, i):
    return np.full(size, i, np.uint8)


@ray.remote(num_returns="streaming")
def stream(size, count):
    for i in range(count):
        yield np.full(size, i, np.uint8)


@ray.remote
class Maker:
    def array(self, size, i):
        return np.full(size, i, np.uint8)

    def put(self, size, i):
        return ray.put(np.full(size, i, np.uint8))


@ray.remote(num_cpus=0)
def sleep(seconds):
    time.sleep(seconds)


def test_threads_wait_each_for_itself(full):
    """While another one waits in get: nobody's wait is lost, begins anew or ends early."""
    held = full(0.3)
    ends = []

    def put(size):
        began = time.monotonic()
        with pytest.raises(ObjectStoreFullError, match="all of it is in use") as raised:
            ray.put(np.zeros(size, np.uint8))
        ends.append((time.monotonic() - began, str(raised.value)))

    threads = [threading.Thread(target=put, args=((i + 2) * MB,)) for i in range(3)]
    for thread in threads:
        thread.start()
    ray.get(sleep.remote(3))
    for thread in threads:
        thread.join(20)
    assert len(ends) == 3 and all(0.2 < seconds < 15 for seconds, _ in ends), ends
    assert sorted(text.split(" MB asked")[0][-3:] for _, text in ends) == ["2.1", "3.1", "4.2"]
    assert held


def test_what_tasks_return_does_not_wait_for_ever(full):
    held = full(0.3)
    for ref in (array.remote(3 * MB, 1), next(iter(stream.remote(3 * MB, 1)))):
        with pytest.raises(ObjectStoreFullError, match="all of it is in use"):
            ray.get(ref, timeout=30)
    with pytest.raises(ObjectStoreFullError, match="all of it is in use"):
        ray.get(Maker.remote().put.remote(3 * MB, 1), timeout=30)
    held.clear()
    assert int(ray.get(array.remote(3 * MB, 7), timeout=30)[0]) == 7
