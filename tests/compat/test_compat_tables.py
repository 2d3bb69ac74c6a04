"""Tables, frames and arrays: of which type they come back, with which index, and who may write."""

from __future__ import annotations

import numpy as np
import pytest
from compat_target import ON_RAY, ray

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.row("14.copies")]
pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")

N = 2_000
NUMBERS = np.arange(N)


@ray.remote
def echo(x):
    return x


@ray.remote
def read(refs):
    return ray.get(refs[0])


def ways(value):
    """Through put, an argument and a result, inside of a list, and a worker's get."""
    ref = ray.put(value)
    yield ray.get(ref)
    yield ray.get(echo.remote(value))
    yield ray.get(echo.remote([value, {"x": 1}]))[0]
    yield ray.get(read.remote([ref]))


INDEXES = {
    "none": None,
    "numbers": pd.Index(NUMBERS * 2.5, name="n"),
    "texts": pd.Index([f"t{i}" for i in NUMBERS]),
    "dates": pd.date_range("2024", periods=N, freq="h", name="when"),
    "zone": pd.date_range("2024", periods=N, freq="h", tz="Europe/Zurich"),
    "kinds": pd.CategoricalIndex([f"k{i % 3}" for i in NUMBERS], ["k2", "k1", "k0"], ordered=True),
    "levels": pd.MultiIndex.from_arrays([NUMBERS % 7, NUMBERS], names=["a", None]),
    "ranges": pd.RangeIndex(10, 10 + 3 * N, 3, name="r"),
    "periods": pd.period_range("2000", periods=N, freq="D"),
    "intervals": pd.interval_range(0, N, closed="left"),
    "nullable": pd.Index(pd.array(NUMBERS, "Int32")),
    "arrow": pd.Index(pd.array(NUMBERS, "int64[pyarrow]")),
}


@pytest.mark.parametrize("name", INDEXES)
def test_indexes_come_back(name):
    frame = pd.DataFrame({"x": NUMBERS, "y": NUMBERS / 3}, index=INDEXES[name])
    frame.attrs["source"] = "mine"
    for value in (frame, frame["y"]):
        for got in ways(value):
            check = pd.testing.assert_frame_equal if value is frame else (
                pd.testing.assert_series_equal
            )
            check(got, value, check_index_type="exact", check_freq=True)
            assert type(got.index) is type(value.index) and got.index.names == value.index.names
            assert got.attrs == value.attrs


