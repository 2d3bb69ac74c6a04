"""Files of Delta tables: rows out of them, rows into them, and the commit that makes them count.

read() and write() run in Spark's tasks, commit() where Spark's driver is. A file that no commit
names is not in the table: what failed attempts wrote is dropped, or left to deltalake's vacuum().
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from skate.util.spark import _blocks, _delta
from skate.util.spark._delta import DataFile, Place

FILE_BYTES = 128 << 20  # of rows in memory; on disk it is less
TRIES = 5  # of a commit that others were quicker than
STATS_TEXT = 32  # longer texts are no bounds
_LOG = logging.getLogger(__name__)
NULL_PART = "__HIVE_DEFAULT_PARTITION__"


# ----------------------------------------------------------------------------------------- read


def read(
    place: Place, files: Iterable[DataFile], schema: Any, keep: list[Any] | None = None
) -> Iterator[Any]:
    """Batches of the files, with the columns of schema (of Arrow). keep: filters of _delta_filter.

    Rows that keep refuses may come or not: it only says which need not be read.
    """
    from skate.util.spark._delta_filter import expression

    filesystem = place.filesystem()
    for file in files:
        fragment = _format().make_fragment(file.path, filesystem=filesystem)
        there = fragment.physical_schema
        wanted = [n for n in schema.names if n not in file.partition and n in there.names]
        scanner = fragment.scanner(
            columns=wanted, filter=expression(keep or [], there),
            batch_size=1 << 16, batch_readahead=1, use_threads=False,
        )  # fmt: skip
        for batch in scanner.to_batches():
            if batch.num_rows:
                yield from _whole(batch, file, schema).to_batches()


def _format() -> Any:
    import pyarrow.dataset as ds

    options = ds.ParquetReadOptions(coerce_int96_timestamp_unit="us")
    return ds.ParquetFileFormat(read_options=options)


def _whole(batch: Any, file: DataFile, schema: Any) -> Any:
    """The batch with the columns that its file has not: partition values, and later columns."""
    import pyarrow as pa

    columns = {}
    for field in schema:
        if field.name in file.partition:
            value = pa.scalar(file.partition[field.name], field.type)
            columns[field.name] = pa.repeat(value, batch.num_rows)
        elif field.name in batch.schema.names:
            columns[field.name] = batch.column(field.name)
        else:
            columns[field.name] = pa.nulls(batch.num_rows, field.type)
    return _blocks.conform(pa.table(columns), schema)


# ---------------------------------------------------------------------------------------- write


@dataclass(frozen=True)
class Target:
    """What is written where. schema: of Arrow, serialised. overwrite: in place of all rows.

    required: columns of the table that may hold no nulls.
    """

    place: Place
    schema: bytes
    partition_by: tuple[str, ...] = ()
    overwrite: bool = False
    required: tuple[str, ...] = ()


@dataclass(frozen=True)
class Added:
    """A file that a task wrote; the commit makes it a part of the table."""

    path: str
    size: int
    partition: dict[str, str | None]
    stats: str


def write(target: Target, batches: Iterable[Any]) -> list[Added]:
    """In a task: rows into files of about FILE_BYTES, one at least for each partition's value."""
    import pyarrow as pa

    schema = pa.ipc.read_schema(pa.py_buffer(target.schema))
    handler = target.place.handler(create=True)
    made: list[Added] = []
    try:
        for piece in _blocks.pieces(batches, FILE_BYTES):
            piece = _blocks.conform(piece, schema)
            for name in target.required:
                if piece.column(name).null_count:
                    raise ValueError(f"the table's column {name!r} may hold no nulls")
            for values, table in split(piece, target.partition_by):
                made.append(_write_file(handler, values, table))
    except BaseException:
        _remove(target.place, made)
        raise
    return made


