"""Equal lines of several workers: counted exactly, never lost."""

from __future__ import annotations

import pytest

from skate._dedup import MOST, Dedup


def test_every_line_is_shown_or_counted(monkeypatch):
    for name in ("SKATE_DEDUP_LOGS", "RAY_DEDUP_LOGS"):
        monkeypatch.delenv(name, raising=False)
    dedup = Dedup()
    shown = dedup.lines(["a", "b 1"], "(x) ", 1, False)
    assert shown == [("(x) a", False), ("(x) b 1", False)]
    assert dedup.lines(["a"], "(x) ", 1, False) == [("(x) a", False)]  # its own repeat
    assert dedup.lines(["a", "b 2"], "(y) ", 2, False) == [("(y) b 2", False)]
    assert dedup.lines(["a"], "(z) ", 3, False) == []
    assert dedup.lines(["a"], "(z) ", 3, True) == [("(z) a", True)]  # another stream
    assert dedup.lines([""], "(z) ", 3, False) == [("(z) ", False)]
    ((line, _),) = dedup.rest()
    assert line.startswith("(z) a [repeated 2x across cluster]") and "SKATE_DEDUP_LOGS" in line
    assert dedup.rest() == []


def test_one_repeat_is_shown_as_it_is():
    dedup = Dedup()
    dedup.lines(["a"], "(x) ", 1, False)
    assert dedup.lines(["a"], "(y) ", 2, False) == []
    assert dedup.rest() == [("(y) a", False)]


def test_what_is_remembered_is_bounded():
    dedup = Dedup()
    dedup.lines(["first"], "", 1, False)
    dedup.lines(["first"], "", 2, False)
    dedup.lines(["first"], "", 3, False)
    out = dedup.lines([str(i) for i in range(MOST)], "", 1, False)
    assert len(out) == MOST + 1 and len(dedup.seen) == MOST
    assert any("first [repeated 2x across cluster]" in line for line, _ in out)


def test_a_switch_without_meaning(monkeypatch):
    monkeypatch.setenv("SKATE_DEDUP_LOGS", "maybe")
    with pytest.raises(ValueError, match="SKATE_DEDUP_LOGS"):
        Dedup()
