"""Scheduling at a scale (tests/sim/scale.c), small: 300 nodes and 30,000 tasks in one process.

What must hold is what does not depend on the machine: each task is placed once and ends, every node
is whole in the end, the GCS holds no demand, and nothing grows with the square of the nodes.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "build" / "py" / "tests" / "sim" / "skate-scale"

pytestmark = pytest.mark.usefixtures("simulators")


def scale(nodes: int, tasks: int) -> dict[str, Any]:
    """The results of one run, which checks by itself that nothing is lost."""
    done = subprocess.run(
        [str(PROGRAM), str(nodes), str(tasks)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_three_hundred_nodes() -> None:
    """None of 30,000 tasks is lost; choices stay cheap, messages and rows few."""
    row = scale(300, 30_000)
    assert row["global"]["p99_us"] < 200, row
    assert row["gcs_in_per_task"] < 4, row
    assert row["join_infos_per_node"] < 32, row
    assert row["bytes_per_node"] < 1_000_000, row


def test_few_nodes() -> None:
    """Ten nodes, where each knows all others."""
    row = scale(10, 5_000)
    assert row["tasks"] == 5_000
