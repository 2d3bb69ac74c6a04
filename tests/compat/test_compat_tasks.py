"""Remote functions: declaring, calling, options, arguments, nesting, num_returns, resources."""

from __future__ import annotations

import os
import time

import pytest
from compat_target import CPUS, PATIENCE, exceptions, ray

# --------------------------------------------------------------------------------------- declaring


@pytest.mark.row("1.remote")
def test_decorator_with_and_without_options(cluster):
    @ray.remote
    def plain(x, y=1):
        return x + y

    @ray.remote(num_cpus=1, max_retries=0)
    def with_options(x):
        return -x

    assert ray.get(plain.remote(1)) == 2
    assert ray.get(plain.remote(1, 5)) == 6
    assert ray.get(plain.remote(1, y=7)) == 8
    assert ray.get(with_options.remote(3)) == -3


@pytest.mark.row("1.remote")
def test_remote_as_a_function_on_lambda_nested_and_builtin(cluster):
    offset = 10
    assert ray.get(ray.remote(lambda x: x + offset).remote(1)) == 11

    def inner(x):
        return x * offset

    assert ray.get(ray.remote(inner).remote(2)) == 20
    assert ray.get(ray.remote(num_cpus=1)(inner).remote(3)) == 30


@pytest.mark.row("14.closures")
def test_closure_is_a_frozen_copy(cluster):
    box = [1]

    @ray.remote
    def look():
        return box[0]

    assert ray.get(look.remote()) == 1
    box[0] = 2
    assert ray.get(look.remote()) == 1


@pytest.mark.row("14.closures")
def test_recursive_function(cluster):
    @ray.remote
    def factorial(n):
        return 1 if n == 0 else n * ray.get(factorial.remote(n - 1))

    assert ray.get(factorial.remote(2 * CPUS + 3)) == 5040


@pytest.mark.row("2.call")
def test_direct_call_is_a_type_error(cluster):
    @ray.remote
    def f():
        return 1

    with pytest.raises(TypeError):
        f()


@pytest.mark.row("1.remote")
@pytest.mark.parametrize("thing", [5, "text", None])
def test_remote_on_something_else(thing):
    with pytest.raises((TypeError, AssertionError)):
        ray.remote(thing)


@pytest.mark.row("1.remote")
def test_remote_without_anything():
    with pytest.raises(AssertionError):
        ray.remote()


@pytest.mark.row("1.remote")
def test_async_function_is_refused():
    with pytest.raises(ValueError):

        @ray.remote
        async def f():
            return 1


@pytest.mark.row("1.remote")
def test_the_plain_function_is_kept(cluster):
    @ray.remote
    def documented():
        """What it does."""

    assert documented._function.__name__ == "documented"
    assert documented._function.__doc__ == "What it does."


@pytest.mark.row("2.call")
def test_wrong_arguments_fail_at_the_call(cluster):
    @ray.remote
    def f(a, b=2, *, c=3):
        return a, b, c

    assert ray.get(f.remote(1, c=5)) == (1, 2, 5)
    for args, kwargs in [((), {}), ((1, 2, 3), {}), ((1,), {"d": 1}), ((1,), {"a": 1})]:
        with pytest.raises(TypeError):
            f.remote(*args, **kwargs)


@pytest.mark.row("2.call")
def test_star_arguments(cluster):
    @ray.remote
    def f(*args, **kwargs):
        return args, kwargs

    assert ray.get(f.remote(1, 2, a=3, b=[4])) == ((1, 2), {"a": 3, "b": [4]})
    assert ray.get(f.remote()) == ((), {})


# ----------------------------------------------------------------------------------------- options


@pytest.mark.row("1.remote", "2.name")
def test_options_override_and_leave_the_original(cluster):
    @ray.remote(num_returns=1)
    def two():
        return 1, 2

    a, b = two.options(num_returns=2).remote()
    assert ray.get([a, b]) == [1, 2]
    assert ray.get(two.remote()) == (1, 2)