COLUMNS = {
    "str": [f"text {i}" for i in NUMBERS],
    "object": pd.Series([1, "two"] * (N // 2), dtype=object),
    "string[python]": pd.array(["a", None] * (N // 2), pd.StringDtype("python")),
    "string[pyarrow]": pd.array(["a", None] * (N // 2), pd.StringDtype("pyarrow")),
    "category": pd.Categorical([f"k{i % 9}" for i in NUMBERS], ordered=True),
    "date": np.array(NUMBERS, "M8[ms]"),
    "zone": pd.date_range("2020", periods=N, freq="min", tz="Asia/Tokyo"),
    "span": NUMBERS.astype("m8[ns]"),
    "period": pd.period_range("1900", periods=N, freq="M"),
    "Int64": pd.array([None, 2] * (N // 2), "Int64"),
    "boolean": pd.array([None, True] * (N // 2), "boolean"),
    "Float32": pd.array(NUMBERS / 2, "Float32"),
    "arrow": pd.array([[1], None] * (N // 2), pd.ArrowDtype(pa.list_(pa.int64()))),
    "decimal": pd.array([None, 1] * (N // 2), pd.ArrowDtype(pa.decimal128(9, 2))),
    "sparse": pd.arrays.SparseArray(NUMBERS % 2.0),
    "half": NUMBERS.astype("f2"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_come_back(name):
    frame = pd.DataFrame({name: COLUMNS[name], ("a", 1): NUMBERS})
    for got in ways(frame):
        pd.testing.assert_frame_equal(got, frame)
        assert got[name].dtype == frame[name].dtype
        assert type(got[name].array) is type(frame[name].array)


def test_a_frame_of_the_store_is_not_written_to():
    frame = pd.DataFrame({"x": NUMBERS, "y": NUMBERS / 3})
    got = ray.get(ray.put(frame))
    with pytest.raises(ValueError, match="read-only"):
        got.iloc[0, 0] = 5
    mine = got.copy()
    mine.iloc[0, 0] = 5
    got["x"] = 1  # a new column in place of the old one
    assert mine.iloc[0, 0] == 5 and got["x"].sum() == N and frame.iloc[0, 0] == 0


class Mine(pd.DataFrame):
    """A user's own kind of frame."""

    _metadata = ["note"]

    @property
    def _constructor(self):
        return Mine


def test_subclasses_of_frames():
    frame = Mine({"x": NUMBERS})
    frame.note = "kept"
    for got in ways(frame):
        assert type(got).__name__ == "Mine" and got.note == "kept"
        assert got["x"].sum() == NUMBERS.sum()


def arrow_values():
    table = pa.table(
        {
            "n": NUMBERS,
            "s": ["x", None] * (N // 2),
            "d": pa.array(["a", "b"] * (N // 2)).dictionary_encode(),
            "l": [[1], []] * (N // 2),
            "t": pa.array(NUMBERS, pa.timestamp("ns", "Asia/Tokyo")),
            "r": pa.array([{"a": 1, "b": None}] * N),
        },
        metadata={"who": "me"},
    )
    yield table
    yield table.combine_chunks().to_batches()[0]
    yield pa.concat_tables([table, table.slice(5, 9)])
    yield table.slice(7, 100)
    yield table["d"]
    yield table["l"].chunk(0)
    yield table["s"].chunk(0).slice(3, 5)
    yield pa.table({"n": pa.array([], pa.int8())})
    yield pa.array([1, None], pa.int16())
    yield pa.py_buffer(b"bytes" * N)


@pytest.mark.parametrize("value", list(arrow_values()), ids=lambda v: type(v).__name__)
def test_values_of_pyarrow_come_back(value):
    for got in ways(value):
        assert type(got) is type(value) and got.equals(value)
        if isinstance(value, (pa.Table, pa.RecordBatch)):
            assert got.schema.equals(value.schema, check_metadata=True)


@pytest.mark.parametrize("value", [
    pa.schema([pa.field("a", pa.int8(), False)], {"k": "v"}), pa.list_(pa.string()),
    pa.scalar(5, pa.int16()), pa.field("x", pa.timestamp("s")),
], ids=lambda v: type(v).__name__)  # fmt: skip
def test_what_describes_tables_comes_back(value):
    for got in ways(value):
        assert type(got) is type(value) and got.equals(value)


def test_values_of_polars_come_back():
    pl = pytest.importorskip("polars", reason="polars is not installed")
    frame = pl.DataFrame(
        {
            "n": NUMBERS,
            "s": ["x", None] * (N // 2),
            "c": pl.Series(["a", "b"] * (N // 2), dtype=pl.Categorical),
            "t": pl.Series(NUMBERS, dtype=pl.Datetime("us", "Asia/Tokyo")),
            "l": [[1.5], []] * (N // 2),
            "i": pl.Series(NUMBERS, dtype=pl.Int128),
        }
    )
    for part in (frame, frame.drop("i"), frame.drop("i").slice(3, 40), frame.clear()):
        for got in ways(part):
            assert type(got) is pl.DataFrame and got.schema == part.schema and got.equals(part)
    for got in ways(frame["s"]):
        assert type(got) is pl.Series and got.name == "s" and got.equals(frame["s"])
    for got in ways(frame.lazy().filter(pl.col("n") < 5).select("n")):
        assert type(got) is pl.LazyFrame and got.collect()["n"].to_list() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("array", [
    NUMBERS.astype("M8[s]"), NUMBERS[::3], np.ones((50, 60))[:, ::2], NUMBERS[::-1],
    np.zeros(N, [("a", "i1"), ("t", "M8[s]")]), np.rec.array(np.ones(N, [("a", "i4")])),
    np.ones((9, 9)).view(np.matrix), np.array(["ü", "abc"]), NUMBERS.astype(">u2"),
    np.ones((3, 4, 5)).transpose(1, 0, 2), np.asfortranarray(np.ones((40, 50))),
    np.ma.masked_less(NUMBERS, 5),
], ids=lambda a: f"{type(a).__name__} {a.dtype.str}{a.shape}")  # fmt: skip
def test_arrays_come_back(array):
    for got in ways(array):
        assert type(got) is type(array) and got.dtype == array.dtype
        assert got.shape == array.shape and np.array_equal(got, array)
        if not ON_RAY and type(array) is not np.ma.MaskedArray:
            assert not got.flags.writeable  # Ray copies these, some of them
