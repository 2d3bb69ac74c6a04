"""What newcomers write: slips, odd values, forks, a full store. Each case was once wrong."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import skate
from skate import exceptions


@pytest.fixture(scope="module", autouse=True)
def session():
    skate.init(address="local", num_cpus=2, object_store_memory=200 << 20,
               _system_config={"store_wait_s": 2})
    yield
    skate.shutdown()


@skate.remote
def same(x):
    return x


@skate.remote
class Holder:
    def items(self):
        yield from (1, 2)

    def keep(self, x):
        return x


def test_streaming_of_a_plain_method_names_it():
    holder = Holder.remote()
    with pytest.raises(ValueError, match="Holder.keep is none"):
        holder.keep.options(num_returns="streaming").remote(1)
    assert skate.get(holder.items.options(num_returns=2).remote()) == [1, 2]


def test_what_cannot_be_sent_names_the_callee():
    lock = threading.Lock()
    holder = Holder.remote()
    with pytest.raises(TypeError, match="argument of the remote function same.*lock"):
        same.remote(lock)
    with pytest.raises(TypeError, match=r"argument of Holder.keep\(\).*lock"):
        holder.keep.remote(x=lock)
    with pytest.raises(TypeError, match=r"A generator cannot be sent: give list"):
        same.remote(i for i in range(3))
    assert skate.get(same.remote(1)) == 1


def test_a_result_that_cannot_be_sent():
    @skate.remote
    def lazy():
        return {"items": (i for i in range(3))}

    with pytest.raises(TypeError, match=r"the result of lazy\(\) cannot be sent.*list") as caught:
        skate.get(lazy.remote())
    assert "_serialize.py" not in str(caught.value)


class Refused(Exception):
    def __init__(self, code, *, detail):
        super().__init__(f"refused with {code}")
        self.code, self.detail = code, detail


def test_an_exception_whose_init_wants_more_than_its_args():
    @skate.remote
    def refuse():
        raise Refused(7, detail="why")

    with pytest.raises(Refused, match="refused with 7") as caught:
        skate.get(refuse.remote())
    assert isinstance(caught.value, exceptions.RayTaskError)
    assert (caught.value.code, caught.value.detail) == (7, "why")


def test_classes_with_slots_come_back():
    @dataclasses.dataclass(slots=True)
    class Point:
        x: int
        y: int = 0

    Point.__module__ = "__main__"  # sent by value, as a script's class is

    @skate.remote
    def make():
        return Point(3)

    assert skate.get(make.remote()) == Point(3)
    back = skate.get(same.remote(Point(1, 2)))
    assert (back.x, back.y) == (1, 2)
    with pytest.raises(AttributeError):
        back.z = 1


def test_slips_are_answered_with_the_right_name():
    with pytest.raises(ValueError, match="did you mean 'num_cpus'"):
        same.options(num_cpu=1)
    with pytest.raises(RuntimeError, match="did you mean 'num_cpus'"):
        skate.init(num_cpu=1)
    for call, given in ((skate.get, same.remote(1)), (skate.wait, [same.remote(1)])):
        with pytest.raises(TypeError, match="number of seconds, not '1'"):
            call(given, timeout="1")
    with pytest.raises(ValueError, match="Supported strategies are: PACK"):
        skate.util.placement_group([{"CPU": 1}], strategy="PACKED")
    with pytest.raises(AttributeError, match="ray.serve .* is not in Skate yet"):
        _ = skate.serve
    with pytest.raises(exceptions.NotSupportedError, match="Meanwhile: start mpirun"):
        skate.runtime_env.mpi_init()
    with pytest.raises(exceptions.NotSupportedError, match="resource of your own"):
        skate.util.placement_group([{"CPU": 1}], bundle_label_selector=[{"zone": "a"}])
    words = r"FunctionNode\(same.*Meanwhile: execute\(\) runs any graph"
    with skate.dag.InputNode() as given:
        graph = same.bind(given)
    with pytest.raises(exceptions.NotSupportedError, match=words):
        graph.experimental_compile()


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [({"object_store_memory": 10**15}, ValueError, "this machine has"),
     ({"runtime_env": "pip"}, TypeError, "runtime_env must be a dict")],
)  # fmt: skip
def test_init_refuses(given, kind, words):
    code = (
        f"import skate\ntry: skate.init(address='local', **{given!r})\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert out.stdout.startswith(kind.__name__) and words in out.stdout, out


def test_many_refs_in_one_call():
    refs = [skate.put(i) for i in range(4000)]
    assert skate.get(skate.remote(lambda *values: sum(values)).remote(*refs)) == sum(range(4000))
    assert skate.get(skate.remote(lambda r: sum(skate.get(r))).remote(refs)) == sum(range(4000))


def test_arguments_take_the_room_that_was_let_go():
    kept = []  # views: what is looked at cannot leave memory
    with pytest.raises(exceptions.ObjectStoreFullError, match="process"):
        while True:
            kept.append(skate.get(skate.put(np.ones(1_000_000))))
    del kept
    assert skate.get(skate.remote(len).remote(np.zeros(10_000_000))) == 10_000_000


def test_a_forked_child_may_start_a_session_of_its_own():
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            skate.init(address="local", num_cpus=1)
            status = 0 if skate.get(same.remote(4)) == 4 else 2
            skate.shutdown()  # once waited for threads that only the parent has
            os.write(write, b"x")
        finally:
            os._exit(status)
    os.close(write)
    import select

    ended = select.select([read], [], [], 20)[0]
    if not ended:
        os.kill(child, 9)
    assert os.waitpid(child, 0)[1] == 0 and ended
    os.close(read)
    assert skate.get(same.remote(5)) == 5


def test_where_later_rays_keep_their_tune_names():
    from skate import air, train, tune
    from skate.air import session as trial

    assert air.RunConfig is train.RunConfig is tune.RunConfig
    assert trial.report is train.report is tune.report
    with pytest.raises(AttributeError, match="ScalingConfig.*not supported yet"):
        _ = air.ScalingConfig
    with pytest.raises(NotImplementedError, match="ASHAScheduler"):
        exec("from skate.tune.schedulers import ASHAScheduler")
    with pytest.raises(ValueError, match="'cpu' or 'gpu' is meant"):
        tune.run(lambda config: None, resources_per_trial={"cpus": 1}, verbose=0)


@skate.remote
class Owner:
    def make(self):
        self.ref = skate.put("owned")
        return [self.ref]


@skate.remote(max_retries=0)
def read_first(refs):
    return skate.get(refs[0], timeout=10)


@skate.remote(num_cpus=0)
class Younger:
    def read_first(self, refs):
        return skate.get(refs[0], timeout=10)


def test_a_process_younger_than_the_owners_death_hears_of_it():
    owner = Owner.remote()
    refs = skate.get(owner.make.remote())
    skate.kill(owner)
    with pytest.raises(exceptions.ActorDiedError):  # kill() does not wait
        while True:
            skate.get(owner.__ray_ready__.remote(), timeout=10)
    assert skate.get(refs[0], timeout=10) == "owned"  # the driver is its heir
    readers = [Younger.remote() for _ in range(6)]  # more than there are idle workers
    for reader in readers:
        assert skate.get(reader.read_first.remote(refs)) == "owned"
    assert skate.get(read_first.remote(refs)) == "owned"


def test_a_worker_imports_nothing_after_its_fork(session):
    """The zygote has loaded it all: an import from disk costs each new actor a millisecond."""

    @skate.remote
    class Plain:
        def loaded(self):
            import gc
            import types

            young = (m for m in gc.get_objects() if isinstance(m, types.ModuleType))
            return [m.__name__ for m in young]  # what the zygote loaded is frozen

    assert skate.get(Plain.remote().loaded.remote()) == []


def test_what_cannot_be_sent_is_named():
    lock = threading.Lock()

    class Holder:
        def __init__(self):
            self.lock = lock

    def helper():
        return lock

    def outer():
        return helper()

    for attempt, path in (
        (lambda: skate.remote(helper).remote(), r"the function helper: .* lock \(_thread.lock\)"),
        (lambda: skate.remote(outer).remote(), r"helper -> lock \(_thread.lock\)"),
        (lambda: skate.remote(Holder).remote(), r"class Holder: .*__init__ -> lock \(_thread.lock"),
        (lambda: skate.put({"a": [lock]}), r"a -> \[0\] \(_thread.lock\)"),
    ):
        with pytest.raises(TypeError, match=path) as caught:
            attempt()
        assert "Make such things where they are used" in str(caught.value)
        assert caught.value.__suppress_context__ and caught.value.__cause__ is None


class Stays:
    def __reduce__(self):
        raise TypeError("I stay here")


def test_a_reduce_that_fails_is_the_cause():
    with pytest.raises(TypeError, match=r"I stay here; because of here \(.*Stays\)") as caught:
        skate.put({"here": Stays()})
    assert str(caught.value.__cause__) == "I stay here"


def test_a_result_larger_than_the_store_comes_in_a_file():
    @skate.remote
    def large():
        return np.zeros(300_000_000, np.int8)  # no pages are touched

    assert skate.get(large.remote()).nbytes == 300_000_000
