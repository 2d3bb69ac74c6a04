"""Arrow tables and actor handles between Python and C; the example arrow_aggregation.c."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import skate
from skate._cross import Spawned
from skate.cross_language import c_actor_class, c_function, plain, put

ROOT = Path(__file__).parents[2]
PACKAGE = Path(skate.__file__).parent
EXAMPLE = ROOT / "examples" / "c" / "arrow_aggregation.c"
SOURCE = Path(__file__).with_name("arrow_tasks.c")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's program and library, and the tasks of this test, each with one line of cc."""
    folder = tmp_path_factory.mktemp("c_arrow")
    env = {**os.environ, "PKG_CONFIG_PATH": str(PACKAGE / "lib" / "pkgconfig")}
    flags = "-O1 -Wall -Wextra -Werror"
    for line in (
        f"cc {flags} -o arrow_aggregation {EXAMPLE} $(pkg-config --cflags --libs skate)",
        f"cc {flags} -shared -fPIC -o arrow_aggregation.so {EXAMPLE} "
        "$(pkg-config --cflags --libs skate)",
        f"cc {flags} -shared -fPIC -o tasks.so {SOURCE} $(pkg-config --cflags --libs skate)",
    ):
        subprocess.run(["sh", "-c", line], cwd=folder, env=env, check=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """One session for all."""
    if skate.is_initialized():
        skate.shutdown()
    skate.init(address="local", num_cpus=2)
    yield skate
    skate.shutdown()


def test_the_example_with_a_table_of_python(ray: Any, built: Path) -> None:
    total = c_function(str(built / "arrow_aggregation.so"), "total")
    table = pa.table({"n": [1, 2, 3], "city": ["Bern", "Thun", "Bern"], "chf": [1.0, 2.0, 3.5]})
    expected = {"name": ["Bern", "Thun"], "sum": [4.5, 2.0], "count": [2, 1]}
    assert ray.get(total.remote(table, "city", "chf")).to_pydict() == expected
    stored = put(table)
    results = ray.get([total.remote(stored, "city", "chf") for _ in range(20)])
    assert all(result.to_pydict() == expected for result in results)
    with_nulls = pa.table({"k": ["x", None, "x", "y"], "v": [1.0, 2.0, None, 3.0]})
    parts = pa.concat_tables([with_nulls, with_nulls.slice(2)])
    out = ray.get(total.remote(parts, "k", "v"))
    assert out.to_pydict() == {"name": ["x", "y"], "sum": [1.0, 6.0], "count": [1, 2]}


def test_c_reads_what_python_stores_as_ever(ray: Any, built: Path) -> None:
    """put(), results and generators of Python store tables so that C can read them."""
    total = c_function(str(built / "arrow_aggregation.so"), "total")
    city = pa.array(["Bern", "Thun", "Bern"] * 5_000)
    table = pa.table({"city": city, "chf": np.arange(15_000.0)}, metadata={"a": "b"})
    expected = ray.get(total.remote(table, "city", "chf"))

    @ray.remote
    def same(table: Any) -> Any:
        return table

    @ray.remote
    def items(table: Any) -> Any:
        yield table

    [item] = list(items.remote(table))
    batch = table.combine_chunks().to_batches()[0]
    for ref in (ray.put(table), same.remote(table), item, ray.put(batch)):
        assert ray.get(total.remote(ref, "city", "chf")) == expected
    with pytest.raises(TypeError, match=r"cross_language.put\(\)"):
        ray.get(total.remote(ray.put([table]), "city", "chf"))


def test_the_example_with_many_groups(ray: Any, built: Path) -> None:
    rows = 100_000
    keys = [f"key {i * 7919 % 5000}" for i in range(rows)]
    table = pa.table({"k": keys, "v": np.arange(rows, dtype=float)})
    total = c_function(str(built / "arrow_aggregation.so"), "total")
    out = ray.get(total.remote(table, "k", "v"))
    expected = table.group_by("k").aggregate([("v", "sum"), ("v", "count")])
    assert sorted(map(tuple, zip(*out.to_pydict().values(), strict=True))) == sorted(
        zip(*(expected[c].to_pylist() for c in ("k", "v_sum", "v_count")), strict=True)
    )


def test_what_the_example_refuses(ray: Any, built: Path) -> None:
    total = c_function(str(built / "arrow_aggregation.so"), "total")
    table = pa.table({"k": ["a"], "v": [1]})
    with pytest.raises(KeyError, match="no column w"):
        ray.get(total.remote(table, "k", "w"))
    with pytest.raises(TypeError, match="column v must be a double"):
        ray.get(total.remote(table, "k", "v"))
    with pytest.raises(ray.exceptions.RayTaskError, match="no Arrow stream"):
        ray.get(total.remote([1], "k", "v"))
    packed = pa.table({"k": pa.array([["a"]], pa.list_view(pa.utf8()))})
    with pytest.raises(ray.exceptions.RayTaskError, match="'k': the Arrow type list view"):
        ray.get(total.remote(packed, "k", "v"))


def test_the_example_as_a_program(built: Path) -> None:
    env = {k: v for k, v in os.environ.items() if k not in ("SKATE_ADDRESS", "RAY_ADDRESS")}
    done = subprocess.run(
        [str(built / "arrow_aggregation")], capture_output=True, text=True, timeout=60, check=False,
        env={**env, "SKATE_ADDRESS": "local", "SKATE_PYTHON": sys.executable},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["Bern 20 of 2", "Thun 4.25 of 2", "Chur 40 of 1"]


def test_streams_pass_through(ray: Any, built: Path) -> None:
    """What C reads it can write again, batch by batch."""
    again = c_function(str(built / "tasks.so"), "again")
    table = pa.table({
        "d": pa.array(["x", "y", None]).dictionary_encode(), "l": [[1], None, []],
        "t": pa.array([{"q": 1.5}, None, {"q": None}]), "when": pa.array([1, 2, 3], pa.date32()),
    })  # fmt: skip
    for value in (table, pa.concat_tables([table, table]), table.slice(1), table.to_batches()[0]):
        out = ray.get(again.remote(value))
        assert out.to_pylist() == value.to_pylist() and out.schema == table.schema
    stored = c_function(str(built / "tasks.so"), "stored")
    views = pa.table({"v": pa.array(["short", None, "what lies in a buffer"], pa.string_view())})
    for value in (table, views, pa.concat_tables([views] * 500), views.slice(2)):
        for task in (again, stored):
            for given in (value, ray.put(value)):
                out = ray.get(task.remote(given))
                assert out.equals(value) and out.schema == value.schema
    frame = pl.DataFrame({"n": [1, 2, None], "s": ["x", None, "what lies in a buffer"]})
    for given in (frame, ray.put(frame)):
        assert pl.from_arrow(ray.get(stored.remote(given))).equals(frame)
    refused = ray.get(c_function(str(built / "tasks.so"), "no_table").remote())
    assert refused == "the value is no Arrow stream but of kind 2"
    big = pa.table({"n": np.arange(500_000)})
    assert ray.get(again.remote(again.remote(big))) == big


def test_tensors(ray: Any, built: Path) -> None:
    scaled = c_function(str(built / "tasks.so"), "scaled")
    for array in (np.arange(6.0).reshape(2, 3), np.arange(200_000.0), np.arange(12.0)[::2]):
        out = ray.get(scaled.remote(array, 2.5))
        assert np.array_equal(out, array * 2.5) and out.shape == array.shape

    @ray.remote
    def ones(how: Any) -> Any:
        return plain(np.ones(6)[::2]) if how == "plain" else np.ones(6)[:: int(how)]

    for how in ("plain", 1, 2):  # every second one is not contiguous: a pickle but for plain()
        if how != 2:
            assert set(ray.get(scaled.remote(ones.remote(how), 2.0)).tolist()) == {2.0}
            continue
        with pytest.raises(TypeError, match=r"cross_language.plain\(\)"):
            ray.get(scaled.remote(ones.remote(how), 2.0))
    assert ray.get(scaled.remote(ray.put(np.ones(2)), 2.0)).tolist() == [2.0, 2.0]
    with pytest.raises(TypeError, match="argument 0 of scaled"):
        ray.get(scaled.remote(np.arange(3), 2.0))  # of int
    with pytest.raises(TypeError, match=r"argument 0 of scaled\(\) is of type builtins.set"):
        scaled.remote({1}, 2.0)
    with pytest.raises(TypeError, match=r"argument 0 of scaled\(\)\[0\].*argument of its own"):
        scaled.remote([np.ones(2)], 2.0)
    with pytest.raises(TypeError, match=r"argument 'by' of scaled\(\) is an int of more"):
        scaled.remote(np.ones(2), by=2**70)


def test_c_calls_python_by_path(ray: Any, built: Path) -> None:
    """A tensor and a table go from Python through C to Python, and come back the same way."""
    through = c_function(str(built / "tasks.so"), "through")
    array, table = np.arange(12.0).reshape(3, 4), pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})
    assert np.array_equal(
        ray.get(through.remote("numpy.tile", array, 2)), np.tile(array, 2)
    )
    assert ray.get(through.remote("pyarrow.Table.slice", table, 1)) == table.slice(1)
    assert ray.get(through.remote("math.ldexp", 1.5, 3)) == 12.0
    assert ray.get(through.remote("builtins.divmod", 7, 2)) in ((3, 1), [3, 1])
    with pytest.raises(TypeError, match="a pickle"):
        ray.get(through.remote("builtins.complex", 7, 2))
    with pytest.raises(ray.exceptions.RayTaskError, match="ZeroDivisionError"):
        ray.get(through.remote("builtins.divmod", 7, 0))
    with pytest.raises(ray.exceptions.RayTaskError, match="'math' has no 'nothing'"):
        ray.get(through.remote("math.nothing", 7, 0))


