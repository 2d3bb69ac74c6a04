"""The format "objects" in Structured Streaming: the sink of writeStream, the source of readStream.

Spark runs them in several places. Sink: tasks write blocks and name their query; a process on the
driver's machine commits them into the queue, in one step, once for each (query, batch). Source: a
process beside the driver asks the queue what is there and says what is done; tasks read. An
offset is a place in a queue, and names the queue, so that a checkpoint of another program's queue
is noticed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from skate.util.spark import _blocks, _queues
from skate.util.spark._exchange import Block, Link, Publication
from skate.util.spark._queues import Batch, Bounds

KEEPS = ("driver", "nodes")
TRIES = 6  # of a question whose node died
PAUSE_S = 0.2
QUERY = "sql.streaming.queryId"  # a property that Spark gives to the tasks of a stream


@dataclass(frozen=True)
class Sink:
    """A stream's sink, from its options. complete: each batch takes the place of the last one."""

    name: str
    schema: bytes
    bounds: Bounds
    home: bool = True
    complete: bool = False


def sink_of(options: Any, schema: Any, complete: bool) -> Sink:
    """From the options of writeStream. ValueError: one of them is wrong."""
    from skate.util.spark._objects import arrow_bytes, name_of

    keep = options.get("keep") or KEEPS[0]
    if keep not in KEEPS:
        raise ValueError(f"the option keep must be one of {', '.join(KEEPS)}, not {keep!r}")
    bounds = Bounds(
        int(number(options, "maxBatches", Bounds.batches)),
        int(number(options, "maxBytes", Bounds.bytes)),
        number(options, "timeout", Bounds.seconds, least=0.0),
    )
    return Sink(name_of(options), arrow_bytes(schema), bounds, keep == KEEPS[0], complete)


def number(options: Any, name: str, default: float, least: float = 1.0) -> float:
    """An option that is a number. ValueError: it is none, or too small."""
    text = options.get(name)
    if text is None:
        return default
    try:
        found = float(text)
    except ValueError:
        found = least - 1
    if not found >= least:
        raise ValueError(f"the option {name} must be a number from {least:g} on, not {text!r}")
    return found


def ask(link: Link, method: str, *args: Any) -> Any:
    """What the exchange answers; for processes beside Spark's driver, and questions that may be
    asked twice. They join whichever node their machine has, also an executor's, which may die.
    """
    import skate
    from skate.exceptions import LocalRayletDiedError

    for turn in range(TRIES):
        try:
            return skate.get(getattr(link.join(), method).remote(*args))
        except (LocalRayletDiedError, ConnectionError):
            if turn + 1 == TRIES:
                raise
            time.sleep(PAUSE_S * (turn + 1))  # until the dead node's record is gone
    return None


def query_of_task() -> str:
    """The id of the query that this task of Spark works for; the checkpoint keeps it."""
    context = _blocks.task_context()
    query = context.getLocalProperty(QUERY) if context else None
    if not query:
        raise RuntimeError("this task of Spark belongs to no streaming query")
    return str(query)


def write(link: Link, sink: Sink, nonce: str, batches: Any) -> tuple[str, str, list[Block]]:
    """In a task: the query, the transfer, and the blocks that were written."""
    query = query_of_task()
    transfer = _queues.transfer_of(query, sink.name, nonce)
    writing = _blocks.Writing(link, transfer, home=sink.home, settle=True)
    return query, transfer, _blocks.store(writing, batches)


def commit(link: Link, sink: Sink, number_: int, tasks: list[tuple[str, str, list[Block]]]) -> None:
    """All tasks of a batch are done: publish what they wrote, unless it was published before."""
    if not tasks:
        return
    blocks = [block for _, _, blocks in tasks for block in blocks]
    query, transfer, _ = tasks[0]
    once = (query, number_)
    if sink.complete:
        ask(link, "publish_written", sink.name, Publication(sink.schema, blocks, once), transfer)
    else:
        batch = Batch(sink.schema, blocks, once)
        ask(link, "push_written", sink.name, batch, transfer, sink.bounds)


def abort(link: Link, tasks: list[tuple[str, str, list[Block]]]) -> None:
    """A batch failed: drop what its tasks wrote."""
    for transfer in {transfer for _, transfer, _ in tasks}:
        link.join().end.remote(transfer)


def stream_writer(link: Link) -> type:
    """The class of the sink, bound to an exchange."""
    from pyspark.sql import datasource

    if not hasattr(datasource, "DataSourceStreamArrowWriter"):
        return _NoWriter

    class Sealed(datasource.WriterCommitMessage):
        def __init__(self, task: tuple[str, str, list[Block]]) -> None:
            self.task = task

    class StreamWriter(datasource.DataSourceStreamArrowWriter):
        def __init__(self, options: Any, schema: Any, overwrite: bool) -> None:
            from skate.util.spark import _stream_format

            self.sink = _stream_format.sink_of(options, schema, overwrite)
            self.nonce = secrets.token_hex(4)

        def write(self, iterator: Iterator[Any]) -> Sealed:
            from skate.util.spark import _stream_format

            return Sealed(_stream_format.write(link, self.sink, self.nonce, iterator))

        def commit(self, messages: list[Any], batchId: int) -> None:  # noqa: N803 (Spark's name)
            from skate.util.spark import _stream_format

            tasks = [message.task for message in messages if message is not None]
            _stream_format.commit(link, self.sink, batchId, tasks)

        def abort(self, messages: list[Any], batchId: int) -> None:  # noqa: N803 (Spark's name)
            from skate.util.spark import _stream_format

            tasks = [message.task for message in messages if message is not None]
            _stream_format.abort(link, tasks)

    return StreamWriter


