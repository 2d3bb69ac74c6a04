"""Delta tables as the format "delta_py" sees them: one version, its files, and what changed since.

Over the package deltalake, which knows the log, the protocol and the stores; no Spark and no Skate
session is needed here. Rows are not read here: _delta_files.py does that.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from skate.exceptions import NotSupportedError

STORAGE = "storage."  # options that begin so go to deltalake's store
READABLE = {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "columnMapping",
            "deletionVectors", "domainMetadata", "inCommitTimestamp"}  # fmt: skip
WRITABLE = READABLE | {"appendOnly", "invariants", "checkConstraints", "generatedColumns",
                       "identityColumns", "changeDataFeed", "columnDefaults"}  # fmt: skip
_BY_FIELD = {"delta.invariants": "a column invariant",
             "delta.generationExpression": "a generated column",
             "delta.identity.start": "an identity column",
             "CURRENT_DEFAULT": "a column default"}  # fmt: skip
_ZONE = re.compile(r"(Z|:[\d.]+[+-]\d\d(:?\d\d)?)$")  # at the end of a time


def package() -> Any:
    """The package deltalake. ImportError: it is not installed."""
    try:
        import deltalake
    except ImportError as error:
        raise ImportError(
            'the format "delta_py" needs the package deltalake on the driver and on the executors: '
            "pip install deltalake"
        ) from error
    return deltalake


@dataclass(frozen=True)
class Place:
    """Where a table lies: a path or a URI, and options of its store."""

    path: str
    storage: tuple[tuple[str, str], ...] = ()

    def filesystem(self) -> Any:
        """The table's folder, as a filesystem of Arrow."""
        import pyarrow.fs as fs

        return fs.PyFileSystem(self.handler())

    def handler(self, create: bool = False) -> Any:
        """deltalake's own interface to the store. create: make the folder of a new table."""
        package()
        from deltalake.fs import DeltaStorageHandler

        if create and "://" not in self.path.removeprefix("file://"):
            os.makedirs(self.path.removeprefix("file://"), exist_ok=True)
        return DeltaStorageHandler(self.path, dict(self.storage))


def place_of(options: Any) -> Place:
    """From the options of read and write. ValueError: there is no path."""
    path = options.get("path")
    if not path:
        raise ValueError('the format "delta_py" has no path: .load("/tables/prices")')
    storage = [(k[len(STORAGE) :], v) for k, v in options.items() if k.lower().startswith(STORAGE)]
    return Place(str(path), tuple(sorted(storage)))


def exists(place: Place) -> bool:
    """Is there a table?"""
    return bool(package().DeltaTable.is_deltatable(place.path, dict(place.storage)))


def open_table(place: Place, version: int | None = None) -> Any:
    """The table, at that version or the newest.

    FileNotFoundError: there is none. ValueError: it has no such version.
    """
    deltalake = package()
    if not exists(place):
        raise FileNotFoundError(f"there is no Delta table at {place.path}")
    storage = dict(place.storage) or None
    try:
        return deltalake.DeltaTable(place.path, version=version, storage_options=storage)
    except deltalake.exceptions.DeltaError as error:
        if version is None:
            raise
        newest = deltalake.DeltaTable(place.path, storage_options=storage).version()
        raise ValueError(
            f"the Delta table at {place.path} cannot be read at version {version}; its newest is "
            f"{newest}, and older ones go when its log is cleaned up: {error}"
        ) from None


def check_readable(table: Any) -> None:
    """NotSupportedError: reading the table's files would give wrong rows."""
    protocol = table.protocol()
    features = set(protocol.reader_features or ())
    unknown = sorted(features - READABLE)
    if unknown or protocol.min_reader_version > 3:
        _refuse(table, f"the reader feature {', '.join(unknown) or protocol.min_reader_version}")
    if _mapped(table):
        _refuse(table, "column mapping", " Write it anew without delta.columnMapping.mode.")
    if "deletionVectors" in features and any(True for _ in table.deletion_vectors()):
        _refuse(table, "deletion vectors", " REORG TABLE ... APPLY (PURGE) removes them.")


def check_writable(table: Any) -> None:
    """NotSupportedError: the table asks of its writers what these ones do not do."""
    protocol = table.protocol()
    unknown = sorted(set(protocol.writer_features or ()) - WRITABLE)
    if unknown:
        _refuse(table, f"the writer feature {', '.join(unknown)}")
    if _mapped(table):
        _refuse(table, "column mapping")
    for key in table.metadata().configuration:
        if key.startswith("delta.constraints."):
            _refuse(table, f"the constraint {key.removeprefix('delta.constraints.')}")
    for field in json.loads(table.schema().to_json())["fields"]:
        for key, what in _BY_FIELD.items():
            if key in field.get("metadata", {}):
                _refuse(table, f"{what} ({field['name']})")


def _mapped(table: Any) -> bool:
    return (
        table.metadata().configuration.get("delta.columnMapping.mode", "none").lower() != "none"
    )


def _refuse(table: Any, what: str, advice: str = "") -> None:
    raise NotSupportedError(
        f"the Delta table at {table.table_uri} uses {what}, which delta_py does not know.{advice}"
    )


