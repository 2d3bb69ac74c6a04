"""`ray.util.queue.Queue`: a queue between processes."""

from __future__ import annotations

import asyncio
import importlib
import queue
import threading

import pytest
from compat_target import exceptions, ray

module = importlib.import_module(f"{ray.__name__}.util.queue")
Queue, Empty, Full = module.Queue, module.Empty, module.Full

pytestmark = [pytest.mark.row("9.queue"), pytest.mark.usefixtures("cluster")]


def test_first_in_first_out():
    q = Queue()
    assert q.empty() and not q.full()
    for item in (1, "two", [3], None):
        assert q.put(item) is None
    assert len(q) == q.size() == q.qsize() == 4
    assert [q.get() for _ in range(4)] == [1, "two", [3], None]
    assert q.empty()


def test_a_bound():
    q = Queue(maxsize=2)
    assert q.maxsize == 2
    q.put(1)
    q.put_nowait(2)
    assert q.full() and not q.empty()
    for put in (
        lambda: q.put_nowait(3),
        lambda: q.put(3, block=False),
        lambda: q.put(3, timeout=0.01),
        lambda: q.put(3, block=False, timeout=-1),
    ):
        with pytest.raises(Full):
            put()
    assert q.get() == 1
    q.put(4, timeout=10)
    assert q.get_nowait_batch(2) == [2, 4]
    assert issubclass(Full, queue.Full) and issubclass(Empty, queue.Empty)


def test_nothing_there():
    q = Queue()
    for get in (q.get_nowait, lambda: q.get(block=False), lambda: q.get(timeout=0.01)):
        with pytest.raises(Empty):
            get()


def test_what_is_refused():
    q = Queue()
    with pytest.raises(ValueError):
        q.put(1, timeout=-1)
    with pytest.raises(ValueError):
        q.get(timeout=-1)
    with pytest.raises(TypeError):
        q.put_nowait_batch(5)
    with pytest.raises(TypeError):
        q.get_nowait_batch("a")
    with pytest.raises(ValueError):
        q.get_nowait_batch(-1)


def test_batches_are_all_or_nothing():
    q = Queue(maxsize=3)
    with pytest.raises(Full):
        q.put_nowait_batch([1, 2, 3, 4])
    assert q.size() == 0
    q.put_nowait_batch((0, 1))
    with pytest.raises(Full):
        q.put_nowait_batch([1, 2])
    with pytest.raises(Empty):
        q.get_nowait_batch(3)
    assert q.get_nowait_batch(0) == []
    assert q.get_nowait_batch(2) == [0, 1]


def test_a_get_waits_for_a_put_in_another_process():
    q = Queue()

    @ray.remote(num_cpus=0)
    def take(q):
        return q.get(timeout=60)

    @ray.remote(num_cpus=0)
    def give(q, item):
        q.put(item)

    waiting = [take.remote(q) for _ in range(2)]
    ray.get([give.remote(q, i) for i in range(2)])
    assert sorted(ray.get(waiting)) == [0, 1]


def test_a_put_waits_for_a_get():
    q = Queue(maxsize=1)
    q.put(0)
    thread = threading.Thread(target=q.put, args=(1,))
    thread.start()
    assert q.get() == 0
    assert q.get(timeout=60) == 1
    thread.join(60)
    assert not thread.is_alive()


def test_coroutines():
    q = Queue(maxsize=1)

    async def main():
        with pytest.raises(Empty):
            await q.get_async(block=False)
        with pytest.raises(Empty):
            await q.get_async(timeout=0.01)
        await q.put_async(1)
        with pytest.raises(Full):
            await q.put_async(2, block=False)
        with pytest.raises(Full):
            await q.put_async(2, timeout=0.01)
        for timeout_of in (q.get_async, lambda timeout: q.put_async(1, timeout=timeout)):
            with pytest.raises(ValueError):
                await timeout_of(timeout=-1)
        assert await q.get_async() == 1
        return await asyncio.gather(q.get_async(), q.put_async(5))

    assert asyncio.run(main()) == [5, None]


def test_order_and_number_with_many_putters():
    q = Queue()

    @ray.remote(num_cpus=0)
    def give(q, who):
        for i in range(20):
            q.put((who, i))

    ray.get([give.remote(q, who) for who in range(3)])
    got = q.get_nowait_batch(60)
    for who in range(3):
        assert [i for w, i in got if w == who] == list(range(20))


def test_options_of_the_actor(eventually):
    q = Queue(actor_options={"name": "the-queue"})
    assert ray.get_actor("the-queue") == q.actor
    q.shutdown(force=True)
    assert q.actor is None


def test_shutdown():
    q = Queue()
    q.put(1)
    actor = q.actor
    q.shutdown()
    q.shutdown()
    with pytest.raises(AttributeError):
        q.put(1)
    with pytest.raises(exceptions.RayActorError):
        ray.get(actor.qsize.remote())
