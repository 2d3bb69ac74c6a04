"""Nodes that are killed, switched off and added while work is done: nothing lost, nothing hung."""

from __future__ import annotations

import pytest
import runs


@pytest.mark.timeout(120)
def test_nodes_killed_and_added(namespaces, tmp_path):
    """The full size: 8 nodes, 50,000 tasks, one killed and one added every 2 s."""
    did = runs.churn(tmp_path / "ledger", 1200, nodes=4, every_s=0.4, least_kills=3)
    assert did["kills"] >= 3 and did["used"] > 4


@pytest.mark.timeout(120)
def test_a_machine_that_is_switched_off(namespaces, tmp_path):
    """No one hears of its end; what ran there runs again once its silence is noticed."""
    did = runs.power_cut(tmp_path / "ledger", 60)
    assert did["again"] > 0
