"""get() copies nothing: arrays of numpy and columns of pandas and pyarrow lie in the store."""

from __future__ import annotations

import gc

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from arena import all_inside, inside

import skate
from skate import _core

N = 20_000
NUMBERS = np.arange(N)


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


def places(value):
    """Addresses of all bytes of a value of numpy, pandas or pyarrow that are no Python objects."""
    if isinstance(value, np.ndarray):
        return [value.ctypes.data] if value.nbytes else []
    if isinstance(value, pa.ChunkedArray):
        return [b.address for c in value.chunks for b in c.buffers() if b is not None and b.size]
    if isinstance(value, pd.DataFrame):
        parts = [value.iloc[:, i].array for i in range(value.shape[1])] + [value.index]
    elif isinstance(value, pd.Series):
        parts = [value.array, value.index]
    elif isinstance(value, pd.RangeIndex):
        parts = []
    elif isinstance(value, pd.MultiIndex):
        parts = [*value.levels, *(np.asarray(codes) for codes in value.codes)]
    elif isinstance(value, pd.Index):
        parts = [value.array]
    elif isinstance(value, pd.Categorical):
        parts = [value.codes]  # the categories are few
    elif isinstance(value, pd.arrays.IntervalArray):
        parts = [value.left, value.right]
    elif isinstance(value, pd.arrays.SparseArray):
        parts = [value.sp_values]
    elif hasattr(value, "__arrow_array__") and hasattr(value, "_pa_array"):
        parts = [value._pa_array]
    elif hasattr(value, "_mask"):
        parts = [value._data, value._mask]
    else:
        parts = [value._ndarray]
    return [place for part in parts for place in places(part)]