def test_handles_travel_both_ways(ray: Any, built: Path) -> None:
    """A handle that Python gives to C, and one that C gives to Python."""
    library = str(built / "tasks.so")
    keeper = c_actor_class(library, "keeper").remote(5)
    echo = c_function(library, "echo")
    back = ray.get(echo.remote([keeper]))[0]
    assert back == keeper and ray.get(back.add.remote(2)) == 7
    assert ray.get(c_function(library, "add_to").remote(keeper, 3)) == 10
    with pytest.raises(ray.exceptions.RayTaskError, match="no method"):
        ray.get(back.subtract.remote(1))

    @ray.remote
    class Keeper:
        def __init__(self) -> None:
            self.n = 100

        def add(self, n: int) -> int:
            self.n += n
            return self.n

    python = Keeper.remote()
    assert ray.get(c_function(library, "add_to").remote(python, 3)) == 103
    first, second = ray.get(c_function(library, "twins").remote(keeper))
    assert ray.get([first.add.remote(1), second.add.remote(2), first.add.remote(1)]) == [1, 2, 2]
    assert ray.get(keeper.add.remote(0)) == 10 and first != second
    high = Spawned(first._process, first._index | 1 << 63)  # numbers are of 64 bits, unsigned
    with pytest.raises(ray.exceptions.RayTaskError, match="was never made"):
        ray.get(Spawned(high._process, high._index ^ 1 << 40).add.remote(1))
