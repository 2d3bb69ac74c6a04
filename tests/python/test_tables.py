"""Tables of pyarrow and polars in the store: where their columns lie, and what comes back."""

from __future__ import annotations

import ctypes
import decimal

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from arena import addresses, all_inside, inside

import skate
from skate import _core

PICKLED, ARROW = 3, 5
ROWS = 20_000


@pytest.fixture(scope="module", autouse=True)
def at_the_end():
    if skate.is_initialized():
        skate.shutdown()
    yield
    skate.shutdown()


@pytest.fixture
def session():
    """One for all tests of this file."""
    if not skate.is_initialized():
        skate.init(address="local", num_cpus=2)


@skate.remote
def echo(value):
    return value


def wide_table():
    number = np.arange(ROWS)
    return pa.table(
        {
            "n": number,
            "f": number / 3,
            "s": pa.array([None if i % 7 == 0 else f"text {i}" for i in number]),
            "v": pa.array([f"a longer text, {i}" for i in number], pa.string_view()),
            "b": pa.array([i % 3 == 0 for i in number]),
            "d": pa.array([f"kind {i % 5}" for i in number]).dictionary_encode(),
            "t": pa.array(number, pa.timestamp("us", "UTC")),
            "l": pa.array([[int(i), None] for i in number]),
            "m": pa.array([{"x": int(i), "y": "z"} for i in number]),
        }
    ).replace_schema_metadata({b"mine": b"kept"})


# polars makes columns of categories and decimals anew when it takes them from Arrow.
IN_PLACE = ["n", "b", "s", "t", "l", "m", "z"]


def polars_frame():
    number = np.arange(ROWS)
    return pl.DataFrame(
        {
            "n": number,
            "s": [None if i % 7 == 0 else f"quite a long text {i}" for i in number],
            "c": pl.Series([f"k{i % 9}" for i in number], dtype=pl.Categorical),
            "e": pl.Series(["u" if i % 2 else "v" for i in number], dtype=pl.Enum(["u", "v"])),
            "t": pl.Series(number, dtype=pl.Datetime("ms", "UTC")),
            "d": pl.Series(number, dtype=pl.Decimal(12, 2)),
            "l": pl.Series([[int(i)] for i in number]),
            "m": [{"x": int(i), "y": "z"} for i in number],
            "b": number % 3 == 0,
            "z": [b"bytes %d, more than fit into a view" % i for i in number],
        }
    )


def test_a_table_is_read_where_it_lies(session):
    table = wide_table()
    for ref in (skate.put(table), echo.remote(table), echo.remote(skate.put(table))):
        got, again = skate.get(ref), skate.get(ref)
        assert type(got) is pa.Table and got == table and got.schema.equals(table.schema, True)
        got.validate(full=True)
        assert all_inside(addresses(got)) and addresses(got) == addresses(again)
        assert not any(b.is_mutable for c in got["n"].chunks for b in c.buffers() if b)
        view = got["n"].chunk(0).to_numpy()
        assert inside(view.ctypes.data) and not view.flags.writeable
    assert _core.pack(table)[0] == ARROW


def test_a_batch_comes_back_as_a_batch(session):
    batch = wide_table().combine_chunks().to_batches()[0]
    got = skate.get(skate.put(batch))
    assert type(got) is pa.RecordBatch and got.equals(batch, check_metadata=True)
    assert all_inside(addresses(got))
    empty = batch.slice(0, 0)
    got = skate.get(skate.put(empty))
    assert type(got) is pa.RecordBatch and got.equals(empty, check_metadata=True)


def test_polars_frames(session):
    frame = polars_frame()
    for ref in (skate.put(frame), echo.remote(frame)):
        got = skate.get(ref)
        assert type(got) is pl.DataFrame and got.schema == frame.schema and got.equals(frame)
        assert all_inside(addresses(got.select(IN_PLACE)))
    assert _core.pack(frame)[0] == ARROW
    assert got.with_columns(n=pl.col("n") + 1)["n"][0] == 1  # another frame; this one stays
    assert skate.get(skate.put(frame))["n"][0] == 0
    for odd in (pl.DataFrame(), frame.clear(), pl.DataFrame({"": [1], "b": [2]}),
                pl.concat([frame, frame], rechunk=False), frame.head(3),
                frame.select("n", "s").slice(100, 50)):  # fmt: skip
        got = skate.get(skate.put(odd))
        assert got.schema == odd.schema and got.equals(odd)
    order = frame.sort("n", descending=True).select("n", pl.col("z").sort(), pl.col("l"))
    for got in (skate.get(skate.put(order)), skate.get(skate.put([order]))[0]):
        assert got.equals(order)
        for name in ("n", "z"):
            assert got[name].flags == order[name].flags and any(order[name].flags.values())


def test_polars_inside_of_other_values(session):
    frame = polars_frame()
    got = skate.get(skate.put({"frame": frame, "list": [frame["s"], frame["n"]], "n": 1}))
    assert got["frame"].equals(frame) and got["list"][0].equals(frame["s"])
    assert got["list"][1].name == "n"
    assert all_inside(addresses(got["frame"].select(IN_PLACE)))
    assert all_inside(addresses(got["list"][1].to_frame()))
    for name in frame.columns:
        series = skate.get(skate.put(frame[name]))
        assert type(series) is pl.Series and series.equals(frame[name], check_names=True)
        assert series.dtype == frame[name].dtype
        assert name not in IN_PLACE or all_inside(addresses(series.to_frame()))


