"""to_refs() and from_refs(): a DataFrame of Spark as refs, and refs as a DataFrame.

Each partition is written by Spark's task into the arena of the node beside it, once; only tickets
of some 100 bytes go through Spark's driver. Back, each ref is one partition: the task maps it and
hands it to Spark's JVM. See docs/spark/data.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

from skate.util.spark import _blocks, _exchange
from skate.util.spark._exchange import Block, Link, Publication

PLACES = ("nodes", "driver")


class Refs(list[Any]):
    """Refs of pyarrow Tables, in the order of the DataFrame, and what is known of them unread."""

    def __init__(self, refs: Iterable[Any], schema: Any, blocks: list[Block]) -> None:
        super().__init__(refs)
        self.schema, self.blocks = schema, blocks

    def __reduce__(self) -> tuple[Any, ...]:
        return Refs, (list(self), self.schema, self.blocks)

    @property
    def rows(self) -> list[int]:
        """Rows of each."""
        return [block.rows for block in self.blocks]


def to_refs(
    df: Any, *, recover: bool = False, keep: str = "nodes", block_bytes: int = _blocks.BLOCK_BYTES
) -> Refs:
    """Write a DataFrame's partitions into the arenas of the nodes; their refs, in order.

    One ref a partition, several for one larger than `block_bytes`, none for an empty one (of a
    DataFrame without rows: one ref of an empty table). They belong to this program, not to Spark:
    they outlive Spark's Python workers, and spark.stop() where the nodes do. The nodes of
    setup_ray_cluster() end with Spark: keep="driver" brings each block to the driver's node, which
    does not. recover=True: a partition that is lost with its node is computed again by Spark, as
    long as the session lives; costs a copy of each block.
    RuntimeError: this program is in no cluster. Errors of Spark's job as Spark raises them.
    """
    from pyspark.sql.pandas.types import to_arrow_schema

    if keep not in PLACES:
        raise ValueError(f"keep must be one of {', '.join(PLACES)}, not {keep!r}")
    if isinstance(block_bytes, bool) or not isinstance(block_bytes, int) or block_bytes < 1:
        raise ValueError(f"block_bytes must be a positive int, not {block_bytes!r}")
    _must_be_frame(df)
    link = _exchange.link()
    writing = _blocks.Writing(link, "t-" + secrets.token_hex(8), block_bytes, keep == "driver")
    schema = to_arrow_schema(df.schema)
    if recover:
        from skate.util.spark import _recover

        return _recover.to_refs(df, writing, schema)
    exchange = _exchange.exchange(link)
    try:
        blocks = run(df, writing)
        return Refs(*claimed(exchange, writing.transfer, blocks, schema))
    except BaseException:
        exchange.end.remote(writing.transfer)
        raise


def run(df: Any, writing: _blocks.Writing) -> list[Block]:
    """The Spark job that writes; what it wrote, in order."""

    def write(batches: Any) -> Any:
        from skate.util.spark import _blocks

        yield from _blocks.write_rows(writing, batches)

    rows = df.mapInArrow(write, _blocks.ROWS_DDL).collect()
    return blocks_of(rows)


def blocks_of(rows: list[Any]) -> list[Block]:
    """The rows of write_rows() in order."""
    rows.sort(key=lambda row: (row["partition"], row["piece"]))
    return [Block(row["ticket"], row["rows"], row["bytes"], row["node"]) for row in rows]


def claimed(
    exchange: Any, transfer: str, blocks: list[Block], schema: Any
) -> tuple[list[Any], Any, list[Block]]:
    """The refs of the blocks, when they are there; with them the schema and the blocks."""
    import skate

    if not blocks:
        exchange.end.remote(transfer)
        return empty(schema)
    kept = skate.get(exchange.claim.remote(transfer, [block.ticket for block in blocks]))
    try:
        skate.get([done for _, done in kept if done is not None])
    except skate.exceptions.RayError as error:
        exchange.start_anew.remote()
        raise RuntimeError(_exchange.LOST) from error
    return [ref for ref, _ in kept], schema, blocks


def empty(schema: Any) -> tuple[list[Any], Any, list[Block]]:
    """The one block of a DataFrame without rows."""
    import skate

    node = skate.get_runtime_context().get_node_id()
    return [skate.put(schema.empty_table())], schema, [Block("", 0, 0, node)]


def from_refs(spark: Any, refs: Iterable[Any], schema: Any = None) -> Any:
    """A DataFrame of Spark whose partitions are the refs, in order.

    refs: of pyarrow Tables or RecordBatches, DataFrames of pandas or polars, or dicts of columns.
    schema: of Spark (a StructType, or text like "id long, price double") or of Arrow; None: that of
    the first ref. Columns are cast to it, those that it does not name are left out. Tasks of Spark
    map each ref when the DataFrame is read, as often as it is read; so the objects stay until this
    program ends, or release(df) is called.
    ValueError: no refs and no schema. TypeError: a column has no type in Spark.
    """
    from skate import ObjectRef

    if isinstance(refs, ObjectRef):
        raise TypeError("from_refs() takes a list of refs: from_refs(spark, [ref])")
    known = getattr(refs, "schema", None)
    refs = list(refs)
    for ref in refs:
        if not isinstance(ref, ObjectRef):
            raise TypeError(f"refs must be ObjectRefs, not {type(ref).__name__}")
    link = _exchange.link()
    types = spark_types(schema if schema is not None else known or _schema_of(refs))
    laid = "f-" + secrets.token_hex(8)
    exchange = _exchange.exchange(link)
    import skate

    skate.get(exchange.lay.remote(laid, refs))
    df = _frame(spark, link, laid, len(refs), types)
    df._skate_laid = (link, laid)
    return df


def release(df: Any) -> None:
    """Give up the objects of a DataFrame that from_refs() made; it cannot be read any more.

    ValueError: from_refs() did not make it. (What was derived of it is not known to this.)
    """
    laid = getattr(df, "_skate_laid", None)
    if laid is None:
        raise ValueError("release() takes the very DataFrame that from_refs() returned")
    try:
        _exchange.exchange(laid[0]).release.remote(laid[1])
    except KeyError:
        pass  # that session is over, and the objects with it


def _frame(spark: Any, link: Link, laid: str, count: int, types: Any) -> Any:
    from pyspark.sql.pandas.types import to_arrow_schema

    if count == 0:
        return spark.createDataFrame([], types)
    if hasattr(spark, "dataSource"):
        from skate.util.spark import _objects

        spark.dataSource.register(_objects.make_source(link))
        reader = spark.read.format("objects").schema(types)
        return reader.option("laid", laid).option("blocks", str(count)).load()
    reading = _blocks.Reading(link, laid, to_arrow_schema(types).serialize().to_pybytes())

    def read(batches: Any) -> Any:
        from skate.util.spark import _blocks

        for batch in batches:
            for number in batch.column(0).to_pylist():
                yield from _blocks.load(reading, number)

    return spark.range(0, count, 1, count).mapInArrow(read, types)


def spark_types(schema: Any) -> Any:
    """A StructType of Spark, of a schema of Spark or Arrow."""
    import pyarrow as pa
    from pyspark.sql.pandas.types import from_arrow_schema
    from pyspark.sql.types import StructType

    if isinstance(schema, StructType):
        return schema
    if isinstance(schema, str):
        return StructType.fromDDL(schema) if hasattr(StructType, "fromDDL") else _parsed(schema)
    if isinstance(schema, pa.Schema):
        return from_arrow_schema(_blocks.spark_schema(schema), prefer_timestamp_ntz=True)
    raise TypeError(
        f"schema must be of Spark (a StructType or text) or of Arrow, not {type(schema).__name__}"
    )


def _parsed(text: str) -> Any:
    from pyspark.sql.types import _parse_datatype_string

    return _parse_datatype_string(text)


def schema_of_block(block: Any) -> Any:
    """A Skate task: the schema of a block."""
    from skate.util.spark._blocks import as_table

    return as_table(block).schema


def _schema_of(refs: list[Any]) -> Any:
    import skate

    if not refs:
        raise ValueError("from_refs() of no refs needs a schema")
    return skate.get(skate.remote(schema_of_block).options(num_cpus=0).remote(refs[0]))


def _must_be_frame(df: Any) -> None:
    if not callable(getattr(df, "mapInArrow", None)):
        raise TypeError(
            f"a pyspark.sql.DataFrame (of pyspark 3.3 or later) is needed, not {type(df).__name__}"
        )


# ------------------------------------------------------------------------------------------ names


def register_objects(spark: Any) -> None:
    """Make the format "objects" known to a session of pyspark 4, bound to this program's cluster.

    After it `df.write.format("objects").option("name", ...)` and `spark.read.format("objects")`
    work, whose objects read_objects() and publish_objects() know by the same names.
    RuntimeError: this pyspark has no Python data sources; use to_refs() and from_refs().
    """
    if not hasattr(spark, "dataSource"):
        raise RuntimeError(
            f'pyspark {spark.version} has no data sources in Python, which the format "objects" '
            "is: use to_refs() and from_refs(), which work with it, or pyspark 4."
        )
    from skate.util.spark import _objects

    spark.dataSource.register(_objects.make_source(_exchange.link()))


def read_objects(name: str) -> Refs:
    """The refs that stand under a name now. KeyError: there is no such name."""
    import pyarrow as pa

    import skate

    exchange = _exchange.exchange(_exchange.link())
    found = skate.get(exchange.describe.remote(name))
    if found is None:
        names = skate.get(exchange.names.remote())
        raise KeyError(f"no objects are published as {name!r}; there are: {', '.join(names)}")
    schema = pa.ipc.read_schema(pa.py_buffer(found.schema))
    refs = skate.get(exchange.all.remote(found.laid))
    if not refs:
        return Refs(*empty(schema))
    return Refs(refs, schema, found.blocks)


def publish_objects(name: str, refs: Iterable[Any], *, append: bool = False) -> None:
    """Put refs under a name, for spark.read.format("objects").option("name", name).

    append: behind those that stand there, which have the same columns; else in their place.
    """
    import skate

    if not name or not isinstance(name, str):
        raise ValueError("a name must be a text that is not empty")
    schema = getattr(refs, "schema", None)
    blocks = getattr(refs, "blocks", None)
    refs = list(refs)
    if schema is None:
        schema = _schema_of(refs)
    schema = _blocks.spark_schema(schema)
    blocks = blocks or [Block("", -1, -1, "") for _ in refs]
    what = Publication(schema.serialize().to_pybytes(), blocks)
    exchange = _exchange.exchange(_exchange.link())
    skate.get(exchange.publish.remote(name, what, refs, append))


def withdraw_objects(name: str) -> bool:
    """Forget a name, and with it the objects that nobody else holds. False: there is none."""
    import skate

    exchange = _exchange.exchange(_exchange.link())
    return bool(skate.get(exchange.withdraw.remote(name)))
