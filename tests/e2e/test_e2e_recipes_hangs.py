"""Recipes for hangs: each ends by itself, or the deadlock is named, on stderr and in the error.

A deadlock must be named soon (a driver would wait for ever); a wait that can end must never be
called one.
"""

from __future__ import annotations

import os
import threading
import time

import pytest
from e2e_help import until

import skate as ray

BOUND_S = 20.0  # generous: a loaded machine; alone it takes 1.2 s


def named(capfd, *words):
    """Wait until the driver's stderr names a deadlock with these words."""
    text = []

    def look():
        text.append(capfd.readouterr().err)
        seen = "".join(text)
        return "deadlock" in seen and all(word in seen for word in words)

    until(look, BOUND_S, f"a deadlock with {words} on stderr")
    return "".join(text)


def is_deadlock(ref):
    until(lambda: ray.why(ref).deadlock, BOUND_S, "why() says deadlock")
    with pytest.raises(ray.exceptions.GetTimeoutError, match="deadlock"):
        ray.get(ref, timeout=0.3)


@ray.remote
class Partner:
    def __init__(self, box=()):
        self.other = box[0] if box else None

    def meet(self, other):
        self.other = other
        return True

    def ask(self):
        return ray.get(self.other.answer.remote())

    def answer(self):
        return 42

    def ask_round(self):
        return ray.get(self.other.ask_round.remote())


def test_an_actor_waits_for_itself(session, capfd):
    actor = Partner.remote()
    ray.get(actor.meet.remote(actor))
    ref = actor.ask.remote()
    text = named(capfd, "Partner.ask runs since", "Partner.answer is at pid")
    assert text.count("warning: deadlock") == 1
    is_deadlock(ref)


def test_an_actor_that_calls_itself_and_does_not_wait(session):
    @ray.remote
    class Own:
        def start(self, me):
            return [me.value.remote()]

        def value(self):
            return 7

    own = Own.remote()
    assert ray.get(ray.get(own.start.remote(own))[0], timeout=BOUND_S) == 7


def test_two_actors_wait_for_each_other(session, capfd):
    a, b = Partner.remote(), Partner.remote()
    ray.get([a.meet.remote(b), b.meet.remote(a)])
    ref = a.ask_round.remote()
    named(capfd, "Partner.ask_round runs since", "and not started")
    is_deadlock(ref)


def test_three_actors_in_a_ring(session, capfd):
    actors = [Partner.remote() for _ in range(3)]
    ray.get([actors[i].meet.remote(actors[(i + 1) % 3]) for i in range(3)])
    ref = actors[0].ask_round.remote()
    text = named(capfd, "Partner.ask_round")
    assert text.count("runs since") >= 3
    is_deadlock(ref)


def test_nobody_but_actors_waits(session, capfd):
    """The driver waits for nothing: the actors find it by themselves."""
    a, b = Partner.remote(), Partner.remote()
    ray.get([a.meet.remote(b), b.meet.remote(a)])
    ref = a.ask_round.remote()
    named(capfd, "Partner.ask_round")
    del ref


def test_a_constructor_waits_for_its_own_actor(session, capfd):
    @ray.remote
    class Eager:
        def __init__(self):
            me = ray.get_runtime_context().current_actor
            ray.get(me.value.remote())

        def value(self):
            return 1

    actor = Eager.remote()
    ref = actor.value.remote()
    named(capfd, "(constructor)", "Eager")
    is_deadlock(ref)


def test_a_task_waits_for_its_own_result(session, capfd):
    @ray.remote
    class Box:
        def put(self, content):
            self.content = content

        def take(self):
            return getattr(self, "content", None)

    @ray.remote
    def own(box):
        content = None
        while content is None:
            content = ray.get(box.take.remote())
        return ray.get(content[0])

    box = Box.remote()
    ref = own.remote(box)
    ray.get(box.put.remote([ref]))
    named(capfd, "own runs since", "blocked in get() of 1 ref")
    is_deadlock(ref)


