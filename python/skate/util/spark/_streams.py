"""Streams on the side of tasks and drivers: batches that Spark wrote, and batches for Spark.

A stream is a queue of the exchange (_queues.py), by name. See docs/spark/streaming.md.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from skate.util.spark import _blocks, _exchange, _queues
from skate.util.spark._queues import Batch, Bounds
from skate.util.spark._transfer import Refs, _schema_of, blocks_of

ROUND_S = 10.0  # of one question to the exchange
HERE = secrets.token_hex(8)  # this process


class StreamBatch:
    """One micro-batch. number: its place in the stream; query, batch_id: who wrote it, or None."""

    def __init__(self, stream: Stream, batch: Batch, refs: Refs) -> None:
        self._stream = stream
        self.number, self.refs = batch.number, refs
        self.query, self.batch_id = batch.once or (None, None)

    @property
    def rows(self) -> int:
        """How many rows; -1: the writer did not say."""
        rows = self.refs.rows
        return -1 if -1 in rows else sum(rows)

    def table(self) -> Any:
        """All of it as one pyarrow.Table."""
        import pyarrow as pa

        import skate

        tables = [_blocks.as_table(block) for block in skate.get(list(self.refs))]
        return pa.concat_tables([_blocks.conform(table, self.refs.schema) for table in tables])

    def done(self) -> None:
        """Give this batch and those before it up: nobody reads them again."""
        self._stream._done(self.number + 1)

    def __repr__(self) -> str:
        return f"StreamBatch(number={self.number}, blocks={len(self.refs)}, rows={self.rows})"


class Stream:
    """The batches of a stream, in order, each once: an iterator. Made by read_stream().

    A batch is given up when the next one is asked for (or by its done()), and is there again for
    the next reader when this one ends before that. The iteration ends where end_stream() was
    called. GetTimeoutError: no batch came in time.
    """

    def __init__(self, name: str, timeout: float | None) -> None:
        import skate

        self.name, self.timeout = name, timeout
        self._id = secrets.token_hex(8)
        self._exchange = exchange()
        self._at: int = skate.get(self._exchange.read_queue.remote(name, self._id))

    def __iter__(self) -> Iterator[StreamBatch]:
        return self

    def __next__(self) -> StreamBatch:
        found = self.next(self.timeout)
        if found is None:
            raise StopIteration
        return found

    def next(self, timeout: float | None = None) -> StreamBatch | None:
        """The next batch; None: the stream has ended. GetTimeoutError: none came in time."""
        import pyarrow as pa

        import skate
        from skate.exceptions import GetTimeoutError

        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = ROUND_S if deadline is None else max(0.0, deadline - time.monotonic())
            state, batch, refs = skate.get(
                self._exchange.pull.remote(self.name, self._id, self._at, min(left, ROUND_S))
            )
            if state == "batch":
                self._at += 1
                schema = pa.ipc.read_schema(pa.py_buffer(batch.schema))
                return StreamBatch(self, batch, Refs(refs, schema, batch.blocks))
            if state == "end":
                return None
            if deadline is not None and time.monotonic() >= deadline:
                raise GetTimeoutError(
                    f"no batch came to the stream {self.name!r} in {timeout:g} s: does its query "
                    "run, and is the name the one that it writes to?"
                )

    def _done(self, end: int) -> None:
        import skate

        skate.get(self._exchange.done.remote(self.name, self._id, end))

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def exchange() -> Any:
    """The program's, in the driver or in one of its tasks. RuntimeError: there is none."""
    import skate
    from skate import _api, _core

    if not skate.is_initialized() or _api.info()["is_driver"]:
        return _exchange.exchange(_exchange.link())
    name = f"data-{skate.get_runtime_context().get_job_id()}"
    key = (_core.epoch(), name)
    found = _exchange._handles.get(key)
    if found is None:
        try:
            found = skate.get_actor(name, namespace=_exchange.SPACE)
        except ValueError:
            raise RuntimeError(
                "this program has no streams yet: call register_objects(spark), or read_stream() "
                "or write_stream(), in the driver before tasks do."
            ) from None
        _exchange._handles[key] = found
    return found


def read_stream(name: str, *, timeout: float | None = None) -> Stream:
    """Read what a query writes to the stream `name`: an iterator of StreamBatch.

    timeout: seconds to wait for each batch; None: for ever. The stream may be read before anybody
    writes to it. It has one reader: the last read_stream() takes over, at the first batch that
    the one before was not done with. In the driver, or in one of its tasks or actors.
    """
    _check_name(name)
    return Stream(name, timeout)


