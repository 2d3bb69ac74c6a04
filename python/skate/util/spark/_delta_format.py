"""The format "delta_py" of Spark 4: Delta tables through the package deltalake, without a jar.

What Spark's planning process on the driver's machine asks for: columns, versions, files, targets.
The classes that Spark knows are in _delta_source.py. Needs no cluster of Skate.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from skate.util.spark import _delta, _delta_files, _delta_filter
from skate.util.spark._delta import Place
from skate.util.spark._delta_files import Target

PUSH = "spark.sql.python.filterPushdown.enabled"


def register_delta(spark: Any) -> None:
    """Make the format "delta_py" known to a session of pyspark 4.

    After it `spark.read.format("delta_py").load(path)`, `df.write.format("delta_py")`, and the
    same with readStream and writeStream (pyspark 4.1) work on Delta tables. Sets
    spark.sql.python.filterPushdown.enabled, so that filters leave files out.
    ImportError: there is no deltalake. RuntimeError: this pyspark has no data sources in Python.
    """
    _delta.package()
    if not hasattr(spark, "dataSource"):
        raise RuntimeError(
            f'pyspark {spark.version} has no data sources in Python, which "delta_py" is: use '
            'pyspark 4, or the package deltalake in the driver, or the format "delta" with its jar.'
        )
    from skate.util.spark._delta_source import make_source

    spark.conf.set(PUSH, "true")
    context = getattr(spark, "_sc", None)  # Spark Connect has none
    spark.dataSource.register(make_source(context.defaultParallelism if context else 8))


# ---------------------------------------------------------------------------- from the options


def table_of(place: Place, options: Any) -> Any:
    """The table at the version that the options name. ValueError: they name none that is there."""
    version, time = options.get("versionAsOf"), options.get("timestampAsOf")
    if version is not None and time is not None:
        raise ValueError("give one of versionAsOf and timestampAsOf, not both")
    if version is not None and not str(version).isdigit():
        raise ValueError(f"versionAsOf must be a number from 0 on, not {version!r}")
    table = _delta.open_table(place, None if version is None else int(version))
    if time is not None:
        table.load_as_version(time)
    return table


def schema_of(table: Any, options: Any) -> Any:
    """The StructType of the table, or of the columns that the option `columns` names."""
    import pyarrow as pa

    from skate.util.spark._transfer import spark_types

    schema = _delta.arrow_schema(table)
    if options.get("columns"):
        names = [name.strip() for name in options["columns"].split(",")]
        missing = [name for name in names if name not in schema.names]
        if missing:
            raise ValueError(
                f"the Delta table has no column {missing[0]!r}; it has {', '.join(schema.names)}"
            )
        schema = pa.schema([schema.field(name) for name in names])
    return spark_types(schema)


def wanted(schema: Any, table: Any, place: Place) -> bytes:
    """The columns that Spark wants (a StructType), as Arrow. ValueError: the table lacks one."""
    from pyspark.sql.pandas.types import to_arrow_schema

    made = to_arrow_schema(schema)
    there = _delta.arrow_schema(table)
    for field in made:
        if field.name not in there.names:
            raise ValueError(
                f"the Delta table at {place.path} has no column {field.name!r} (version "
                f"{table.version()}); it has {', '.join(there.names)}"
            )
    wire: bytes = made.serialize().to_pybytes()
    return wire


def target_of(options: Any, schema: Any, overwrite: bool) -> Target:
    """What is to be written, after a look at the table that is there."""
    from pyspark.sql.pandas.types import to_arrow_schema

    place = _delta.place_of(options)
    mode = (options.get("ifExists") or "").lower()
    if mode not in ("", "error"):
        raise ValueError(f"the option ifExists may only be 'error', not {mode!r}")
    if mode and _delta.exists(place):
        raise FileExistsError(f"there is a Delta table at {place.path} already")
    keys = tuple(k.strip() for k in (options.get("partitionBy") or "").split(",") if k.strip())
    made = _delta_files.plain(to_arrow_schema(schema))
    target = Target(place, made.serialize().to_pybytes(), keys, overwrite)
    return _delta_files.checked(target)


def once_of(options: Any) -> tuple[str, int] | None:
    """The options txnAppId and txnVersion, as Delta's own format has them."""
    name, version = options.get("txnAppId"), options.get("txnVersion")
    if name is None or version is None:
        return None
    if not version.isdigit():
        raise ValueError(f"txnVersion must be a number from 0 on, not {version!r}")
    return name, int(version)


