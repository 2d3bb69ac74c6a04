"""Everything at once: the GCS and raylets killed, nodes frozen, cut, unplugged, packets lost."""

from __future__ import annotations

import pytest
import runs


@pytest.mark.timeout(180)
def test_everything_at_once(namespaces, tmp_path):
    """The full size: a minute, and faults that last up to 8 s."""
    did = runs.chaos(tmp_path / "ledger", 4.0, seed=4, most_s=0.8)
    assert did["rounds"] and sum(did[kind] for kind in runs.Chaos.KINDS)
