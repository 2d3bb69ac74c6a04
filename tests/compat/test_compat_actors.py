"""Actors: declaring, calling, state, order, names, handles passed around, lifetime, kill."""

from __future__ import annotations

import gc
import os
import time

import numpy as np
import pytest
from compat_target import CPUS, ON_RAY, exceptions, ray


@ray.remote
class Counter:
    def __init__(self, start=0):
        self.value = start

    def increment(self, by=1):
        self.value += by
        return self.value

    def get_counter(self):
        return self.value

    def pid(self):
        return os.getpid()


def process_ended(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


# --------------------------------------------------------------------------------------- declaring


@pytest.mark.row("3.create", "3.methods")
def test_the_counter_of_the_article(cluster):
    class Plain(object):  # noqa: UP004  (as the article writes it)
        def __init__(self):
            self.value = 0

        def increment(self):
            self.value += 1
            return self.value

        def get_counter(self):
            return self.value

    counter_actor = ray.remote(Plain).remote()
    assert ray.get([counter_actor.increment.remote() for _ in range(10)]) == list(range(1, 11))
    assert ray.get(counter_actor.get_counter.remote()) == 10


@pytest.mark.row("3.create")
def test_constructor_arguments(cluster):
    @ray.remote
    class Args:
        def __init__(self, a, b=2, *rest, c, **more):
            self.all = (a, b, rest, c, more)

        def get(self):
            return self.all

    assert ray.get(Args.remote(1, c=3).get.remote()) == (1, 2, (), 3, {})
    actor = Args.remote(1, 5, 6, 7, c=8, d=9)
    assert ray.get(actor.get.remote()) == (1, 5, (6, 7), 8, {"d": 9})
    with pytest.raises(TypeError):
        Args.remote()


@pytest.mark.row("3.create")
def test_class_without_constructor(cluster):
    @ray.remote
    class Empty:
        def hello(self):
            return "hello"

    assert ray.get(Empty.remote().hello.remote()) == "hello"


@pytest.mark.row("3.methods")
def test_direct_calls_are_type_errors(cluster):
    with pytest.raises(TypeError):
        Counter()
    actor = Counter.remote()
    with pytest.raises(TypeError):
        actor.increment()


@pytest.mark.row("3.methods")
def test_unknown_method(cluster):
    actor = Counter.remote()
    with pytest.raises(AttributeError):
        actor.no_such_method.remote()
    with pytest.raises(AttributeError):
        actor.value  # noqa: B018


@pytest.mark.row("3.methods")
def test_wrong_method_arguments(cluster):
    actor = Counter.remote()
    for args, kwargs in [((1, 2), {}), ((), {"no": 1})]:
        with pytest.raises(TypeError):
            actor.increment.remote(*args, **kwargs)
    assert ray.get(actor.increment.remote()) == 1


@pytest.mark.row("3.methods")
def test_inherited_methods_and_super(cluster):
    class Base:
        def __init__(self, x):
            self.x = x

        def twice(self):
            return 2 * self.x

    @ray.remote
    class Derived(Base):
        def __init__(self, x):
            super().__init__(x + 1)

    assert ray.get(Derived.remote(1).twice.remote()) == 4


@pytest.mark.row("3.create")
def test_subclassing_an_actor_class(cluster):
    with pytest.raises(TypeError):

        class Child(Counter):
            pass


@pytest.mark.row("3.methods")
def test_static_and_class_methods(cluster):
    @ray.remote
    class Kinds:
        @staticmethod
        def static(x):
            return x + 1

        @classmethod
        def klass(cls):
            return cls.__name__

        def __call__(self, x):
            return x * 2

    actor = Kinds.remote()
    assert ray.get(actor.static.remote(1)) == 2
    assert ray.get(actor.klass.remote()) == "Kinds"
    assert ray.get(actor.__call__.remote(4)) == 8


@pytest.mark.row("1.method", "3.methods")
def test_method_num_returns(cluster):
    @ray.remote
    class Pair:
        @ray.method(num_returns=2)
        def pair(self):
            return 1, 2

        def single(self):
            return 3, 4

    actor = Pair.remote()
    a, b = actor.pair.remote()
    assert ray.get([a, b]) == [1, 2]
    c, d = actor.single.options(num_returns=2).remote()
    assert ray.get([c, d]) == [3, 4]
    assert ray.get(actor.single.remote()) == (3, 4)


@pytest.mark.row("1.method")
def test_method_decorator_refuses_unknown_options():
    with pytest.raises((AssertionError, ValueError, TypeError)):

        class Bad:
            @ray.method(no_such=1)
            def f(self):
                pass


@pytest.mark.row("3.create", "3.names")
@pytest.mark.parametrize(
    "option, kind",
    [
        ({"num_cpus": -1}, ValueError),
        ({"resources": {"gold": -1}}, ValueError),
        ({"max_restarts": -2}, ValueError),
        ({"max_task_retries": -2}, ValueError),
        ({"name": ""}, ValueError),
        ({"name": 5}, TypeError),
        ({"no_such_option": 1}, ValueError),
        ({"max_retries": 1}, ValueError),
        ({"num_returns": 2}, ValueError),
        ({"get_if_exists": True}, ValueError),
        ({"lifetime": "for ever"}, ValueError),
    ],
)
def test_bad_options(cluster, option, kind):
    with pytest.raises(kind):
        Counter.options(**option).remote()


# ----------------------------------------------------------------------------------- state, order


@pytest.mark.row("3.order")
def test_calls_run_in_order(cluster):
    actor = Counter.remote()
    assert ray.get([actor.increment.remote() for _ in range(1000)]) == list(range(1, 1001))


@pytest.mark.row("3.order")
def test_order_holds_when_an_early_call_waits_for_its_argument(cluster, tmp_path):
    @ray.remote
    def gated(path):
        while not os.path.exists(path):
            time.sleep(0.005)
        return "first"

    @ray.remote
    class Log:
        def __init__(self):
            self.log = []

        def add(self, x):
            self.log.append(x)
            return list(self.log)

    log = Log.remote()
    first = log.add.remote(gated.remote(str(tmp_path / "gate")))
    second = log.add.remote("second")
    assert ray.wait([second], timeout=0.2)[0] == []
    (tmp_path / "gate").touch()
    assert ray.get([first, second]) == [["first"], ["first", "second"]]


@pytest.mark.row("3.create")
def test_actors_do_not_share_state(cluster):
    a, b = Counter.remote(), Counter.remote(100)
    ray.get([a.increment.remote(), b.increment.remote()])
    assert ray.get([a.get_counter.remote(), b.get_counter.remote()]) == [1, 101]
    pids = set(ray.get([a.pid.remote(), b.pid.remote()]))
    assert len(pids) == 2 and os.getpid() not in pids


@pytest.mark.row("3.create")
def test_array_state(cluster):
    @ray.remote
    class Weights:
        def __init__(self, w):
            self.w = w.copy()

        def add(self, delta):
            self.w += delta
            return self.w

    actor = Weights.remote(np.zeros(200_000))
    for i in range(1, 4):
        back = ray.get(actor.add.remote(np.ones(200_000)))
        assert back[0] == i and back[-1] == i


@pytest.mark.row("3.resources")
def test_more_actors_than_cpus(cluster):
    actors = [Counter.remote(i) for i in range(3 * CPUS)]
    assert ray.get([a.increment.remote() for a in actors]) == list(range(1, 3 * CPUS + 1))
    assert len(set(ray.get([a.pid.remote() for a in actors]))) == 3 * CPUS


@pytest.mark.row("3.resources")
def test_actor_with_resources_holds_them_for_life(cluster, eventually):
    eventually(lambda: ray.available_resources().get("gold") == 4)
    actor = Counter.options(resources={"gold": 3}).remote()
    ray.get(actor.increment.remote())
    eventually(lambda: ray.available_resources().get("gold") == 1)
    del actor
    gc.collect()
    eventually(lambda: ray.available_resources().get("gold") == 4)


# --------------------------------------------------------------------------------- handles passed


@pytest.mark.row("3.handles")
def test_handle_passed_to_a_task(cluster):
    @ray.remote
    def use(actor, n):
        return [ray.get(actor.increment.remote()) for _ in range(n)]

    actor = Counter.remote()
    assert ray.get(use.remote(actor, 3)) == [1, 2, 3]
    assert ray.get(actor.get_counter.remote()) == 3


@pytest.mark.row("3.handles")
def test_handle_passed_in_a_container_to_another_actor(cluster):
    @ray.remote
    class User:
        def __init__(self, box):
            self.box = box

        def use(self):
            return ray.get(self.box["counter"].increment.remote())

    counter = Counter.remote()
    user = User.remote({"counter": counter})
    assert ray.get(user.use.remote()) == 1
    assert ray.get(counter.get_counter.remote()) == 1


@pytest.mark.row("3.order")
def test_many_submitters_of_one_actor(cluster):
    @ray.remote
    def add(actor, n):
        return ray.get([actor.increment.remote() for _ in range(n)])

    actor = Counter.remote()
    parts = ray.get([add.remote(actor, 50) for _ in range(4)])
    assert all(part == sorted(part) for part in parts)
    assert sorted(sum(parts, [])) == list(range(1, 201))


@pytest.mark.row("3.create")
def test_an_actor_makes_actors(cluster):
    @ray.remote
    class Parent:
        def __init__(self, depth):
            self.child = Parent.remote(depth - 1) if depth else None

        def depth(self):
            return 1 + ray.get(self.child.depth.remote()) if self.child else 1

    assert ray.get(Parent.remote(2).depth.remote()) == 3


@pytest.mark.row("3.create")
def test_an_actor_calls_tasks(cluster):
    @ray.remote
    def square(x):
        return x * x

    @ray.remote
    class Sum:
        def squares(self, n):
            return sum(ray.get([square.remote(i) for i in range(n)]))

    assert ray.get(Sum.remote().squares.remote(10)) == 285


@pytest.mark.row("3.handles")
def test_handles_compare_by_actor(cluster):
    @ray.remote
    def same(x):
        return x

    a, b = Counter.remote(), Counter.remote()
    assert a == a and a != b and len({a, b, a}) == 2
    assert ray.get(same.remote(a)) == a
    assert "Counter" in repr(a) and a._actor_id.hex() in repr(a)


@pytest.mark.row("6.rest")
def test_current_actor_handle(cluster):
    @ray.remote
    class Me:
        def me(self):
            return ray.get_runtime_context().current_actor

        def answer(self):
            return 42

    actor = Me.remote()
    assert ray.get(ray.get(actor.me.remote()).answer.remote()) == 42


# ----------------------------------------------------------------------------------------- lifetime


@pytest.mark.row("3.handles")
def test_an_actor_ends_with_its_last_handle(cluster, eventually):
    actor = Counter.remote()
    pid = ray.get(actor.pid.remote())
    assert not process_ended(pid)
    del actor
    gc.collect()
    eventually(lambda: process_ended(pid))


@pytest.mark.row("3.handles")
def test_queued_calls_finish_after_the_last_handle_is_gone(cluster):
    @ray.remote
    class Slow:
        def work(self, x):
            time.sleep(0.05)
            return x

    actor = Slow.remote()
    refs = [actor.work.remote(i) for i in range(5)]
    del actor
    gc.collect()
    assert ray.get(refs) == list(range(5))
    assert ray.get(Counter.remote().increment.remote()) == 1


@pytest.mark.row("3.handles")
def test_a_handle_in_another_actor_keeps_it_alive(cluster):
    @ray.remote
    class Keeper:
        def __init__(self, box):
            self.box = box

        def count(self):
            return ray.get(self.box[0].increment.remote())

    counter = Counter.remote()
    keeper = Keeper.remote([counter])
    assert ray.get(keeper.count.remote()) == 1
    del counter
    gc.collect()
    time.sleep(0.2)  # not synchronisation: room for a wrong early death to happen
    assert ray.get(keeper.count.remote()) == 2


# -------------------------------------------------------------------------------------------- kill


@pytest.mark.row("1.kill", "5.actor_error")
def test_kill(cluster, eventually):
    actor = Counter.remote()
    pid = ray.get(actor.pid.remote())
    ray.kill(actor)
    with pytest.raises(exceptions.ActorDiedError):
        for _ in range(3000):  # a call takes 10 us: those before the end comes are answered
            ray.get(actor.increment.remote(), timeout=30)
            time.sleep(0.01)
    eventually(lambda: process_ended(pid))
    with pytest.raises(exceptions.RayActorError):
        ray.get(actor.increment.remote(), timeout=30)


@pytest.mark.row("1.kill", "5.actor_error")
def test_kill_ends_running_and_queued_calls(cluster, tmp_path, eventually):
    @ray.remote
    class Stuck:
        def wait(self, path):
            with open(path, "w"):
                pass
            while True:
                time.sleep(0.01)

        def after(self):
            return 1

    actor = Stuck.remote()
    running, queued = actor.wait.remote(str(tmp_path / "on")), actor.after.remote()
    eventually(lambda: (tmp_path / "on").exists())
    ray.kill(actor)
    for ref in (running, queued):
        with pytest.raises(exceptions.ActorDiedError):
            ray.get(ref, timeout=30)


@pytest.mark.row("1.kill", "5.actor_error")
@pytest.mark.parametrize("bad", [5, None, "actor"])
def test_kill_of_something_else(cluster, bad):
    with pytest.raises(ValueError):
        ray.kill(bad)
    with pytest.raises(ValueError):
        ray.kill(ray.put(1))


@pytest.mark.row("1.kill")
def test_results_survive_the_actor(cluster):
    actor = Counter.remote()
    small = actor.increment.remote()

    @ray.remote
    class Maker:
        def make(self):
            return np.ones(200_000)

    maker = Maker.remote()
    large = maker.make.remote()
    ray.wait([small, large], num_returns=2)
    ray.kill(actor)
    ray.kill(maker)
    assert ray.get(small) == 1
    assert ray.get(large).sum() == 200_000


# ------------------------------------------------------------------------------------------- names


@pytest.mark.row("3.names", "1.get_actor")
def test_named_actor(cluster):
    actor = Counter.options(name="named").remote(5)
    other = ray.get_actor("named")
    assert other == actor
    assert ray.get(other.increment.remote()) == 6

    @ray.remote
    def from_a_task():
        return ray.get(ray.get_actor("named").increment.remote())

    assert ray.get(from_a_task.remote()) == 7
    ray.kill(actor)


@pytest.mark.row("3.names", "5.actor_lookup")
def test_a_taken_name(cluster):
    actor = Counter.options(name="taken").remote()
    with pytest.raises(ValueError):
        Counter.options(name="taken").remote()
    assert ray.get(actor.increment.remote()) == 1
    ray.kill(actor)


@pytest.mark.row("1.get_actor")
def test_get_actor_errors(cluster):
    with pytest.raises(ValueError):
        ray.get_actor("nobody")
    with pytest.raises(ValueError):
        ray.get_actor("")


@pytest.mark.row("3.names")
def test_a_name_is_free_again_after_death(cluster, eventually):
    actor = Counter.options(name="again").remote(1)
    ray.get(actor.increment.remote())
    ray.kill(actor)

    def gone():
        try:
            ray.get_actor("again")
        except ValueError:
            return True

    eventually(gone)
    actor = Counter.options(name="again").remote(10)
    assert ray.get(ray.get_actor("again").increment.remote()) == 11
    ray.kill(actor)


@pytest.mark.row("3.names")
def test_get_if_exists(cluster):
    first = Counter.options(name="shared", get_if_exists=True).remote(1)
    second = Counter.options(name="shared", get_if_exists=True).remote(50)
    assert first == second
    assert ray.get(first.increment.remote()) == 2
    assert ray.get(second.increment.remote()) == 3
    ray.kill(first)


@pytest.mark.row("3.names")
def test_namespaces(cluster):
    here = Counter.options(name="same").remote(1)
    there = Counter.options(name="same", namespace="elsewhere").remote(100)
    assert here != there
    assert ray.get(ray.get_actor("same").increment.remote()) == 2
    assert ray.get(ray.get_actor("same", namespace="elsewhere").increment.remote()) == 101
    with pytest.raises(ValueError):
        ray.get_actor("same", namespace="nowhere")
    ray.kill(here)
    ray.kill(there)


@pytest.mark.row("1.get_actor", "3.handles")
def test_a_weak_handle_does_not_keep_the_actor(cluster, eventually):
    actor = Counter.options(name="weak").remote()
    weak = ray.get_actor("weak")
    pid = ray.get(weak.pid.remote())
    del actor
    gc.collect()
    eventually(lambda: process_ended(pid))
    with pytest.raises(exceptions.RayActorError):
        ray.get(weak.increment.remote(), timeout=30)


@pytest.mark.row("3.names")
def test_detached_actor_lives_without_handles(cluster):
    actor = Counter.options(name="detached", lifetime="detached").remote()
    assert ray.get(actor.increment.remote()) == 1
    del actor
    gc.collect()
    time.sleep(0.2)  # not synchronisation: room for a wrong early death to happen
    actor = ray.get_actor("detached")
    assert ray.get(actor.increment.remote()) == 2
    ray.kill(actor)


@pytest.mark.row("3.exit_actor")
def test_exit_actor(cluster, tmp_path, eventually):
    @ray.remote(max_restarts=3)
    class Leaver:
        def __init__(self, path):
            import atexit

            atexit.register(lambda: open(path, "w").close())

        def leave(self):
            ray.actor.exit_actor()

        def stay(self):
            return 1

    actor = Leaver.remote(str(tmp_path / "left"))
    assert ray.get(actor.stay.remote()) == 1
    with pytest.raises(exceptions.RayActorError):
        ray.get(actor.leave.remote(), timeout=30)
    with pytest.raises(exceptions.RayActorError):
        ray.get(actor.stay.remote(), timeout=30)
    eventually(lambda: (tmp_path / "left").exists())


@pytest.mark.row("3.builtins")
def test_terminate_lets_queued_calls_finish(cluster):
    actor = Counter.remote()
    refs = [actor.increment.remote() for _ in range(5)]
    actor.__ray_terminate__.remote()
    assert ray.get(refs) == [1, 2, 3, 4, 5]
    with pytest.raises(exceptions.RayActorError):
        for _ in range(3000):  # a call takes 10 us: those before the end comes are answered
            ray.get(actor.increment.remote(), timeout=30)
            time.sleep(0.01)


@pytest.mark.row("3.builtins")
def test_ray_ready(cluster):
    ref = Counter.remote().__ray_ready__.remote()
    ray.wait([ref], timeout=60)
    assert ON_RAY or ray.wait([ref], timeout=0)[0] == [ref]