def write_stream(
    name: str,
    refs: Iterable[Any],
    *,
    once: tuple[str, int] | None = None,
    max_batches: int = Bounds.batches,
    max_bytes: int = Bounds.bytes,
    timeout: float = Bounds.seconds,
) -> bool:
    """Put refs of tables at the end of a stream, as one batch; spark.readStream reads it.

    refs: of what from_refs() takes. once: (who writes, number): numbers of one writer grow, and a
    batch whose number was there is left out, so that a task that is tried again writes it once;
    False is returned then. Waits while the stream holds max_batches or max_bytes.
    TimeoutError: it was full for `timeout` seconds. ValueError: other columns than the stream's.
    """
    import skate
    from skate import ObjectRef

    _check_name(name)
    if once is not None and not (
        isinstance(once, tuple) and len(once) == 2 and isinstance(once[0], str)
        and isinstance(once[1], int) and once[1] >= 0
    ):  # fmt: skip
        raise ValueError(f"once must be a pair of a text and a number from 0 on, not {once!r}")
    schema = getattr(refs, "schema", None)
    blocks = getattr(refs, "blocks", None)
    refs = [refs] if isinstance(refs, ObjectRef) else list(refs)
    for ref in refs:
        if not isinstance(ref, ObjectRef):
            raise TypeError(f"refs must be ObjectRefs, not {type(ref).__name__}")
    if not refs:
        return False
    schema = _blocks.spark_schema(schema if schema is not None else _schema_of(refs))
    blocks = blocks or [_exchange.Block("", -1, -1, "") for _ in refs]
    batch = Batch(schema.serialize().to_pybytes(), blocks, once)
    bounds = Bounds(max_batches, max_bytes, timeout)
    return bool(skate.get(exchange().push.remote(name, batch, refs, bounds)))


def end_stream(name: str) -> None:
    """Readers stop behind the batches that are there now. A batch that comes later opens it again.

    Spark does not tell when a query is over: call this after awaitTermination() or stop().
    """
    import skate

    _check_name(name)
    skate.get(exchange().end_queue.remote(name))


def drop_stream(name: str) -> bool:
    """Forget a stream and the batches that nobody else holds. False: there is none."""
    import skate

    return bool(skate.get(exchange().drop_queue.remote(name)))


def objects_sink(
    name: str,
    *,
    keep: str = "driver",
    max_batches: int = Bounds.batches,
    max_bytes: int = Bounds.bytes,
    timeout: float = Bounds.seconds,
    query: str | None = None,
) -> Callable[[Any, int], None]:
    """The sink as a function for writeStream.foreachBatch(), for pyspark 3 (and 4).

    query: what names the query in place of Spark's id; needed with Spark Connect, and stays the
    same when the query starts again. The other arguments are the options of the format "objects".
    The stream belongs to the program that calls this, wherever Spark calls the function.
    RuntimeError: this program is in no cluster.
    """
    from skate.util.spark._stream_format import KEEPS

    _check_name(name)
    if keep not in KEEPS:
        raise ValueError(f"keep must be one of {', '.join(KEEPS)}, not {keep!r}")
    bounds = Bounds(max_batches, max_bytes, timeout)
    made = _exchange.link(), HERE

    def write(df: Any, batch_id: int) -> None:
        from skate.util.spark import _streams

        once = query or _streams.query_of(df), batch_id
        how = keep == "driver", bounds
        _streams.write_batch(df, once, name, how, _streams.reached(*made))

    return write


def reached(link: _exchange.Link, here: str) -> tuple[_exchange.Link, Any]:
    """The exchange of the program that called objects_sink(), from there or from elsewhere.

    With Spark Connect a worker on the server calls the function, which joins that program. In the
    program itself it is that of its present session.
    """
    if here != HERE:
        return link, link.join()
    link = _exchange.link()
    return link, _exchange.exchange(link)


def query_of(df: Any) -> str:
    """The id of the query that a DataFrame of foreachBatch() belongs to."""
    from skate.util.spark._stream_format import QUERY

    context = getattr(df.sparkSession, "_sc", None)
    found = context.getLocalProperty(QUERY) if context is not None else None
    if not found:
        raise RuntimeError(
            "objects_sink() cannot tell which query this is: it is for foreachBatch(); with Spark "
            "Connect give the query a name of its own: objects_sink(name, query=...)."
        )
    return str(found)


def write_batch(
    df: Any,
    once: tuple[str, int],
    name: str,
    how: tuple[bool, Bounds],
    to: tuple[_exchange.Link, Any],
) -> None:
    """One batch of foreachBatch(), unless it was written before. to: what reached() gave."""
    from pyspark.sql.pandas.types import to_arrow_schema

    import skate

    link, keeper = to
    if skate.get(keeper.was_taken.remote(name, once)):
        return
    home, bounds = how
    transfer = _queues.transfer_of(once[0], name, secrets.token_hex(4))
    writing = _blocks.Writing(link, transfer, home=home, settle=True)

    def write(batches: Any) -> Any:
        from skate.util.spark import _blocks

        yield from _blocks.write_rows(writing, batches)

    try:
        blocks = blocks_of(df.mapInArrow(write, _blocks.ROWS_DDL).collect())
        schema = to_arrow_schema(df.schema).serialize().to_pybytes()
        batch = Batch(schema, blocks, once)
        skate.get(keeper.push_written.remote(name, batch, transfer, bounds))
    except BaseException:
        keeper.end.remote(transfer)
        raise


def _check_name(name: str) -> None:
    if not name or not isinstance(name, str):
        raise ValueError("the name of a stream must be a text that is not empty")
