"""Streams between Spark and objects, without a Spark: queues, offsets, readers, options."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import cloudpickle
import pyarrow as pa
import pytest

import skate
from skate.exceptions import GetTimeoutError
from skate.util import spark as on_spark
from skate.util.spark import _blocks, _exchange, _objects, _queues, _stream_format, _streams
from skate.util.spark._exchange import Block, Exchange, Link, Publication
from skate.util.spark._queues import Batch, Bounds

ONE = Bounds(batches=1, seconds=0.02)


def batch(once: tuple[str, int] | None = None, size: int = 8, schema: bytes = b"s") -> Batch:
    """A batch of one block."""
    return Batch(schema, [Block("", 1, size, "n")], once)


async def pulled(made: Exchange, at: int, seconds: float = 5.0) -> tuple[str, list[Any]]:
    """What the reader "r" gets at that number."""
    state, _, refs = await made.pull("q", "r", at, seconds)
    return state, refs


def test_a_batch_is_taken_once_and_kept_until_it_is_done() -> None:
    async def go() -> None:
        made = Exchange()
        assert made.read_queue("q", "r") == 0
        assert await made.push("q", batch(("a", 0)), ["x"], Bounds())
        assert not await made.push("q", batch(("a", 0)), ["again"], Bounds())
        assert await made.push("q", batch(("b", 0)), ["y"], Bounds())
        assert await made.push("q", batch(("a", 3)), ["z"], Bounds())
        assert not await made.push("q", batch(("a", 2)), ["older"], Bounds())
        assert made.was_taken("q", ("a", 3)) and not made.was_taken("q", ("a", 4))
        assert await pulled(made, 0) == ("batch", ["x"])
        assert made.read_queue("q", "s") == 0, "x is not done"
        with pytest.raises(RuntimeError, match="has one reader"):
            await pulled(made, 1)
        assert made.read_queue("q", "r") == 0
        assert await pulled(made, 1) == ("batch", ["y"])
        assert made.read_queue("q", "r") == 1 and made._count == 2
        assert await pulled(made, 3, 0.01) == ("wait", []) and made._count == 0
        await made.end_queue("q")
        assert await pulled(made, 3) == ("end", [])
        assert await made.push("q", batch(), ["w"], Bounds()), "a batch opens it again"
        assert await pulled(made, 3) == ("batch", ["w"])
        assert made.queues() == ["q"]
        assert await made.drop_queue("q") and not await made.drop_queue("q")
        assert made._count == 0

    asyncio.run(go())


def test_a_full_queue_holds_writers_back() -> None:
    async def go() -> None:
        made = Exchange()
        made.read_queue("q", "r")
        assert await made.push("q", batch(("a", 0)), ["x"], Bounds(1, 1, 0.0)), "there is room"
        with pytest.raises(TimeoutError, match=r"'q' is full \(1 batches, 8 bytes\).*maxBatches"):
            await made.push("q", batch(("a", 1)), ["y"], ONE)
        wide = Bounds(bytes=10, seconds=60)
        waits = asyncio.create_task(made.push("q", batch(("a", 1), 100), ["y"], wide))
        twice = asyncio.create_task(made.push("q", batch(("a", 1), 100), ["y2"], wide))
        third = asyncio.create_task(made.push("q", batch(("a", 2)), ["z"], Bounds(1, 1, 60)))
        await asyncio.sleep(0)
        assert await waits and not await twice, "one of a twin is taken"
        assert not third.done()
        await made.done("q", "r", 2)
        assert await third and made._count == 1
        gone = asyncio.create_task(made.push("q", batch(), ["w"], Bounds(1, 1, 60)))
        await asyncio.sleep(0)
        await made.drop_queue("q")
        with pytest.raises(RuntimeError, match="was dropped"):
            await gone

    asyncio.run(go())


def test_columns_and_bounds_of_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        made = Exchange()
        await made.push("q", batch(), ["x"], Bounds())
        with pytest.raises(ValueError, match=r"other columns.*drop_stream\('q'\)"):
            await made.push("q", batch(schema=b"t"), ["y"], Bounds())
        assert made._count == 1
        monkeypatch.setattr(_queues, "MAX_QUEUES", 1)
        with pytest.raises(MemoryError, match=r"drop_stream\(\)"):
            made.read_queue("other", "r")
        monkeypatch.setattr(_queues, "MAX_SEEN", 2)
        for number in range(3):
            await made.push("q", batch((f"w{number}", 0)), ["x"], Bounds())
        assert not made.was_taken("q", ("w0", 0)) and made.was_taken("q", ("w1", 0))

    asyncio.run(go())


def test_what_attempts_left_is_dropped_with_the_batch() -> None:
    async def go() -> None:
        made = Exchange()
        made.keep("s-q1-aa", "1.0", ["x"], None)
        made.keep("s-q1-aa", "2.0", ["failed"], None)
        made.keep("s-q1-old", "1.0", ["of a query that died"], None)
        made.keep("s-q2-bb", "1.0", ["of another query"], None)
        made.keep("s-q1-aa", "3.0", ["an error"], None)
        made.forget("s-q1-aa", ["3.0", "3.1"])
        await made.settled("s-q1-aa", ["1.0", "3.0"])
        written = Batch(b"s", [Block("1.0", 1, 8, "n")], ("q1", 0))
        assert await made.push_written("q", written, "s-q1-aa", Bounds())
        assert made._count == 2 and set(made._running) == {"s-q2-bb"}
        assert not made.keep("s-q1-aa", "4.0", ["late"], None)
        made.keep("s-q1-cc", "1.0", ["written again"], None)
        assert not await made.push_written("q", written, "s-q1-cc", Bounds())
        assert made._count == 2 and set(made._running) == {"s-q2-bb"}
        made.read_queue("q", "r")
        assert await pulled(made, 0) == ("batch", ["x"])

    asyncio.run(go())


def test_a_commit_may_be_asked_twice() -> None:
    async def go() -> None:
        made = Exchange()
        await made.push("q", batch(("q1", 0)), ["full"], Bounds())
        made.keep("s-q1-aa", "1.0", ["x"], None)
        written = Batch(b"s", [Block("1.0", 1, 8, "n")], ("q1", 1))

        async def ask() -> bool:
            return await made.push_written("q", written, "s-q1-aa", Bounds(1, 1, 60.0))

        first = asyncio.create_task(ask())
        await asyncio.sleep(0)
        second = asyncio.create_task(ask())
        first.cancel()
        await asyncio.sleep(0)
        made.read_queue("q", "r")
        await made.done("q", "r", 1)
        assert await second and not await ask() and not made._ending
        assert await pulled(made, 1) == ("batch", ["x"])

        made.keep("s-q2-bb", "1.0", ["y"], None)
        what = Publication(b"s", [Block("1.0", 1, 8, "n")], ("q2", 0))
        assert await made.publish_written("table", what, "s-q2-bb") == 1
        assert await made.publish_written("table", what, "s-q2-bb") == 1
        table = made.describe("table")
        assert table and made.all(table.laid) == ["y"]

        what = Publication(b"s", what.blocks)
        made.keep("w-1", "1.0", ["z"], None)
        first = asyncio.create_task(made.publish_claimed("table", what, "w-1", True))
        await asyncio.sleep(0)
        first.cancel()
        assert await made.publish_claimed("table", what, "w-1", True) == 2
        assert await made.publish_claimed("table", what, "w-1", True) == 2
        table = made.describe("table")
        assert table and made.all(table.laid) == ["y", "z"], "not twice"

    asyncio.run(go())


def test_a_commit_leaves_other_queries_and_streams_alone() -> None:
    async def go() -> None:
        made = Exchange()
        of = _queues.transfer_of
        mine, failed = of("orders", "q", "aa"), of("orders", "q", "old")
        others = [of("orders-eu", "q", "aa"), of("orders", "q-eu", "aa"), of("orders-q", "eu", "a")]
        assert len({name.rpartition("-")[0] for name in [*others, mine]}) == 4
        assert of("a:1", "b", "c") != of("a", "1:b", "c")
        for name in [mine, failed, *others, "s-orders-aa", "s-orders-eu-aa"]:
            made.keep(name, "1.0", ["x"], None)
        written = Batch(b"s", [Block("1.0", 1, 8, "n")], ("orders", 0))
        assert await made.push_written("q", written, mine, Bounds())
        assert set(made._running) == {*others, "s-orders-aa", "s-orders-eu-aa"}
        assert await made.push_written("q", written, "s-orders-aa", Bounds()) is False
        assert set(made._running) == {*others, "s-orders-eu-aa"}

        made.keep(again := of("orders", "q", "bb"), "1.0", ["y"], None)
        made.keep(late := of("orders", "q", "cc"), "1.0", ["z"], None)
        batches = [Batch(b"s", written.blocks, ("orders", number)) for number in (0, 1)]
        both = [
            asyncio.create_task(made.push_written("q", batch, name, Bounds()))
            for batch, name in zip(batches, (again, late), strict=True)
        ]
        assert await asyncio.gather(*both) == [False, True], "the first leaves the second one"
        assert made._queues["q"].next == 2 and set(made._running) == {*others, "s-orders-eu-aa"}

    asyncio.run(go())


def test_a_reader_of_a_stream_that_was_dropped() -> None:
    async def go() -> None:
        made = Exchange()
        made.read_queue("q", "r")
        await made.push("q", batch(), ["x"], Bounds())
        await made.drop_queue("q")
        for _ in range(2):
            with pytest.raises(RuntimeError, match="'q' was dropped"):
                await pulled(made, 0)
            with pytest.raises(RuntimeError, match="'q' was dropped"):
                await made.done("q", "r", 1)
            assert made.queues() == (["q"] if _ else []), "asking makes none"
            await made.push("q", batch(), ["of another one"], Bounds())
        made.read_queue("q", "s")
        with pytest.raises(RuntimeError, match="has one reader"):
            await pulled(made, 0)

    asyncio.run(go())


def test_a_name_that_comes_again_is_another_one() -> None:
    made = Exchange()
    what = Publication(b"s", [Block("1", 1, 8, "n")])
    made.publish("p", what, ["old"], False)
    made.publish("p", what, ["older"], False)
    old = made.describe("p")
    assert old and made.withdraw("p") and made._count == 0
    made.publish("p", what, ["x"], False)
    made.publish("p", what, ["new"], False)
    new = made.describe("p")
    assert new and (new.version, made.all(new.laid)) == (old.version, ["new"])
    with pytest.raises(KeyError):
        made.lend(old.laid, 0)
    made.publish("p", what, ["newer"], False)
    assert made._count == 2 and made.all(new.laid) == ["new"]
    assert made.withdraw("p") and made._count == 0 and not made._laid


@pytest.fixture()
def link(session: None) -> Iterator[Link]:
    """The link of a session's exchange."""
    return _exchange.link()


