"""A typed program passes mypy --strict and pyright, and the mistakes in it are found."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROGRAM = HERE / "typed_program.py"
WRONG = {n for n, line in enumerate(PROGRAM.read_text().splitlines(), 1) if "  # wrong" in line}


def run(*args: str, folder: Path = HERE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, cwd=folder, check=False
    )


def test_the_program_runs():
    out = run(str(PROGRAM))
    assert out.stdout.split("\n")[0] == "['1', '4'] [3.0, 3.0] ['1', '4'] 0 45 6", out.stderr


@pytest.mark.timeout(180)
def test_mypy(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed")
    out = run("-m", "mypy", "--strict", "--no-error-summary", f"--cache-dir={tmp_path}",
              str(PROGRAM))  # fmt: skip
    found = {int(m) for m in re.findall(r"typed_program\.py:(\d+): error", out.stdout)}
    assert found == WRONG, out.stdout + out.stderr
    assert not re.search(r"skate/\S+: error", out.stdout), out.stdout


@pytest.mark.timeout(180)
def test_pyright(tmp_path):
    pytest.importorskip("pyright", reason="pyright is not installed")
    out = run("-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(PROGRAM))
    try:
        report = json.loads(out.stdout)
    except ValueError:
        pytest.skip(f"pyright cannot start here: {out.stderr.strip()[-300:]}")
    errors = [d for d in report["generalDiagnostics"] if d["severity"] == "error"]
    assert {d["range"]["start"]["line"] + 1 for d in errors} == WRONG, errors