def split(table: Any, keys: tuple[str, ...]) -> Iterator[tuple[dict[str, str | None], Any]]:
    """The rows of each partition, without the columns that are the same in all of them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not keys:
        yield {}, table
        return
    rest = [name for name in table.column_names if name not in keys]
    places = pa.array(range(table.num_rows), pa.int64())
    grouped = table.select(list(keys)).append_column("__place", places)
    found = grouped.group_by(list(keys), use_threads=False).aggregate([("__place", "list")])
    for row in found.to_pylist():
        values = {key: text_of(row[key]) for key in keys}
        taken = pc.take(table.select(rest), pa.array(row["__place_list"], pa.int64()))
        yield values, taken


def text_of(value: Any) -> str | None:
    """A partition's value as Delta writes it. TypeError: columns of its type make no partitions."""
    import datetime
    import decimal

    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(datetime.UTC).replace(tzinfo=None)
        return value.strftime("%Y-%m-%d %H:%M:%S.%f")
    if isinstance(value, int | str | datetime.date | decimal.Decimal):
        return str(value)
    raise TypeError(
        f"a Delta table cannot be partitioned by values like {value!r} ({type(value).__name__}): "
        "take a column of numbers, texts, dates or times"
    )


def _write_file(handler: Any, values: dict[str, str | None], table: Any) -> Added:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = "".join(
        f"{quote(k, safe='')}={NULL_PART if v is None else quote(v, safe='')}/"
        for k, v in values.items()
    )
    path = f"{folder}part-{uuid.uuid4()}-c000.snappy.parquet"
    whole = pa.BufferOutputStream()
    seen: list[Any] = []
    pq.write_table(table, whole, compression="snappy", metadata_collector=seen)
    body = whole.getvalue().to_pybytes()
    out = handler._handler.open_output_stream(path, None)
    try:
        out.write(body)
    finally:
        out.close()
    return Added(path, len(body), values, json.dumps(stats_of(seen[0], table.schema)))


def stats_of(meta: Any, schema: Any) -> dict[str, Any]:
    """What the log says of a file: rows, and bounds and nulls of its plain columns."""
    import pyarrow as pa

    nulls: dict[str, int] = {}
    low: dict[str, Any] = {}
    high: dict[str, Any] = {}
    groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
    places = {meta.schema.column(i).path: i for i in range(meta.num_columns)}
    for field in schema:
        kind = field.type
        bounded = pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_date32(kind)
        place = places.get(field.name)
        if place is None:
            continue
        found = [group.column(place).statistics for group in groups]
        if not found or any(each is None or not each.has_null_count for each in found):
            continue
        nulls[field.name] = sum(each.null_count for each in found)
        filled = [each for each in found if each.has_min_max]
        if not bounded or len(filled) < len(found):
            continue
        least, most = min(e.min for e in filled), max(e.max for e in filled)
        if pa.types.is_string(kind) and max(len(least), len(most)) > STATS_TEXT:
            continue
        plain = pa.types.is_date32(kind)
        low[field.name], high[field.name] = (str(least), str(most)) if plain else (least, most)
    return {"numRecords": meta.num_rows, "minValues": low, "maxValues": high, "nullCount": nulls}


def drop(place: Place, files: list[Added]) -> None:
    """Remove files that the table does not name; what cannot be removed is left to vacuum().

    A commit can reach the log and fail after that, at its checkpoint: then its files are rows.
    While the table cannot be opened, nothing is known and nothing removed.
    """
    with contextlib.suppress(Exception):
        named: set[str] = set()
        if files and _delta.exists(place):
            named = {file.path for file in _delta.files_of(_delta.open_table(place))}
        _remove(place, [file for file in files if file.path not in named])


def _remove(place: Place, files: list[Added]) -> None:
    """Remove files of which no commit can know."""
    handler = place.handler()
    for file in files:
        with contextlib.suppress(Exception):
            handler.delete_file(file.path)


# --------------------------------------------------------------------------------------- commit


def plain(schema: Any) -> Any:
    """The schema of a new table: any column may hold nulls, as Delta's own format has it."""
    import pyarrow as pa

    return pa.schema([field.with_nullable(True).remove_metadata() for field in schema])


def checked(target: Target) -> Target:
    """Before a task writes: the target, with what the table that is there says of it.

    ValueError: it has other columns, or other partitions. NotSupportedError: see check_writable.
    """
    import pyarrow as pa

    schema = pa.ipc.read_schema(pa.py_buffer(target.schema))
    missing = [name for name in target.partition_by if name not in schema.names]
    if missing:
        raise ValueError(f"partitionBy names {missing[0]!r}, which is no column of the DataFrame")
    if target.partition_by and len(target.partition_by) == len(schema):
        raise ValueError("partitionBy names all columns: nothing would be left for the files")
    if not _delta.exists(target.place):
        return target
    table = _delta.open_table(target.place)
    _check_table(target, table)
    required = tuple(field.name for field in _delta.arrow_schema(table) if not field.nullable)
    keys = tuple(table.metadata().partition_columns)
    return dataclasses.replace(target, partition_by=keys, required=required)


