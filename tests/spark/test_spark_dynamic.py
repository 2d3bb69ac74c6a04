"""Spark's dynamic allocation: a node that is wanted brings an executor, an idle one lets it go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from spark_help import has_java, until

import skate
from skate.util.spark import _slots, local_cluster, setup_ray_cluster

CONF = {
    "spark.dynamicAllocation.enabled": "true",
    "spark.dynamicAllocation.shuffleTracking.enabled": "true",
    "spark.dynamicAllocation.maxExecutors": "2",
    "spark.dynamicAllocation.executorIdleTimeout": "2s",
    "spark.executor.cores": "1",
}


@pytest.fixture(scope="module")
def spark(no_leaks: None) -> Iterator[Any]:
    """No executor until somebody asks; two of one core at most."""
    if not has_java():
        pytest.skip("there is no Java")
    with local_cluster(2, 1, 1024, CONF) as session:
        yield session


@skate.remote
def pid() -> int:
    """Any work."""
    import os

    return os.getpid()


def test_executors_come_and_go_with_the_nodes(clean: Any) -> None:
    context = clean.sparkContext
    until(lambda: not _slots.executors(context), 60, "the executors of the start are gone")
    with setup_ray_cluster(
        max_worker_nodes=2, min_worker_nodes=0, autoscale_idle_timeout_minutes=0.02
    ):
        skate.init()
        assert not _slots.executors(context), "nothing was asked for yet"
        assert skate.get(pid.remote(), timeout=120) > 0
        assert len(_slots.executors(context)) >= 1
        until(lambda: not _slots.executors(context), 60, "the node ended, and its executor")
