"""What Spark's tasks do with blocks: Arrow batches into the node's arena, and out of it.

Runs in Spark's Python workers; only `pieces`, `conform` and the schemas are used elsewhere too. A
block is a pyarrow.Table as put() stores it: one copy on the way in, which makes one chunk a column
of the partition's batches, none on the way out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from skate.util.spark._exchange import Block, Link

BLOCK_BYTES = 128 << 20  # a larger partition becomes several blocks, so that memory stays bounded
READ_BYTES = 16 << 20  # of a batch on its way to Spark's JVM
ROWS = (("partition", "int"), ("piece", "int"), ("ticket", "string"), ("rows", "bigint"),
        ("bytes", "bigint"), ("node", "string"))  # fmt: skip
ROWS_DDL = ", ".join(f"{name} {kind}" for name, kind in ROWS)


@dataclass(frozen=True)
class Writing:
    """A transfer from Spark. home: copy the blocks to the driver's node. raw: the driver copies.

    settle: the task waits for the copies, so that a node which is lost later takes no rows along.
    """

    link: Link
    transfer: str
    block_bytes: int = BLOCK_BYTES
    home: bool = False
    raw: bool = False
    settle: bool = False


@dataclass(frozen=True)
class Reading:
    """A transfer to Spark: the refs under `laid`, as tables of this schema (of Arrow, in bytes)."""

    link: Link
    laid: str
    schema: bytes


# ---------------------------------------------------------------------------------- from Spark


def pieces(batches: Iterable[Any], most: int) -> Iterator[Any]:
    """Tables of about `most` bytes of the batches, in order; batches without rows are left out."""
    import pyarrow as pa

    held: list[Any] = []
    size = 0
    for batch in (part for whole in batches for part in parts_of(whole, most)):
        if held and size + batch.nbytes > most:
            yield pa.Table.from_batches(held)
            held, size = [], 0
        held.append(batch)
        size += batch.nbytes
    if held:
        yield pa.Table.from_batches(held)


def parts_of(batch: Any, most: int) -> Iterator[Any]:
    """Slices of about `most` bytes at most; none of a batch without rows."""
    rows = batch.num_rows
    step = max(1, rows * most // max(1, batch.nbytes))
    if rows <= step:
        yield from [batch] if rows else []
        return
    for begin in range(0, rows, step):
        yield batch.slice(begin, step)


def task_context() -> Any:
    """Spark's, in its Python workers; None elsewhere."""
    pyspark = sys.modules.get("pyspark")
    return pyspark.TaskContext.get() if pyspark else None


def store(writing: Writing, batches: Iterable[Any]) -> list[Block]:
    """Write this task's batches into the arena of its node, and give the refs to the exchange."""
    import skate
    from skate import _arrow_join

    exchange = writing.link.join()
    context = task_context()
    attempt = context.taskAttemptId() if context else 0
    node = skate.get_runtime_context().get_node_id()
    target = writing.link.home if writing.home else node if writing.link.is_foreign() else None
    if writing.raw:
        target = None
    if target:
        exchange.expect.remote(target)  # its copier starts while Spark sends the rows
    out: list[Block] = []
    try:
        for table in pieces(batches, writing.block_bytes):
            ref = skate.put(_arrow_join.laid(table))
            block = Block(f"{attempt}.{len(out)}", table.num_rows, table.nbytes, target or node)
            out.append(block)
            if not skate.get(exchange.keep.remote(writing.transfer, block.ticket, [ref], target)):
                raise RuntimeError("this transfer is over: the driver has ended it, or failed")
        if writing.settle and out and target:
            tickets = [block.ticket for block in out]
            skate.get(exchange.settled.remote(writing.transfer, tickets))
    except BaseException:
        exchange.forget.remote(writing.transfer, [block.ticket for block in out])
        raise
    return out


def write_rows(writing: Writing, batches: Iterable[Any]) -> Iterator[Any]:
    """store() as a function of mapInArrow: what was written comes as rows."""
    import pyarrow as pa

    context = task_context()
    partition = context.partitionId() if context else 0
    blocks = store(writing, batches)
    if blocks:
        columns = [
            pa.array([partition] * len(blocks), pa.int32()),
            pa.array(range(len(blocks)), pa.int32()),
            pa.array([block.ticket for block in blocks]),
            pa.array([block.rows for block in blocks], pa.int64()),
            pa.array([block.bytes for block in blocks], pa.int64()),
            pa.array([block.node for block in blocks]),
        ]
        yield pa.RecordBatch.from_arrays(columns, names=[name for name, _ in ROWS])


