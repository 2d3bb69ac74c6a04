"""Delta tables without a Spark: files, filters, commits, what is refused; read by deltalake."""

from __future__ import annotations

import datetime
import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

deltalake = pytest.importorskip("deltalake")

import skate  # noqa: E402
from skate.exceptions import NotSupportedError  # noqa: E402
from skate.util.spark import _delta, _delta_files, _delta_filter, _delta_format  # noqa: E402
from skate.util.spark._delta import DataFile, Place  # noqa: E402
from skate.util.spark._delta_files import Target  # noqa: E402
from skate.util.spark._delta_filter import Condition  # noqa: E402

DAY = datetime.date(2026, 1, 2)
AT = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC)


def target(path: Path, schema: pa.Schema, *keys: str, overwrite: bool = False) -> Target:
    """What writes rows of that schema there."""
    wire = _delta_files.plain(schema).serialize().to_pybytes()
    return _delta_files.checked(Target(Place(str(path)), wire, keys, overwrite))


def put(path: Path, table: pa.Table, *keys: str, once: Any = None, overwrite: bool = False) -> bool:
    """Write and commit a table, as one task."""
    into = target(path, table.schema, *keys, overwrite=overwrite)
    return _delta_files.commit(into, _delta_files.write(into, table.to_batches()), once)


def rows(path: Path, schema: pa.Schema, version: int | None = None) -> list[Any]:
    """What tasks read of it."""
    table = _delta.open_table(Place(str(path)), version)
    _delta.check_readable(table)
    files = _delta.files_of(table)
    made = [b for b in _delta_files.read(Place(str(path)), files, schema)]
    return pa.Table.from_batches(made, schema).to_pylist()


def numbers(*values: int) -> pa.Table:
    """A table of one column."""
    return pa.table({"n": pa.array(values, pa.int64())})


def test_partitions_of_all_types_and_odd_texts(tmp_path: Path) -> None:
    table = pa.table({
        "n": pa.array([1, 2, 3, 4], pa.int64()),
        "text": ["a", "q r/=%ü", None, ""],
        "day": pa.array([DAY, DAY, None, DAY]),
        "at": pa.array([AT, None, AT, AT], pa.timestamp("us", "UTC")),
        "yes": [True, False, None, True],
        "price": pa.array([Decimal("1.50")] * 4, pa.decimal128(6, 2)),
    })  # fmt: skip
    put(tmp_path / "t", table, "text", "day", "at", "yes", "price")
    wanted = table.to_pylist()
    wanted[3]["text"] = None  # Delta has no empty texts in partitions
    got = rows(tmp_path / "t", table.schema)
    assert sorted(got, key=lambda row: row["n"]) == wanted
    own = deltalake.DeltaTable(tmp_path / "t").to_pyarrow_table().select(table.column_names)
    assert sorted(own.to_pylist(), key=lambda row: row["n"]) == wanted
    came = _delta.changes(Place(str(tmp_path / "t")), 0, 0, skip=False, schema=table.schema).files
    read = _delta_files.read(Place(str(tmp_path / "t")), came, table.schema)
    followed = pa.Table.from_batches(read).to_pylist()
    assert sorted(followed, key=lambda row: row["n"]) == wanted, "as streams find them, in the log"
    with pytest.raises(TypeError, match="cannot be partitioned by values like 1.5"):
        put(tmp_path / "u", pa.table({"n": [1], "x": [1.5]}), "x")
    assert not list(tmp_path.glob("u/**/*.parquet"))


@pytest.mark.parametrize(
    "text",
    ["2026-01-02 03:04:05.678901", "2026-01-02T03:04:05.678901Z",
     "2026-01-02 05:04:05.678901+02:00", "2026-01-01 22:04:05.678901-0500"],
)  # fmt: skip
def test_times_of_the_log_are_in_utc(text: str) -> None:
    schema = pa.schema([("at", pa.timestamp("us", "UTC")), ("local", pa.timestamp("us"))])
    values = {"at": text, "local": "2026-01-02 03:04:05.678901"}
    assert _delta.typed(values, schema) == {"at": AT, "local": AT.replace(tzinfo=None)}
    assert _delta.typed({"at": "2026-01-02 03:04:05"}, schema) == {"at": AT.replace(microsecond=0)}


