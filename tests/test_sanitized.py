"""The whole runtime under AddressSanitizer and UBSan: extension, daemons, workers.

`tools/build.py units asan` leaves a sanitized Skate in build/asan/site; here the compat tests and
those of the package run on it, in a pytest of their own with the sanitizers preloaded. Anything a
sanitizer reports, in whichever process, ends up in a log file and fails the test. Signals are left
alone: tests kill workers with SIGSEGV on purpose. Leaks are looked for in the C unit tests, not
here, where Python's own would drown them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "build" / "asan" / "site"
LIMIT_S = 700


def library(name: str) -> str:
    """Where the compiler keeps a sanitizer's runtime."""
    return subprocess.check_output(["gcc", f"-print-file-name={name}"], text=True).strip()


@pytest.mark.timeout(LIMIT_S + 20)
@pytest.mark.parametrize(
    "part", ["tests/compat", "tests/python", "tests/e2e/test_native_worker.py"]
)
def test_sanitized(part: str, tmp_path: Path) -> None:
    """These tests pass, and no process had anything to report."""
    assert (SITE / "skate" / "bin" / "skate-raylet").exists(), "not built; run `make units`"
    logs = tmp_path / "sanitizer"
    env = {k: v for k, v in os.environ.items() if k not in ("SKATE_TEST_RUN", "TMPDIR")}
    env |= {
        "LD_PRELOAD": f"{library('libasan.so')}:{library('libubsan.so')}",
        "ASAN_OPTIONS": f"detect_leaks=0:handle_segv=0:handle_abort=0:log_path={logs}",
        "UBSAN_OPTIONS": f"halt_on_error=1:print_stacktrace=1:log_path={logs}",
        "PYTHONPATH": str(SITE),
        "PYTHONMALLOC": "malloc",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", part], cwd=ROOT, env=env, capture_output=True,
        text=True, errors="replace", timeout=LIMIT_S, check=False,
    )  # fmt: skip
    reports = [p.read_text(errors="replace")[:4000] for p in sorted(tmp_path.glob("sanitizer*"))]
    assert not reports, "\n".join(reports)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout, done.stdout[-1000:]