# ------------------------------------------------------------------------------------ to Spark


def load(reading: Reading, number: int) -> Iterator[Any]:
    """The batches of one block, where they lie in the arena of this node."""
    import skate

    exchange = reading.link.join()
    try:
        [ref] = skate.get(exchange.lend.remote(reading.laid, number))
    except (KeyError, IndexError):
        raise RuntimeError(
            "The objects of this DataFrame were released, or written anew twice since it was made: "
            "make it again."
        ) from None
    yield from batches_of(skate.get(ref), reading.schema)


def batches_of(block: Any, schema: bytes) -> Iterator[Any]:
    """A block as batches of that schema (of Arrow, serialised), views where the types agree."""
    import pyarrow as pa

    table = conform(as_table(block), pa.ipc.read_schema(pa.py_buffer(schema)))
    most = max(1, READ_BYTES * table.num_rows // max(1, table.nbytes))
    yield from table.to_batches(max_chunksize=most)


def as_table(value: Any) -> Any:
    """A block as a pyarrow.Table: tables, batches, frames of pandas and polars, dicts of columns.

    TypeError: it is none of those.
    """
    import pyarrow as pa

    if isinstance(value, pa.Table):
        return value
    if isinstance(value, pa.RecordBatch):
        return pa.Table.from_batches([value])
    if isinstance(value, dict):
        return pa.table(value)
    kind = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
    if kind == "pandas.DataFrame":
        return pa.Table.from_pandas(value, preserve_index=False)
    if kind == "polars.DataFrame":
        return value.to_arrow()
    raise TypeError(
        "a block must be a pyarrow Table or RecordBatch, a DataFrame of pandas or polars, or a "
        f"dict of columns, not {type(value).__name__}"
    )


def spark_schema(schema: Any) -> Any:
    """The schema of Arrow that Spark takes such columns as. TypeError: it has none for a type."""
    import pyarrow as pa

    return pa.schema([pa.field(f.name, spark_type(f.type), f.nullable) for f in schema])


def spark_type(kind: Any) -> Any:
    """The nearest type of Arrow that Spark has."""
    import pyarrow as pa

    types = pa.types
    wider = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(),
             pa.uint64(): pa.decimal128(20, 0), pa.float16(): pa.float32(),
             pa.large_string(): pa.string(), pa.large_binary(): pa.binary(),
             pa.string_view(): pa.string(), pa.binary_view(): pa.binary(),
             pa.date64(): pa.date32()}  # fmt: skip
    if kind in wider:
        return wider[kind]
    if types.is_dictionary(kind):
        return spark_type(kind.value_type)
    if types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    if types.is_duration(kind):
        return pa.duration("us")
    if types.is_fixed_size_binary(kind):
        return pa.binary()
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pa.list_(spark_type(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([pa.field(f.name, spark_type(f.type), f.nullable) for f in kind])
    if types.is_map(kind):
        return pa.map_(spark_type(kind.key_type), spark_type(kind.item_type))
    if isinstance(kind, pa.BaseExtensionType):
        return spark_type(kind.storage_type)
    if types.is_time(kind) or types.is_decimal256(kind) or types.is_union(kind):
        raise TypeError(f"Spark has no type for {kind}: cast the column before")
    return kind


def conform(table: Any, schema: Any) -> Any:
    """The table's columns as this schema has them; nothing is copied when they are so already.

    Times lose what is below the schema's unit; whatever else does not fit raises ArrowInvalid.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if table.schema.equals(schema, check_metadata=False):
        return table
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise ValueError(
            f"a block has no column {missing[0]!r}; it has {', '.join(table.column_names)}"
        )
    columns = []
    for field in schema:
        column = table.column(field.name)
        if isinstance(column.type, pa.BaseExtensionType):
            column = pa.chunked_array(
                [chunk.storage for chunk in column.chunks], column.type.storage_type
            )
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if column.type != field.type:
            how = pc.CastOptions(target_type=field.type, allow_time_truncate=True)
            column = column.cast(options=how)
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)
