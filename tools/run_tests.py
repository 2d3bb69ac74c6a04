"""Run groups of tests and close with pytest's countable line.

usage: run_tests.py GROUP... [-- PYTEST_ARGUMENT...]      groups: core, spark

core is everything under tests/ but tests/spark: the C unit tests (built here, plain and with
sanitizers), the style check, and the Python tests. The whole run has a limit in time.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = {"core": 2200, "spark": 1500}


def main(argv: list[str]) -> int:
    """Build the C tests, then hand over to pytest."""
    cut = argv.index("--") if "--" in argv else len(argv)
    groups, extra = argv[:cut], argv[cut + 1 :]
    if not groups or any(g not in LIMIT_S for g in groups):
        print(__doc__, file=sys.stderr)
        return 2
    broken = 0
    if "core" in groups:
        for variant in ("plain", "asan", "tsan"):
            command = [sys.executable, "tools/build.py", "units", variant]
            broken |= subprocess.run(command, cwd=ROOT, check=False).returncode
    args = ["tests"] if "core" in groups else ["tests/spark"]
    if "spark" not in groups:
        args.append("--ignore=tests/spark")
    sys.stdout.flush()
    limit = sum(LIMIT_S[g] for g in groups)
    command = [sys.executable, "-m", "pytest", "--continue-on-collection-errors",
               f"--session-timeout={limit}", *args, *extra]  # fmt: skip
    try:
        failed = subprocess.run(command, cwd=ROOT, check=False, timeout=limit + 90).returncode
    except subprocess.TimeoutExpired:
        print(f"1 failed: the tests did not end within {limit + 90} s")
        return 1
    return failed or (1 if broken else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
