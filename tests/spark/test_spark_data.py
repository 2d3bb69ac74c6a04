"""DataFrames and objects on a real Spark: both ways, names, datasets, and what is lost."""

from __future__ import annotations

import os
import signal
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from spark_help import processes, until

import skate
from skate import data
from skate.util import spark as on_spark
from skate.util.spark import from_refs, read_objects, register_objects, to_refs

ROWS = 10_000


@pytest.fixture()
def joined(clean: Any) -> Iterator[Any]:
    """The session of Spark, and a node of Skate beside it that is not Spark's."""
    skate.init(num_cpus=2)
    yield clean
    skate.shutdown()


def frame(spark: Any, parts: int = 3) -> Any:
    """Numbers, texts with nulls, times, lists; in some partitions."""
    return spark.range(0, ROWS, 1, parts).selectExpr(
        "id", "id / 8.0D as eighth", "if(id % 7 = 0, null, concat('t', id % 10)) as text",
        "timestamp_seconds(id) as at", "array(id, id + 1) as pair",
    )  # fmt: skip


def python_workers() -> list[int]:
    """Spark's Python workers, and the processes that make them."""
    return [pid for pid, command in processes().items() if "pyspark.daemon" in command]


def test_refs_outlive_sparks_python_workers(joined: Any) -> None:
    df = frame(joined)
    wanted = df.toArrow() if hasattr(df, "toArrow") else None
    refs = to_refs(df)
    assert refs.rows == [3333, 3333, 3334] and len(refs) == 3
    assert refs.schema.names == df.columns
    workers = python_workers()
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not set(workers) & set(python_workers()), 10, "the workers are gone")
    tables = skate.get(list(refs))
    assert pa.concat_tables(tables).cast(wanted.schema) == wanted
    assert [t.num_rows for t in tables] == refs.rows
    assert {column.num_chunks for table in tables for column in table.columns} == {1}
    column = tables[0]["eighth"].chunk(0).to_numpy(zero_copy_only=True)
    assert column[8] == 1.0 and not column.flags.writeable, "a view of the arena"

    small = to_refs(df, block_bytes=100_000)
    assert len(small) > 3 and sum(small.rows) == ROWS
    assert skate.get(small[0])["id"].to_pylist() == list(range(small.rows[0]))

    [empty] = to_refs(df.where("id < 0"))
    assert skate.get(empty).schema.names == df.columns and skate.get(empty).num_rows == 0

    back = from_refs(joined, refs)
    assert back.rdd.getNumPartitions() == 3 and back.dtypes == df.dtypes
    for _ in range(2):
        assert back.exceptAll(df).count() == 0 and back.count() == ROWS
    some = from_refs(joined, refs, "text string, id int")
    assert some.dtypes == [("text", "string"), ("id", "int")]
    assert some.agg({"id": "sum"}).first()[0] == ROWS * (ROWS - 1) // 2
    older = types.SimpleNamespace(range=joined.range)  # pyspark 3 has no data sources in Python
    assert from_refs(older, refs).exceptAll(df).count() == 0
    on_spark.release(back)
    with pytest.raises(Exception, match="objects of this DataFrame were released"):
        back.count()


def test_what_spark_makes_of_other_types(joined: Any) -> None:
    table = pa.table({
        "small": pa.array([1, None, 255], pa.uint8()),
        "kind": pa.array(["a", "b", "a"]).dictionary_encode(),
        "at": pa.array([1, 2, 3], pa.timestamp("ns")),
        "matrix": pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(12.0).reshape(3, 4)),
    })  # fmt: skip
    df = from_refs(joined, [skate.put(table)])
    assert dict(df.dtypes) == {"small": "smallint", "kind": "string", "at": "timestamp_ntz",
                               "matrix": "array<double>"}  # fmt: skip
    rows = df.collect()
    assert [row["small"] for row in rows] == [1, None, 255]
    assert [row["kind"] for row in rows] == ["a", "b", "a"]
    assert rows[2]["matrix"] == [8.0, 9.0, 10.0, 11.0]
    with pytest.raises(TypeError, match=r"no type for time64.*cast"):
        from_refs(joined, [skate.put(pa.table({"t": pa.array([1], pa.time64("us"))}))])


