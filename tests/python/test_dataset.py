"""skate.data without Spark: datasets of tables and frames, steps, batches, errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import skate
from skate import data
from skate.data import _run
from skate.data._dataset import cut
from skate.exceptions import NotSupportedError


@pytest.fixture(scope="module", autouse=True)
def session(no_leaks: None) -> Iterator[None]:
    """One session for the module."""
    skate.init(num_cpus=2)
    yield
    skate.shutdown()


def table(rows: int = 10) -> pa.Table:
    """Two columns."""
    return pa.table({"n": np.arange(rows), "kind": [f"k{i % 3}" for i in range(rows)]})


def test_of_a_table() -> None:
    ds = data.from_arrow(table(), override_num_blocks=3)
    assert (ds.count(), ds.num_blocks()) == (10, 3)
    assert ds.columns() == ["n", "kind"] and ds.schema().types == [pa.int64(), pa.string()]
    assert ds.take(4) == table().slice(0, 4).to_pylist()
    assert ds.take_all() == list(ds.iter_rows()) == table().to_pylist()
    assert ds.to_arrow() == table()
    assert ds.to_pandas().equals(table().to_pandas())
    assert "num_rows=10" in repr(ds) and "int64" in repr(ds.schema())
    assert ds.size_bytes() > 80 and bool(ds)


def test_of_refs_and_frames() -> None:
    frame = pd.DataFrame({"a": [1.5, 2.5], "b": ["x", "y"]}, index=[7, 8])
    for ds in (data.from_pandas([frame, frame]), data.from_pandas_refs([skate.put(frame)] * 2)):
        assert ds.count() == 4 and ds.columns() == ["a", "b"]
        assert ds.to_pandas()["a"].tolist() == [1.5, 2.5, 1.5, 2.5]
    ref = skate.put(table())
    ds = data.from_arrow_refs([ref])
    assert ds.to_arrow_refs() == [ref], "a block is the very object"
    assert [f.shape for f in skate.get(ds.to_pandas_refs())] == [(10, 2)]


def test_batches_are_views() -> None:
    ds = data.from_arrow(pa.table({"x": np.arange(100_000.0)}))
    [batch] = ds.iter_batches(batch_size=None)
    again = next(iter(ds.iter_batches(batch_size=None)))
    assert batch["x"].ctypes.data == again["x"].ctypes.data, "both lie where the object does"
    assert not batch["x"].flags.writeable


@pytest.mark.parametrize(
    ("size", "drop", "lengths"),
    [(4, False, [4, 4, 2]), (4, True, [4, 4]), (100, False, [10]), (None, False, [3, 3, 4]),
     (1, False, [1] * 10)],
)  # fmt: skip
def test_batches_over_blocks(size: Any, drop: bool, lengths: list[int]) -> None:
    ds = data.from_arrow(table(), override_num_blocks=3)
    batches = list(ds.iter_batches(batch_size=size, batch_format="pyarrow", drop_last=drop))
    assert [batch.num_rows for batch in batches] == lengths
    assert pa.concat_tables(batches)["n"].to_pylist() == list(range(sum(lengths)))


def test_cut_skips_empty_tables() -> None:
    parts = [table(0), table(3), table(0), table(2)]
    assert [part.num_rows for part in cut(iter(parts), 2, False)] == [2, 2, 1]
    assert list(cut(iter([table(0)]), None, False)) == []


def test_map_batches_in_every_format() -> None:
    ds = data.from_arrow(table(), override_num_blocks=2)

    def of_arrays(batch: dict[str, np.ndarray], add: int, times: int = 1) -> dict[str, np.ndarray]:
        return {"n": (batch["n"] + add) * times}

    def of_frames(batch: pd.DataFrame) -> pd.DataFrame:
        return batch[batch["n"] % 4 == 0]

    def of_tables(batch: pa.Table) -> Iterator[pa.Table]:
        yield batch
        yield batch.slice(0, 1)

    made = (
        ds.map_batches(of_arrays, fn_args=(1,), fn_kwargs={"times": 2}, batch_size=3)
        .map_batches(of_frames, batch_format="pandas")
        .map_batches(of_tables, batch_format="pyarrow")
    )
    assert "Unknown" in repr(made)
    values = [(n + 1) * 2 for n in range(10)]
    low = [v for v in values[:5] if v % 4 == 0]
    high = [v for v in values[5:] if v % 4 == 0]
    assert made.to_arrow()["n"].to_pylist() == [*low, low[0], *high, high[0]]
    assert made.num_blocks() == 2 and ds.count() == 10, "the first one is as it was"


def test_steps_run_once_and_only_when_wanted(tmp_path: Any) -> None:
    log = tmp_path / "runs"

    def noted(batch: dict[str, Any]) -> dict[str, Any]:
        with log.open("a") as file:
            file.write("x")
        return batch

    ds = data.from_arrow(table(), override_num_blocks=2).map_batches(noted, num_cpus=0.5)
    assert not log.exists()
    assert ds.count() == 10 and ds.take(1) and ds.materialize().count() == 10
    assert log.read_text() == "xx"


def test_a_class_is_made_once_in_each_actor() -> None:
    class Model:
        def __init__(self, base: int, scale: int = 1) -> None:
            import os

            self.base, self.scale, self.pid, self.calls = base, scale, os.getpid(), 0

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            self.calls += 1
            rows = len(batch["n"])
            return {"y": batch["n"] * self.scale + self.base, "pid": np.full(rows, self.pid),
                    "calls": np.full(rows, self.calls)}  # fmt: skip

    ds = data.from_arrow(table(), override_num_blocks=5).map_batches(
        Model, concurrency=2, num_cpus=0.5, fn_constructor_args=(100,),
        fn_constructor_kwargs={"scale": 10},
    )  # fmt: skip
    out = ds.map_batches(lambda b: {**b, "y": b["y"] + 1}).to_pandas()
    assert out["y"].tolist() == [101 + 10 * n for n in range(10)]
    assert out["pid"].nunique() <= 2 and out["calls"].max() >= 3, "instances served many blocks"


def test_a_step_that_failed_is_run_again(tmp_path: Any) -> None:
    switch = tmp_path / "fail"
    switch.touch()

    def fails(batch: dict[str, Any]) -> dict[str, Any]:
        if switch.exists():
            raise ZeroDivisionError("not yet")
        return {"n": batch["n"] * 2}

    ds = data.from_arrow(table()).map_batches(fails)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="not yet"):
            ds.count()
    switch.unlink()
    assert ds.take(2) == [{"n": 0}, {"n": 2}]


def test_so_many_tasks_at_once(tmp_path: Any) -> None:
    def alone(batch: dict[str, Any]) -> dict[str, Any]:
        mark = tmp_path / "running"
        mark.touch(exist_ok=False)  # fails when another one runs
        mark.unlink()
        return batch

    ds = data.from_arrow(table(), override_num_blocks=10)
    assert ds.map_batches(alone, concurrency=1).count() == 10


def test_tensors_and_empty_blocks() -> None:
    ds = data.from_arrow(table(6), override_num_blocks=2)
    made = ds.map_batches(lambda b: {"image": np.ones((len(b["n"]), 2, 3)) * b["n"][:, None, None]})
    batch = made.take_batch(6)
    assert batch["image"].shape == (6, 2, 3) and batch["image"][5].sum() == 30
    none = ds.map_batches(lambda t: t.slice(0, 0), batch_format="pyarrow")
    assert none.count() == 0 and none.take() == [] and none.columns() == ["n", "kind"]
    assert none.to_arrow().num_rows == 0
    with pytest.raises(ValueError, match="without rows"):
        none.take_batch()


def test_batches_that_may_be_written_to() -> None:
    def add(batch: dict[str, Any]) -> dict[str, Any]:
        batch["n"] += 1
        return batch

    ds = data.from_arrow(table().select(["n"]))
    assert ds.map_batches(add, zero_copy_batch=False).take(2) == [{"n": 1}, {"n": 2}]
    with pytest.raises(ValueError, match="read-only"):
        ds.map_batches(add).materialize()


def test_errors_say_what_to_do() -> None:
    ds = data.from_arrow(table())
    for call, error, words in (
        (lambda: ds.map_batches("no"), ValueError, "a function or a class"),
        (lambda: ds.map_batches(len, batch_size=0), ValueError, "batch_size must be"),
        (lambda: ds.map_batches(len, batch_format="csv"), ValueError, "batch_format must be one"),
        (lambda: ds.map_batches(len, concurrency=0), ValueError, "concurrency must be"),
        (lambda: ds.map_batches(len, nonsense=1), ValueError, "nonsense"),
        (lambda: ds.map_batches(Runs, concurrency=0), ValueError, "concurrency must be"),
        (lambda: ds.map_batches(lambda b: 7).count(), TypeError, "must return a dict of arrays"),
        (lambda: ds.map_batches(lambda b: {"a": [1], "b": [1, 2]}).count(), ValueError,
         "different lengths"),
        (lambda: ds.take_all(limit=3), ValueError, "more than 3 rows"),
        (lambda: len(ds), AttributeError, r"use count\(\)"),
        (lambda: iter(ds), TypeError, r"iter_rows\(\)"),
        (lambda: data.from_arrow([1]), TypeError, "pyarrow Tables, not int"),
        (lambda: data.from_arrow_refs([1]), TypeError, "must be ObjectRefs, not int"),
        (lambda: data.from_arrow(table(), override_num_blocks=0), ValueError, "an int > 0"),
    ):  # fmt: skip
        with pytest.raises(error, match=words):
            call()


class Runs:
    """A class for map_batches()."""

    def __call__(self, batch: Any) -> Any:
        return batch


def test_what_is_not_there_says_so() -> None:
    ds = data.from_arrow(table())
    with pytest.raises(NotSupportedError, match=r"Dataset.groupby .*groupBy\(\) in Spark"):
        ds.groupby("kind")
    with pytest.raises(NotSupportedError, match="Meanwhile"):
        ds.write_lance("x")
    assert not hasattr(ds, "sort")
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        ds.nonsense  # noqa: B018
    with pytest.raises(NotSupportedError, match="ray.data.read_parquet .*Meanwhile"):
        data.read_parquet  # noqa: B018
    with pytest.raises(NotSupportedError, match="local_shuffle_buffer_size .*orderBy"):
        ds.iter_batches(local_shuffle_buffer_size=3)


def test_columns_of_a_batch() -> None:
    nulls = pa.chunked_array([[1, None], [3]])
    assert np.isnan(_run.to_numpy(nulls)[1])
    words = pa.chunked_array([["a"], ["b"]])
    assert list(_run.to_numpy(words)) == ["a", "b"]
