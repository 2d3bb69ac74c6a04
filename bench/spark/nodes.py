"""Nodes on Spark, beside ray.util.spark of real Ray on the same Spark: start, use, stop, loss.

    .venv/bin/python bench/spark/nodes.py [--ray] [--pairs N] [--cycles N] [--json FILE]

Starts a standalone Spark (a master, two workers of one core each) in a temporary folder. Each pair
is an application of Skate and then one of Ray on that Spark: executors on which Python has run,
clusters of two nodes that hold all slots, set up and shut down `--cycles` times; in the last cycle
an executor is killed (signal 9). The table has the median of all measurements of a side, the least
and the greatest, the ratio of the medians within each pair, and the bar. One pair with Ray takes
about four minutes; real Ray and its pyspark lie in build/rayenv (`tools/setup.sh bench`).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench"), str(Path(__file__).parent)]

import load
from child_process import RAY_PYTHON
from standalone import standalone

CHILD = Path(__file__).with_name("nodes_child.py")
CHILD_LIMIT_S = 300.0
Measured = dict[str, list[float]]


@dataclass(frozen=True)
class Row:
    """A line of the table. bar: seconds at most."""

    name: str
    text: str
    bar: float | None = None


ROWS = (
    Row("ready", "set-up: two nodes ready", 2.0),
    Row("init", "init()"),
    Row("first_task", "first task"),
    Row("tasks", "200 tasks"),
    Row("shutdown", "shutdown: the call"),
    Row("slots_free", "shutdown: all slots run tasks again", 0.5),
    Row("all_gone", "shutdown: the last process is gone"),
    Row("noticed", "executor killed: nodes() says so", 1.0),
    Row("daemon_gone", "executor killed: its daemon is gone", 2.0),
    Row("replaced", "executor killed: a new node serves"),
)


def measure(side: str, master: str, folder: str, cycles: int) -> Measured:
    """One application; the rows it got to."""
    python = str(RAY_PYTHON) if side == "ray" else sys.executable
    temp = Path(folder) / "t"
    temp.mkdir(exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SKATE_"))}
    path = os.pathsep.join([os.path.dirname(python), os.environ["PATH"]])  # ray runs "ray"
    environment |= {"RAY_AUTH_MODE": "disabled", "SKATE_TMPDIR": str(temp), "PATH": path}
    written = Path(folder) / "rows"
    written.touch()
    command = [python, str(CHILD), side, master, str(temp), str(cycles), str(written)]
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, text=True,
                              capture_output=True, timeout=CHILD_LIMIT_S,
                              check=False)  # fmt: skip
        err, how = done.stderr, f"exit status {done.returncode}"
        failed = done.returncode != 0
    except subprocess.TimeoutExpired as late:
        err = (late.stderr or b"").decode()
        how, failed = f"no end within {CHILD_LIMIT_S:g} s", True
    if failed:
        print(f"{side}: {how}\n" + "\n".join(err.splitlines()[-25:]), file=sys.stderr)
    rows: Measured = {}
    for line in written.read_text().splitlines():
        name, seconds = line.split()
        rows.setdefault(name, []).append(float(seconds))
    written.unlink()
    shutil.rmtree(temp, ignore_errors=True)
    return rows


def spread(values: list[float]) -> str:
    """Median and range, in seconds."""
    if not values:
        return "-"
    text = f"{statistics.median(values):.3f}"
    return text + (f" ({min(values):.3f}-{max(values):.3f})" if len(values) > 1 else "")


def result(row: Row, pairs: list[dict[str, Measured]]) -> dict[str, Any]:
    """What became of a row."""
    skate = [s for pair in pairs for s in pair["skate"].get(row.name, [])]
    ray = [s for pair in pairs for s in pair.get("ray", {}).get(row.name, [])]
    ratios = [
        statistics.median(pair["ray"][row.name]) / statistics.median(pair["skate"][row.name])
        for pair in pairs if row.name in pair.get("ray", {}) and row.name in pair["skate"]
    ]  # fmt: skip
    met = None
    if row.bar is not None:
        met = bool(skate) and statistics.median(skate) <= row.bar
    return {"row": row.name, "text": row.text, "skate_s": skate, "ray_s": ray, "ratios": ratios,
            "bar_s": row.bar, "met": met}  # fmt: skip


def table(results: list[dict[str, Any]]) -> list[str]:
    """Markdown."""
    lines = ["| seconds | Skate: median (range) | Ray: median (range) | Ray / Skate | bar | |",
             "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for r in results:
        ratios = r["ratios"]
        ratio = f"{statistics.median(ratios):.1f}" if ratios else "-"
        if len(ratios) > 1:
            ratio += f" ({min(ratios):.1f}-{max(ratios):.1f})"
        bar = "" if r["bar_s"] is None else f"<= {r['bar_s']:g}"
        said = "" if r["met"] is None else "met" if r["met"] else "MISSED"
        lines.append(f"| {r['text']} | {spread(r['skate_s'])} | {spread(r['ray_s'])} | {ratio} | "
                     f"{bar} | {said} |")  # fmt: skip
    return lines


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ray", action="store_true", help="measure real Ray, too")
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--cycles", type=int, default=2, help="clusters of an application")
    parser.add_argument("--json", type=Path, help="write the results there")
    args = parser.parse_args()
    if args.ray and not RAY_PYTHON.exists():
        parser.error(f"there is no {RAY_PYTHON}: tools/setup.sh bench")
    load.become_reaper()
    sides = ["skate", "ray"] if args.ray else ["skate"]
    before = os.getloadavg()
    pairs: list[dict[str, Measured]] = []
    try:
        with load.CpuLoad() as others, standalone() as (master, folder):
            for _ in range(args.pairs):
                pairs.append({s: measure(s, master, folder, args.cycles) for s in sides})
    finally:
        load.clear_away()
    results = [result(row, pairs) for row in ROWS]
    machine = {
        "cores": os.cpu_count(), "load_before": round(before[0], 2),
        "load_after": round(os.getloadavg()[0], 2), "others_used_cores": round(others.cores, 2),
    }  # fmt: skip
    print("\n".join(table(results)))
    print(f"\n{args.pairs} pairs of {args.cycles} clusters; {machine['cores']} cores, load "
          f"{machine['load_before']} before and {machine['load_after']} after, of which others "
          f"{machine['others_used_cores']} cores")  # fmt: skip
    if args.json:
        args.json.write_text(json.dumps({"machine": machine, "rows": results}, indent=1) + "\n")
    return 0 if all(r["met"] is not False for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