def test_commits_are_whole_and_once(tmp_path: Path) -> None:
    path = tmp_path / "t"
    assert put(path, numbers(1), once=("app", 0))
    assert not put(path, numbers(1), once=("app", 0)), "the very first, too"
    assert put(path, numbers(2), once=("app", 1)) and put(path, numbers(3), once=("other", 0))
    assert not put(path, numbers(9), once=("app", 0))
    assert len(list(path.glob("*.parquet"))) == 3, "files of no commit are removed"
    assert sorted(row["n"] for row in rows(path, numbers().schema, 1)) == [1, 2]
    assert put(path, numbers(7), overwrite=True)
    assert rows(path, numbers().schema) == [{"n": 7}]
    assert deltalake.DeltaTable(path).transaction_version("app") == 1


def test_writers_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t"
    real = _delta_files._commit_once
    turns: list[int] = []

    def late(into: Target, table: Any, files: Any, once: Any) -> None:
        turns.append(1)
        if len(turns) == 1:
            real(into, table, _delta_files.write(into, numbers(10).to_batches()), ("b", 0))
        real(into, table, files, once)

    monkeypatch.setattr(_delta_files, "_commit_once", late)
    assert put(path, numbers(1), once=("a", 0)), "another made the table in between"
    assert len(turns) == 2
    monkeypatch.undo()

    def twin(into: Target, table: Any, files: Any, once: Any) -> None:
        real(into, table, _delta_files.write(into, numbers(2).to_batches()), once)
        real(into, table, files, once)

    monkeypatch.setattr(_delta_files, "_commit_once", twin)
    assert not put(path, numbers(2), once=("a", 1)), "a twin committed the same batch"
    assert sorted(row["n"] for row in rows(path, numbers().schema)) == [1, 2, 10]


def test_a_commit_whose_checkpoint_fails_stands(tmp_path: Path) -> None:
    path = tmp_path / "t"
    put(path, numbers(0))
    deltalake.DeltaTable(path).alter.set_table_properties({"delta.checkpointInterval": "3"})
    (path / "_delta_log" / "_last_checkpoint").mkdir()  # no file can take its place
    for n in range(1, 6):
        assert put(path, numbers(n))
    assert sorted(row["n"] for row in rows(path, numbers().schema)) == list(range(6))
    assert deltalake.DeltaTable(path).version() == 6


@pytest.mark.parametrize("once", [None, ("app", 3)])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("kind", [OSError, deltalake.exceptions.CommitFailedError])
def test_a_commit_that_fails_when_it_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type, late: bool, once: Any
) -> None:
    path, real = tmp_path / "t", _delta_files._commit_once

    def landed(into: Target, table: Any, files: Any, once: Any) -> None:
        real(into, table, files, once)
        if late:  # in the log ours is not the last
            monkeypatch.undo()
            put(path, numbers(5), overwrite=True)
        raise kind("the answer was lost")

    monkeypatch.setattr(_delta_files, "_commit_once", landed)
    assert put(path, numbers(1), once=once), "into a new table"
    monkeypatch.setattr(_delta_files, "_commit_once", landed)
    assert put(path, numbers(2), once=once and ("app", 4))
    assert sorted(r["n"] for r in rows(path, numbers().schema)) == ([5] if late else [1, 2])
    assert rows(path, numbers().schema, 0) == [{"n": 1}], "older versions have their files"


