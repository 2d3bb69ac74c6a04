"""One Spark for each module: a master and two executor JVMs of two cores. One at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from spark_help import has_java


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder; starting Spark takes longer than other tests may."""
    for item in items:
        if "tests/spark/" in item.nodeid:
            item.add_marker(pytest.mark.spark)
            item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(scope="module")
def spark(no_leaks: None) -> Iterator[Any]:
    """A SparkSession on a real local cluster."""
    if not has_java():
        pytest.skip("there is no Java")
    from skate.util.spark import local_cluster

    with local_cluster(2, 2, 1024) as session:
        yield session


@pytest.fixture()
def clean(spark: Any) -> Iterator[Any]:
    """The session; whatever the test did, its cluster is shut down after it."""
    yield spark
    from skate.util.spark import _cluster

    if _cluster._active is not None:
        _cluster.shutdown_ray_cluster()
