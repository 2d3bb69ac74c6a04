"""What the data plane of Spark does that needs no Spark: blocks, types, the exchange."""

from __future__ import annotations

import asyncio
import datetime
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import skate
from skate.util.spark import _blocks, _exchange, _objects
from skate.util.spark._exchange import Block, Exchange, Publication
from skate.util.spark._queues import MAX_SEEN


def batch(rows: int, start: int = 0) -> pa.RecordBatch:
    """One column of 8 bytes a row."""
    return pa.RecordBatch.from_pydict({"n": np.arange(start, start + rows)})


@pytest.mark.parametrize(
    ("sizes", "most", "rows"),
    [([], 100, []), ([0, 0], 100, []), ([3, 4], 1000, [7]), ([10, 10, 10], 160, [20, 10]),
     ([100], 160, [20] * 5), ([0, 5, 0, 25], 80, [5, 10, 10, 5]), ([3], 1, [1, 1, 1])],
)  # fmt: skip
def test_pieces(sizes: list[int], most: int, rows: list[int]) -> None:
    starts = np.cumsum([0, *sizes])
    batches = [batch(size, int(start)) for size, start in zip(sizes, starts, strict=False)]
    made = list(_blocks.pieces(iter(batches), most))
    assert [table.num_rows for table in made] == rows
    together = [n for table in made for n in table["n"].to_pylist()]
    assert together == list(range(sum(sizes)))


def test_tables_of_what_users_have() -> None:
    frame = pd.DataFrame({"a": [1, 2]}, index=[5, 6])
    for value in (frame, {"a": [1, 2]}, pa.table({"a": [1, 2]}), batch(2).rename_columns(["a"])):
        made = _blocks.as_table(value)
        assert isinstance(made, pa.Table) and made.column_names == ["a"]
    with pytest.raises(TypeError, match="must be a pyarrow Table .* not list"):
        _blocks.as_table([1])


def test_types_that_spark_has_not() -> None:
    table = pa.table({
        "u8": pa.array([1], pa.uint8()), "u64": pa.array([2**64 - 1], pa.uint64()),
        "half": pa.array([np.float16(1.5)]), "big": pa.array(["x"], pa.large_string()),
        "kind": pa.array(["a"]).dictionary_encode(),
        "at": pa.array([1_001], pa.timestamp("ns", tz="Europe/Paris")),
        "rows": pa.array([[1]], pa.large_list(pa.uint16())),
        "inner": pa.array([{"d": datetime.date(2026, 1, 2)}], pa.struct([("d", pa.date64())])),
        "fixed": pa.array([b"ab"], pa.binary(2)), "plain": pa.array([1.0]),
    })  # fmt: skip
    wanted = _blocks.spark_schema(table.schema)
    assert [str(kind) for kind in wanted.types] == [
        "int16", "decimal128(20, 0)", "float", "string", "string", "timestamp[us, tz=UTC]",
        "list<item: int32>", "struct<d: date32[day]>", "binary", "double",
    ]  # fmt: skip
    made = _blocks.conform(table, wanted)
    assert made.schema == wanted and made["u64"][0].as_py() == 2**64 - 1
    assert made["inner"][0].as_py() == {"d": datetime.date(2026, 1, 2)}
    assert _blocks.conform(made, wanted) is made, "nothing to do, nothing is copied"
    with pytest.raises(TypeError, match="cast the column before"):
        _blocks.spark_schema(pa.schema([("t", pa.time32("s"))]))
    with pytest.raises(ValueError, match="no column 'x'; it has u8"):
        _blocks.conform(table, pa.schema([("x", pa.int8())]))


# ------------------------------------------------------------------------------- the exchange


def test_a_transfer_ends() -> None:
    made = Exchange()
    assert made.keep("t", "1.0", ["a"], None) and made.keep("t", "2.0", ["b"], None)
    assert made.keep("t", "1.0", ["a"], None), "told twice is told once"
    with pytest.raises(KeyError, match=r"no 3\.0 of t"):
        made.claim("t", ["3.0"])
    assert made.claim("t", ["2.0"]) == [("b", None)]
    assert not made.keep("t", "9.0", ["c"], None), "a late task is refused"
    assert made._count == 0 and not made._running
    for i in range(_exchange.MAX_OVER + 10):
        made.end(f"x{i}")
    assert len(made._over) == _exchange.MAX_OVER


def test_room_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_exchange, "MAX_REFS", 3)
    made = Exchange()
    made.lay("f", ["a", "b", "c"])
    with pytest.raises(MemoryError, match=r"release\(\)"):
        made.keep("t", "1", ["d"], None)
    made.release("f")
    made.release("f")
    assert made.keep("t", "1", ["d"], None)


def published(rows: int, once: Any = None) -> Publication:
    """One block."""
    return Publication(b"schema", [Block("1", rows, 8 * rows, "n")], once)


def test_names_have_two_versions() -> None:
    made = Exchange()
    assert made.publish("p", published(1), ["a"], True) == 1
    first = made.describe("p")
    assert first and made.lend(first.laid, 0) == ["a"]
    assert made.publish("p", published(2), ["b"], True) == 2
    second = made.describe("p")
    assert second and made.all(second.laid) == ["a", "b"]
    assert [block.rows for block in second.blocks] == [1, 2]
    made.publish("p", published(3), ["c"], False)
    assert made.all(second.laid) == ["a", "b"], "the last version is still read"
    with pytest.raises(KeyError):
        made.lend(first.laid, 0)
    with pytest.raises(ValueError, match="other columns"):
        made.publish("p", Publication(b"other", []), [], True)
    assert made.names() == ["p"] and made.withdraw("p") and not made.withdraw("p")
    assert made._count == 0 and made.describe("p") is None


