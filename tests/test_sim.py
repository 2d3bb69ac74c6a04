"""The simulator of clusters (tests/sim): seeds that must not fail, and that a seed is a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / "tests" / "sim" / "run_sim.py"

pytestmark = pytest.mark.usefixtures("simulators")


def run(*options: str) -> tuple[int, str]:
    """run_sim.py with these options: its exit status, what it said."""
    done = subprocess.run(
        [sys.executable, str(RUN), *options], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_a_seed_is_a_run() -> None:
    """Twice the same, bit for bit."""
    code, said = run("--seeds", "5", "--again")
    assert code == 0, said


def test_calm_seeds() -> None:
    """Without faults each task has its result, and nothing is left."""
    code, said = run("--seeds", "10")
    assert code == 0, said


def test_seeds_that_found_something() -> None:
    """Each stands for a mend in src (tests/sim/seeds.txt)."""
    code, said = run("--list", str(ROOT / "tests" / "sim" / "seeds.txt"))
    assert code == 0, said


def test_faults() -> None:
    """Each seed chooses kinds of faults: all right in the end, nothing hangs, nothing is left."""
    code, said = run("--seeds", "50", "--mix", "all", "--fault-s", "4")
    assert code == 0, said


def test_faults_with_places() -> None:
    """The same, with placement groups, actors in them, spread tasks and such for one node."""
    code, said = run("--seeds", "101-125", "--places", "--mix", "all", "--fault-s", "4")
    assert code == 0, said


def test_nothing_outlives_a_gcs_without_a_log() -> None:
    """It is killed: all nodes end, with all that runs there, in a cluster and in a session."""
    for kind in ("--no-log", "--private"):
        code, said = run("--seeds", "15", kind, "--places")
        assert code == 0, said
