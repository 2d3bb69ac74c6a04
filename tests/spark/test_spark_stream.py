"""Structured Streaming and objects: the sink, the source, and what is written exactly once."""

from __future__ import annotations

import glob
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from spark_help import processes, until

import skate
from skate.util import spark as on_spark

KILLS = int(os.environ.get("SKATE_SPARK_KILLS", "2"))  # docs/spark/streaming.md has what 20 gave
ROWS = 10_000


@pytest.fixture()
def joined(clean: Any) -> Iterator[Any]:
    """The session of Spark, and a node of Skate beside it that is not Spark's."""
    skate.init(num_cpus=2)
    on_spark.register_objects(clean)
    yield clean
    skate.shutdown()


def arrived(spark: Any, folder: Path, files: int) -> Any:
    """A stream of files with 100 numbers each, some files a batch."""
    (folder / "in").mkdir()
    for i in range(files):
        ids = pa.array(range(i * 100, (i + 1) * 100), pa.int64())
        file = folder / "in" / f"{i}.parquet"
        pq.write_table(pa.table({"id": ids}), file)
        os.utime(file, (1e9 + i, 1e9 + i))  # Spark takes the oldest first
    reader = spark.readStream.schema("id long").option("maxFilesPerTrigger", 2)
    return reader.parquet(str(folder / "in"))


def sink(df: Any, folder: Path, name: str, **options: Any) -> Any:
    """A query of all that is there, into a stream."""
    writer = df.writeStream.format("objects").trigger(availableNow=True)
    writer = writer.option("name", name).option("checkpointLocation", str(folder / name))
    return writer.options(**options).start()


def numbers(name: str) -> list[list[int]]:
    """The rows of each batch that the stream holds."""
    on_spark.end_stream(name)
    batches = on_spark.read_stream(name, timeout=60)
    return [sorted(batch.table()["id"].to_pylist()) for batch in batches]


def test_a_query_writes_each_batch_once(joined: Any, tmp_path: Path) -> None:
    df = arrived(joined, tmp_path, 5)
    query = sink(df, tmp_path, "prices")
    query.awaitTermination(120)
    seen = []
    on_spark.end_stream("prices")
    for batch in on_spark.read_stream("prices", timeout=60):
        assert (batch.number, batch.query, batch.batch_id) == (len(seen), query.id, len(seen))
        seen.append(sorted(batch.table()["id"].to_pylist()))
    assert seen == [list(range(200)), list(range(200, 400)), list(range(400, 500))]

    os.remove(tmp_path / "prices" / "commits" / "2")  # as if it had died before it noted the end
    for check in glob.glob(str(tmp_path / "prices" / "commits" / ".*.crc")):
        os.remove(check)
    sink(df, tmp_path, "prices").awaitTermination(120)
    assert numbers("prices") == [], "the batch that Spark wrote again was there"

    each = on_spark.objects_sink("each")
    query = df.writeStream.foreachBatch(each).trigger(availableNow=True).start()
    query.awaitTermination(120)
    assert numbers("each") == seen

    full = sink(df, tmp_path, "full", maxBatches=1, timeout=0)
    with pytest.raises(Exception, match=r"(?s)the stream 'full' is full.*maxBatches \(1\)"):
        full.awaitTermination(120)
    assert numbers("full") == seen[:1]
    sink(df, tmp_path, "full").awaitTermination(120)
    assert numbers("full") == seen[1:], "it goes on where it was"


def test_tasks_write_what_a_query_reads(joined: Any, tmp_path: Path) -> None:
    @skate.remote
    def send(number: int) -> bool:
        table = pa.table({"id": pa.array([number, number + 10], pa.int64())})
        return on_spark.write_stream("back", [skate.put(table)], once=("send", number))

    assert skate.get(send.remote(0)) and skate.get(send.remote(1))
    source = joined.readStream.format("objects").option("name", "back")
    df = source.option("maxBatchesPerTrigger", 1).load()
    assert df.dtypes == [("id", "bigint")]
    got: dict[int, list[int]] = {}

    def take(df: Any, number: int) -> None:
        rows = sorted(row[0] for row in df.collect())
        assert got.setdefault(number, rows) == rows, "a batch that Spark does again is the same"

    def start() -> Any:
        writer = df.writeStream.foreachBatch(take)
        return writer.option("checkpointLocation", str(tmp_path / "back")).start()

    query = start()
    until(lambda: len(got) == 2 or query.exception(), 60, "two batches")
    query.stop()
    assert not skate.get(send.remote(1)), "it was there"
    assert skate.get(send.remote(2))
    query = start()
    until(lambda: len(got) == 3 or query.exception(), 60, "the third batch")
    query.stop()
    assert got == {0: [0, 10], 1: [1, 11], 2: [2, 12]}

    on_spark.drop_stream("back")
    assert skate.get(send.remote(9))
    query = start()
    with pytest.raises(Exception, match="another checkpointLocation"):
        query.awaitTermination(60)
    assert len(got) == 3


