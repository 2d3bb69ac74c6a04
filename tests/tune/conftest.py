"""One small cluster a module, and a results folder a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A session of two CPUs for the module's tests."""
    import skate

    if skate.is_initialized():
        skate.shutdown()
    skate.init(num_cpus=2)
    yield skate
    skate.shutdown()


@pytest.fixture()
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's experiments go, also when they do not say where."""
    monkeypatch.setenv("SKATE_RESULTS_DIR", str(tmp_path / "results"))
    return tmp_path / "results"
