"""The classes that Spark knows the format "delta_py" by; what they do is in _delta_format.py.

They are made anew for each session, since Spark pickles classes that are made so by value, with the
number of cores in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from skate.util.spark._delta import Place
from skate.util.spark._delta_files import Added, Target


def make_reader(cores: int) -> type:
    """The class that reads one version."""
    from pyspark.sql.datasource import DataSourceReader, InputPartition

    class Reader(DataSourceReader):
        def __init__(self, place: Place, version: int, schema: bytes, kinds: bytes) -> None:
            self.place, self.version = place, version
            self.schema, self.kinds = schema, kinds
            self.keep: list[Any] = []

        def pushFilters(self, filters: list[Any]) -> list[Any]:  # noqa: N802 (Spark's name)
            from skate.util.spark import _delta_format

            self.keep, rest = _delta_format.pushed(self.place, self.version, self.kinds, filters)
            return rest

        def partitions(self) -> list[Any]:
            from skate.util.spark import _delta, _delta_filter

            files = _delta.files_of(_delta.open_table(self.place, self.version))
            files = _delta_filter.left(files, self.keep)
            return [InputPartition(group) for group in _delta.tasks_of(files, cores)]

        def read(self, partition: Any) -> Iterator[Any]:
            from skate.util.spark import _delta_format

            if partition is None:  # there are no files
                return
            files = partition.value
            yield from _delta_format.read_files(self.place, files, self.schema, self.keep)

    return Reader


def make_message() -> type:
    """The class of what a task of a write tells the one who commits."""
    from pyspark.sql.datasource import WriterCommitMessage

    class Wrote(WriterCommitMessage):
        def __init__(self, files: list[Added], query: str | None = None) -> None:
            self.files, self.query = files, query

    return Wrote


def make_writer(message: type) -> type:
    """The class that writes."""
    from pyspark.sql.datasource import DataSourceArrowWriter

    class Writer(DataSourceArrowWriter):
        def __init__(self, target: Target, once: tuple[str, int] | None) -> None:
            self.target, self.once = target, once

        def write(self, iterator: Iterator[Any]) -> Any:
            from skate.util.spark import _delta_files

            return message(_delta_files.write(self.target, iterator))

        def commit(self, messages: list[Any]) -> None:
            from skate.util.spark import _delta_files

            files = [file for message in messages if message for file in message.files]
            _delta_files.commit(self.target, files, self.once)

        def abort(self, messages: list[Any]) -> None:
            from skate.util.spark import _delta_files

            files = [file for message in messages if message for file in message.files]
            _delta_files.drop(self.target.place, files)

    return Writer


def make_stream_reader(cores: int) -> type:
    """The class of the streaming source."""
    from pyspark.sql.datasource import DataSourceStreamReader, InputPartition

    class StreamReader(DataSourceStreamReader):
        def __init__(self, options: Any, schema: Any) -> None:
            from skate.util.spark import _delta_format

            self.versions = _delta_format.Versions(options, schema)

        def initialOffset(self) -> dict[str, Any]:  # noqa: N802 (Spark's name)
            return self.versions.first()

        def latestOffset(self) -> dict[str, Any]:  # noqa: N802 (Spark's name)
            return self.versions.latest()

        def partitions(self, start: dict[str, Any], end: dict[str, Any]) -> list[Any]:
            if start == end:
                return []
            return [InputPartition(group) for group in self.versions.tasks(start, end, cores)]

        def read(self, partition: Any) -> Iterator[Any]:
            from skate.util.spark import _delta_format

            place, schema = self.versions.place, self.versions.schema
            yield from _delta_format.read_files(place, partition.value, schema)

        def commit(self, end: dict[str, Any]) -> None:
            pass  # what was read stays in the table

    return StreamReader


def make_stream_writer(message: type) -> type:
    """The class of the streaming sink. RuntimeError: this pyspark has no such sinks."""
    from pyspark.sql import datasource

    if not hasattr(datasource, "DataSourceStreamArrowWriter"):
        raise RuntimeError(
            "this pyspark has no streaming sinks that take Arrow (4.1 has): write the batches in "
            'foreachBatch(), with .option("txnAppId", ...).option("txnVersion", batch_id).'
        )

    class StreamWriter(datasource.DataSourceStreamArrowWriter):
        def __init__(self, options: Any, schema: Any, overwrite: bool) -> None:
            from skate.util.spark import _delta_format

            self.target = _delta_format.target_of(options, schema, overwrite)
            self.query = options.get("txnAppId")

        def write(self, iterator: Iterator[Any]) -> Any:
            from skate.util.spark import _delta_files, _stream_format

            query = self.query or _stream_format.query_of_task()
            return message(_delta_files.write(self.target, iterator), query)

        def commit(self, messages: list[Any], batchId: int) -> None:  # noqa: N803 (Spark's name)
            from skate.util.spark import _delta_files

            files = [file for each in messages if each for file in each.files]
            queries = [each.query for each in messages if each]
            if files or self.target.overwrite:
                _delta_files.commit(self.target, files, (queries[0], batchId) if queries else None)

        def abort(self, messages: list[Any], batchId: int) -> None:  # noqa: N803 (Spark's name)
            from skate.util.spark import _delta_files

            files = [file for each in messages if each for file in each.files]
            _delta_files.drop(self.target.place, files)

    return StreamWriter


def make_source(cores: int) -> type:
    """The data source. cores: how many tasks a read should have, when there is enough to read."""
    from pyspark.sql.datasource import DataSource

    message = make_message()
    Reader, Writer = make_reader(cores), make_writer(message)
    StreamReader = make_stream_reader(cores)

    class DeltaSource(DataSource):
        @classmethod
        def name(cls) -> str:
            return "delta_py"

        def schema(self) -> Any:
            from skate.util.spark import _delta, _delta_format

            table = _delta_format.table_of(_delta.place_of(self.options), self.options)
            self.version = table.version()  # goes with this source into each read of it
            return _delta_format.schema_of(table, self.options)

        def reader(self, schema: Any) -> Any:
            from skate.util.spark import _delta, _delta_format

            place = _delta.place_of(self.options)
            version = getattr(self, "version", None)
            if version is None:
                version = _delta_format.table_of(place, self.options).version()
            table = _delta.open_table(place, version)
            _delta.check_readable(table)
            kinds = _delta.arrow_schema(table).serialize().to_pybytes()
            return Reader(place, version, _delta_format.wanted(schema, table, place), kinds)

        def writer(self, schema: Any, overwrite: bool) -> Any:
            from skate.util.spark import _delta_format

            target = _delta_format.target_of(self.options, schema, overwrite)
            return Writer(target, _delta_format.once_of(self.options))

        def streamReader(self, schema: Any) -> Any:  # noqa: N802 (Spark's name)
            return StreamReader(self.options, schema)

        def streamWriter(self, schema: Any, overwrite: bool) -> Any:  # noqa: N802 (Spark's name)
            return make_stream_writer(message)(self.options, schema, overwrite)

    return DeltaSource