def test_an_abort_removes_only_what_is_not_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, place = tmp_path / "t", Place(str(tmp_path / "t"))
    table = pa.table({"n": [1, 2], "k": ["a b", "c/%d"], "at": [AT, AT]})
    into = target(path, table.schema, "k", "at")

    def write() -> Any:
        return _delta_files.write(into, table.to_batches())

    def lying() -> set[str]:
        return {str(file.relative_to(path)) for file in path.glob("**/*.parquet")}

    _delta_files.drop(place, write())
    assert not lying(), "there is no table yet"
    ours = write()
    assert _delta_files.commit(into, ours)
    kept, orphans = lying(), write()
    assert [_delta.adds(place, 0, 0, f.path) for f in (*ours, *orphans)] == [True] * 2 + [False] * 2
    _delta_files.drop(place, [*ours, *orphans])
    assert lying() == kept and len(kept) == 2
    assert sorted(row["n"] for row in rows(path, table.schema)) == [1, 2]

    def never(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(_delta_files, "_commit_once", never)
    failed = write()
    with pytest.raises(OSError, match="no space left"):
        _delta_files.commit(into, failed)
    _delta_files.drop(place, failed)
    assert lying() == kept
    failed = write()
    (path / "_delta_log" / f"{1:020d}.json").write_text("{")
    _delta_files.drop(place, [*ours, *failed])
    assert len(lying()) == 4, "what an unreadable table names is unknown"


def test_what_does_not_fit_is_refused_before_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "t"
    with pytest.raises(FileNotFoundError, match="no Delta table at"):
        _delta.open_table(Place(str(path)))
    put(path, pa.table({"n": [1], "k": ["a"]}), "k")
    with pytest.raises(ValueError, match=r"n: int64 in the table, string here; x: nothing in the"):
        put(path, pa.table({"n": ["1"], "k": ["a"], "x": [1]}))
    with pytest.raises(ValueError, match="is partitioned by k, not by n"):
        put(path, pa.table({"n": [1], "k": ["a"]}), "n")
    with pytest.raises(ValueError, match="names 'z', which is no column"):
        put(path, pa.table({"n": [1], "k": ["a"]}), "z")
    with pytest.raises(ValueError, match="cannot be read at version 7; its newest is 0"):
        _delta.open_table(Place(str(path)), 7)
    deltalake.DeltaTable(path).alter.set_table_properties({"delta.appendOnly": "true"})
    with pytest.raises(ValueError, match="only takes appends"):
        put(path, pa.table({"n": [1], "k": ["a"]}), overwrite=True)
    solid = pa.schema([pa.field("n", pa.int64(), nullable=False)])
    deltalake.DeltaTable.create(tmp_path / "s", deltalake.Schema.from_arrow(solid))
    with pytest.raises(ValueError, match="'n' may hold no nulls"):
        put(tmp_path / "s", pa.table({"n": pa.array([None], pa.int64())}))
    deltalake.DeltaTable(tmp_path / "s").alter.add_constraint({"small": "n < 10"})
    with pytest.raises(NotSupportedError, match="the constraint small, which delta_py does not"):
        put(tmp_path / "s", numbers(11))


def test_tables_that_cannot_be_read_right(tmp_path: Path) -> None:
    put(tmp_path / "t", numbers(1))
    log = tmp_path / "t" / "_delta_log"
    lines = (log / f"{0:020d}.json").read_text().splitlines()
    [add] = [each for each in map(json.loads, lines) if "add" in each]
    add["add"]["deletionVector"] = {"storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^",
                                    "offset": 4, "sizeInBytes": 40, "cardinality": 6}  # fmt: skip
    (log / f"{1:020d}.json").write_text(json.dumps(add))
    with pytest.raises(NotSupportedError, match="deletion vectors, which delta_py does not know"):
        _delta.changes(Place(str(tmp_path / "t")), 1, 1, skip=False, schema=numbers().schema)
    mapped = {"delta.columnMapping.mode": "name"}
    made = Fake(mapped, 3, {"columnMapping"})
    with pytest.raises(NotSupportedError, match="column mapping"):
        _delta.check_readable(made)
    with pytest.raises(NotSupportedError, match="the reader feature typeWidening"):
        _delta.check_readable(Fake({}, 3, {"typeWidening"}))
    with pytest.raises(NotSupportedError, match="uses deletion vectors.*PURGE"):
        _delta.check_readable(Fake({}, 3, {"deletionVectors"}))
    with pytest.raises(NotSupportedError, match="the writer feature rowTracking"):
        _delta.check_writable(Fake({}, 3, {"rowTracking"}))


class Fake:
    """What deltalake tells of a table whose features its own writer has not."""

    table_uri = "/t"

    def __init__(self, configuration: dict[str, str], reader: int, features: set[str]) -> None:
        self.configuration, self.min_reader_version = configuration, reader
        self.reader_features = self.writer_features = features

    def protocol(self) -> Fake:
        """Itself."""
        return self

    def metadata(self) -> Fake:
        """Itself."""
        return self

    def deletion_vectors(self) -> list[int]:
        """There are some."""
        return [1]


def test_what_changed_since(tmp_path: Path) -> None:
    path, place, schema = tmp_path / "t", Place(str(tmp_path / "t")), numbers().schema
    for n in range(4):
        put(path, numbers(n))

    def changed(first: int, last: int, skip: bool = False) -> Any:
        found = _delta.changes(place, first, last, skip=skip, schema=schema)
        batches = _delta_files.read(place, found.files, schema)
        return [n for b in batches for n in b["n"].to_pylist()], found.removed

    assert changed(1, 2) == ([1, 2], None)
    deltalake.DeltaTable(path).optimize.compact()
    assert changed(3, 4) == ([3], None), "what only moves rows adds none"
    deltalake.DeltaTable(path).delete("n = 2")
    put(path, numbers(8))
    assert changed(4, 6)[1] == 5 and changed(4, 6, skip=True) == ([8], None)
    deltalake.DeltaTable(path).alter.add_columns([deltalake.Field("m", "integer")])
    assert changed(6, 7) == ([8], None), "a new column does no harm"
    (path / "_delta_log" / f"{1:020d}.json").unlink()
    with pytest.raises(FileNotFoundError, match="version 1 .*delta.logRetentionDuration"):
        changed(0, 2)


def test_new_columns_are_null_in_old_files(tmp_path: Path) -> None:
    put(tmp_path / "t", numbers(1))
    deltalake.DeltaTable(tmp_path / "t").alter.add_columns([deltalake.Field("m", "integer")])
    both = pa.table({"n": pa.array([2], pa.int64()), "m": pa.array([5], pa.int32())})
    put(tmp_path / "t", both)
    got = rows(tmp_path / "t", both.schema)
    assert sorted(got, key=lambda row: row["n"]) == [{"n": 1, "m": None}, {"n": 2, "m": 5}]


FILE = DataFile("f", 1, {"k": "b", "none": None}, 10, {"n": 5, "t": "d"}, {"n": 9, "t": "m"},
                {"n": 0, "t": 10, "m": 3})  # fmt: skip


@pytest.mark.parametrize(
    ("op", "column", "value", "negated", "may"),
    [("EqualTo", "k", "b", False, True), ("EqualTo", "k", "b", True, False),
     ("In", "k", ("a", "c"), False, False), ("In", "k", ("a", "c"), True, True),
     ("StringStartsWith", "k", "x", False, False), ("IsNull", "none", None, False, True),
     ("IsNotNull", "none", None, False, False), ("EqualTo", "none", "b", True, False),
     ("EqualTo", "n", 4, False, False), ("EqualTo", "n", 5, False, True),
     ("GreaterThan", "n", 9, False, False), ("GreaterThanOrEqual", "n", 9, False, True),
     ("LessThan", "n", 5, False, False), ("LessThanOrEqual", "n", 5, False, True),
     ("In", "n", (1, 2), False, False), ("In", "n", (1, 7), False, True),
     ("EqualTo", "n", 4, True, True), ("IsNull", "n", None, False, False),
     ("IsNotNull", "t", None, False, False), ("IsNull", "n", None, True, True),
     ("EqualTo", "unknown", 1, False, True), ("StringContains", "t", "q", False, True)],
)  # fmt: skip
def test_files_that_filters_leave_out(
    op: str, column: str, value: Any, negated: bool, may: bool
) -> None:
    assert bool(_delta_filter.left([FILE], [Condition(op, column, value, negated)])) is may


def test_filters_leave_groups_of_rows_out(tmp_path: Path) -> None:
    put(tmp_path / "t", pa.table({"n": list(range(10)), "x": [0.5] * 10}))
    place = Place(str(tmp_path / "t"))
    [file] = _delta.files_of(_delta.open_table(place))
    assert (file.low, file.high, file.rows) == ({"n": 0, "x": None}, {"n": 9, "x": None}, 10)
    schema = pa.schema([("n", pa.int64())])
    keep = [Condition("GreaterThan", "n", 3), Condition("LessThanOrEqual", "n", 6)]
    batches = list(_delta_files.read(place, [file], schema, keep))
    assert [n for b in batches for n in b["n"].to_pylist()] == [4, 5, 6]


def test_versions_by_number_and_time(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "t"))
    for n in range(3):
        put(tmp_path / "t", numbers(n))
        os.utime(tmp_path / "t" / "_delta_log" / f"{n:020d}.json", (1e9 + n, 1e9 + n))
    at = datetime.datetime.fromtimestamp(1e9 + 1.5, datetime.UTC).isoformat()
    assert _delta_format.table_of(place, {"timestampAsOf": at}).version() == 1
    assert _delta_format.table_of(place, {"versionAsOf": "0"}).version() == 0
    assert _delta_format.table_of(place, {}).version() == 2
    for wrong in ({"versionAsOf": "-1"}, {"versionAsOf": "1", "timestampAsOf": at}):
        with pytest.raises(ValueError, match="versionAsOf"):
            _delta_format.table_of(place, wrong)
    assert _delta_format.once_of({"txnAppId": "a", "txnVersion": "7"}) == ("a", 7)
    with pytest.raises(ValueError, match="no path"):
        _delta.place_of({})
    found = _delta.place_of({"path": "/t", "Storage.aws_region": "eu"})
    assert found == Place("/t", (("aws_region", "eu"),))


