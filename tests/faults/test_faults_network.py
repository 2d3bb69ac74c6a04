"""Bad networks between real nodes: right results, and afterwards every node is alive."""

from __future__ import annotations

import pytest
import runs


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["loss", "jitter", "everything", "partition", "one-way"])
def test_work_goes_on(request, tmp_path, kind):
    """The full size: a minute each, and of duplicates and reordering alone."""
    request.getfixturevalue("switch" if kind in runs.SWITCHED else "namespaces")
    did = runs.weather(tmp_path / "ledger", kind, 2.0, size=1 << 18)
    assert did["rounds"] and did["calls"] and did["objects"]
    if kind in ("partition", "one-way"):
        assert did["cuts"]
    if kind == "everything":
        assert did["lost"] and did["doubled"] and did["behind"]