def executors() -> list[int]:
    """The executors' JVMs."""
    return [p for p, command in processes().items() if "CoarseGrainedExecutorBackend" in command]


@pytest.mark.timeout(240 + 30 * KILLS)
def test_each_row_once_through_kills_of_executors(clean: Any, tmp_path: Path) -> None:
    """Nodes on the executors, which die with them; two queries at once, into objects and Delta."""
    deltalake = pytest.importorskip("deltalake")
    on_spark.setup_ray_cluster(max_worker_nodes=2, num_cpus_worker_node=1)
    skate.init()
    on_spark.register_objects(clean)
    on_spark.register_delta(clean)
    files = 4 + KILLS
    (tmp_path / "in").mkdir()
    for i in range(files):
        file = tmp_path / "in" / f"{i}.parquet"
        pq.write_table(pa.table({"id": pa.array(range(i, ROWS, files), pa.int64())}), file)
        os.utime(file, (1e9 + i, 1e9 + i))
    reader = clean.readStream.schema("id long").option("maxFilesPerTrigger", 1)
    df = reader.parquet(str(tmp_path / "in")).repartition(3).selectExpr("id", "id * id as square")

    def start(kind: str) -> Any:
        writer = df.writeStream.format(kind).trigger(availableNow=True)
        writer = writer.option("checkpointLocation", str(tmp_path / f"{kind}-checkpoint"))
        return writer.option("name", "rows").option("path", str(tmp_path / "table")).start()

    failed: list[str] = []

    def check(queries: dict[str, Any]) -> bool:
        """Start what has failed again, from its checkpoint. Are all of them done?"""
        for kind, query in queries.items():
            if not query.isActive and query.exception() is not None:
                failed.append(f"{kind}: {str(query.exception())[:500]}")
                assert len(failed) <= KILLS, failed
                queries[kind] = start(kind)
        return not any(query.isActive for query in queries.values())

    batches: list[tuple[int, int]] = []
    rows: list[tuple[int, int]] = []

    def consume() -> None:
        for batch in on_spark.read_stream("rows", timeout=200):
            rows.extend(zip(*batch.table().to_pydict().values(), strict=True))
            batches.append((batch.number, batch.batch_id))

    def version() -> int:
        table = tmp_path / "table"
        return deltalake.DeltaTable(table).version() if (table / "_delta_log").exists() else -1

    chance = random.Random(KILLS)
    begun = time.monotonic()
    reading = threading.Thread(target=consume, daemon=True)
    reading.start()
    queries = {kind: start(kind) for kind in ("objects", "delta_py")}
    for turn in range(KILLS):
        until(
            lambda turn=turn: check(queries) or (len(batches) > turn and version() >= turn), 150,
            f"batch {turn} of both",
        )  # fmt: skip
        threading.Event().wait(chance.random())  # anywhere in a batch
        os.kill(chance.choice(until(executors, 60, "an executor")), signal.SIGKILL)
    until(lambda: check(queries), 200, "both queries are done")
    on_spark.end_stream("rows")
    reading.join(60)
    print(f"{KILLS} kills, {files} batches, {time.monotonic() - begun:.0f} s, failed: {failed}")
    wanted = [(n, n * n) for n in range(ROWS)]
    assert batches == [(i, i) for i in range(files)]
    assert sorted(rows) == wanted
    table = deltalake.DeltaTable(tmp_path / "table")
    assert table.version() == files - 1
    got = table.to_pyarrow_table()
    assert sorted(zip(*got.to_pydict().values(), strict=True)) == wanted
