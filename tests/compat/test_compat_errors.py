"""Exceptions: how the errors of tasks, constructors and arguments reach the caller."""

from __future__ import annotations

import os
import sys
import threading

import pytest
from compat_target import exceptions, ray


@ray.remote
def fail(kind=ValueError, text="a clear text"):
    raise kind(text)


@ray.remote
def echo(x):
    return x


@pytest.mark.row("5.task_error")
def test_the_type_is_both(cluster):
    with pytest.raises(ValueError) as caught:
        ray.get(fail.remote())
    error = caught.value
    assert isinstance(error, exceptions.RayTaskError)
    assert isinstance(error, exceptions.RayError)
    assert type(error).__name__ == "RayTaskError(ValueError)"
    assert isinstance(error.cause, ValueError) and error.cause.args == ("a clear text",)
    assert type(error.cause) is ValueError


@pytest.mark.row("5.task_error")
def test_the_remote_traceback_is_in_the_text(cluster):
    @ray.remote
    def outer_function():
        def some_inner_function():
            return {}["no such key"]

        return some_inner_function()

    with pytest.raises(KeyError) as caught:
        ray.get(outer_function.remote())
    text = str(caught.value)
    assert "some_inner_function" in text and "no such key" in text
    assert "outer_function" in text and os.path.basename(__file__) in text
    assert "pid=" in text


@pytest.mark.row("5.task_error")
def test_caught_by_its_own_class(cluster):
    class Special(Exception):
        def __init__(self, code):
            super().__init__(code)
            self.code = code

    @ray.remote
    def raise_special():
        raise Special(42)

    with pytest.raises(exceptions.RayTaskError) as caught:
        ray.get(raise_special.remote())
    assert type(caught.value).__name__ == "RayTaskError(Special)"
    assert caught.value.cause.code == 42
    assert caught.value.code == 42


@pytest.mark.row("5.task_error")
def test_each_get_raises(cluster):
    ref = fail.remote()
    for _ in range(3):
        with pytest.raises(ValueError):
            ray.get(ref)


@pytest.mark.row("1.get", "5.task_error")
def test_get_of_a_list_raises_the_first_error(cluster):
    with pytest.raises(KeyError):
        ray.get([echo.remote(1), fail.remote(KeyError), echo.remote(2)])


@pytest.mark.row("14.dependants", "5.task_error")
def test_an_error_in_a_dependency_passes_on(cluster, tmp_path):
    ran = str(tmp_path / "ran")

    @ray.remote
    def second(_, path):
        with open(path, "w"):
            pass

    ref = second.remote(fail.remote(), ran)
    with pytest.raises(ValueError):
        ray.get(second.remote(ref, ran))
    with pytest.raises(ValueError) as caught:
        ray.get(ref)
    assert "a clear text" in str(caught.value)
    assert not os.path.exists(ran)


@pytest.mark.row("5.task_error")
def test_errors_of_nested_tasks(cluster):
    @ray.remote
    def outer():
        return ray.get(fail.remote(IndexError, "from below"))

    with pytest.raises(IndexError) as caught:
        ray.get(outer.remote())
    assert "from below" in str(caught.value)


@pytest.mark.row("5.task_error")
def test_error_of_several_returns(cluster):
    @ray.remote(num_returns=2)
    def two():
        raise ZeroDivisionError

    for ref in two.remote():
        with pytest.raises(ZeroDivisionError):
            ray.get(ref)


@pytest.mark.row("14.unpicklable")
def test_unpicklable_result(cluster):
    @ray.remote
    def bad():
        return threading.Lock()

    with pytest.raises(TypeError) as caught:
        ray.get(bad.remote())
    assert isinstance(caught.value, exceptions.RayTaskError)


@pytest.mark.row("14.unpicklable")
def test_unpicklable_exception(cluster):
    class Locked(Exception):
        def __init__(self):
            super().__init__("holds a lock")
            self.lock = threading.Lock()

    @ray.remote
    def bad():
        raise Locked

    with pytest.raises(exceptions.RayTaskError) as caught:
        ray.get(bad.remote())
    assert "holds a lock" in str(caught.value) or "Locked" in str(caught.value)


@pytest.mark.row("14.unpicklable")
def test_unpicklable_closure(cluster):
    lock = threading.Lock()

    @ray.remote
    def f():
        return lock

    with pytest.raises(TypeError):
        f.remote()


