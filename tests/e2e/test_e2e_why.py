"""why(ref), and what GetTimeoutError says: each state of a task, told by whoever knows it."""

from __future__ import annotations

import os
import time

import pytest
from e2e_help import until

import skate as ray


@pytest.fixture()
def gate(tmp_path):
    """A path: tasks that were given it go on when it exists."""
    return str(tmp_path / "open")


@ray.remote
def hold(path, *_):
    while not os.path.exists(path):
        time.sleep(0.005)
    return 1


@ray.remote
def after(value):
    return value


@ray.remote
def get_in(box):
    return ray.get(box[0])


@ray.remote
class Held:
    def hold(self, path):
        while not os.path.exists(path):
            time.sleep(0.005)
        return 1

    def quick(self, *_):
        return 1


def open_gate(path):
    with open(path, "w"):
        pass


def said(ref, *words, seconds=10.0):
    """The chain once its text has all the words; a chain takes a moment to form."""
    seen = []

    def look():
        seen[:] = [ray.why(ref)]
        return all(word in str(seen[0]) for word in words)

    until(look, seconds, f"{words} in the chain of {ref}")
    return seen[0]


def test_running_where_and_since_when(session, gate):
    ref = hold.remote(gate)
    chain = said(ref, "task hold was sent to worker", "hold runs since", "of node 1")
    assert ref.hex() in str(chain)
    assert [step.kind for step in chain.steps] == ["ref", "run"]
    assert chain.steps[-1].state == "goes on"
    assert chain.steps[-1].pid not in (0, os.getpid())
    assert f"pid {chain.steps[-1].pid}" in str(chain)
    assert not chain.deadlock and not chain.impossible and chain.complete
    open_gate(gate)
    ray.get(ref)
    assert said(ref, "is ready").steps[0].state == "ready"


def test_waits_for_an_argument(session, gate):
    first = hold.remote(gate)
    last = after.remote(after.remote(first))
    chain = said(last, "waits for 1 of its 1 arguments", "hold runs since")
    assert [step.depth for step in chain.steps] == [1, 2, 3, 4]
    assert first.hex() in str(chain)
    open_gate(gate)
    assert ray.get(last) == 1


def test_queued_for_cpus_says_who_holds_them(session, gate):
    held = [hold.remote(gate) for _ in range(2)]
    for ref in held:
        said(ref, "hold runs since")
    wide = after.options(num_cpus=2, name="wide").remote(1)
    chain = said(wide, "task wide is queued", "needs 2 CPU", "0 of 2 CPU", "held by pid",
                 "hold runs since")
    assert len([s for s in chain.steps if s.kind == "run"]) == 2
    open_gate(gate)
    assert ray.get([*held, wide]) == [1, 1, 1]


def test_queued_for_a_resource_of_our_own(gate):
    ray.init(num_cpus=4, resources={"gold": 1})
    try:
        first = hold.options(resources={"gold": 1}).remote(gate)
        said(first, "hold runs since")
        second = hold.options(resources={"gold": 1}).remote(gate)
        said(second, "needs 1 CPU, 1 gold", "0 of 1 gold", "held by pid")
        open_gate(gate)
        ray.get([first, second])
    finally:
        ray.shutdown()


def test_blocked_in_get(session, gate):
    inner = hold.remote(gate)
    outer = get_in.remote([inner])
    chain = said(outer, "get_in runs since", "blocked in get() of 1 ref since", "hold runs since")
    assert inner.hex() in str(chain)
    open_gate(gate)
    assert ray.get(outer) == 1


def test_what_an_actor_does_instead(session, gate):
    actor = Held.remote()
    busy = actor.hold.remote(gate)
    later = [actor.quick.remote() for _ in range(3)]
    said(later[2], "call Held.quick was sent", "is at pid", "ahead of it", "Held.hold runs since")
    open_gate(gate)
    assert ray.get([busy, *later]) == [1, 1, 1, 1]