# ----------------------------------------------------------------------------------- streams


class Versions:
    """A stream of a table's versions: what was added since. `last`: the offset it has seen."""

    def __init__(self, options: Any, schema: Any) -> None:
        from skate.util.spark._stream_format import number

        self.place = _delta.place_of(options)
        table = _delta.open_table(self.place)
        _delta.check_readable(table)
        self.schema = wanted(schema, table, self.place)
        self.whole = _delta.arrow_schema(table).serialize().to_pybytes()
        self.start = str(options.get("startingVersion") or "")
        if self.start not in ("", "latest") and not self.start.isdigit():
            raise ValueError(
                f"startingVersion must be a number from 0 on, or 'latest', not {self.start!r}"
            )
        self.skip = str(options.get("skipChangeCommits", "false")).lower() == "true"
        self.most = int(number(options, "maxVersionsPerTrigger", 1000))
        self.last: int | None = None

    def first(self) -> dict[str, Any]:
        """Where a query that is new begins. snapshot: with all rows of the version it sees."""
        table = _delta.open_table(self.place)
        found = {"table": table.metadata().id, "version": table.version()}
        if self.start == "":
            found |= {"version": -1, "snapshot": True}
        elif self.start != "latest":
            found["version"] = int(self.start) - 1
            self.last = found["version"]
        return found

    def latest(self) -> dict[str, Any]:
        """The offset that the next batch of Spark may go to."""
        table = _delta.open_table(self.place)
        version = table.version()
        if self.last is not None:
            version = max(self.last, min(version, self.last + self.most))
        return {"table": table.metadata().id, "version": version}

    def tasks(self, start: dict[str, Any], end: dict[str, Any], cores: int) -> list[Any]:
        """The files of a batch, in groups. Errors: of _delta.changes, or a ValueError."""
        import pyarrow as pa

        self.last = max(self.last or -1, end["version"])
        if start["table"] != end["table"]:
            raise ValueError(
                f"the Delta table at {self.place.path} is another one than this checkpoint's: it "
                "was dropped and made anew. Start with another checkpointLocation."
            )
        if start.get("snapshot"):
            table = _delta.open_table(self.place, end["version"])
            _delta.check_readable(table)
            return _delta.tasks_of(_delta.files_of(table), cores)
        schema = pa.ipc.read_schema(pa.py_buffer(self.whole))
        span = start["version"] + 1, end["version"]
        found = _delta.changes(self.place, *span, skip=self.skip, schema=schema)
        if found.removed is not None:
            raise ValueError(
                f"version {found.removed} of the Delta table at {self.place.path} removed or "
                "changed rows, which a stream cannot follow: leave such versions out with "
                '.option("skipChangeCommits", "true"), or start with another checkpointLocation.'
            )
        return _delta.tasks_of(found.files, cores)


# -------------------------------------------------------------------------------------- reads


def read_files(place: Place, files: Any, schema: bytes, keep: Any = None) -> Iterator[Any]:
    """In a task: batches of a group of files."""
    import pyarrow as pa

    wanted_ = pa.ipc.read_schema(pa.py_buffer(schema))
    return _delta_files.read(place, files, wanted_, keep)


def pushed(
    place: Place, version: int, kinds: bytes, filters: list[Any]
) -> tuple[list[Any], list[Any]]:
    """The conditions of Spark's filters, and the filters that Spark is to look at again."""
    import pyarrow as pa

    schema = pa.ipc.read_schema(pa.py_buffer(kinds))
    keys = _delta.open_table(place, version).metadata().partition_columns
    keep, rest = [], []
    for each in filters:
        found = _delta_filter.condition_of(each, schema)
        if found is not None:
            keep.append(found)
        if found is None or found.column not in keys:
            rest.append(each)
    return keep, rest