@pytest.mark.row("2.resources", "2.num_returns")
@pytest.mark.parametrize(
    "option, kind",
    [
        ({"num_cpus": -1}, ValueError),
        ({"num_gpus": -0.5}, ValueError),
        ({"resources": {"gold": -1}}, ValueError),
        ({"resources": {"CPU": 1}}, ValueError),
        ({"num_cpus": "one"}, TypeError),
        ({"resources": "gold"}, TypeError),
        ({"max_retries": -2}, ValueError),
        ({"num_returns": -1}, ValueError),
        ({"no_such_option": 1}, ValueError),
        ({"max_restarts": 1}, ValueError),
    ],
)
def test_bad_options(cluster, option, kind):
    def f():
        return 1

    with pytest.raises(kind):
        ray.remote(**option)(f)
    with pytest.raises(kind):
        ray.remote(f).options(**option).remote()


@pytest.mark.row("2.resources")
def test_fractional_and_zero_cpus(cluster):
    @ray.remote(num_cpus=0.25)
    def quarter():
        return ray.get_runtime_context().get_assigned_resources()

    @ray.remote(num_cpus=0)
    def nothing():
        return 5

    assert ray.get(quarter.remote()) == {"CPU": 0.25}
    assert ray.get(nothing.remote()) == 5


@pytest.mark.row("2.resources")
def test_custom_resources_limit_how_many_run(cluster, tmp_path):
    @ray.remote(num_cpus=0, resources={"gold": 2})
    def hold(folder, index):
        mine = os.path.join(folder, str(index))
        with open(mine, "w"):
            pass
        time.sleep(0.05)
        seen = len(os.listdir(folder))
        os.remove(mine)
        return seen

    seen = ray.get([hold.remote(str(tmp_path), i) for i in range(8)])
    assert max(seen) <= 2


@pytest.mark.row("14.infeasible")
def test_infeasible_task_waits(cluster):
    @ray.remote(resources={"platinum": 1})
    def never():
        return 1

    ref = never.remote()
    ready, waiting = ray.wait([ref], timeout=0.3)
    assert ready == [] and waiting == [ref]


# ----------------------------------------------------------------------------------------- returns


@pytest.mark.row("2.num_returns")
def test_num_returns(cluster):
    @ray.remote(num_returns=3)
    def three():
        return 1, "two", [3]

    refs = three.remote()
    assert isinstance(refs, list) and len(refs) == 3
    assert ray.get(refs) == [1, "two", [3]]


@pytest.mark.row("2.num_returns")
def test_num_returns_zero(cluster, tmp_path, eventually):
    @ray.remote(num_returns=0)
    def mark(path):
        with open(path, "w"):
            pass

    assert mark.remote(str(tmp_path / "done")) is None
    eventually(lambda: (tmp_path / "done").exists())


@pytest.mark.row("2.num_returns")
@pytest.mark.parametrize("value, kind", [((1, 2), ValueError), ((1, 2, 3, 4), ValueError),
                                         (5, TypeError)])
def test_wrong_number_of_returns(cluster, value, kind):
    @ray.remote(num_returns=3)
    def f():
        return value

    for ref in f.remote():
        with pytest.raises(kind):
            ray.get(ref)


@pytest.mark.row("2.num_returns")
def test_none_is_a_value(cluster):
    @ray.remote
    def nothing():
        pass

    assert ray.get(nothing.remote()) is None


# --------------------------------------------------------------------------- graphs of many tasks


@pytest.mark.row("14.arguments")
def test_chain_of_dependent_tasks(cluster):
    @ray.remote
    def add_one(x):
        return x + 1

    ref = add_one.remote(0)
    for _ in range(99):
        ref = add_one.remote(ref)
    assert ray.get(ref) == 100


@pytest.mark.row("14.limits")
def test_many_small_tasks(cluster):
    @ray.remote
    def square(x):
        return x * x

    refs = [square.remote(i) for i in range(5000)]
    assert ray.get(refs) == [i * i for i in range(5000)]


@pytest.mark.row("14.limits")
def test_tree_of_tasks(cluster):
    @ray.remote
    def add(a, b):
        return a + b

    level = [ray.put(i) for i in range(64)]
    while len(level) > 1:
        level = [add.remote(a, b) for a, b in zip(level[::2], level[1::2], strict=True)]
    assert ray.get(level[0]) == sum(range(64))


