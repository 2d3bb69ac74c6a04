"""Tables of pyarrow and polars: stored as Arrow IPC streams, read in place (docs/objects.md).

What is stored of a pyarrow.Table, a pyarrow.RecordBatch or a polars.DataFrame is an IPC stream that
every language reads; of which type it was stands in the schema's metadata, and is taken out again
by read(). What a stream cannot hold exactly is pickled, and reduce() sees to it that no column is
copied on the way. Imported by _serialize and _plain when there is such a value; imports pyarrow,
and polars when the value is of polars.
"""

from __future__ import annotations

import json
import pickle
import sys
from typing import Any

import pyarrow as pa

from skate import _plain

TAG = b"skate.type"
BATCH, FRAME = "pyarrow.RecordBatch", "polars.DataFrame"
_WHOLE = 64 * 1024  # smaller streams are one buffer: gathering costs more than copying
_SMALL = 4096
# Extension types that every pyarrow knows: their arrays come back as what they were.
_CANONICAL = tuple(
    getattr(pa, name)
    for name in ("UuidType", "JsonType", "Bool8Type", "FixedShapeTensorType", "OpaqueType")
    if hasattr(pa, name)
)


# ------------------------------------------------------------------------------ tables to streams


class _Sink:
    """A file for pyarrow's writer: buffers of columns are kept as they are, not copied."""

    closed = False

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self._small = bytearray()

    def write(self, data: Any) -> int:
        size = len(data)
        if size < _SMALL:
            self._small += data
        else:
            self.flush()
            self.parts.append(data)
        return size

    def flush(self) -> None:
        if self._small:
            self.parts.append(self._small)
            self._small = bytearray()

    def close(self) -> None:
        self.flush()

    def writable(self) -> bool:
        return True


def stream(table: Any, schema: Any) -> list[Any]:
    """The buffers that make up an IPC stream of a Table or RecordBatch."""
    options = pa.ipc.IpcWriteOptions(allow_64bit=True)
    if table.get_total_buffer_size() <= _WHOLE:
        whole = pa.BufferOutputStream()
        with pa.ipc.new_stream(whole, schema, options=options) as writer:
            writer.write(table)
        return [whole.getvalue()]
    sink = _Sink()
    with (
        pa.PythonFile(sink, "w") as file,
        pa.ipc.new_stream(file, schema, options=options) as writer,
    ):
        writer.write(table)
    sink.flush()
    return sink.parts


def lay_out(obj: Any) -> _plain.Laid | None:
    """The value as put() and results store it. None: pickle it."""
    kind = type(obj)
    if kind is pa.Table:
        tag, table = None, obj
    elif kind is pa.RecordBatch:
        tag, table = {"kind": BATCH}, obj
    elif _is_polars(kind, "DataFrame"):
        table = _table_of_frame(obj)
        tag = {"kind": FRAME, "sorted": _sorted_columns(obj)}
    else:
        return None
    schema = table.schema if table is not None else None
    if schema is None or not schema.names or not _exact(schema):
        return None
    metadata = schema.metadata or {}
    if TAG in metadata:
        return None
    if tag is not None:
        schema = schema.with_metadata({**metadata, TAG: json.dumps(tag)})
    try:
        return _plain.Laid((_plain.ARROW, b"", stream(table, schema)))
    except pa.ArrowException:  # of a form that streams have not
        return None


def plain_form(obj: Any) -> _plain.Laid | None:
    """The value for another language: a stream, whatever Python loses by it. None: it is no table.

    Raises pyarrow.ArrowException for what no stream holds.
    """
    kind = type(obj)
    if _is_polars(kind, "DataFrame"):
        obj = _table_of_frame(obj)
    elif not isinstance(obj, (pa.Table, pa.RecordBatch)):
        return None
    return None if obj is None else _plain.Laid((_plain.ARROW, b"", stream(obj, obj.schema)))


def _exact(schema: Any) -> bool:
    """Does a stream keep all of its types?"""
    return all(_exact_type(kind) for kind in schema.types)


def _exact_type(kind: Any) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return isinstance(kind, _CANONICAL)
    if isinstance(kind, pa.DictionaryType):
        return _exact_type(kind.value_type) and not isinstance(kind.value_type, pa.DictionaryType)
    return all(_exact_type(kind.field(i).type) for i in range(kind.num_fields))


# ----------------------------------------------------------------------------- streams to tables


def read(data: Any) -> Any:
    """The table, batch or frame whose columns lie where the bytes do.

    Raises pyarrow.ArrowInvalid when they are no stream, ImportError when polars is missing.
    """
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        metadata = reader.schema.metadata or {}
        tag = _tag(metadata.get(TAG))
        kind = tag.get("kind")
        if kind not in (BATCH, FRAME):
            return reader.read_all()
        rest = {key: value for key, value in metadata.items() if key != TAG} or None
        if kind == BATCH:
            return reader.read_next_batch().replace_schema_metadata(rest)
        return frame(reader.read_all().replace_schema_metadata(rest), tag.get("sorted"))


