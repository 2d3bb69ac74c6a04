"""A table of many chunks, stored as one: its columns are put together where they come to lie.

pyarrow would first copy each column into one piece, and put() copy that into the store. Here the
stream is written of a table whose columns lie in memory that nobody ever touches; in the list of
what put() is to gather, the chunks then take the place of that memory. So they are copied once.
Numbers, times, decimals and texts; columns of other types are combined by pyarrow first.
"""

from __future__ import annotations

import mmap
from typing import Any

import pyarrow as pa

from skate import _arrow, _plain

_LEAST = 256 * 1024  # smaller tables are combined by pyarrow


def laid(table: Any) -> Any:
    """What to put() for the table, whose columns then are one chunk each."""
    if all(column.num_chunks <= 1 for column in table.columns):
        return table
    if table.get_total_buffer_size() < _LEAST or not _arrow._exact(table.schema):
        return table.combine_chunks()
    joined = _Join(table)
    if joined.table is None:
        return table.combine_chunks()
    options = pa.ipc.IpcWriteOptions(allow_64bit=True)
    sink = _Sink(joined)
    with (
        pa.PythonFile(sink, "w") as file,
        pa.ipc.new_stream(file, table.schema, options=options) as writer,
    ):
        writer.write(joined.table)
    sink.flush()
    return _plain.Laid((_plain.ARROW, b"", sink.parts))


class _Sink(_arrow._Sink):
    """Takes the chunks wherever the stream has the memory that stands for them."""

    def __init__(self, joined: _Join) -> None:
        super().__init__()
        self._joined = joined

    def write(self, data: Any) -> int:
        chunks = self._joined.chunks.get(data.address) if isinstance(data, pa.Buffer) else None
        if chunks is None or len(data) != sum(map(len, chunks)):
            return super().write(data)
        for chunk in chunks:
            super().write(chunk)
        return len(data)


class _Join:
    """The table with one chunk a column, and what lies where. table: None: it cannot be."""

    def __init__(self, table: Any) -> None:
        self.chunks: dict[int, list[Any]] = {}  # address of what stands for them
        self._size = 0
        self._wanted: list[tuple[int, list[Any]]] = []  # offset in the memory, chunks
        plans = [self._plan(column) for column in table.columns]
        self._memory = pa.py_buffer(mmap.mmap(-1, max(self._size, 1)))
        for offset, chunks in self._wanted:
            self.chunks[self._memory.address + offset] = chunks
        arrays = [self._array(plan, table.num_rows) for plan in plans]
        self.table = (
            None if None in plans else pa.Table.from_arrays(arrays, schema=table.schema)
        )

    def _stand_in(self, chunks: list[Any]) -> tuple[int, int]:
        """Room for them: where it begins, and its length."""
        begin, length = self._size, sum(map(len, chunks))
        self._size = (begin + max(length, 1) + 63) // 64 * 64
        self._wanted.append((begin, chunks))
        return begin, length

    def _plan(self, column: Any) -> Any:
        """What _array() makes the column of; None: it cannot be one chunk."""
        kind = column.type
        if column.num_chunks <= 1:
            return column.combine_chunks()
        text = _text_width(kind)
        if text:
            made = _texts(column, text)
            if made is None:
                return None
            offsets, chunks = made
            return kind, _validity(column), offsets, self._stand_in(chunks)
        if not _is_plain(kind):
            return column.combine_chunks()
        width = kind.bit_width // 8
        chunks = [
            chunk.buffers()[1].slice(chunk.offset * width, len(chunk) * width)
            for chunk in column.chunks
            if len(chunk)
        ]
        return kind, _validity(column), None, self._stand_in(chunks)

    def _array(self, plan: Any, rows: int) -> Any:
        if not isinstance(plan, tuple):
            return plan
        kind, (nulls, validity), offsets, (begin, length) = plan
        data = self._memory.slice(begin, length)
        buffers = [validity, data] if offsets is None else [validity, offsets, data]
        return pa.Array.from_buffers(kind, rows, buffers, nulls)


def _is_plain(kind: Any) -> bool:
    """Is an array of it one buffer, of whole bytes for each value?"""
    types = pa.types
    return bool(
        types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
        or types.is_timestamp(kind) or types.is_date(kind) or types.is_time(kind)
        or types.is_duration(kind)
    )  # fmt: skip


def _text_width(kind: Any) -> int:
    """Bytes of an offset of texts and bytes; 0: it is neither."""
    types = pa.types
    if types.is_string(kind) or types.is_binary(kind):
        return 4
    return 8 if types.is_large_string(kind) or types.is_large_binary(kind) else 0


def _validity(column: Any) -> tuple[int, Any]:
    """How many nulls there are, and the bitmap of all chunks; None without nulls."""
    if not column.null_count:
        return 0, None
    valid = pa.concat_arrays([chunk.is_valid() for chunk in column.chunks])
    return column.null_count, valid.buffers()[1]


def _texts(column: Any, width: int) -> tuple[Any, list[Any]] | None:
    """Offsets of all chunks, and the chunks' text; None: too much for these offsets."""
    import numpy as np

    kind = np.int32 if width == 4 else np.int64
    offsets = np.zeros(len(column) + 1, kind)
    chunks = []
    row = total = 0
    for chunk in column.chunks:
        if not len(chunk):
            continue
        _, where, text = chunk.buffers()
        own = np.frombuffer(where, kind, len(chunk) + 1, chunk.offset * width)
        first, last = int(own[0]), int(own[-1])
        if total + last - first > np.iinfo(kind).max:
            return None
        offsets[row + 1 : row + len(own)] = own[1:] - first + total
        if last > first:
            chunks.append(text.slice(first, last - first))
        row += len(chunk)
        total += last - first
    return pa.py_buffer(offsets), chunks
