"""GPUs of a node are those that Spark granted to its task: Spark only counts what a script says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from spark_help import has_java

import skate
from skate.util.spark import local_cluster, setup_ray_cluster

SCRIPT = """#!/bin/sh
echo '{"name": "gpu", "addresses": ["5", "7"]}'
"""


@pytest.fixture(scope="module")
def spark(no_leaks: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One executor of two cores and two GPUs."""
    if not has_java():
        pytest.skip("there is no Java")
    script: Path = tmp_path_factory.mktemp("gpu") / "gpus.sh"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    conf = {
        "spark.worker.resource.gpu.amount": "2",
        "spark.worker.resource.gpu.discoveryScript": str(script),
        "spark.executor.resource.gpu.amount": "2",
    }
    with local_cluster(1, 2, 1024, conf) as session:
        yield session


@skate.remote(num_gpus=1)
def visible(folder: str) -> str:
    """Which GPU a task may use; stays until a second task has said which is its own."""
    import time

    own = os.environ.get("CUDA_VISIBLE_DEVICES", "none")
    (Path(folder) / own).touch()
    deadline = time.monotonic() + 60
    while len(os.listdir(folder)) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)  # asks again until a deadline
    return own


def test_a_node_has_its_grant(clean: Any, tmp_path: Path) -> None:
    with setup_ray_cluster(max_worker_nodes=2, num_cpus_worker_node=1, num_gpus_worker_node=1):
        skate.init()
        assert skate.cluster_resources()["GPU"] == 2
        assert sorted(skate.get([visible.remote(str(tmp_path)) for _ in range(2)])) == ["5", "7"]


def test_a_whole_executor_has_all_gpus(clean: Any) -> None:
    with setup_ray_cluster(max_worker_nodes=1) as cluster:
        [node] = [n for n in cluster.nodes() if n["NodeName"] != "head"]
        assert (node["Resources"]["CPU"], node["Resources"]["GPU"]) == (2, 2)