def _check_table(target: Target, table: Any) -> None:
    import pyarrow as pa

    _delta.check_writable(table)
    schema = pa.ipc.read_schema(pa.py_buffer(target.schema))
    there = _delta.arrow_schema(table)
    wrong = [
        f"{name}: {_kind(there, name)} in the table, {_kind(schema, name)} here"
        for name in dict.fromkeys([*there.names, *schema.names])
        if _kind(there, name) != _kind(schema, name)
    ]
    if wrong:
        raise ValueError(
            f"the Delta table at {target.place.path} has other columns than what is written "
            f"({'; '.join(wrong)}): select and cast the DataFrame's columns to the table's, or "
            "change the table first (deltalake: DeltaTable.alter.add_columns)."
        )
    if target.overwrite and table.metadata().configuration.get("delta.appendOnly") == "true":
        raise ValueError(
            f"the Delta table at {target.place.path} only takes appends (delta.appendOnly)"
        )
    keys = tuple(table.metadata().partition_columns)
    if target.partition_by and target.partition_by != keys:
        raise ValueError(
            f"the Delta table at {target.place.path} is partitioned by {', '.join(keys) or 'none'},"
            f" not by {', '.join(target.partition_by)}: leave partitionBy out, or write elsewhere."
        )


def _kind(schema: Any, name: str) -> str:
    place = schema.get_field_index(name)
    return "nothing" if place < 0 else str(schema.field(place).type)


def commit(target: Target, files: list[Added], once: tuple[str, int] | None = None) -> bool:
    """Make the files a part of the table, in one version. False: `once` was committed before.

    once: (application, number), Delta's transaction id. Another writer's commit in between is no
    reason to fail, unless it changed the table's columns. Nor is a checkpoint that failed: the next
    one makes up for it, and the rows are in the table.
    """
    deltalake = _delta.package()
    for turn in range(TRIES):
        there = _delta.open_table(target.place) if _delta.exists(target.place) else None
        if there is not None:
            if once is not None and _was_committed(there, once):
                drop(target.place, files)
                return False
            _check_table(target, there)
        try:
            _commit_once(target, there, files, once)
        except Exception as error:
            if _landed(target.place, there, files):
                _LOG.warning("committed to %s in spite of: %s", target.place.path, error)
                return True
            if not isinstance(error, deltalake.exceptions.DeltaError):
                raise
            taken = there is None and _delta.exists(target.place)
            if turn + 1 == TRIES or not (taken or _newer(target.place, there)):
                raise
        else:
            return True
    return False


def _was_committed(table: Any, once: tuple[str, int]) -> bool:
    last = table.transaction_version(once[0])
    return last is not None and bool(last >= once[1])


def _landed(place: Place, before: Any, files: list[Added]) -> bool:
    """Is the commit that raised in the log all the same? before: the table that it was made for."""
    if not files or not _delta.exists(place):
        return False
    first = 0 if before is None else before.version() + 1
    return _delta.adds(place, first, _delta.open_table(place).version(), files[0].path)


def _newer(place: Place, table: Any) -> bool:
    """Did somebody else commit since?"""
    return table is not None and _delta.open_table(place).version() > table.version()


def _commit_once(target: Target, table: Any, files: list[Added], once: Any) -> None:
    deltalake = _delta.package()
    import pyarrow as pa
    from deltalake.transaction import AddAction, create_table_with_add_actions

    now = int(time.time() * 1000)
    actions = [AddAction(f.path, f.size, f.partition, now, True, f.stats) for f in files]
    properties = deltalake.CommitProperties(
        app_transactions=[deltalake.Transaction(once[0], once[1], now)] if once else None
    )
    keys = list(target.partition_by)
    if table is None:
        schema = deltalake.Schema.from_arrow(pa.ipc.read_schema(pa.py_buffer(target.schema)))
        create_table_with_add_actions(
            target.place.path, schema, actions, mode="error", partition_by=keys,
            storage_options=dict(target.place.storage) or None, commit_properties=properties,
        )  # fmt: skip
        return
    table.create_write_transaction(
        actions, "overwrite" if target.overwrite else "append", table.schema(),
        table.metadata().partition_columns, commit_properties=properties,
    )  # fmt: skip