def test_small_files_share_a_task() -> None:
    files = [DataFile(str(i), 1000, {}) for i in range(100)]
    groups = _delta.tasks_of(files, 4)
    assert 4 <= len(groups) <= 5 and sum(map(len, groups)) == 100
    large = [DataFile(str(i), 200 << 20, {}) for i in range(3)]
    assert [len(group) for group in _delta.tasks_of(large, 4)] == [1, 1, 1]
    assert _delta.tasks_of([], 4) == []


def test_a_table_as_a_dataset(session: None, tmp_path: Path) -> None:
    path = tmp_path / "t"
    for n in range(3):
        put(path, pa.table({"n": [n], "k": [f"k{n}"], "x": [n / 2]}), "k")
    ds = skate.data.read_delta(str(path))
    assert sorted(row["n"] for row in ds.iter_rows()) == [0, 1, 2]
    old = skate.data.read_delta(str(path), version=1, columns=["k", "n"], override_num_blocks=2)
    assert (old.num_blocks(), old.columns()) == (2, ["k", "n"])
    assert sorted(old.take_all(), key=str) == [{"k": "k0", "n": 0}, {"k": "k1", "n": 1}]
    deltalake.DeltaTable(path).delete()
    none = skate.data.read_delta(str(path))
    assert (none.count(), none.columns()) == (0, ["n", "k", "x"])
    with pytest.raises(NotSupportedError, match="no argument 'shuffle'"):
        skate.data.read_delta(str(path), shuffle="files")
    with pytest.raises(ValueError, match="no column 'z'"):
        skate.data.read_delta(str(path), columns=["z"])
    with pytest.raises(FileNotFoundError, match="no Delta table"):
        skate.data.read_delta(str(tmp_path / "u"))