ARRAYS = {
    "floats": NUMBERS / 3,
    "fortran": np.asfortranarray((NUMBERS / 3).reshape(100, 200)),
    "turned": NUMBERS.reshape(10, 20, 100).transpose(2, 0, 1),
    "dates": NUMBERS.astype("M8[s]"),
    "dates with gaps": NUMBERS.astype("M8[us]")[::3],
    "spans": NUMBERS.astype("m8[ms]").reshape(200, 100).T,
    "gaps": NUMBERS[::7],
    "backwards": NUMBERS[::-1],
    "records": np.zeros(N, [("a", "i1"), ("t", "M8[s]"), ("f", "f8")]),
    "padded": np.zeros(N, np.dtype([("a", "i1"), ("f", "f8")], align=True)),
    "texts": np.array(["a", "ü"] * N),
    "bytes": np.array([b"abc"] * N),
    "swapped": NUMBERS.astype(">i4"),
    "matrix": np.ones((100, 100)).view(np.matrix),
    "recarray": np.rec.array(np.ones(N, [("a", "i4"), ("b", "f8")])),
    "complex": NUMBERS.astype("c16"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(session, name):
    array = ARRAYS[name]
    for value, take in ((array, lambda got: got), ([array, {1}], lambda got: got[0]),
                        ({"a": {"b": array}}, lambda got: got["a"]["b"])):  # fmt: skip
        for ref in (skate.put(value), echo.remote(value)):
            got = take(skate.get(ref))
            assert type(got) is type(array) and got.dtype == array.dtype
            assert got.shape == array.shape and np.array_equal(got, array)
            assert inside(got.__array_interface__["data"][0])
            assert not got.flags.writeable
            with pytest.raises(ValueError, match="read-only"):
                got[...] = got
            with pytest.raises(ValueError, match="WRITEABLE"):
                got.flags.writeable = True
            mine = take(skate.get(ref, copy=True))
            mine[...] = mine[::-1].copy()
            assert type(mine) is type(array) and np.array_equal(mine, array[::-1])
            assert np.array_equal(got, array) and np.array_equal(take(skate.get(ref)), array)


def test_small_empty_and_odd_arrays(session):
    for array in (np.array("2020-01-01", "M8[D]"), np.zeros((0, 3), "M8[s]"), np.zeros((3, 0))[::2],
                  np.array([1, "two"], object), np.zeros(3, "V0"), np.ma.masked_equal([1, 2], 2),
                  np.zeros(4, [("o", object)]), np.float64(5), np.arange(3).astype("M8[s]")[::2],
                  np.array(["text"], np.dtypes.StringDType())):  # fmt: skip
        for got in (skate.get(skate.put(array)), skate.get(skate.put([array]))[0]):
            assert got.dtype == array.dtype and got.shape == array.shape
            assert type(got) is type(array) and np.array_equal(got, array)


def test_a_mapped_file_is_read_once(session, tmp_path):
    np.save(tmp_path / "file.npy", NUMBERS)
    array = np.load(tmp_path / "file.npy", mmap_mode="r")
    got = skate.get(skate.put(array))
    assert type(got) is np.memmap and inside(got.ctypes.data) and np.array_equal(got, NUMBERS)


def test_arrays_of_other_packages_types():
    numbers = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    array = NUMBERS.astype(numbers.bfloat16)
    got = _core.unpack(_core.pack(array))
    assert got.dtype == array.dtype and (got == array).all()


COLUMNS = {
    "int64": NUMBERS,
    "float": NUMBERS / 3,
    "bool": NUMBERS % 2 == 0,
    "complex": NUMBERS.astype("c8"),
    "str": [f"text {i}" for i in range(N)],
    "string[pyarrow]": pd.array([None, "b"] * (N // 2), "string[pyarrow]"),
    "date": pd.date_range("2020", periods=N, freq="min"),
    "zone": pd.date_range("2020", periods=N, freq="min", tz="UTC"),
    "span": pd.to_timedelta(NUMBERS, unit="s"),
    "period": pd.period_range("1900", periods=N, freq="D"),
    "interval": pd.interval_range(0, N),
    "category": pd.Categorical([f"k{i % 9}" for i in range(N)]),
    "Int64": pd.array([None, 2] * (N // 2), "Int64"),
    "boolean": pd.array([None, True] * (N // 2), "boolean"),
    "Float64": pd.array(NUMBERS / 2, "Float64"),
    "int64[pyarrow]": pd.array(NUMBERS, "int64[pyarrow]"),
    "list[pyarrow]": pd.array([[1], None] * (N // 2), pd.ArrowDtype(pa.list_(pa.int64()))),
    "zone[pyarrow]": pd.array(NUMBERS, pd.ArrowDtype(pa.timestamp("us", "UTC"))),
    "sparse": pd.arrays.SparseArray(NUMBERS % 2.0),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_series(session, name):
    series = pd.Series(COLUMNS[name], name=name)
    for ref in (skate.put(series), echo.remote([series, {1}])):
        got = skate.get(ref)
        got = got[0] if isinstance(got, list) else got
        pd.testing.assert_series_equal(got, series)
        assert all_inside(places(got))


def test_frames(session):
    frame = pd.DataFrame(COLUMNS)
    got = skate.get(skate.put(frame))
    pd.testing.assert_frame_equal(got, frame)
    assert all_inside(places(got))
    with pytest.raises(ValueError, match="read-only"):
        got.iloc[0, 0] = 5
    mine = skate.get(skate.put(frame), copy=True)
    mine.iloc[0, 0] = 5
    mine.iloc[1, 1] = 5.0
    assert (mine.iloc[0, 0], mine.iloc[1, 1], got.iloc[0, 0]) == (5, 5.0, 0)


@pytest.mark.parametrize("index", ["date", "str", "category", "float", "zone", "Int64", "interval"])
def test_indexes(session, index):
    frame = pd.DataFrame({"n": NUMBERS}, index=pd.Index(COLUMNS[index], name=index))
    got = skate.get(skate.put(frame))
    pd.testing.assert_frame_equal(got, frame)
    assert all_inside(places(got))


def test_indexes_of_several_levels_and_parts_of_frames(session):
    frame = pd.DataFrame(COLUMNS)
    for part in (frame.set_index(["category", "int64"])[["float"]],
                 frame[["int64", "float"]].iloc[100:9_000], frame[["int64", "date"]].iloc[::2],
                 frame[["int64"]].T.iloc[:, 5_000:5_003], frame.iloc[:, ::-1]):  # fmt: skip
        got = skate.get(skate.put(part))
        pd.testing.assert_frame_equal(got, part)
        assert part.size < 10 or all_inside(places(got))


def test_arrays_and_buffers_of_arrow(session):
    chunked = pa.chunked_array([[1, None] * N, [3] * N])
    for value in (chunked, chunked.chunk(0), pa.array(["a", None] * N), pa.py_buffer(b"ab" * N),
                  pa.array(["x", "y"] * N).dictionary_encode(),
                  pa.array(["long enough to lie outside"] * N, pa.string_view())):  # fmt: skip
        for got in (skate.get(skate.put(value)), skate.get(echo.remote({"a": [value]}))["a"][0]):
            assert type(got) is type(value) and got.equals(value)
            buffers = [got] if isinstance(got, pa.Buffer) else [
                b for c in getattr(got, "chunks", [got]) for b in c.buffers() if b is not None
            ]  # fmt: skip
            assert all_inside([b.address for b in buffers])
            assert not any(b.is_mutable for b in buffers)


def test_a_view_keeps_what_it_shows(session):
    frame = skate.get(skate.put(pd.DataFrame({"d": COLUMNS["date"]})))
    dates = skate.get(skate.put([ARRAYS["dates"]]))[0][5:]
    for _ in range(20):
        gc.collect()
        skate.put(np.zeros(100_000))
    assert (frame["d"] == COLUMNS["date"]).all() and (dates == ARRAYS["dates"][5:]).all()


def test_torch_tensors_are_private_views(session):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    tensor = torch.arange(N * 10)
    ref = skate.put({"t": tensor})
    mine = skate.get(ref)["t"]
    mine[0] = 7
    assert torch.equal(skate.get(ref)["t"], tensor) and mine[0] == 7
