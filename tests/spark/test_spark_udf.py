"""UDFs of Spark in the driver's job: attach(), refs in closures, fan_out()."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from spark_help import ROOT

import skate
from skate.util.spark import setup_ray_cluster, shutdown_ray_cluster


@pytest.fixture(scope="module")
def cluster(spark: Any) -> Iterator[Any]:
    """Two nodes of one CPU; a slot of each executor is left to UDFs."""
    made = setup_ray_cluster(max_worker_nodes=2, num_cpus_worker_node=1)
    yield made
    shutdown_ray_cluster()


class Register:
    """An actor that UDFs tell who they are."""

    def __init__(self) -> None:
        self.pids: set[int] = set()
        self.kept: list[Any] = []

    def enter(self, pid: int, refs: list[Any]) -> int:
        self.pids.add(pid)
        self.kept += refs
        return len(self.pids)

    def read(self) -> list[Any]:
        return [skate.get(ref) for ref in self.kept]


def make_udf(captured: dict[str, Any]) -> Any:
    """A UDF that says where it is, with what its closure captured."""
    from pyspark.sql.functions import pandas_udf

    def where(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        import skate
        from skate.util.spark import attach

        attach(captured["cluster"])
        said = {"pid": os.getpid(), "job": skate.get_runtime_context().get_job_id()}
        if "ref" in captured:
            said["got"] = skate.get(captured["ref"])
        if "register" in captured:
            mine = skate.put(os.getpid())
            skate.get(captured["register"].enter.remote(os.getpid(), [mine]))
        for batch in batches:
            yield pd.Series([json.dumps(said)] * len(batch))

    where.__annotations__ = {"batches": Iterator[pd.Series], "return": Iterator[pd.Series]}
    return pandas_udf(where, "string")


def answers(spark: Any, **captured: Any) -> list[dict[str, Any]]:
    """What the UDF said on both executors."""
    column = make_udf(captured)("id").alias("said")
    rows = spark.range(8).repartition(2).select(column).distinct().collect()
    return [json.loads(row["said"]) for row in rows]


def my_job() -> str:
    return str(skate.get_runtime_context().get_job_id())


def test_udfs_are_in_the_drivers_job(spark: Any, cluster: Any) -> None:
    early = answers(spark, cluster=cluster.address)
    assert len({said["job"] for said in early}) == len(early), "no driver yet: each its own"
    skate.init()
    found = answers(spark, cluster=cluster.address)
    assert {said["job"] for said in found} == {my_job()}, "the cluster knows whose Spark this is"
    register = skate.remote(Register).options(num_cpus=0).remote()
    held = answers(spark, cluster=cluster, ref=skate.put({"x": 1}), register=register)
    assert all(said["got"] == {"x": 1} and said["job"] == my_job() for said in held)
    pids = {said["pid"] for said in held}
    for pid in pids:
        os.kill(pid, 9)  # Spark's Python workers: what they made is the driver's now
    assert set(skate.get(register.read.remote())) == pids
    first = my_job()
    skate.shutdown()
    skate.init()
    again = answers(spark, cluster=cluster, ref=skate.put(2))
    assert first != my_job()
    assert all(said["got"] == 2 and said["job"] == my_job() for said in again)


def test_the_back_test_of_the_example(spark: Any, cluster: Any) -> None:
    """Series by series, plain and with fan_out(), equal to the last bit."""
    import sys

    from pyspark import cloudpickle

    sys.path.insert(0, str(ROOT / "examples" / "spark"))
    try:
        import both_ways
        import walk_forward
    finally:
        sys.path.pop(0)
    cloudpickle.register_pickle_by_value(walk_forward)
    if not skate.is_initialized():
        skate.init()
    query = walk_forward.make_query(walk_forward.make_table(40, 3, 7, spark), cluster)
    plain, _ = both_ways.timed(query, False)
    fanned, _ = both_ways.timed(query, True)
    assert len(plain) == 64
    assert plain.tobytes() == fanned.tobytes()
