"""Tables of many chunks that are stored as one chunk a column, with one copy."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import skate
from skate import _arrow_join, _plain


@pytest.fixture(scope="module", autouse=True)
def session(no_leaks: None) -> Iterator[None]:
    """A node."""
    skate.init(num_cpus=1)
    yield
    skate.shutdown()


def stored(table: Any) -> Any:
    """The table after put() and get()."""
    return skate.get(skate.put(_arrow_join.laid(table)))


def column(kind: Any, values: list[Any], rows: int = 40_000) -> Any:
    """Chunks of different lengths of these values, one empty, one a slice that begins inside."""
    whole = pa.array((values * (rows // len(values) + 1))[:rows], kind)
    cuts = [0, 1, 1, 12_345, 12_352, 30_001, rows]
    chunks = [whole.slice(a, b - a) for a, b in zip(cuts, cuts[1:], strict=False)]
    return pa.chunked_array(chunks, kind)


DAY = datetime.date(2026, 1, 2)
COLUMNS = {
    "int": (pa.int64(), [1, -2, 3]), "small": (pa.uint8(), [1, 255]),
    "nulls": (pa.int32(), [1, None, 3, None, 5, 6, 7]), "float": (pa.float32(), [1.5, None]),
    "half": (pa.float16(), [np.float16(1.5)]), "day": (pa.date32(), [DAY, None]),
    "at": (pa.timestamp("us", tz="UTC"), [0, 1, None]), "long": (pa.duration("ns"), [5]),
    "money": (pa.decimal128(20, 2), [decimal.Decimal("1.25"), None]),
    "text": (pa.string(), ["", "ä", None, "abc"]), "large": (pa.large_string(), ["x", "yz", None]),
    "bytes": (pa.binary(), [b"\0\xff", None]), "empty": (pa.string(), [""]),
    "none": (pa.int16(), [None]), "bool": (pa.bool_(), [True, None, False]),
    "list": (pa.list_(pa.int8()), [[1], None, []]), "void": (pa.null(), [None]),
    "inner": (pa.struct([("a", pa.int8())]), [{"a": 1}, None]), "fixed": (pa.binary(3), [b"abc"]),
}  # fmt: skip


def test_every_type_at_once() -> None:
    table = pa.table({name: column(*given) for name, given in COLUMNS.items()})
    made = stored(table)
    made.validate(full=True)
    assert made.schema == table.schema
    assert made == table
    assert {c.num_chunks for c in made.columns} == {1}


@pytest.mark.parametrize("name", COLUMNS)
def test_every_type_alone(name: str) -> None:
    table = pa.table({"c": column(*COLUMNS[name], rows=80_000)}, metadata={"a": "b"})
    made = stored(table)
    made.validate(full=True)
    assert made == table and made.schema.metadata == {b"a": b"b"}
    assert made["c"].num_chunks == 1 and made["c"].null_count == table["c"].null_count


def test_nothing_is_copied_before() -> None:
    table = pa.table({"c": column(pa.float64(), [1.0]), "t": column(pa.string(), ["abcdefgh"])})
    laid = _arrow_join.laid(table)
    assert isinstance(laid, _plain.Laid)
    places = {part.address for part in laid[2] if isinstance(part, pa.Buffer)}
    for name, width in (("c", 8), ("t", 8)):
        data = table[name].chunk(4).buffers()[-1]
        at = table[name].chunk(4).offset * width
        assert data.address + at in places, f"the chunks of {name} are not what is gathered"


def test_tables_that_need_nothing() -> None:
    one = pa.table({"c": [1, 2]})
    assert _arrow_join.laid(one) is one
    few = pa.concat_tables([one, one])
    assert _arrow_join.laid(few) == few and _arrow_join.laid(few)["c"].num_chunks == 1
    nothing = pa.table({})
    assert _arrow_join.laid(nothing) is nothing


def test_the_view_is_whole() -> None:
    table = pa.table({"c": column(pa.float64(), [0.5, 1.5])})
    array = stored(table)["c"].chunk(0).to_numpy(zero_copy_only=True)
    assert array.sum() == 40_000 and not array.flags.writeable
