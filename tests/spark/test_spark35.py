"""The oldest Spark of the tests: pyspark 3.5, in an environment of its own (make setup-spark)."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from spark_help import ROOT, has_java, processes, session_files, until

PYTHON = ROOT / "build" / "spark35" / "bin" / "python"
MARK = "SKATE_SPARK35_TEST"

pytestmark = [
    pytest.mark.skipif(not has_java(), reason="there is no Java"),
    pytest.mark.skipif(not PYTHON.exists(), reason="no build/spark35 (tools/setup.sh spark35)"),
]


def test_the_basics(no_leaks: None) -> None:
    import skate

    with tempfile.TemporaryDirectory(prefix="sk35-") as temp:
        # Skate of this environment, and nothing else of it. Spark hands PYTHONPATH to executors.
        alone = Path(temp) / "alone"
        alone.mkdir()
        (alone / "skate").symlink_to(os.path.dirname(skate.__file__))
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SPARK", "RAY_"))}
        env = {**clean, "TMPDIR": temp, MARK: temp, "PYTHONPATH": str(alone)}
        program = Path(__file__).with_name("spark35_program.py")
        done = subprocess.run([str(PYTHON), str(program)], env=env, text=True, capture_output=True,
                              timeout=200, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr[-4000:]
        assert done.stdout.splitlines() == [
            "nodes 3 [0, 2, 4]", "udf [0, 2, 4, 6, 8, 10]", "refs [500, 500] 500 499500",
            "format True", "end True",
        ]  # fmt: skip
        until(lambda: not processes({MARK: temp}), 20, "all processes are gone")
        assert session_files(temp) == []
