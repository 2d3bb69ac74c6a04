"""Tables without pyarrow: an object that polars, DuckDB and others read where the bytes lie."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from skate import _core

TABLE = pa.table(
    {
        "n": np.arange(5_000),
        "s": pa.array([f"text {i}" if i % 3 else None for i in range(5_000)]),
        "v": pa.array([f"a longer text {i}" for i in range(5_000)], pa.string_view()),
        "d": pa.array([f"k{i % 4}" for i in range(5_000)]).dictionary_encode(),
        "l": pa.array([[i, None] for i in range(5_000)]),
    }
)


def ipc(table):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)
    return sink.getvalue()


def test_libraries_read_it_as_often_as_they_like():
    stream = _core.arrow_stream(ipc(TABLE))
    assert "__arrow_c_stream__" in repr(stream) and "bytes" in repr(stream)
    for _ in range(3):
        assert pa.table(stream) == TABLE
        assert pl.DataFrame(stream).equals(pl.from_arrow(TABLE))
    assert pa.schema(stream) == TABLE.schema
    pa.table(stream).validate(full=True)
    assert stream.__arrow_c_stream__(requested_schema=stream.__arrow_c_schema__())
    [total] = duckdb.from_arrow(pa.RecordBatchReader.from_stream(stream)).sum("n").fetchall()
    assert total == (sum(range(5_000)),)
    stream.__arrow_c_stream__()  # nobody takes what is in it
    stream.__arrow_c_schema__()


def is_held(data):
    """May it not be moved?"""
    try:
        data.append(0)
    except BufferError:
        return True
    data.pop()
    return False


def test_the_bytes_are_held_as_long_as_somebody_reads_them():
    data = bytearray(ipc(TABLE))
    stream = _core.arrow_stream(data)
    assert not is_held(data)
    batch = pa.RecordBatchReader.from_stream(stream).read_next_batch()
    column = batch.column(2).slice(100, 5)
    del batch, stream
    gc.collect()
    assert is_held(data) and column.to_pylist() == TABLE["v"].slice(100, 5).to_pylist()
    kept = [column]
    del column
    thread = threading.Thread(target=kept.clear)  # the last of it goes elsewhere
    thread.start()
    thread.join()
    assert not is_held(data)
    capsule = _core.arrow_stream(data).__arrow_c_stream__()
    assert is_held(data)
    del capsule
    assert not is_held(data)


def test_what_is_refused():
    for data in (b"", b"no stream at all, but long enough", bytes(ipc(TABLE))[:64]):
        copy = bytearray(data)
        with pytest.raises(ValueError, match="Arrow stream"):
            _core.arrow_stream(copy)
        assert not is_held(copy)
    odd = pa.table({"u": pa.RunEndEncodedArray.from_arrays([2], ["x"])})
    with pytest.raises(NotImplementedError, match="'u'.*run-end encoded"):
        _core.arrow_stream(ipc(odd))
    with pytest.raises(TypeError):
        _core.arrow_stream(5)


PROGRAM = """
import sys
sys.modules["pyarrow"] = None
import polars as pl
import skate
from skate import _plain
from arena import inside

data = sys.stdin.buffer.read()
skate.init(num_cpus=1)

@skate.remote
def heights(stored):
    return pl.DataFrame(stored).height

ref = skate.put(_plain.Laid((_plain.ARROW, b"", data)))
stored = skate.get(ref)
frame = pl.DataFrame(stored)
print(type(stored).__name__, frame["n"].sum(), inside(frame["n"].to_numpy().ctypes.data))
print(skate.get(heights.remote(ref)), frame["v"][7])
own = pl.DataFrame({"a": [1, 2], "s": ["x", None]})
print(skate.get(skate.put(own)).equals(own), skate.get(skate.put([own["s"]]))[0].equals(own["s"]))
del ref, stored
skate.shutdown()
print(frame["n"].sum())
"""


def test_get_without_pyarrow():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=bytes(ipc(TABLE)), capture_output=True,
        timeout=100, cwd=Path(__file__).parent, env=None,
    )  # fmt: skip
    words = done.stdout.decode().split()
    total = str(sum(range(5_000)))
    assert words == [
        "ArrowStream", total, "True", "5000", "a", "longer", "text", "7", "True", "True", total
    ], done.stderr.decode()[-2000:]