def test_what_arrow_has_not_is_pickled(session):
    class Other:
        pass

    other = Other()
    frame = pl.DataFrame({"o": pl.Series([1, 2], dtype=pl.Int128)})
    assert _core.pack(frame)[0] == PICKLED and skate.get(skate.put(frame)).equals(frame)
    with pytest.raises(BaseException, match="(?i)object|pickl"):
        skate.put(pl.DataFrame({"o": pl.Series([other], dtype=pl.Object)}))
    lazy = polars_frame().lazy().select("n")
    assert skate.get(skate.put(lazy)).collect().equals(polars_frame().select("n"))


class Celsius(pa.ExtensionType):
    def __init__(self):
        super().__init__(pa.float64(), "tests.celsius")

    def __arrow_ext_serialize__(self):
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage, serialized):
        return cls()

    def __reduce__(self):
        return Celsius, ()


def test_extension_types(session):
    storage = pa.array(np.arange(20_000.0))
    table = pa.table({"c": pa.ExtensionArray.from_storage(Celsius(), storage)})
    for nested in (table, pa.table({"l": pa.ListArray.from_arrays([0, 9], table["c"].chunk(0))})):
        assert _core.pack(nested)[0] == PICKLED  # its class may be unknown where it is read
        assert skate.get(skate.put(nested)).schema == nested.schema
    assert all_inside(addresses(skate.get(skate.put(table))))
    uuids = pa.table({"u": pa.array([bytes(16)] * 9, pa.uuid())})
    assert _core.pack(uuids)[0] == ARROW
    assert skate.get(skate.put(uuids)).schema == uuids.schema


def test_tables_of_odd_kinds(session):
    twice = pa.concat_tables([
        pa.table({"d": pa.array(["a", "b"]).dictionary_encode()}),
        pa.table({"d": pa.array(["c", "a"]).dictionary_encode()}),
    ])  # fmt: skip
    nested = pa.DictionaryArray.from_arrays(pa.array([0, 1]), twice["d"].chunk(0))
    base = wide_table()
    for table in (
        twice, pa.table({"x": nested}), pa.table({}), base.slice(0, 0),
        pa.table([pa.array([1]), pa.array([2])], names=["same", "same"]),
        pa.table({"x": pa.array([None, None])}), pa.table({"x": pa.chunked_array([], pa.int8())}),
        pa.table({"x": pa.array([decimal.Decimal("1.5")])}),
        pa.table({"x": pa.UnionArray.from_dense(
            pa.array([0, 1], pa.int8()), pa.array([0, 0], pa.int32()),
            [pa.array([1]), pa.array(["s"])])}),
        pa.table({"x": pa.RunEndEncodedArray.from_arrays([2, 3], [1, None])}),
        pa.table({"x": pa.array([1])}, metadata={"skate.type": "something of somebody's"}),
        pa.table({"x": pa.array([1])}, metadata={"skate.type": '{"kind": "polars.DataFrame"}'}),
        pa.table({"x": [1]}, schema=pa.schema([pa.field("x", pa.int8(), False, {"k": "v"})])),
    ):  # fmt: skip
        got = skate.get(skate.put(table))
        assert type(got) is pa.Table and got.num_rows == table.num_rows
        assert got.schema.equals(table.schema, check_metadata=True) and got.equals(table)


def test_a_slice_takes_its_own_rows_along():
    table, frame = wide_table().drop_columns("v"), polars_frame()
    for value in (table.slice(5, 10), table.to_batches()[0].slice(5, 10), frame.slice(5, 10)):
        assert len(_core.pack(value)) < 20_000
        assert _core.unpack(_core.pack(value)).equals(value)
    for value in (table["n"].slice(5, 10), table["s"].chunk(0).slice(9, 3), table.slice(5, 10),
                  table["d"].slice(7, 30), frame["s"].slice(5, 10)):  # fmt: skip
        packed = _core.pack([value])
        assert len(packed) < 40_000
        [got] = _core.unpack(packed)
        assert type(got) is type(value) and got.equals(value)


def test_duckdb_and_polars_read_it_where_it_lies(session):
    stored = skate.get(skate.put(wide_table()))
    frame = pl.from_arrow(stored.select(["n", "f", "v"]))
    assert all_inside(addresses(frame))
    assert duckdb.sql("select sum(n), count(s) from stored").fetchall() == [
        (ROWS * (ROWS - 1) // 2, ROWS - (ROWS + 6) // 7)
    ]
    frame = skate.get(skate.put(polars_frame()))
    assert duckdb.sql("select max(n) from frame").fetchall() == [(ROWS - 1,)]


def test_a_private_copy_of_a_table_may_be_written_to(session):
    table = wide_table()
    ref = skate.put(table)
    mine = skate.get(ref, copy=True)
    buffer = mine["n"].chunk(0).buffers()[1]
    assert mine == table and not inside(buffer.address)
    (ctypes.c_int64 * 1).from_address(buffer.address)[0] = 77  # pyarrow itself never writes
    assert mine["n"][0].as_py() == 77 and skate.get(ref) == table


def test_it_outlives_its_ref_and_its_session(session):
    table, frame = wide_table(), polars_frame()
    got, other = skate.get(skate.put(table)), skate.get(skate.put(frame))
    for _ in range(5):
        skate.put(np.zeros(1_000_000))
    assert got == table
    skate.shutdown()
    assert got == table and other.equals(frame)


def test_a_registered_serializer_goes_first(session):
    skate.util.register_serializer(pa.Table, serializer=len, deserializer=str)
    try:
        assert skate.get(skate.put(pa.table({"a": [1, 2]}))) == "2"
    finally:
        skate.util.deregister_serializer(pa.Table)
    assert skate.get(skate.put(pa.table({"a": [1]}))) == pa.table({"a": [1]})