def _tag(text: bytes | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        tag = json.loads(text)
    except ValueError:
        return {}  # somebody else's
    return tag if isinstance(tag, dict) else {}


# --------------------------------------------------------------------------------------- polars


def _is_polars(kind: type, name: str) -> bool:
    polars = sys.modules.get("polars")
    return polars is not None and kind is getattr(polars, name, None)


_same: dict[Any, bool] = {}  # data types of polars: do they come back from Arrow as they were?
_SAME_MOST = 4096
# Others (objects, integers of 128 bits) are not even tried: some polars end the process then.
_TRIED = frozenset(
    ("Boolean", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64",
     "Float32", "Float64", "String", "Utf8", "Binary", "Categorical", "Enum", "Decimal", "Date",
     "Time", "Datetime", "Duration", "List", "Array", "Struct", "Null")
)  # fmt: skip


def _may_be_tried(dtype: Any) -> bool:
    if dtype.base_type().__name__ not in _TRIED:
        return False
    inner = [field.dtype for field in getattr(dtype, "fields", ())]
    if hasattr(dtype, "inner"):
        inner.append(dtype.inner)
    return all(map(_may_be_tried, inner))


def _comes_back(dtype: Any) -> bool:
    known = _same.get(dtype)
    if known is None and not _may_be_tried(dtype):
        known = _same[dtype] = False
    if known is None:
        polars = sys.modules["polars"]
        empty = polars.DataFrame({"c": polars.Series([], dtype=dtype)})
        try:
            table = pa.RecordBatchReader.from_stream(empty).read_all()
            known = polars.from_arrow(table).schema == empty.schema
        except (Exception, _panic(polars)):  # a type that one of both has not
            known = False
        if len(_same) >= _SAME_MOST:
            _same.clear()
        _same[dtype] = known
    return known


def _panic(polars: Any) -> type[BaseException]:
    """What polars raises of a defect of its own; no Exception."""
    made: type[BaseException] = getattr(polars.exceptions, "PanicException", Exception)
    return made


def _table_of_frame(frame_: Any) -> Any:
    """A pyarrow.Table of its columns where they lie; None: what would come back is not the same."""
    polars = sys.modules["polars"]
    if "" in frame_.columns or not all(map(_comes_back, set(frame_.dtypes))):
        return None
    try:
        table = pa.RecordBatchReader.from_stream(frame_).read_all()
        own = frame_.estimated_size() + 16 * frame_.height * frame_.width
        if table.get_total_buffer_size() > 2 * own + _WHOLE:
            # A few rows of many, all of whose strings would come along.
            table = frame_.to_arrow(compat_level=polars.CompatLevel.oldest())
        return table
    except (Exception, _panic(polars)):
        return None


class _Columns:
    """A table that shows no more than this, so that polars takes it at once, not by column."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._table.__arrow_c_stream__(requested_schema)


def _sorted_columns(frame_: Any) -> dict[str, bool]:
    """What polars knows of the order of columns: name to whether it falls."""
    known = {}
    for column in frame_.get_columns():
        flags = column.flags
        if flags.get("SORTED_ASC") or flags.get("SORTED_DESC"):
            known[column.name] = bool(flags.get("SORTED_DESC"))
    return known


def frame(table: Any, sorted_columns: Any = None) -> Any:
    """A polars.DataFrame of the table's columns where they lie."""
    polars = _plain.need("polars", "a polars.DataFrame")
    made = polars.DataFrame(_Columns(table))
    if not sorted_columns:
        return made
    try:
        known = [made[name].set_sorted(descending=falls) for name, falls in sorted_columns.items()]
        return made.with_columns(known)
    except polars.exceptions.PolarsError:  # of a type that takes no such hint
        return made


def series(table: Any, name: str, sorted_columns: Any) -> Any:
    """A polars.Series of the table's only column."""
    return frame(table, sorted_columns).to_series().alias(name)


# ------------------------------------------------------------------- inside of what is pickled


def reduce(obj: Any) -> tuple[Any, ...] | None:
    """How to pickle a frame, series, array without a copy of its columns; None: as it knows."""
    kind = type(obj)
    if _is_polars(kind, "DataFrame"):
        table = _table_of_frame(obj)
        return None if table is None else (frame, (table, _sorted_columns(obj)))
    if _is_polars(kind, "Series"):
        whole = obj.alias("c").to_frame()
        table = _table_of_frame(whole)
        if table is None:
            return None
        return series, (table, obj.name, _sorted_columns(whole))
    if isinstance(obj, pa.Array):
        return _reduce_array(obj)
    return None


def _reduce_array(array: Any) -> tuple[Any, ...] | None:
    """An array that is part of a larger one: pyarrow would pickle the larger one."""
    try:
        part = array.get_total_buffer_size() > 2 * array.nbytes + _SMALL
        if not part or not _exact_type(array.type):
            return None
        batch = pa.RecordBatch.from_arrays([array], [""])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write(batch)
    except pa.ArrowException:  # of a type that this pyarrow cannot measure or write
        return None
    return array_of, (pickle.PickleBuffer(sink.getvalue()),)


def array_of(data: Any) -> Any:
    """The array that is the only column of a stream of one batch."""
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        return reader.read_next_batch().column(0)
