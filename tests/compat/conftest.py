"""Fixtures of the compat tests: one shared cluster, and one waiting helper."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from compat_target import PATIENCE, ray, start


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