@pytest.mark.row("7.blocked")
def test_nested_tasks_deeper_than_the_cpus(cluster):
    @ray.remote
    def down(depth):
        return 0 if depth == 0 else 1 + ray.get(down.remote(depth - 1))

    assert ray.get(down.remote(4 * CPUS), timeout=60) == 4 * CPUS


@pytest.mark.row("7.blocked")
def test_fibonacci_by_tasks(cluster):
    @ray.remote
    def fib(n):
        if n < 2:
            return n
        return sum(ray.get([fib.remote(n - 1), fib.remote(n - 2)]))

    assert ray.get(fib.remote(6), timeout=120) == 8


@pytest.mark.row("14.borrowing")
def test_a_task_gives_back_the_ref_of_a_task(cluster):
    @ray.remote
    def inner(x):
        return x + 1

    @ray.remote
    def outer(x):
        return inner.remote(x)

    ref = ray.get(outer.remote(1))
    assert isinstance(ref, ray.ObjectRef)
    assert ray.get(ref) == 2


@pytest.mark.row("14.borrowing")
def test_a_task_that_ends_before_the_task_it_started(cluster):
    # The idle worker that asked for help must not be sent to help itself.
    for i in range(40):

        @ray.remote
        def inner(x):
            return x + 1

        @ray.remote
        def outer(x, inner=inner):
            return inner.remote(x)

        assert ray.get(ray.get(outer.remote(i), timeout=20), timeout=20) == i + 1


@pytest.mark.row("2.resources")
def test_tasks_run_in_parallel(cluster, tmp_path):
    @ray.remote
    def meet(folder, me, other):
        with open(os.path.join(folder, me), "w"):
            pass
        deadline = time.monotonic() + 20 * PATIENCE
        while not os.path.exists(os.path.join(folder, other)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    pair = [meet.remote(str(tmp_path), "a", "b"), meet.remote(str(tmp_path), "b", "a")]
    assert ray.get(pair) == [True, True]


@pytest.mark.row("2.resources")
def test_more_tasks_than_cpus_do_not_all_run_at_once(cluster, tmp_path):
    @ray.remote
    def count_running(folder, index):
        mine = os.path.join(folder, str(index))
        with open(mine, "w"):
            pass
        time.sleep(0.03)
        seen = len(os.listdir(folder))
        os.remove(mine)
        return seen

    seen = ray.get([count_running.remote(str(tmp_path), i) for i in range(10)])
    assert max(seen) <= CPUS


@pytest.mark.row("14.closures")
def test_remote_function_passed_to_a_task(cluster):
    @ray.remote
    def double(x):
        return 2 * x

    @ray.remote
    def apply(f, x):
        return ray.get(f.remote(x))

    assert ray.get(apply.remote(double, 21)) == 42


@pytest.mark.row("14.threads")
def test_tasks_from_threads_of_the_driver(cluster):
    from concurrent.futures import ThreadPoolExecutor

    @ray.remote
    def echo(x):
        return x

    with ThreadPoolExecutor(4) as pool:
        out = list(pool.map(lambda i: ray.get(echo.remote(i)), range(100)))
    assert out == list(range(100))


@pytest.mark.row("14.reuse")
def test_workers_are_reused(cluster):
    @ray.remote
    def pid():
        return os.getpid()

    pids = set(ray.get([pid.remote() for _ in range(200)]))
    assert os.getpid() not in pids
    assert len(pids) <= 4 * CPUS


@pytest.mark.row("1.get")
def test_get_timeout_leaves_the_task_running(cluster, tmp_path):
    @ray.remote
    def wait_for(path):
        while not os.path.exists(path):
            time.sleep(0.005)
        return "done"

    ref = wait_for.remote(str(tmp_path / "gate"))
    with pytest.raises(exceptions.GetTimeoutError):
        ray.get(ref, timeout=0.2)
    (tmp_path / "gate").touch()
    assert ray.get(ref) == "done"