def test_a_batch_of_a_stream_is_taken_once() -> None:
    made = Exchange()
    for batch_id, ref, version in ((0, "a", 1), (0, "again", 1), (1, "b", 2), (0, "late", 2)):
        assert made.publish("s", published(1, ("q", batch_id)), [ref], True) == version
    assert made.publish("s", published(1, ("other", 0)), ["c"], True) == 3
    found = made.describe("s")
    assert found and made.all(found.laid) == ["a", "b", "c"]


def test_queries_that_are_remembered_have_a_bound() -> None:
    made = Exchange()
    for number in range(MAX_SEEN + 1):
        made.publish("s", published(1, (f"q{number}", 0)), ["a"], False)
    made.publish("s", published(1, ("q1", 1)), ["a"], False)
    made.publish("s", published(1, ("new", 0)), ["a"], False)
    found = made.describe("s")
    assert found and found.seen and len(found.seen) == MAX_SEEN
    assert "q1" in found.seen and not {"q0", "q2"} & set(found.seen), "the longest silent go first"


def test_who_asks_for_what_is_lost() -> None:
    async def talk() -> None:
        made = Exchange()
        assert await made.wanted(0.001) is None
        askers = [asyncio.ensure_future(made.again("t", 4)) for _ in range(2)]
        assert await made.wanted(10) == ("t", 4)
        assert await made.wanted(0.001) is None, "two who ask are one question"
        await made.answer("t", 4, {0: ["ref"]}, "")
        assert await asyncio.gather(*askers) == [{0: ["ref"]}] * 2
        asker = asyncio.ensure_future(made.again("t", 5))
        await made.wanted(10)
        await made.answer("t", 5, {}, "Spark was stopped")
        with pytest.raises(RuntimeError, match="was stopped"):
            await asker
        await made.answer("t", 6, {}, "")  # nobody asked

    asyncio.run(talk())


# ------------------------------------------------------------- with a cluster, without Spark


@pytest.fixture(scope="module")
def session(no_leaks: None) -> Iterator[None]:
    """A node."""
    skate.init(num_cpus=2)
    yield
    skate.shutdown()


WRITER = """
import pickle, sys
import pyarrow as pa
from skate.util.spark import _blocks
writing = pickle.loads(bytes.fromhex(sys.argv[1]))
table = pa.table({"n": range(int(sys.argv[2]))})
blocks = _blocks.store(writing, table.to_batches(max_chunksize=1000))
print(pickle.dumps(blocks).hex())
"""


def test_what_a_python_worker_wrote_outlives_it(session: None) -> None:
    import pickle

    link = _exchange.link()
    assert _exchange.link() == link
    exchange = _exchange.exchange(link)
    writing = _blocks.Writing(link, "t", block_bytes=80_000)
    done = subprocess.run(
        [sys.executable, "-c", WRITER, pickle.dumps(writing).hex(), "25000"],
        text=True, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    blocks = pickle.loads(bytes.fromhex(done.stdout.split()[-1]))
    assert [block.rows for block in blocks] == [10_000, 10_000, 5_000]
    kept = skate.get(exchange.claim.remote("t", [block.ticket for block in blocks]))
    assert not any(told for _, told in kept), "it was in this job: nothing was copied"
    tables = skate.get([ref for ref, _ in kept])
    assert pa.concat_tables(tables)["n"].to_pylist() == list(range(25_000))

    done = subprocess.run(
        [sys.executable, "-c", WRITER, pickle.dumps(writing).hex(), "10"],
        text=True, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert "this transfer is over" in done.stderr


def test_blocks_are_read_where_they_lie(session: None) -> None:
    link = _exchange.link()
    table = pa.table({"n": np.arange(50_000), "x": np.ones(50_000)})
    exchange = _exchange.exchange(link)
    skate.get(exchange.lay.remote("mine", [skate.put(table)]))
    schema = pa.schema([("n", pa.int64())])
    reading = _blocks.Reading(link, "mine", schema.serialize().to_pybytes())
    assert pa.Table.from_batches(list(_blocks.load(reading, 0))) == table.select(["n"])
    with pytest.raises(RuntimeError, match="released"):
        list(_blocks.load(reading, 1))


def test_options_of_the_format() -> None:
    assert _objects.name_of({"name": "a"}) == _objects.name_of({"path": "a"}) == "a"
    with pytest.raises(ValueError, match=r"set the name: .format\(\"objects\"\)"):
        _objects.name_of({})


def test_a_copy_that_cannot_be_made(session: None) -> None:
    from skate.util.spark import _transfer

    link = _exchange.link()
    exchange = _exchange.exchange(link)
    gone = "ab" * 28  # a node that is not there
    assert skate.get(exchange.keep.remote("x", "1", [skate.put(1)], gone))
    with pytest.raises(RuntimeError, match="a node was lost .* do it again"):
        _transfer.claimed(exchange, "x", [Block("1", 1, 8, gone)], None)
