"""`site`: a temp folder, a mark, and the promise that nothing of it is left afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from e2e_help import GONE_S, Site


@pytest.fixture()
def site(no_leaks: None) -> Iterator[Site]:
    """Whatever the test did, even if it failed: when its programs end, so does the rest."""
    place = Site()
    try:
        yield place
        for program in place.programs:
            program.close()
        place.assert_nothing_left(GONE_S)
    finally:
        place.close()


@pytest.fixture()
def cluster() -> Iterator[Any]:
    """A head of one CPU; tests add nodes and connect."""
    from skate.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield made
    made.shutdown()
