"""The format "objects" of Spark 4: reads and writes named refs, without a jar.

Spark runs a data source in three places: a planning process on the driver's machine (schema,
partitions, commit), and tasks on the executors (read, write). None of them is the user's program,
so the class that is registered carries the link to its exchange along; it is made here, anew for
each program, and Spark pickles it by value.

Options: `name`: what to read or write. (`laid`, `blocks`: of from_refs(), not for users.)
What streams do is in _stream_format.py.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from skate.util.spark import _blocks
from skate.util.spark._exchange import Block, Link, Publication

ADVICE = 'set the name: .format("objects").option("name", "prices")'


@dataclass
class Plan:
    """What a read is about: the objects, how many, and their schema (of Arrow, in bytes)."""

    laid: str
    count: int
    schema: bytes


def published(link: Link, name: str) -> Publication:
    """What stands under the name. ValueError: nothing does."""
    import skate

    exchange = link.join()
    found: Publication | None = skate.get(exchange.describe.remote(name))
    if found is None:
        names = skate.get(exchange.names.remote())
        raise ValueError(
            f"no objects are published as {name!r}; there are: {', '.join(names) or 'none'}"
        )
    return found


def plan_read(link: Link, options: Any, schema: Any) -> Plan:
    """schema: the StructType that Spark wants, the user's or that of schema_of()."""
    from pyspark.sql.pandas.types import to_arrow_schema

    wanted = to_arrow_schema(schema).serialize().to_pybytes()
    if options.get("laid"):
        return Plan(options["laid"], int(options["blocks"]), wanted)
    found = published(link, name_of(options))
    return Plan(found.laid, len(found.blocks), wanted)


def schema_of(link: Link, options: Any) -> Any:
    """The StructType of what stands under the name, or waits in the stream of that name.

    Spark does not tell for which of both it asks. ValueError: there are both, and they differ.
    """
    import pyarrow as pa

    import skate
    from skate.util.spark._stream_format import schema_of_stream
    from skate.util.spark._transfer import spark_types

    name = name_of(options)
    known = schema_of_stream(link, name)
    table = skate.get(link.join().describe.remote(name)) if known is not None else None
    if known is None:
        known = published(link, name).schema
    elif table is not None and table.schema != known:
        raise ValueError(
            f"there are a table and a stream named {name!r}, with different columns: say which "
            "you mean by .schema(...), or give one of them another name."
        )
    return spark_types(pa.ipc.read_schema(pa.py_buffer(known)))


def name_of(options: Any) -> str:
    """The option `name` (or `queue`). ValueError: it is missing."""
    name = options.get("name") or options.get("queue") or options.get("path")
    if not name:
        raise ValueError(f'the format "objects" has no name: {ADVICE}')
    return str(name)


def commit(writing: _blocks.Writing, name: str, schema: bytes, tasks: list[Any], more: Any) -> None:
    """Publish what the tasks wrote, all of it at once. more: (append, once)."""
    from skate.util.spark._stream_format import ask

    blocks: list[Block] = [block for task in tasks if task is not None for block in task]
    append, once = more
    what = Publication(schema, blocks, once)
    ask(writing.link, "publish_claimed", name, what, writing.transfer, append)


def abort(writing: _blocks.Writing) -> None:
    """Drop what the tasks wrote."""
    import skate

    skate.get(writing.link.join().end.remote(writing.transfer))


def arrow_bytes(schema: Any) -> bytes:
    """A StructType as a schema of Arrow, serialised."""
    from pyspark.sql.pandas.types import to_arrow_schema

    made: bytes = to_arrow_schema(schema).serialize().to_pybytes()
    return made


def make_source(link: Link) -> type:
    """The data source, bound to an exchange."""
    from pyspark.sql.datasource import (
        DataSource,
        DataSourceArrowWriter,
        DataSourceReader,
        InputPartition,
        WriterCommitMessage,
    )

    from skate.util.spark._stream_format import stream_reader, stream_writer

    StreamReader, StreamWriter = stream_reader(link), stream_writer(link)

    class Written(WriterCommitMessage):
        def __init__(self, blocks: list[Block]) -> None:
            self.blocks = blocks

    class Reader(DataSourceReader):
        def __init__(self, plan: Plan) -> None:
            self.plan = plan

        def partitions(self) -> list[Any]:
            return [InputPartition(number) for number in range(self.plan.count)]

        def read(self, partition: Any) -> Iterator[Any]:
            from skate.util.spark import _blocks

            if partition is None:  # there are no objects
                return
            reading = _blocks.Reading(link, self.plan.laid, self.plan.schema)
            yield from _blocks.load(reading, partition.value)

    class Writer(DataSourceArrowWriter):
        def __init__(self, name: str, schema: bytes, append: bool) -> None:
            self.name, self.schema, self.append = name, schema, append
            self.writing = _blocks.Writing(link, "w-" + secrets.token_hex(8))

        def write(self, iterator: Iterator[Any]) -> Written:
            from skate.util.spark import _blocks

            return Written(_blocks.store(self.writing, iterator))

        def commit(self, messages: list[Any]) -> None:
            from skate.util.spark import _objects

            tasks = [message.blocks for message in messages if message is not None]
            _objects.commit(self.writing, self.name, self.schema, tasks, (self.append, None))

        def abort(self, messages: list[Any]) -> None:
            from skate.util.spark import _objects

            _objects.abort(self.writing)

    class ObjectsSource(DataSource):
        @classmethod
        def name(cls) -> str:
            return "objects"

        def schema(self) -> Any:
            from skate.util.spark import _objects

            return _objects.schema_of(link, self.options)

        def reader(self, schema: Any) -> Any:
            from skate.util.spark import _objects

            return Reader(_objects.plan_read(link, self.options, schema))

        def writer(self, schema: Any, overwrite: bool) -> Any:
            from skate.util.spark import _objects

            name = _objects.name_of(self.options)
            return Writer(name, _objects.arrow_bytes(schema), not overwrite)

        def streamWriter(self, schema: Any, overwrite: bool) -> Any:  # noqa: N802 (Spark's name)
            return StreamWriter(self.options, schema, overwrite)

        def streamReader(self, schema: Any) -> Any:  # noqa: N802 (Spark's name)
            return StreamReader(self.options, schema)

    return ObjectsSource