class _NoWriter:
    """The sink where pyspark has none that takes Arrow."""

    def __init__(self, options: Any, schema: Any, overwrite: bool) -> None:
        raise RuntimeError(
            "this pyspark has no streaming sinks that take Arrow (4.1 has): use "
            ".foreachBatch(objects_sink(name)) of skate.util.spark instead of this format."
        )


# -------------------------------------------------------------------------------------- source


def schema_of_stream(link: Link, name: str) -> bytes | None:
    """The schema of Arrow of the queue's batches. None: there is no such queue, or no batch yet."""
    if name not in ask(link, "queues"):
        return None
    known: bytes | None = ask(link, "queue_state", name)[3]
    return known


class Source:
    """What the source asks the queue; `uid` and `last` are of the last offset it has seen."""

    def __init__(self, link: Link, options: Any, schema: Any) -> None:
        from skate.util.spark._objects import arrow_bytes, name_of

        self.link, self.name = link, name_of(options)
        self.schema = arrow_bytes(schema)
        self.most = number(options, "maxBatchesPerTrigger", float("inf"))
        self.uid: str | None = None
        self.last = -1

    def first(self) -> dict[str, Any]:
        """The offset where a query that is new begins."""
        uid, first, _, _ = self._state()
        return {"stream": uid, "at": first}

    def latest(self) -> dict[str, Any]:
        """The offset that the next batch of Spark may go to."""
        uid, first, next_, _ = self._state()
        if self.uid not in (None, uid):
            raise RuntimeError(self._stale(self.last))
        self._saw(uid, int(min(next_, max(self.last, first) + self.most)))
        return {"stream": uid, "at": max(self.last, first)}

    def parts(self, start: dict[str, Any], end: dict[str, Any]) -> list[Any]:
        """What tasks are to read: (batch, block), or an error for the one who reads it.

        Spark plans its last batch again when a query starts again, also when it was done.
        """
        self._saw(end["stream"], end["at"])
        if start["stream"] != end["stream"]:
            return [self._stale(start["at"])]
        span = start["at"], end["at"]
        try:
            return list(ask(self.link, "queue_blocks", self.name, end["stream"], *span))
        except KeyError:
            return [self._stale(start["at"])]

    def load(self, uid: str, part: Any) -> Iterator[Any]:
        """In a task: the batches of Arrow of a part."""
        import skate

        if isinstance(part, str):
            raise RuntimeError(part)
        asked = self.link.join().queue_block.remote(self.name, uid, *part)
        try:
            [ref] = skate.get(asked)
        except KeyError:
            raise RuntimeError(self._stale(part[0])) from None
        yield from _blocks.batches_of(skate.get(ref), self.schema)

    def done(self, end: dict[str, Any]) -> None:
        """Spark has processed what lies before this offset."""
        ask(self.link, "queue_drop", self.name, end["stream"], end["at"])

    def _state(self) -> tuple[str, int, int, bytes | None]:
        found: tuple[str, int, int, bytes | None] = ask(self.link, "queue_state", self.name)
        return found

    def _saw(self, uid: str, at: int) -> None:
        self.last = max(self.last, at) if uid == self.uid else at
        self.uid = uid

    def _stale(self, start: int) -> str:
        return _queues.STALE.format(name=self.name, start=start)


def stream_reader(link: Link) -> type:
    """The class of the source, bound to an exchange."""
    from pyspark.sql.datasource import DataSourceStreamReader, InputPartition

    class StreamReader(DataSourceStreamReader):
        def __init__(self, options: Any, schema: Any) -> None:
            from skate.util.spark import _stream_format

            self.source = _stream_format.Source(link, options, schema)

        def initialOffset(self) -> dict[str, Any]:  # noqa: N802 (Spark's name)
            return self.source.first()

        def latestOffset(self) -> dict[str, Any]:  # noqa: N802 (Spark's name)
            return self.source.latest()

        def partitions(self, start: dict[str, Any], end: dict[str, Any]) -> list[Any]:
            if start == end:
                return []
            parts = self.source.parts(start, end)
            return [InputPartition((end["stream"], part)) for part in parts]

        def read(self, partition: Any) -> Iterator[Any]:
            uid, part = partition.value
            yield from self.source.load(uid, part)

        def commit(self, end: dict[str, Any]) -> None:
            self.source.done(end)

    return StreamReader
