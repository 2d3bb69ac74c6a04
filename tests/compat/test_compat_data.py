"""The part of Ray Data that is here: datasets of tables and frames, map_batches, batches, rows."""

from __future__ import annotations

import numpy as np
import pytest
from compat_target import ray

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")
pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.timeout(180)]


def table(rows=10):
    return pa.table({"n": np.arange(rows), "kind": [f"k{i % 3}" for i in range(rows)]})


def parts():
    """A dataset of three blocks."""
    return ray.data.from_arrow([table().slice(0, 3), table().slice(3, 3), table().slice(6)])


def test_what_a_dataset_is():
    ds = parts()
    assert ds.count() == 10 and ds.columns() == ["n", "kind"]
    assert ds.schema().names == ["n", "kind"] and ds.schema().types == [pa.int64(), pa.string()]
    assert ds.materialize().num_blocks() == 3
    assert ds.take(2) == [{"n": 0, "kind": "k0"}, {"n": 1, "kind": "k1"}]
    assert len(ds.take()) == 10 and len(ds.take_all()) == 10
    assert [row["n"] for row in ds.iter_rows()] == list(range(10))
    with pytest.raises(ValueError):
        ds.take_all(limit=3)
    assert ds.to_pandas()["n"].tolist() == list(range(10))
    with pytest.raises(ValueError):
        ds.to_pandas(limit=3)
    with pytest.raises(AttributeError):
        len(ds)
    assert ds


def test_of_frames_and_refs():
    frame = pd.DataFrame({"a": [1.5, 2.5], "b": ["x", "y"]}, index=[7, 8])
    for ds in (ray.data.from_pandas([frame, frame]),
               ray.data.from_pandas_refs([ray.put(frame), ray.put(frame)])):  # fmt: skip
        assert ds.count() == 4 and ds.columns() == ["a", "b"]
        assert ds.to_pandas()["a"].tolist() == [1.5, 2.5, 1.5, 2.5]
    ds = ray.data.from_arrow_refs([ray.put(table()), ray.put(table())])
    assert ds.count() == 20
    assert sum(t.num_rows for t in ray.get(ds.to_arrow_refs())) == 20
    assert sum(len(f) for f in ray.get(ds.to_pandas_refs())) == 20


@pytest.mark.parametrize(
    ("options", "lengths"),
    [({"batch_size": 4}, [4, 4, 2]), ({"batch_size": 4, "drop_last": True}, [4, 4]),
     ({}, [10]), ({"batch_size": None}, [3, 3, 4])],
)  # fmt: skip
def test_batches(options, lengths):
    batches = list(parts().iter_batches(**options))
    assert [len(batch["n"]) for batch in batches] == lengths
    assert isinstance(batches[0]["n"], np.ndarray)
    assert isinstance(next(iter(parts().iter_batches(batch_format="pandas"))), pd.DataFrame)
    assert isinstance(next(iter(parts().iter_batches(batch_format="pyarrow"))), pa.Table)
    assert isinstance(parts().take_batch(3)["kind"], np.ndarray)


def test_map_batches():
    def more(batch, add, times=1):
        return {"n": (batch["n"] + add) * times}

    ds = parts().map_batches(more, fn_args=(1,), fn_kwargs={"times": 2})
    assert sorted(row["n"] for row in ds.take_all()) == [(n + 1) * 2 for n in range(10)]
    late = parts().map_batches(lambda f: f[f["n"] > 5], batch_format="pandas")
    assert late.count() == 4

    def twice(batch):
        yield batch
        yield batch

    assert parts().map_batches(twice).count() == 20
    tables = parts().map_batches(lambda t: t.slice(0, 1), batch_format="pyarrow", batch_size=None)
    assert tables.count() == 3


def test_map_batches_with_a_class():
    class Model:
        def __init__(self, base, scale=1):
            self.base, self.scale = base, scale

        def __call__(self, batch):
            return {"y": batch["n"] * self.scale + self.base}

    ds = parts().map_batches(Model, concurrency=1, num_cpus=0.5, fn_constructor_args=(100,),
                             fn_constructor_kwargs={"scale": 10})  # fmt: skip
    assert sorted(row["y"] for row in ds.take_all()) == [100 + 10 * n for n in range(10)]


def test_tensors():
    made = parts().map_batches(lambda b: {"image": np.ones((len(b["n"]), 2, 3))})
    batch = made.take_batch(10)
    assert batch["image"].shape == (10, 2, 3)


def test_errors_of_the_function():
    def fails(batch):
        raise ZeroDivisionError("oh no")

    with pytest.raises(Exception, match="oh no"):
        parts().map_batches(fails).materialize()
    with pytest.raises(ValueError, match="batch.format"):
        parts().map_batches(fails, batch_format="csv").materialize()
    with pytest.raises(Exception):  # noqa: B017
        parts().map_batches(lambda b: 7).materialize()