def arrow_schema(table: Any) -> Any:
    """The table's columns, as Spark takes them."""
    import pyarrow as pa

    from skate.util.spark._blocks import spark_schema

    return spark_schema(pa.schema(table.schema().to_arrow()))


# ---------------------------------------------------------------------------------------- files


@dataclass(frozen=True)
class DataFile:
    """A file of a table. low, high, nulls: what the log knows of its columns."""

    path: str
    size: int
    partition: dict[str, Any]
    rows: int | None = None
    low: dict[str, Any] | None = None
    high: dict[str, Any] | None = None
    nulls: dict[str, Any] | None = None


def files_of(table: Any) -> list[DataFile]:
    """All files of the version that the table is open at."""
    import pyarrow as pa

    known = pa.table(table.get_add_actions(flatten=False)).to_pylist()
    return [
        DataFile(
            unquote(each["path"]), each["size_bytes"], each.get("partition") or {},
            each.get("num_records"), each.get("min"), each.get("max"), each.get("null_count"),
        )
        for each in known
    ]  # fmt: skip


def typed(values: dict[str, str | None], schema: Any) -> dict[str, Any]:
    """Partition values of the log, which are texts, as values of their columns."""
    import pyarrow as pa

    made = {}
    for name, text in values.items():
        kind = schema.field(name).type
        if text is None or (text == "" and not pa.types.is_string(kind)):
            made[name] = None
        else:
            if pa.types.is_timestamp(kind) and kind.tz and not _ZONE.search(text):
                text += "Z"  # Delta writes times in UTC, with and without saying so
            made[name] = pa.array([text]).cast(kind)[0].as_py()
    return made


def tasks_of(files: Iterable[DataFile], cores: int) -> list[tuple[DataFile, ...]]:
    """Files in groups, one a task: about as large each, small ones together."""
    opening = 4 << 20  # what opening a file costs, in bytes of reading
    files = sorted(files, key=lambda file: -file.size)
    whole = sum(file.size + opening for file in files)
    most = min(128 << 20, max(opening, whole // max(1, cores)))
    groups: list[list[DataFile]] = []
    sizes: list[int] = []
    for file in files:
        weight = file.size + opening
        if groups and sizes[-1] + weight <= most:
            groups[-1].append(file)
            sizes[-1] += weight
        else:
            groups.append([file])
            sizes.append(weight)
    return [tuple(group) for group in groups]


# ------------------------------------------------------------------------------------------ log


@dataclass(frozen=True)
class Changes:
    """What the commits of some versions did. removed: the first version that removed rows."""

    files: list[DataFile]
    removed: int | None = None


def changes(place: Place, first: int, last: int, *, skip: bool, schema: Any) -> Changes:
    """The files that the versions from first to last added, in order.

    skip: versions that removed rows are left out as a whole. FileNotFoundError: a version is not
    in the log any more. NotSupportedError: deletion vectors. ValueError: the columns changed.
    """
    filesystem = place.filesystem()
    found: list[DataFile] = []
    removed = None
    for version in range(first, last + 1):
        added: list[DataFile] = []
        removes = False
        for action in _commit(filesystem, place, version):
            if "remove" in action:
                removes = removes or action["remove"].get("dataChange", True)
            elif "add" in action and action["add"].get("dataChange", True):
                added.append(_added(action["add"], place, schema))
            elif "metaData" in action:
                _check_columns(action["metaData"], version, schema)
        if removes and removed is None:
            removed = version
        if not (removes and skip):
            found += added
    return Changes(found, None if skip else removed)


def adds(place: Place, first: int, last: int, path: str) -> bool:
    """Does a version from first to last add that file? FileNotFoundError: see changes()."""
    filesystem = place.filesystem()
    return any(
        "add" in action and unquote(action["add"]["path"]) == path
        for version in range(first, last + 1)
        for action in _commit(filesystem, place, version)
    )


def _commit(filesystem: Any, place: Place, version: int) -> list[dict[str, Any]]:
    try:
        with filesystem.open_input_stream(f"_delta_log/{version:020d}.json") as file:
            text = file.read()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"version {version} of the Delta table at {place.path} is not in its log any more: "
            "the query was away for longer than the log is kept (delta.logRetentionDuration). "
            "Start with another checkpointLocation, which reads the whole table anew."
        ) from None
    return [json.loads(line) for line in text.decode().splitlines() if line.strip()]


def _added(add: dict[str, Any], place: Place, schema: Any) -> DataFile:
    if add.get("deletionVector"):
        raise NotSupportedError(
            f"the Delta table at {place.path} uses deletion vectors, which delta_py does not know."
        )
    values = {k: v for k, v in (add.get("partitionValues") or {}).items() if k in schema.names}
    return DataFile(unquote(add["path"]), add["size"], typed(values, schema))


def _check_columns(meta: dict[str, Any], version: int, schema: Any) -> None:
    import pyarrow as pa

    from skate.util.spark._blocks import spark_schema

    now = pa.schema(package().Schema.from_json(meta["schemaString"]).to_arrow())
    now = spark_schema(now)
    for field in schema:
        place = now.get_field_index(field.name)
        if place < 0 or now.field(place).type != field.type:
            raise ValueError(
                f"version {version} changed the column {field.name!r} of the table: start the "
                "query again, so that it takes the new columns."
            )