def test_a_child_needs_what_its_parent_holds(capfd):
    """Blocked parents lend their CPUs, but nothing else."""
    ray.init(num_cpus=2, resources={"gold": 1})
    try:
        @ray.remote(resources={"gold": 1})
        def child():
            return 1

        @ray.remote(resources={"gold": 1})
        def parent():
            return ray.get(child.remote())

        ref = parent.remote()
        named(capfd, "parent runs since", "gold", "held by pid")
        is_deadlock(ref)
    finally:
        ray.shutdown()


def test_an_infeasible_child(session, capfd):
    @ray.remote(num_cpus=64)
    def wide():
        return 1

    @ray.remote
    def parent():
        return ray.get(wide.remote())

    ref = parent.remote()
    text = []

    def look():
        text.append(capfd.readouterr().err)
        return "Task wide needs 64 CPU" in "".join(text)

    until(look, BOUND_S, "the demand is named")
    until(lambda: ray.why(ref).impossible, BOUND_S, "why() says impossible")
    assert "parent runs since" in str(ray.why(ref))


def test_ctrl_c_says_what_was_waited_for(site):
    program = site.python("""
import time
import skate as ray
ray.init(num_cpus=1)

@ray.remote
def slow():
    time.sleep(60)

many = [slow.remote() for _ in range(3)]
import threading
threading.Timer(1.2, lambda: print("waiting", flush=True)).start()
ray.get(many)
""")
    program.expect("waiting")
    program.interrupt()
    assert program.wait() != 0
    text = program.text()
    assert "KeyboardInterrupt" in text and "get() was interrupted after" in text
    assert "slow runs since" in text or "task slow was sent" in text or "slow is queued" in text


# ---- what must end by itself, without a false alarm


@ray.remote
def nap(seconds, *_):
    time.sleep(seconds)
    return seconds


def no_alarm(capfd):
    assert "deadlock" not in capfd.readouterr().err


def test_two_threads_get_crosswise(session, capfd):
    a, b = nap.remote(1.4), nap.remote(1.5)
    out = []
    threads = [
        threading.Thread(target=lambda pair=pair: out.append(ray.get(list(pair))), daemon=True)
        for pair in ((a, b), (b, a))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND_S)
    assert sorted(out) == [[1.4, 1.5], [1.5, 1.4]]
    no_alarm(capfd)


def test_nested_gets_with_all_cpus_in_use(session, capfd):
    @ray.remote
    def down(n):
        if n == 0:
            time.sleep(1.3)  # long enough for every sleeper above to look
            return 0
        return 1 + sum(ray.get([down.remote(n - 1)]))

    assert ray.get([down.remote(5), down.remote(5)], timeout=60) == [5, 5]
    no_alarm(capfd)


def test_waiting_for_any_of_several_is_no_deadlock(session, capfd):
    @ray.remote
    class One:
        def first_of(self, me):
            stuck = me.nothing.remote()
            ready, _ = ray.wait([stuck, nap.remote(1.4)], num_returns=1)
            return len(ready)

        def nothing(self):
            return 0

    one = One.remote()
    assert ray.get(one.first_of.remote(one), timeout=BOUND_S) == 1
    no_alarm(capfd)


def test_a_cycle_with_a_timeout_ends(session):
    @ray.remote
    class Careful:
        def ask(self, me):
            try:
                return ray.get(me.value.remote(), timeout=0.2)
            except ray.exceptions.GetTimeoutError as error:
                return "deadlock" in str(error)

        def value(self):
            return 1

    careful = Careful.remote()
    assert ray.get(careful.ask.remote(careful), timeout=BOUND_S) is True


def test_many_wait_for_one_slow_task(session, capfd):
    @ray.remote(num_cpus=0)
    def reader(box):
        return ray.get(box[0])

    slow = nap.remote(1.4)
    assert ray.get([reader.remote([slow]) for _ in range(6)], timeout=60) == [1.4] * 6
    no_alarm(capfd)


def test_a_worker_dies_under_a_waiter(session):
    @ray.remote(max_retries=0)
    def dies(box):
        os._exit(3)

    @ray.remote
    def waits(box):
        return ray.get(box[0])

    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(waits.remote([dies.remote([])]), timeout=BOUND_S)
