"""Run the compat tests on Skate and on real Ray, and print row by row where they stand.

usage: compat.py [--only skate|ray] [--full] [PYTEST_ARGUMENT...]

The same files run on both (tests/compat/README.md). A row of the API (tests/compat/rows.py) passes
on a runtime when every test that names it passes there; a row without a test fails. Each file runs
in a process of its own, because sessions of Ray can outlive a failing test. Ends with 1 when a P0
row fails on either, when fewer than 95 % of the P1 rows pass, or when a test fails on Skate.
--full lists every row, not only those that fail somewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests" / "compat"
PYTHON = {"skate": ROOT / ".venv/bin/python", "ray": ROOT / "build/rayenv/bin/python"}
TIMEOUT_S = {"skate": 60, "ray": 240}
P1_SHARE = 0.95

sys.path.insert(0, str(FOLDER))
from rows import ROWS  # noqa: E402

Outcomes = dict[str, dict[str, object]]


def run_file(runtime: str, path: Path, extra: list[str]) -> Outcomes:
    """The outcomes of one file on one runtime; a file that breaks is one failed test."""
    with tempfile.TemporaryDirectory(prefix="compat-") as folder:
        report = Path(folder) / "rows.json"
        env = {**os.environ, "SKATE_COMPAT_TARGET": runtime}
        command = [str(PYTHON[runtime]), "-m", "pytest", str(path), "-q", f"--rows={report}",
                   f"--timeout={TIMEOUT_S[runtime]}", *extra]  # fmt: skip
        done = subprocess.run(command, cwd=FOLDER, env=env, capture_output=True, text=True,
                              check=False)  # fmt: skip
        if report.exists():
            found: Outcomes = json.loads(report.read_text())
            if found or done.returncode == 5:  # 5: nothing selected
                return found
    text = (done.stdout + done.stderr).strip().splitlines()[-1:] or ["no output"]
    return {f"{path.name}::(file)": {"rows": [], "outcome": "failed", "text": text[0][:300]}}


def run(runtime: str, extra: list[str]) -> Outcomes:
    """All files on one runtime, with a line for each."""
    if not PYTHON[runtime].exists():
        raise SystemExit(f"compat: {PYTHON[runtime]} is missing; `make compat` sets it up")
    outcomes: Outcomes = {}
    for path in sorted(FOLDER.glob("test_compat_*.py")):
        began = time.monotonic()
        found = run_file(runtime, path, extra)
        outcomes |= found
        bad = sum(1 for o in found.values() if o["outcome"] == "failed")
        print(f"{runtime:5} {path.name:36} {len(found):4} tests {bad:3} failed "
              f"{time.monotonic() - began:6.1f} s", flush=True)  # fmt: skip
    return outcomes


def row_state(outcomes: Outcomes, row: str) -> str:
    """passed, failed, skipped (every test of it), or no test."""
    states = {str(o["outcome"]) for o in outcomes.values() if row in list(o["rows"])}  # type: ignore[call-overload]
    if not states:
        return "no test"
    if "failed" in states:
        return "failed"
    return "passed" if "passed" in states else "skipped"


def print_rows(results: dict[str, Outcomes], full: bool) -> bool:
    """The table of rows and its sums; true when the bars hold."""
    names = list(results)
    print(f"\n{'row':22} {'':3} " + " ".join(f"{n:8}" for n in names) + " what")
    good: dict[tuple[str, str], int] = {}
    total: dict[str, int] = {}
    for row, (priority, what) in ROWS.items():
        states = [row_state(results[n], row) for n in names]
        total[priority] = total.get(priority, 0) + 1
        for name, state in zip(names, states, strict=True):
            good[name, priority] = good.get((name, priority), 0) + (state == "passed")
        if full or any(s != "passed" for s in states):
            print(f"{row:22} {priority:3} " + " ".join(f"{s:8}" for s in states) + f" {what}")
    fine = True
    for name in names:
        sums = [f"{p} {good[name, p]}/{total[p]}" for p in sorted(total)]
        print(f"{name}: rows passed: {', '.join(sums)}")
        fine &= good[name, "P0"] == total["P0"] and good[name, "P1"] >= P1_SHARE * total["P1"]
    return fine


def print_differences(results: dict[str, Outcomes]) -> None:
    """Tests that end otherwise on the two runtimes, and those that fail on both."""
    every = sorted(set().union(*results.values()))
    print("\ntests that do not pass everywhere:")
    count = 0
    for test in every:
        ends = {n: o[test] for n, o in results.items() if test in o}
        if all(e["outcome"] == "passed" for e in ends.values()) and len(ends) == len(results):
            continue
        count += 1
        print(f"  {test}")
        for name in results:
            end = ends.get(name, {"outcome": "not run", "text": ""})
            if end["outcome"] != "passed":
                print(f"      {name}: {end['outcome']}: {end['text']}")
    print(f"  {count} of {len(every)}")


def main(argv: list[str]) -> int:
    """See the text above."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["skate", "ray"], help="one runtime only")
    parser.add_argument("--full", action="store_true", help="list every row")
    options, extra = parser.parse_known_args(argv)
    names = [options.only] if options.only else ["skate", "ray"]
    results = {name: run(name, extra) for name in names}
    fine = print_rows(results, options.full)
    print_differences(results)
    broken = any(o["outcome"] == "failed" for o in results.get("skate", {}).values())
    return 0 if fine and not broken else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
