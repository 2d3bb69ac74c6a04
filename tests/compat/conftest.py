"""Fixtures of the compat tests (one cluster, one waiting helper), and the rows they prove."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from compat_target import PATIENCE, ray, start
from rows import ROWS


@pytest.fixture()
def cluster() -> Iterator[Any]:
    """A running cluster of 2 CPUs and 4 "gold", shared by the tests of a module."""
    if not ray.is_initialized():
        start()
    yield ray


@pytest.fixture()
def no_cluster() -> Iterator[None]:
    """For tests of init and shutdown: nothing runs before, nothing after."""
    ray.shutdown()
    yield
    ray.shutdown()


@pytest.fixture(scope="module", autouse=True)
def _shutdown_at_end(no_leaks: None) -> Iterator[None]:
    """One cluster a module; it ends before the module's check for leaks."""
    yield
    ray.shutdown()


@pytest.fixture()
def eventually() -> Callable[..., Any]:
    """`eventually(f)`: the first true value of f(), asked again until a deadline."""

    def poll(question: Callable[[], Any], seconds: float = 10.0) -> Any:
        deadline = time.monotonic() + seconds * PATIENCE
        while True:
            answer = question()
            if answer:
                return answer
            if time.monotonic() > deadline:
                pytest.fail(f"not true within {seconds * PATIENCE} s: {question}")
            time.sleep(0.01)

    return poll


# ------------------------------------------------------------------------------ rows of the API


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--rows FILE`: write each test's outcome and rows as JSON (tools/compat.py reads it)."""
    parser.addoption("--rows", default="", help="write outcomes with their rows to this file")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A row that is not in rows.py is a mistake of the test."""
    for item in items:
        unknown = [r for r in rows_of(item) if r not in ROWS]
        if unknown:
            raise pytest.UsageError(f"{item.nodeid}: no such row: {', '.join(unknown)}")


def rows_of(item: pytest.Item) -> list[str]:
    """The rows that a test proves."""
    return [row for mark in item.iter_markers("row") for row in mark.args]


_outcomes: dict[str, dict[str, Any]] = {}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Keep the worst outcome of a test's phases."""
    report = (yield).get_result()  # type: ignore[func-returns-value]
    entry = _outcomes.setdefault(
        item.nodeid.rpartition("/")[2], {"rows": rows_of(item), "outcome": "passed", "text": ""}
    )
    if report.outcome != "passed" and entry["outcome"] != "failed":
        entry["outcome"] = report.outcome
        lines = report.longreprtext.strip().splitlines() or [""]
        entry["text"] = next((x for x in reversed(lines) if x.startswith("E ")), lines[-1])[:300]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what --rows asked for."""
    path = session.config.getoption("--rows", default="")
    if path:
        with open(path, "w", encoding="utf-8") as f:
            json.dump(_outcomes, f, indent=1)
