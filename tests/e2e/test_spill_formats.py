"""Values of every form leave memory and come back; what somebody looks at stays."""

import gc

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import skate as ray

MB = 1 << 20
N = MB // 4  # elements of 8 bytes: 2 MB


def _numbers(i):
    return np.arange(i, i + N)


def _table(i):
    text = pa.array([f"text {i}", None, "a longer one, of many"] * (N // 12), pa.string_view())
    return pa.table({"n": _numbers(i)[: len(text)], "s": text, "d": text.cast("string")})


FORMS = {
    "numbers": _numbers,
    "dates": lambda i: _numbers(i).astype("M8[s]"),
    "turned": lambda i: np.asfortranarray(_numbers(i).reshape(512, -1)),
    "inside": lambda i: {"a": [_numbers(i), {i}], "b": _table(i)},
    "bytes": lambda i: bytes([i]) * (2 * MB),
    "table": _table,
    "batch": lambda i: _table(i).combine_chunks().to_batches()[0],
    "polars": lambda i: pl.DataFrame({"n": _numbers(i), "s": [f"row {i}", None] * (N // 2)}),
    "pandas": lambda i: pd.DataFrame({"n": _numbers(i), "t": _numbers(i).astype("M8[s]")}),
}


def _same(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert np.array_equal(one["a"][0], other["a"][0]) and one["b"] == other["b"]
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype and np.array_equal(one, other)
    elif isinstance(one, bytes):
        assert one == other
    else:
        assert one.equals(other)


@pytest.fixture(scope="module")
def small_store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spilled")
    ray.init(num_cpus=2, object_store_memory=64 * MB, object_spilling_directory=str(folder))
    yield folder
    ray.shutdown()


def test_every_form_comes_back(small_store):
    values = {form: make(3) for form, make in FORMS.items()}
    refs = [(form, ray.put(value)) for _ in range(5) for form, value in values.items()]
    assert sum(file.stat().st_size for file in small_store.rglob("*") if file.is_file()) > 16 * MB
    for form, ref in refs:  # the longest stored are the first to have gone
        _same(ray.get(ref), values[form])
    many = ray.get([ref for form, ref in refs if form == "table"], copy=True)
    assert len(many) == 5 and all(table == values["table"] for table in many)


@ray.remote
def push(times):
    """Fill the store from elsewhere."""
    refs = [ray.put(np.full(N, i)) for i in range(times)]
    return sum(int(ray.get(ref)[0]) for ref in refs)


def test_what_is_looked_at_stays(small_store):
    """Whole values, parts of them, and private copies, some pages of which were written to."""
    shown = {form: ray.get(ray.put(make(3))) for form, make in FORMS.items()}
    ref = ray.put(_numbers(5))
    untouched, mine = ray.get(ref, copy=True), ray.get(ref, copy=True)
    mine[::4096] = -1
    part = ray.get(ray.put(_table(6)))["s"].chunk(0).slice(N // 8, 9)
    words = part.to_pylist()
    column = ray.get(ray.put(FORMS["polars"](7)))["n"]
    series = ray.get(ray.put(FORMS["pandas"](8)))["t"]
    private = ray.get(ray.put(FORMS["pandas"](9)), copy=True)
    private.iloc[0, 0] = -5
    del ref
    gc.collect()
    assert ray.get(push.remote(30)) == sum(range(30))
    own = [ray.put(np.full(N, i)) for i in range(30)]
    for form, value in shown.items():
        _same(value, FORMS[form](3))
    assert np.array_equal(untouched, _numbers(5))
    assert (mine[::4096] == -1).all() and np.array_equal(mine[1::4096], _numbers(5)[1::4096])
    assert part.to_pylist() == words and column.equals(pl.Series("n", _numbers(7)))
    assert (series.to_numpy() == _numbers(8).astype("M8[s]")).all()
    assert private.iloc[0, 0] == -5 and private["n"].iloc[1:].sum() == _numbers(9)[1:].sum()
    assert [int(ray.get(ref)[0]) for ref in own] == list(range(30))