def test_a_call_behind_one_whose_argument_is_missing(session, gate):
    actor = Held.remote()
    ray.get(actor.quick.remote())
    missing = hold.remote(gate)
    first, second = actor.quick.remote(missing), actor.quick.remote()
    said(first, "call Held.quick waits for 1 of its 1 arguments", "hold runs since")
    said(second, "is queued behind the call Held.quick", "waits for 1 of its 1 arguments")
    open_gate(gate)
    assert ray.get([first, second]) == [1, 1]


def test_an_actor_that_has_no_place_yet(session, gate):
    held = [hold.remote(gate) for _ in range(2)]
    for ref in held:
        said(ref, "hold runs since")
    actor = Held.options(num_cpus=2).remote()
    call = actor.quick.remote()
    said(call, "its actor is pending", "actor Held is", "hold runs since")
    open_gate(gate)
    assert ray.get([*held, call]) == [1, 1, 1]


def test_an_actor_in_its_constructor(session, gate):
    @ray.remote
    class Slow:
        def __init__(self, path):
            while not os.path.exists(path):
                time.sleep(0.005)

        def quick(self):
            return 1

    call = Slow.remote(gate).quick.remote()
    said(call, "actor Slow is being started", "(constructor)", "runs since")
    open_gate(gate)
    assert ray.get(call) == 1


@pytest.mark.parametrize("kind", ["task", "actor"])
def test_a_demand_that_nobody_can_meet(session, kind):
    ref = (after.options(num_cpus=64).remote(1) if kind == "task"
           else Held.options(num_cpus=64).remote().quick.remote())
    chain = said(ref, "needs 64 CPU", "largest node has 2 CPU", "This cannot end")
    assert chain.impossible and not chain.deadlock
    with pytest.raises(ray.exceptions.GetTimeoutError, match="needs 64 CPU"):
        ray.get(ref, timeout=0.2)


def test_a_worker_that_holds_the_interpreter_lock_answers_too(session, gate):
    @ray.remote
    def spin(path):
        code = compile("[0] * 200_000_000", "", "eval")  # one long bytecode after the other
        while not os.path.exists(path):
            eval(code)
        return 1

    ref = spin.remote(gate)
    said(ref, "spin runs since")
    open_gate(gate)
    ray.get(ref)


def test_another_process_can_ask(session, gate):
    @ray.remote
    def ask(box):
        return str(ray.why(box[0]))

    ref = hold.remote(gate)
    said(ref, "hold runs since")
    assert "hold runs since" in ray.get(ask.remote([ref]))
    open_gate(gate)
    ray.get(ref)


def test_the_error_of_a_timeout(session, gate):
    refs = [hold.remote(gate) for _ in range(8)]
    done = ray.put(1)
    said(refs[0], "hold runs since")
    with pytest.raises(ray.exceptions.GetTimeoutError) as caught:
        ray.get([done, *refs], timeout=0.2)
    text = str(caught.value)
    assert "8 of 9 objects are not ready after 0.2 s" in text
    assert "hold runs since" in text and refs[0].hex() in text
    assert len(text) < 5000
    with pytest.raises(ray.exceptions.GetTimeoutError) as caught:
        ray.get(refs[0], timeout=0)  # a poll: nobody else is asked
    assert "task hold was sent to worker" in str(caught.value)
    open_gate(gate)
    ray.get(refs)


def test_a_long_chain_is_cut(session, gate):
    ref = hold.remote(gate)
    for _ in range(200):
        ref = after.remote(ref)
    chain = ray.why(ref)
    assert 10 < len(chain.steps) <= 128
    with pytest.raises(ray.exceptions.GetTimeoutError) as caught:
        ray.get(ref, timeout=0.1)
    assert len(str(caught.value)) < 5000
    open_gate(gate)
    assert ray.get(ref) == 1


def test_what_it_refuses(session):
    for wrong in (1, None, "x", [1], (ray.put(1),)):
        with pytest.raises(TypeError, match="ObjectRef"):
            ray.why(wrong)
    assert ray.why([]).steps == []
