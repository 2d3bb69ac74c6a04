"""The GCS killed again and again under load, with an SQLite log: nothing of it is lost."""

from __future__ import annotations

import pytest
import runs


@pytest.mark.timeout(120)
def test_work_goes_on_while_the_gcs_is_killed(namespaces, tmp_path):
    did = runs.gcs(tmp_path / "ledger", 3.0, most_s=0.4)
    assert did["kills"] and did["actors"] and did["objects"]


@pytest.mark.timeout(120)
def test_another_machine_takes_over_with_a_copy_of_the_log(namespaces, tmp_path):
    """The head's machine is lost as a whole; what runs on others goes on, and no actor restarts."""
    did = runs.head_machine(tmp_path / "ledger", 0.5)
    assert did["calls_without_a_head"] and did["nodes_after"] > 1
