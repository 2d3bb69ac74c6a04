"""max_calls: a worker that ends after some runs; what it leaves behind stays readable."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from compat_target import ON_RAY, PATIENCE, exceptions, ray, start


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@ray.remote(max_calls=1)
def once():
    return os.getpid()


@ray.remote(max_calls=1)
def large():
    return os.getpid(), np.arange(100_000)


@pytest.mark.row("2.max_calls", "14.reuse")
def test_one_run_each(cluster, eventually):
    pids = ray.get([once.remote() for _ in range(6)])
    assert len(set(pids)) == 6
    eventually(lambda: not any(is_alive(pid) for pid in pids))


@pytest.mark.row("2.max_calls")
def test_n_runs(cluster, eventually):
    @ray.remote(max_calls=3)
    def run():
        return os.getpid()

    pids = [ray.get(run.remote()) for _ in range(9)]
    assert max(pids.count(pid) for pid in pids) == 3
    eventually(lambda: not any(is_alive(pid) for pid in pids if pids.count(pid) == 3))


@pytest.mark.row("2.max_calls")
def test_others_are_not_counted(cluster):
    @ray.remote
    def free():
        return os.getpid()

    ray.get(once.remote())
    pids = [ray.get(free.remote()) for _ in range(5)]
    assert max(pids.count(pid) for pid in pids) > 1


@pytest.mark.row("2.max_calls")
def test_large_results_outlive_the_worker(cluster, eventually):
    refs = [large.remote() for _ in range(3)]
    pids = [pid for pid, _ in ray.get(refs)]
    eventually(lambda: not any(is_alive(pid) for pid in pids))

    @ray.remote
    def total(value):
        return int(value[1].sum())

    assert ray.get([total.remote(ref) for ref in refs]) == [4999950000] * 3
    assert all(array[-1] == 99_999 for _, array in ray.get(refs))


@pytest.mark.row("2.max_calls")
def test_large_items_outlive_the_worker(cluster, eventually):
    @ray.remote(max_calls=1)
    def items():
        for i in range(3):
            yield os.getpid(), np.full(100_000, i)

    refs = list(items.remote())
    pids = {ray.get(ref)[0] for ref in refs}
    eventually(lambda: not any(is_alive(pid) for pid in pids))
    assert [int(ray.get(ref)[1][-1]) for ref in refs] == [0, 1, 2]


@pytest.mark.row("2.max_calls")
def test_what_it_put_itself_stays(cluster):
    @ray.remote(max_calls=1)
    def put():
        return [ray.put(np.ones(100_000))]

    (ref,) = ray.get(put.remote())
    assert ray.get(once.remote())
    assert ray.get(ref, timeout=30 * PATIENCE).sum() == 100_000


@pytest.mark.row("2.max_calls")
def test_children_of_the_last_run_finish(cluster):
    @ray.remote
    def child(x):
        return x + 1

    @ray.remote(max_calls=1)
    def parent():
        return [child.remote(1)]

    (ref,) = ray.get(parent.remote())
    assert ray.get(ref, timeout=30 * PATIENCE) == 2


@pytest.mark.row("2.max_calls")
def test_errors_count_as_runs(cluster, eventually):
    @ray.remote(max_calls=1, max_retries=0)
    def fail():
        raise ValueError(os.getpid())

    pids = []
    for _ in range(2):
        with pytest.raises(ValueError) as caught:
            ray.get(fail.remote())
        assert isinstance(caught.value, exceptions.RayTaskError)
        pids.append(caught.value.cause.args[0])
    assert len(set(pids)) == 2


@pytest.mark.row("2.max_calls")
def test_refused_in_options(cluster):
    with pytest.raises(ValueError):
        once.options(max_calls=2)
    with pytest.raises(ValueError):
        ray.remote(max_calls=-1)(lambda: None)


@pytest.mark.row("2.max_calls")
def test_tasks_with_a_gpu_run_once_in_a_process(no_cluster):
    start(num_gpus=1)

    @ray.remote(num_gpus=1)
    def gpu():
        return os.getpid()

    @ray.remote(num_gpus=1, max_calls=0)
    def unlimited():
        return os.getpid()

    assert len({ray.get(gpu.remote()) for _ in range(3)}) == 3
    pids = [ray.get(unlimited.remote()) for _ in range(4)]
    assert len(set(pids)) < 4


@pytest.mark.row("2.max_calls")
def test_many_runs_are_all_done(cluster):
    @ray.remote(max_calls=2)
    def double(x):
        return 2 * x

    assert ray.get([double.remote(i) for i in range(60)]) == [2 * i for i in range(60)]


@pytest.mark.row("2.max_calls")
def test_the_last_words_are_printed():
    source = """
        from compat_target import ray, start
        start()
        @ray.remote(max_calls=1)
        def say(i):
            print(f"said {i}")
        ray.get([say.remote(i) for i in range(3)])
        ray.shutdown()
    """
    here = os.path.dirname(os.path.abspath(__file__))
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert ON_RAY or sum(f"said {i}" in done.stdout for i in range(3)) == 3
