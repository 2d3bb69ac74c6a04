"""Filters that Spark hands to the format "delta_py": which files need not be read, and which rows.

Conditions on a partition's column are decided here, for good; others only leave files and groups of
rows out that cannot hold a row, and Spark looks at the rest again. Conditions on doubles are left
to Spark as a whole (NaN is larger than all there, and nowhere in the log).
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from skate.util.spark._delta import DataFile

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "EqualTo": lambda a, b: bool(a == b),
    "GreaterThan": lambda a, b: bool(a > b),
    "GreaterThanOrEqual": lambda a, b: bool(a >= b),
    "LessThan": lambda a, b: bool(a < b),
    "LessThanOrEqual": lambda a, b: bool(a <= b),
    "StringStartsWith": lambda a, b: bool(a.startswith(b)),
    "StringEndsWith": lambda a, b: bool(a.endswith(b)),
    "StringContains": lambda a, b: b in a,
}
_ORDER = ("EqualTo", "GreaterThan", "GreaterThanOrEqual", "LessThan", "LessThanOrEqual")
_NULLS = ("IsNull", "IsNotNull")


@dataclass(frozen=True)
class Condition:
    """One filter of Spark on one column. negated: the rows for which it is false."""

    op: str
    column: str
    value: Any = None
    negated: bool = False


def condition_of(found: Any, schema: Any) -> Condition | None:
    """A filter of Spark, when it is of a kind that is known here. schema: of Arrow."""
    negated = type(found).__name__ == "Not"
    found = found.child if negated else found
    op = type(found).__name__
    if len(found.attribute) != 1 or found.attribute[0] not in schema.names:
        return None
    column = found.attribute[0]
    value = getattr(found, "value", None)
    if op in _NULLS:
        return Condition(op, column, None, negated)
    kind = schema.field(column).type
    if op == "In":
        value = tuple(value)
        fits = all(_fits(each, kind) for each in value)
        return Condition(op, column, value, negated) if fits else None
    if op not in _COMPARE or not _fits(value, kind):
        return None
    return Condition(op, column, value, negated)


def _fits(value: Any, kind: Any) -> bool:
    """Does comparing this value with a column of that type mean the same here as in Spark?"""
    import pyarrow as pa

    if isinstance(value, bool):
        return bool(pa.types.is_boolean(kind))
    if isinstance(value, int):
        return bool(pa.types.is_integer(kind))
    if isinstance(value, str):
        return bool(pa.types.is_string(kind))
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return bool(pa.types.is_date32(kind))
    return False


def holds(condition: Condition, value: Any) -> bool:
    """Is it true for this value? SQL's null is neither true nor false."""
    if condition.op in _NULLS:
        return ((value is None) == (condition.op == "IsNull")) != condition.negated
    if value is None:
        return False
    if condition.op == "In":
        return (value in condition.value) != condition.negated
    return _COMPARE[condition.op](value, condition.value) != condition.negated


def may_hold(condition: Condition, file: DataFile) -> bool:
    """Can the file have a row for which it is true?"""
    if condition.column in file.partition:
        return holds(condition, file.partition[condition.column])
    nulls = (file.nulls or {}).get(condition.column)
    if condition.op in _NULLS:
        if nulls is None or file.rows is None:
            return True
        wants_null = (condition.op == "IsNull") != condition.negated
        return bool(nulls if wants_null else file.rows - nulls)
    low = (file.low or {}).get(condition.column)
    high = (file.high or {}).get(condition.column)
    if condition.negated or low is None or high is None:
        return True
    if condition.op == "In":
        return any(low <= value <= high for value in condition.value)
    value = condition.value
    if condition.op == "EqualTo":
        return bool(low <= value <= high)
    if condition.op in ("GreaterThan", "GreaterThanOrEqual"):
        return _COMPARE[condition.op](high, value)
    if condition.op in ("LessThan", "LessThanOrEqual"):
        return _COMPARE[condition.op](low, value)
    return True


def left(files: Iterable[DataFile], conditions: list[Condition]) -> list[DataFile]:
    """The files that may have rows for which all of the conditions are true."""
    return [file for file in files if all(may_hold(each, file) for each in conditions)]


def expression(conditions: list[Condition], schema: Any) -> Any:
    """For pyarrow's reader: the conditions on columns that the file has. None: there are none."""
    import pyarrow.compute as pc

    made = None
    for each in conditions:
        if each.negated or each.op not in _ORDER or each.column not in schema.names:
            continue
        if not _fits(each.value, schema.field(each.column).type):
            continue
        field = pc.field(each.column)
        if each.op == "EqualTo":
            one = field == each.value
        elif each.op == "GreaterThan":
            one = field > each.value
        elif each.op == "GreaterThanOrEqual":
            one = field >= each.value
        elif each.op == "LessThan":
            one = field < each.value
        else:
            one = field <= each.value
        made = one if made is None else made & one
    return made