def numbers(*values: int) -> Any:
    """A ref of a table."""
    return skate.put(pa.table({"n": pa.array(values, pa.int64())}))


def test_streams_of_one_program(link: Link) -> None:
    stream = on_spark.read_stream("prices", timeout=30)
    with pytest.raises(GetTimeoutError, match=r"no batch came to the stream 'prices' in 0.05 s"):
        stream.next(0.05)

    @skate.remote
    def send(number: int) -> bool:
        return on_spark.write_stream("prices", [numbers(number, 10)], once=("t", number))

    assert skate.get(send.remote(0)) and not skate.get(send.remote(0))
    assert on_spark.write_stream("prices", numbers(5))
    on_spark.end_stream("prices")
    got = [(b.number, b.query, b.batch_id, b.table()["n"].to_pylist()) for b in stream]
    assert got == [(0, "t", 0, [0, 10]), (1, None, None, [5])]
    on_spark.write_stream("prices", [numbers(6), numbers(7)])
    with on_spark.read_stream("prices", timeout=30) as again:
        first = next(again)
        assert repr(first) == "StreamBatch(number=2, blocks=2, rows=-1)"
    unread = on_spark.read_stream("prices", timeout=30)
    assert (both := next(unread)).table()["n"].to_pylist() == [6, 7], "nobody was done with it"
    both.done()
    with pytest.raises(RuntimeError, match="has one reader"):
        first.done()
    assert on_spark.drop_stream("prices") and not on_spark.drop_stream("prices")


