"""`ray.util.dask`: Dask's graphs as tasks of the cluster."""

from __future__ import annotations

import importlib
import os

import numpy as np
import pytest
from compat_target import ON_RAY, ray

dask = pytest.importorskip("dask", reason="dask is not installed")
on_ray = importlib.import_module(f"{ray.__name__}.util.dask")
ray_dask_get = on_ray.ray_dask_get

pytestmark = [pytest.mark.row("9.dask"), pytest.mark.usefixtures("cluster")]


@dask.delayed
def inc(x):
    return x + 1


@dask.delayed
def fail():
    raise ValueError("of its own")


@pytest.mark.parametrize("get", [ray_dask_get, on_ray.ray_dask_get_sync])
def test_delayed(get):
    if ON_RAY and get is not ray_dask_get:
        pytest.skip("Ray's does not know the graphs of this Dask")
    total = dask.delayed(sum)([inc(i) for i in range(5)])
    assert total.compute(scheduler=get) == 15
    assert dask.compute(inc(1), inc(inc(1)), scheduler=get) == (2, 3)


def test_tasks_run_elsewhere():
    pids = dask.compute(*[dask.delayed(os.getpid)() for _ in range(4)], scheduler=ray_dask_get)
    assert os.getpid() not in pids


def test_results_are_nested_as_the_keys():
    graph = {"a": 1, "b": (sum, ["a", "a"])}
    assert ray_dask_get(graph, "b") == 2
    assert ray_dask_get(graph, ["b", ["a"]]) == (2, (1,))


def test_an_error_has_its_own_type():
    with pytest.raises(ValueError, match="of its own"):
        inc(fail()).compute(scheduler=ray_dask_get)


def test_arrays():
    array = pytest.importorskip("dask.array")
    x = array.arange(100_000, chunks=30_000)
    got = (x + 1).sum().compute(scheduler=ray_dask_get)
    assert got == np.arange(1, 100_001).sum()
    y = array.ones((300, 200), chunks=(100, 50))
    assert (y @ y.T).compute(scheduler=ray_dask_get).sum() == 300 * 300 * 200


def test_bags():
    bag = pytest.importorskip("dask.bag")
    words = bag.from_sequence(["a", "b", "a", "c"] * 5, npartitions=3)
    assert dict(words.frequencies().compute(scheduler=ray_dask_get)) == {"a": 10, "b": 5, "c": 5}


def test_data_frames():
    pandas = pytest.importorskip("pandas")
    frame = pytest.importorskip("dask.dataframe")
    plain = pandas.DataFrame({"k": [1, 2, 1, 3] * 25, "v": range(100)})
    split = frame.from_pandas(plain, npartitions=4)
    with on_ray.enable_dask_on_ray():
        sums = split.groupby("k").v.sum().compute()
        ordered = split.set_index("v").compute()
    assert sums.to_dict() == plain.groupby("k").v.sum().to_dict()
    assert list(ordered.index) == list(range(100))


def test_enable_and_disable():
    with on_ray.enable_dask_on_ray():
        assert dask.config.get("scheduler") is ray_dask_get
        assert inc(4).compute() == 5
    assert dask.config.get("scheduler", None) is not ray_dask_get
    on_ray.enable_dask_on_ray()
    assert dask.config.get("scheduler") is ray_dask_get
    on_ray.disable_dask_on_ray()
    assert dask.config.get("scheduler", None) is None


def test_persist_keeps_refs():
    kept = inc(1).persist(scheduler=ray_dask_get, ray_persist=True)
    assert any(isinstance(value, ray.ObjectRef) for value in dict(kept.dask).values())
    assert inc(kept).compute(scheduler=ray_dask_get) == 3


def test_callbacks():
    heard = []

    class Listener(on_ray.RayDaskCallback):
        def _ray_presubmit(self, task, key, deps):
            heard.append(("before", key, sorted(map(str, deps))))

        def _ray_postsubmit(self, task, key, deps, object_ref):
            heard.append(("after", key, isinstance(object_ref, ray.ObjectRef)))

        def _ray_postsubmit_all(self, object_refs, dsk):
            heard.append(("all", len(object_refs)))

        def _ray_finish(self, result):
            heard.append(("end", result))

    with Listener():
        assert inc(inc(1, dask_key_name="first"), dask_key_name="second").compute(
            scheduler=ray_dask_get, optimize_graph=False
        ) == 3
    assert heard == [
        ("before", "first", []), ("after", "first", True),
        ("before", "second", ["first"]), ("after", "second", True),
        ("all", 1), ("end", [3]),
    ]
    assert inc(1).compute(scheduler=ray_dask_get) == 2
    assert len(heard) == 6


def test_callbacks_in_the_tasks():
    @ray.remote(num_cpus=0)
    class Log:
        def __init__(self):
            self.lines = []

        def add(self, line):
            self.lines.append(line)

        def all(self):
            return self.lines

    class Listener(on_ray.RayDaskCallback):
        def __init__(self, log):
            self.log = log

        def _ray_pretask(self, key, object_refs):
            return key.upper()

        def _ray_posttask(self, key, result, pre_state):
            ray.get(self.log.add.remote((key, result, pre_state)))

    log = Log.remote()
    with Listener(log):
        assert inc(1, dask_key_name="one").compute(scheduler=ray_dask_get) == 2
    assert ray.get(log.all.remote()) == [("one", 2, "ONE")]


def test_presubmit_may_give_the_result():
    class Skip(on_ray.RayDaskCallback):
        def _ray_presubmit(self, task, key, deps):
            return 41 if key == "known" else None

    with Skip():
        assert inc(
            inc(1, dask_key_name="known"), dask_key_name="next"
        ).compute(scheduler=ray_dask_get, optimize_graph=False) == 42


def test_progress_bar(capsys):
    with on_ray.ProgressBarCallback():
        assert dask.delayed(sum)([inc(i) for i in range(3)]).compute(scheduler=ray_dask_get) == 6