@pytest.mark.row("5.crashed")
def test_system_exit_of_a_task(cluster):
    @ray.remote(max_retries=0)
    def leave():
        sys.exit(3)

    with pytest.raises(exceptions.WorkerCrashedError):
        ray.get(leave.remote())


@pytest.mark.row("5.task_error")
def test_stop_iteration_and_base_exceptions(cluster):
    with pytest.raises(exceptions.RayError):
        ray.get(fail.remote(StopIteration))


@pytest.mark.row("2.retry_exceptions")
def test_errors_do_not_retry_by_default(cluster, tmp_path):
    @ray.remote(max_retries=5)
    def count(path):
        with open(path, "a") as out:
            out.write("x")
        raise ValueError

    with pytest.raises(ValueError):
        ray.get(count.remote(str(tmp_path / "runs")))
    assert (tmp_path / "runs").read_text() == "x"


@pytest.mark.row("5.actor_error")
def test_actor_method_error_keeps_the_actor(cluster):
    @ray.remote
    class Picky:
        def __init__(self):
            self.good = 0

        def take(self, x):
            if x < 0:
                raise ValueError("negative")
            self.good += 1
            return self.good

    actor = Picky.remote()
    refs = [actor.take.remote(x) for x in (1, -1, 2)]
    assert ray.get(refs[0]) == 1 and ray.get(refs[2]) == 2
    with pytest.raises(ValueError) as caught:
        ray.get(refs[1])
    assert "Picky" in str(caught.value) or "take" in str(caught.value)


@pytest.mark.row("3.create", "5.actor_error")
def test_constructor_error_surfaces_at_the_first_call(cluster):
    @ray.remote
    class Broken:
        def __init__(self):
            raise RuntimeError("the constructor's own words")

        def hello(self):
            return 1

    actor = Broken.remote()
    for _ in range(2):
        with pytest.raises(exceptions.ActorDiedError) as caught:
            ray.get(actor.hello.remote(), timeout=60)
        assert "the constructor's own words" in str(caught.value)
        assert caught.value.actor_init_failed


@pytest.mark.row("14.dependants", "5.actor_error")
def test_a_failed_argument_of_a_constructor(cluster):
    @ray.remote
    class Takes:
        def __init__(self, x):
            self.x = x

        def get(self):
            return self.x

    with pytest.raises(exceptions.RayError):
        ray.get(Takes.remote(fail.remote()).get.remote(), timeout=60)


@pytest.mark.row("14.dependants", "5.actor_error")
def test_a_failed_argument_of_a_method_skips_the_call(cluster):
    @ray.remote
    class Adds:
        def __init__(self):
            self.n = 0

        def add(self, x):
            self.n += x
            return self.n

    actor = Adds.remote()
    first, bad, last = actor.add.remote(1), actor.add.remote(fail.remote()), actor.add.remote(1)
    assert ray.get([first, last]) == [1, 2]
    with pytest.raises(ValueError):
        ray.get(bad)


@pytest.mark.row("5.actor_error")
def test_actor_errors_are_ray_actor_errors():
    assert issubclass(exceptions.ActorDiedError, exceptions.RayActorError)
    assert issubclass(exceptions.ActorUnavailableError, exceptions.RayActorError)
    assert issubclass(exceptions.RayActorError, exceptions.RayError)
    assert issubclass(exceptions.WorkerCrashedError, exceptions.RayError)
    assert issubclass(exceptions.GetTimeoutError, TimeoutError)
    assert issubclass(exceptions.ObjectLostError, exceptions.RayError)
    assert issubclass(exceptions.OwnerDiedError, exceptions.ObjectLostError)


@pytest.mark.row("5.task_error")
def test_cause_of_an_error_chain(cluster):
    @ray.remote
    def chained():
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error

    with pytest.raises(ValueError) as caught:
        ray.get(chained.remote())
    assert "first" in str(caught.value) and "second" in str(caught.value)


@pytest.mark.row("5.task_error")
def test_an_error_passed_as_a_value(cluster):
    back = ray.get(echo.remote(ValueError("just a value")))
    assert isinstance(back, ValueError) and back.args == ("just a value",)


@pytest.mark.row("5.task_error")
def test_error_pickles(cluster):
    from importlib import import_module

    cloudpickle = import_module(ray.__name__ + ".cloudpickle")
    with pytest.raises(ValueError) as caught:
        ray.get(fail.remote())
    again = cloudpickle.loads(cloudpickle.dumps(caught.value))
    assert isinstance(again, exceptions.RayTaskError)
