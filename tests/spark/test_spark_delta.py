"""Delta tables in Spark without a jar: versions, filters, streams; checked by deltalake."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from spark_help import until

from skate.util import spark as on_spark

deltalake = pytest.importorskip("deltalake")


@pytest.fixture()
def delta(spark: Any) -> Any:
    """The session, which knows the format."""
    on_spark.register_delta(spark)
    return spark


def own(path: Path) -> list[int]:
    """The ids that deltalake itself reads."""
    return sorted(deltalake.DeltaTable(path).to_pyarrow_table()["id"].to_pylist())


def test_versions_filters_and_columns(delta: Any, tmp_path: Path) -> None:
    path = tmp_path / "prices"
    df = delta.range(0, 1000, 1, 4).selectExpr(
        "id", "concat('k', id % 3) as k", "date_add(date'2026-01-01', cast(id % 2 as int)) as day",
        "timestamp_seconds(id) as at", "if(id % 5 = 0, null, id / 8.0D) as x",
    )  # fmt: skip
    df.write.format("delta_py").option("partitionBy", "k").mode("append").save(str(path))

    def read(**options: Any) -> Any:
        return delta.read.format("delta_py").options(**options).load(str(path))

    first = read()
    assert first.dtypes == df.dtypes
    assert sorted(first.collect(), key=str) == sorted(df.collect(), key=str)
    assert own(path) == list(range(1000))
    df.where("id < 10").write.format("delta_py").mode("append").save(str(path))
    assert first.count() == 1000, "a DataFrame stays at the version it was made of"
    assert read().count() == 1010 and read(versionAsOf=0).count() == 1000
    assert read(columns="x, id").dtypes == [("x", "double"), ("id", "bigint")]
    some = delta.read.format("delta_py").schema("id long").load(str(path))
    assert sum(row[0] for row in some.collect()) == sum(range(1000)) + sum(range(10))

    for file in glob.glob(str(path / "k=k1" / "*")) + glob.glob(str(path / "k=k2" / "*")):
        os.remove(file)
    kept = [i for i in [*range(1000), *range(10)] if i % 3 == 0]
    assert read().where("k = 'k0'").count() == len(kept), "other partitions' files are not read"
    assert read().where("k in ('k0') and id > 990 and x is not null").count() == 3
    assert read().where("k not in ('k1', 'k2') and day = date'2026-01-02'").count() == sum(
        i % 2 for i in kept
    )
    df.limit(5).write.format("delta_py").mode("overwrite").save(str(path))
    assert read().count() == 5 and len(own(path)) == 5

    with pytest.raises(Exception, match="x: double in the table, string here"):
        df.selectExpr("id", "k", "day", "at", "string(x) as x").write.format("delta_py").mode(
            "append"
        ).save(str(path))
    with pytest.raises(Exception, match="there is no Delta table at"):
        delta.read.format("delta_py").load(str(tmp_path / "none"))
    with pytest.raises(Exception, match="its newest is 2"):
        read(versionAsOf=9)
    files = len(glob.glob(str(path / "**" / "*.parquet"), recursive=True))
    bad = df.selectExpr("id", "k", "day", "at", "if(id = 900, raise_error('oh no'), x) as x")
    with pytest.raises(Exception, match="oh no"):
        bad.write.format("delta_py").mode("append").save(str(path))
    assert len(own(path)) == 5 and files == len(
        glob.glob(str(path / "**" / "*.parquet"), recursive=True)
    )


def test_streams_of_tables(delta: Any, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(4):
        file = tmp_path / "in" / f"{i}.parquet"
        pq.write_table(pa.table({"id": pa.array(range(i * 100, i * 100 + 100), pa.int64())}), file)
        os.utime(file, (1e9 + i, 1e9 + i))
    path = tmp_path / "table"
    arrived = delta.readStream.schema("id long").option("maxFilesPerTrigger", 1)

    def fill() -> None:
        writer = arrived.parquet(str(tmp_path / "in")).writeStream.format("delta_py")
        writer = writer.option("checkpointLocation", str(tmp_path / "filled"))
        writer.trigger(availableNow=True).start(str(path)).awaitTermination(120)

    fill()
    assert own(path) == list(range(400)) and deltalake.DeltaTable(path).version() == 3
    os.remove(tmp_path / "filled" / "commits" / "3")  # as if it had died before it noted the end
    for check in glob.glob(str(tmp_path / "filled" / "commits" / ".*.crc")):
        os.remove(check)
    fill()
    assert own(path) == list(range(400)) and deltalake.DeltaTable(path).version() == 3
    assert len(list(path.glob("*.parquet"))) == len(deltalake.DeltaTable(path).file_uris())

    got: dict[int, list[int]] = {}

    def take(df: Any, number: int) -> None:
        rows = sorted(row[0] for row in df.collect())
        assert got.setdefault(number, rows) == rows

    def follow(**options: Any) -> Any:
        reader = delta.readStream.format("delta_py").options(**options).load(str(path))
        writer = reader.writeStream.foreachBatch(take)
        return writer.option("checkpointLocation", str(tmp_path / "followed")).start()

    query = follow()
    until(lambda: got or query.exception(), 60, "what is there")
    deltalake.write_deltalake(path, pa.table({"id": pa.array([400], pa.int64())}), mode="append")
    until(lambda: len(got) > 1 or query.exception(), 60, "what came")
    deltalake.DeltaTable(path).delete("id = 7")
    with pytest.raises(Exception, match="version 5 .*skipChangeCommits"):
        query.awaitTermination(60)
    deltalake.write_deltalake(path, pa.table({"id": pa.array([401], pa.int64())}), mode="append")
    query = follow(skipChangeCommits="true")
    until(lambda: [401] in got.values() or query.exception(), 60, "what came later")
    query.stop()
    assert [rows for _, rows in sorted(got.items()) if rows] == [list(range(400)), [400], [401]]