SERVER = """
import sys
import cloudpickle, pyarrow as pa
from pyspark.sql.types import LongType, StructField, StructType

class Frame:
    schema = StructType([StructField("n", LongType())])
    rows = ()

    def mapInArrow(self, function, schema):
        made = Frame()
        made.rows = function(pa.table({"n": [1, 2]}).to_batches())
        return made

    def collect(self):
        return [row for batch in self.rows for row in batch.to_pylist()]

sink = cloudpickle.loads(bytes.fromhex(sys.argv[1]))
sink(Frame(), 0)
sink(Frame(), 0)
"""


def test_a_sink_that_another_process_calls_writes_to_this_program(link: Link) -> None:
    pytest.importorskip("pyspark")
    sink = on_spark.objects_sink("far", query="orders-v1")
    done = subprocess.run(
        [sys.executable, "-c", SERVER, cloudpickle.dumps(sink).hex()],
        text=True, capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    on_spark.end_stream("far")
    got = [(b.query, b.table()["n"].to_pylist()) for b in on_spark.read_stream("far", timeout=30)]
    assert got == [("orders-v1", [1, 2])]
    assert _streams.reached(link, _streams.HERE) == (link, _exchange.exchange(link))


def test_the_commit_of_a_write_asks_again(link: Link) -> None:
    class Shaky(Link):
        """Its first connection is lost when the exchange has published."""

        def join(self) -> Any:
            if lost:
                return _exchange.exchange(link)
            lost.append(commit(link))
            raise ConnectionError

    def commit(to: Link) -> None:
        writing = _blocks.Writing(to, "w-1")
        schema = pa.schema([("n", pa.int64())]).serialize().to_pybytes()
        _objects.commit(writing, "table", schema, [blocks], (True, None))

    lost: list[None] = []
    blocks = _blocks.store(_blocks.Writing(link, "w-1"), pa.table({"n": [1, 2]}).to_batches())
    commit(Shaky(link.address, link.name, link.job, link.home))
    refs = on_spark.read_objects("table")
    assert len(lost) == 1 and [len(table) for table in skate.get(list(refs))] == [2]


def test_what_is_wrong_with_a_batch(link: Link) -> None:
    with pytest.raises(ValueError, match="must be a text that is not empty"):
        on_spark.read_stream("")
    with pytest.raises(ValueError, match="once must be a pair"):
        on_spark.write_stream("w", [numbers(1)], once=("a", -1))
    with pytest.raises(TypeError, match="refs must be ObjectRefs, not int"):
        on_spark.write_stream("w", [1])
    on_spark.write_stream("w", [numbers(1)], max_batches=1)
    with pytest.raises(TimeoutError, match=r"read_stream\('w'\)"):
        on_spark.write_stream("w", [numbers(2)], max_batches=1, timeout=0)
    with pytest.raises(ValueError, match="keep must be one of driver, nodes"):
        on_spark.objects_sink("w", keep="here")


def test_a_source_goes_by_offsets(link: Link) -> None:
    schema = pa.schema([("n", pa.int64())])
    source = plain_source(link, schema)
    start = source.first()
    assert source.latest() == start
    for number in range(3):
        on_spark.write_stream("back", [numbers(number), numbers(number + 10)])
    end = source.latest()
    assert (start["at"], end["at"]) == (0, 2), "maxBatchesPerTrigger"
    parts = source.parts(start, end)
    assert parts == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert rows(source, end, parts) == [0, 10, 1, 11]
    source.done(end)

    later = plain_source(link, schema)  # the query starts again, from its checkpoint
    [lost] = later.parts(start, end)
    with pytest.raises(RuntimeError, match="not there any more"):
        list(later.load(end["stream"], lost))
    last = later.latest()
    assert last["at"] == 3 and rows(later, last, later.parts(end, last)) == [2, 12]
    later.done(last)
    assert on_spark.read_stream("back")._at == 3

    on_spark.drop_stream("back")
    on_spark.write_stream("back", [numbers(9)])
    with pytest.raises(RuntimeError, match="another checkpointLocation"):
        later.latest()
    [other] = plain_source(link, schema).parts(last, {"stream": "anew", "at": 1})
    assert "another checkpointLocation" in other


def plain_source(link: Link, schema: pa.Schema) -> _stream_format.Source:
    """The source, without the StructType that Spark makes it of."""
    source = _stream_format.Source.__new__(_stream_format.Source)
    source.link, source.name, source.schema = link, "back", schema.serialize().to_pybytes()
    source.most, source.uid, source.last = 2.0, None, -1
    return source


def rows(source: _stream_format.Source, end: dict[str, Any], parts: list[Any]) -> list[int]:
    """What tasks read."""
    return [
        n for part in parts for b in source.load(end["stream"], part) for n in b["n"].to_pylist()
    ]


def test_options_that_are_wrong() -> None:
    assert _stream_format.number({"timeout": "0"}, "timeout", 5.0, least=0.0) == 0.0
    assert _stream_format.number({}, "maxBatches", 64) == 64
    for text in ("0", "x", "nan"):
        with pytest.raises(ValueError, match=r"option maxBatches must be a number from 1 on"):
            _stream_format.number({"maxBatches": text}, "maxBatches", 64)
