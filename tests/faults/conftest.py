"""Skips with the reason where a machine cannot do what a test needs; `nets` makes networks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import netns
import pytest


@functools.cache
def _reasons() -> tuple[str, str]:
    return netns.why_not(), netns.why_no_switch()


@pytest.fixture()
def namespaces() -> None:
    """Skips where there can be no network namespaces."""
    if _reasons()[0]:
        pytest.skip(_reasons()[0])


@pytest.fixture()
def switch(namespaces: None) -> None:
    """Skips where the switch of shaper.c cannot run."""
    if _reasons()[1]:
        pytest.skip(_reasons()[1])


@pytest.fixture()
def nets(namespaces: None, tmp_path: Path) -> Iterator[Callable[..., netns.Net]]:
    """Makes networks of so many machines, and takes them away."""
    made = []

    def make(machines: int, switched: bool = False) -> netns.Net:
        if switched and _reasons()[1]:
            pytest.skip(_reasons()[1])
        made.append(netns.Net(tmp_path, switched))
        for port in range(1, machines + 1):
            made[-1].add(port)
        return made[-1]

    yield make
    for net in made:
        net.close()
