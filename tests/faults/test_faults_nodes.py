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


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["mute", "frozen"])
def test_a_node_that_is_away_for_a_moment(namespaces, tmp_path, how):
    """It is the same one afterwards, and so are its actors. Deaf, unplugged: `make faults`."""
    did = runs.away(tmp_path / "ledger", how, 1.2, 150)
    # On a loaded machine a moment may be longer than a node's silence is borne.
    assert did["same"] or did["called_dead"]


@pytest.mark.timeout(120)
def test_the_raylet_beside_the_gcs_is_killed(namespaces, tmp_path):
    """A driver and actors on other nodes go on, and a new one takes its place."""
    did = runs.head_raylet(tmp_path / "ledger")
    assert did["nodes_after"] > 1


@pytest.mark.timeout(120)
def test_a_node_that_is_away_for_long(namespaces, tmp_path):
    """Called dead meanwhile, it joins again as a new one. All four ways: `make faults`."""
    did = runs.away(tmp_path / "ledger", "unplugged", 6.5, 200)
    assert did["called_dead"] and not did["same"]
