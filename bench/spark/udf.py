"""Loops inside UDFs of Spark: plain, in two plain processes, fanned out, and a task for each row.

    .venv/bin/python bench/spark/udf.py [--ray] [--pairs N] [--json FILE]

The article's UDF (a model for each row of a batch, on the rows before it), a walk-forward
back-test, what attach() takes, and what several attached processes cost beside one. Everything of a
pair runs in the same processes in turn; ratios are taken within pairs. BLAS has one thread
everywhere. With --ray the same on real Ray, on the same Spark: the article's form, and one by hand
with put() and chunks. Exit status 1 when a bar is missed. Two to five minutes; real Ray and its
pyspark lie in build/rayenv (`tools/setup.sh bench`).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import load
from child_process import RAY_PYTHON
from standalone import standalone

CHILD_LIMIT_S = 280.0
Measured = dict[str, list[float]]


def measure(side: str, master: str, folder: str, pairs: int) -> Measured:
    """One application; the rows it got to."""
    python = str(RAY_PYTHON) if side == "ray" else sys.executable
    temp = Path(folder) / "t"
    temp.mkdir(exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SKATE_"))}
    path = os.pathsep.join([os.path.dirname(python), os.environ["PATH"]])  # ray runs "ray"
    modules = os.pathsep.join([str(HERE), str(HERE.parents[1] / "examples" / "spark")])
    environment |= {
        "RAY_AUTH_MODE": "disabled", "SKATE_TMPDIR": str(temp), "PATH": path,
        "PYTHONPATH": modules, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    }  # fmt: skip
    written = Path(folder) / "rows"
    written.touch()
    command = [python, str(HERE / "udf_child.py"), side, master, str(temp), str(pairs)]
    try:
        done = subprocess.run([*command, str(written)], env=environment, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=CHILD_LIMIT_S, check=False)  # fmt: skip
        err, failed = f"exit status {done.returncode}\n{done.stderr}", done.returncode != 0
    except subprocess.TimeoutExpired as late:
        err, failed = f"no end within {CHILD_LIMIT_S:g} s\n{(late.stderr or b'').decode()}", True
    if failed:
        print(f"{side}: " + "\n".join(err.splitlines()[:1] + err.splitlines()[-25:]),
              file=sys.stderr)  # fmt: skip
    rows: Measured = {}
    for line in written.read_text().splitlines():
        name, value = line.split()
        rows.setdefault(name, []).append(float(value))
    written.unlink()
    shutil.rmtree(temp, ignore_errors=True)
    return rows


def each(rows: Measured, make: Callable[..., float], *names: str) -> list[float]:
    """The value of each pair, made of these rows of it."""
    return [make(*values) for values in zip(*(rows.get(name, []) for name in names))]


def results(rows: Measured, side: str) -> list[tuple[str, list[float], str, float | None, str]]:
    """What is shown of a side: text, values, unit, bar, and which way it is to be."""
    skate = side == "skate"
    ratio: Callable[..., float] = lambda plain, other: plain / other  # noqa: E731
    share: Callable[..., float] = lambda two, fan: 100 * two / fan  # noqa: E731
    fan = "fan_out" if skate else "put, 16 chunks"
    out: list[tuple[str, list[float], str, float | None, str]] = []
    for what, key in (("article", "article"), ("back-test", "back_test")):
        a = f"{key}_plain"
        if a not in rows:
            continue
        out += [
            (f"{what}: plain", rows[a], "s", None, ""),
            (f"{what}: two plain processes", each(rows, ratio, a, f"{key}_two"), "x", None, ""),
            (f"{what}: {fan}", each(rows, ratio, a, f"{key}_fan"), "x", None, ""),
            (f"{what}: of the speed-up of two plain processes",
             each(rows, share, f"{key}_two", f"{key}_fan"), "%", 85.0 if skate else None, ">="),
        ]  # fmt: skip
        if f"{key}_literal" in rows:
            slower: Callable[..., float] = lambda plain, other: other / plain  # noqa: E731
            out.append((f"{what}: a task for each row, of plain's time",
                        each(rows, slower, a, f"{key}_literal"), "x",
                        1.05 if skate else None, "<="))  # fmt: skip
    ms = [1000 * s for s in rows.get("attach_again", [])]
    first = [1000 * s for s in rows.get("attach_first", [])]
    out.append(("attach: the first in a Python worker", first, "ms", 5.0 if skate else None,
                "<="))  # fmt: skip
    out.append(("attach: again, after shutdown()", ms, "ms", 5.0 if skate else None, "<="))
    for count in (1, 2, 4):
        text = f"120 tasks of 20 ms by {count} attached: CPU"
        out.append((text, rows.get(f"churn_cpu_{count}", []), "s", None, ""))
    grown = each(rows, ratio, "churn_cpu_4", "churn_cpu_1")
    out.append(("four attached, of the CPU of one", grown, "x", 1.1 if skate else None, "<="))
    return out


def spread(values: list[float]) -> str:
    """Median and range."""
    if not values:
        return "-"
    text = f"{statistics.median(values):.2f}"
    return text + (f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else "")


def verdict(values: list[float], bar: float | None, way: str) -> str:
    """Is the bar reached?"""
    if bar is None:
        return ""
    if not values:
        return "MISSED: not measured"
    middle = statistics.median(values)
    return "met" if (middle >= bar if way == ">=" else middle <= bar) else "MISSED"


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ray", action="store_true", help="measure real Ray, too")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the results there")
    args = parser.parse_args()
    if args.ray and not RAY_PYTHON.exists():
        parser.error(f"there is no {RAY_PYTHON}: tools/setup.sh bench")
    load.become_reaper()
    sides = ["skate", "ray"] if args.ray else ["skate"]
    before, missed = os.getloadavg(), False
    measured: dict[str, Measured] = {}
    try:
        with load.CpuLoad() as others, standalone(2, 2) as (master, folder):
            for side in sides:
                measured[side] = measure(side, master, folder, args.pairs)
    finally:
        load.clear_away()
    kept: dict[str, Any] = {}
    for side in sides:
        print(f"\n| {side.capitalize()} | median (range) | bar | |\n| --- | --- | --- | --- |")
        for text, values, unit, bar, way in results(measured[side], side):
            said = verdict(values, bar, way)
            missed |= said.startswith("MISSED")
            limit = "" if bar is None else f"{way} {bar:g} {unit}"
            print(f"| {text} | {spread(values)} {unit} | {limit} | {said} |")
            kept[f"{side}: {text}"] = {"values": values, "unit": unit, "bar": bar, "said": said}
    print(f"\n{args.pairs} pairs; {os.cpu_count()} cores, load {before[0]:.1f} before and "
          f"{os.getloadavg()[0]:.1f} after, of which others {others.cores:.2f} cores")  # fmt: skip
    if args.json:
        args.json.write_text(json.dumps(kept, indent=1) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