def test_datasets_both_ways(joined: Any) -> None:
    ds = data.from_spark(frame(joined), override_num_blocks=2)
    assert (ds.count(), ds.num_blocks()) == (ROWS, 2)
    doubled = ds.map_batches(lambda b: {"id": b["id"], "twice": b["eighth"] * 2})
    df = doubled.to_spark(joined)
    assert df.dtypes == [("id", "bigint"), ("twice", "double")]
    assert df.selectExpr("sum(twice - id / 4)", "count(*)").first()[:] == (0.0, ROWS)
    with pytest.warns(DeprecationWarning, match="override_num_blocks"):
        assert data.from_spark(frame(joined), parallelism=1).num_blocks() == 1


def test_named_objects(joined: Any) -> None:
    register_objects(joined)
    df = frame(joined, 2).select("id", "text")

    def read(name: str = "prices") -> Any:
        return joined.read.format("objects").option("name", name).load()

    with pytest.raises(Exception, match="no objects are published as 'prices'"):
        read()
    df.limit(10).write.format("objects").option("name", "prices").mode("append").save()
    df.write.format("objects").option("name", "prices").mode("append").save()
    refs = read_objects("prices")
    assert sum(refs.rows) == ROWS + 10
    before = read()
    df.where("id < 5").write.format("objects").option("name", "prices").mode("overwrite").save()
    assert read().count() == 5
    assert before.count() == 5, "every action reads what stands there now"
    assert sum(t.num_rows for t in skate.get(list(refs))) == ROWS + 10, "refs are refs"

    bad = df.selectExpr("id", "raise_error('oh no') as text")
    with pytest.raises(Exception, match="oh no"):
        bad.write.format("objects").option("name", "prices").mode("overwrite").save()
    assert read().count() == 5, "a job that failed publishes nothing"
    with pytest.raises(Exception, match="other columns"):
        df.select("id").write.format("objects").option("name", "prices").mode("append").save()

    on_spark.publish_objects("mine", [skate.put(pa.table({"a": [1, 2]}))])
    assert [row["a"] for row in read("mine").collect()] == [1, 2]
    assert on_spark.withdraw_objects("mine") and not on_spark.withdraw_objects("mine")
    with pytest.raises(KeyError, match="prices"):
        read_objects("mine")


def test_without_a_cluster(clean: Any) -> None:
    with pytest.raises(RuntimeError, match=r"call setup_ray_cluster\(\) or skate.init\(\)"):
        to_refs(clean.range(3))
    with pytest.raises(TypeError, match=r"pyspark.sql.DataFrame .* not list"):
        to_refs([1])


def test_blocks_on_sparks_nodes_and_lost_ones(clean: Any) -> None:
    cluster = on_spark.setup_ray_cluster(max_worker_nodes=2, num_cpus_worker_node=1)
    df = frame(clean, 2).select("id", "eighth")
    skate.init()
    head = skate.get_runtime_context().get_node_id()
    names = {n["NodeID"]: n["NodeName"] for n in cluster.nodes()}
    refs = to_refs(df, recover=True)
    places = {names[block.node] for block in refs.blocks}
    assert places and all(place.startswith("spark-") for place in places)
    home = to_refs(df, keep="driver")
    assert {block.node for block in home.blocks} == {head}

    lost = refs.blocks[0].node
    raylets = {n["NodeID"]: n for n in skate.nodes()}
    socket = raylets[lost]["RayletSocketName"]
    [victim] = [p for p, c in processes().items() if "skate-raylet" in c and _serves(p, socket)]
    os.kill(victim, signal.SIGKILL)
    until(lambda: lost not in {n["NodeID"] for n in cluster.nodes() if n["Alive"]}, 9, "it is lost")
    tables = skate.get(list(refs), timeout=60)
    assert pa.concat_tables(tables)["id"].to_pylist() == list(range(ROWS))

    on_spark.shutdown_ray_cluster()


def _serves(pid: int, socket: str) -> bool:
    """Is this the raylet of that socket? Its run folder is among its open files or maps."""
    folder = os.path.dirname(socket)
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            if os.readlink(f"/proc/{pid}/fd/{name}").startswith(folder):
                return True
        except OSError:
            continue
    return False
