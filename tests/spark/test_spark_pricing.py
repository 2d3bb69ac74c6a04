"""The end-to-end example as users run it, in its small form: stream, Delta, UDF, Tune, MLflow."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from spark_help import ROOT, has_java, processes, session_files, until

PROGRAM = ROOT / "examples" / "spark" / "pricing.py"
SERVER = ROOT / "build" / "mlflow" / "bin" / "mlflow"
MARK = "SKATE_SPARK_TEST"
CHECKS = (
    "the Delta table has each request once",
    "the UDF's scores are those of a plain loop, to the last bit",
    "foretold chances are off by",
    "the learned prices bring",
    "MLflow has the runs",
)


@pytest.mark.skipif(not has_java(), reason="there is no Java")
@pytest.mark.skipif(not SERVER.exists(), reason="no MLflow server (tools/setup.sh mlflow)")
def test_from_a_stream_to_a_policy() -> None:
    """Every stage is shown, every check holds, and nothing is left."""
    with tempfile.TemporaryDirectory(prefix="skp-") as temp:
        place = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
        place.update({"TMPDIR": temp, MARK: temp})
        done = subprocess.run(
            [sys.executable, str(PROGRAM), "--quick"],
            env=place, text=True, capture_output=True, timeout=220, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-4000:]
        for stage in range(1, 8):
            assert f"[{stage}/7]" in done.stdout
        for check in CHECKS:
            assert f"  ok     {check}" in done.stdout
        assert "FAILED" not in done.stdout and "total" in done.stdout
        until(lambda: not processes({MARK: place[MARK]}), 20, "all processes are gone")
        assert session_files(temp) == []
        assert not list(Path(temp).glob("skate-pricing-*"))


def test_bad_sizes() -> None:
    """Refused at once, without a Spark."""
    for bad in ("--days=3", "--steps=10", "--executors=0"):
        done = subprocess.run(
            [sys.executable, str(PROGRAM), bad], text=True, capture_output=True, check=False
        )
        assert done.returncode == 2 and "must be at least" in done.stderr
