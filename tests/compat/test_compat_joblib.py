"""`ray.util.joblib`: joblib's backend "ray"."""

from __future__ import annotations

import importlib
import os

import numpy as np
import pytest
from compat_target import ON_RAY, ray

joblib = pytest.importorskip("joblib", reason="joblib is not installed")
register_ray = importlib.import_module(f"{ray.__name__}.util.joblib").register_ray
delayed, Parallel = joblib.delayed, joblib.Parallel

pytestmark = pytest.mark.row("9.joblib")


@pytest.fixture()
def backend(cluster):
    register_ray()
    register_ray()
    with joblib.parallel_config(backend="ray"):
        yield


def square(x):
    if x == -1:
        raise ValueError("below zero")
    return x * x


def test_calls_run_elsewhere_results_are_in_order(backend):
    assert Parallel(n_jobs=2)(delayed(square)(i) for i in range(50)) == [i * i for i in range(50)]
    pids = set(Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(8)))
    assert os.getpid() not in pids
    assert Parallel(n_jobs=-1)(delayed(square)(x=i) for i in range(3)) == [0, 1, 4]
    assert Parallel(n_jobs=2)([]) == []


def test_one_job_is_this_process(backend):
    assert Parallel(n_jobs=1)([delayed(os.getpid)()]) == [os.getpid()]


def test_errors_have_their_own_type(backend):
    with pytest.raises(ValueError, match="below zero"):
        Parallel(n_jobs=2)(delayed(square)(i) for i in (1, -1, 2))
    assert Parallel(n_jobs=2)(delayed(square)(i) for i in (1, 2)) == [1, 4]


def test_large_arguments(backend):
    data = np.arange(300_000, dtype=np.float64)
    total = data.sum()
    sums = Parallel(n_jobs=2)(delayed(np.sum)(data) for _ in range(6))
    assert sums == [total] * 6
    scaled = Parallel(n_jobs=2)(delayed(np.multiply)(data, k) for k in (1, 2))
    assert np.array_equal(scaled[1], 2 * data)


def test_calls_in_calls(backend):
    def outer(n):
        return sum(Parallel(n_jobs=2)(delayed(square)(i) for i in range(n)))

    assert Parallel(n_jobs=2)(delayed(outer)(n) for n in (2, 3)) == [1, 5]


def test_results_as_they_come(backend):
    if ON_RAY:
        return  # its backend gives lists only
    results = Parallel(n_jobs=2, return_as="generator")(delayed(square)(i) for i in range(6))
    assert list(results) == [0, 1, 4, 9, 16, 25]


def test_options_of_the_tasks(cluster):
    register_ray()

    def held():
        return ray.get_runtime_context().get_assigned_resources().get("gold")

    with joblib.parallel_config(
        backend="ray", n_jobs=2, ray_remote_args={"num_cpus": 0, "resources": {"gold": 1}}
    ):
        assert Parallel()(delayed(held)() for _ in range(3)) == [1.0] * 3
