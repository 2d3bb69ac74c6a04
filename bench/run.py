"""Skate beside Ray 2.60.0, and beside what the machine itself can do.

Each row is measured in fresh processes, Ray and Skate in turn, five times (the long ones two or
three times); a ratio is taken within each pair, and the table shows the median of the ratios with
their least and greatest (a ratio above 1 says that Skate is better). A pair during which others
used more than 0.3 of a core is void and is measured again, a few times at most. Beside a row stands
its floor, measured in the same run by bench/micro: bare processes with nothing of a runtime between
them. Rows of scale and of the C interface are Skate's alone. What each row has to reach:
bench/bench_rows.py.

usage: run.py [--rows A,B] [--pairs N] [--quick] [--skip-ray] [--no-scale] [--json FILE]
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import load
import table
from bench_rows import ALL, FLOORS, NATIVE, PAIRS_MOST, ROWS, SCALE, Row, groups_of
from child_process import RAY_PYTHON, run_child, run_lines

NATIVE_DIR = ROOT / "bench" / "native"
FOREIGN_MAX = 0.3  # cores of others, above which a pair is void
RETRIES = 2
SCALE_RUNS = 3  # of the short ones
LONG_SCALE = ("scale_actors", "scale_recursion")


@dataclass
class Pair:
    """One group, measured on each side once."""

    values: dict[str, dict[str, float]] = field(default_factory=dict)
    foreign: float = 0.0  # cores that others used meanwhile
    most: float = FOREIGN_MAX

    @property
    def void(self) -> bool:
        return self.foreign > self.most


class Bench:
    """One run: what was measured so far, and until when there may be more."""

    def __init__(self, seconds: float, minutes: float, others: float) -> None:
        self.seconds = seconds
        self.others = others
        self.deadline = time.monotonic() + 60 * minutes
        self.pairs: dict[str, list[Pair]] = {}
        self.floors: dict[str, list[float]] = {}

    def late(self) -> bool:
        return time.monotonic() > self.deadline

    def measure_floor(self) -> None:
        """All floors once more; the median of the run counts."""
        binary = ROOT / "build" / "bench" / "floor"
        source = ROOT / "bench" / "micro" / "floor.c"
        if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
            binary.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(
                ["cc", "-std=gnu11", "-O2", str(source), "-o", str(binary)], check=True
            )
        seconds = str(self.seconds / 4)
        for command in ([str(binary), seconds],
                        [sys.executable, str(source.with_suffix(".py")), seconds]):
            for name, value, _ in run_lines(command, 120):
                self.floors.setdefault(name, []).append(value)

    def measure_pair(self, group: str, targets: list[str], retries: int = RETRIES) -> None:
        """One group on each target, in this order; again while it is void."""
        for attempt in range(1 + retries):
            pair = Pair(most=self.others)
            with load.CpuLoad() as others:
                for target in targets:
                    found = run_child(target, group, self.seconds)
                    for name in found.keys() & FLOORS:  # floors that a group measures itself
                        self.floors.setdefault(name, []).append(found.pop(name))
                    pair.values[target] = found
            pair.foreign = others.cores
            self.pairs.setdefault(group, []).append(pair)
            if not pair.void:
                break
            last = attempt == retries or self.late()
            say(f"  void: others used {pair.foreign:.1f} cores{'' if last else '; again'}")
            if last:
                break

    def measure_native(self) -> dict[str, tuple[float, str]]:
        """What the programs in bench/native print: name -> (value, unit)."""
        found: dict[str, tuple[float, str]] = {}
        for program in sorted(NATIVE_DIR.iterdir()) if NATIVE_DIR.is_dir() else ():
            if program.is_file() and os.access(program, os.X_OK):
                say(f"native: {program.name} ...")
                lines = run_lines([str(program), str(self.seconds)], 300, complain=True)
                found |= {name: (value, unit) for name, value, unit in lines}
        return found


def say(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)


def version_of(target: str) -> str:
    """The runtime's own version, or nothing when it cannot be imported."""
    python = str(RAY_PYTHON) if target == "ray" else sys.executable
    module = "ray" if target == "ray" else "skate"
    code = f"import {module}; print({module}.__version__)"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def git(*args: str) -> str:
    """What git says."""
    done = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    model = platform.machine()
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    changed = "+changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": [round(x, 2) for x in os.getloadavg()],
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git("rev-parse", "--short", "HEAD") + changed,
    }


def summarise(row: Row, pairs: list[Pair], floor: dict[str, float]) -> dict[str, Any]:
    """One row: medians of both sides, the ratios within pairs, what it had to reach."""
    valid = [pair for pair in pairs if not pair.void]
    used = valid or pairs
    sides = {
        target: [p.values[target][row.name] for p in used if row.name in p.values.get(target, {})]
        for target in ("ray", "skate")
    }
    ratios = []
    for pair in used:
        ray, skate = (pair.values.get(target, {}).get(row.name) for target in ("ray", "skate"))
        if ray and skate:
            ratios.append(ray / skate if row.less_is_better else skate / ray)
    skate = statistics.median(sides["skate"]) if sides["skate"] else None
    return {
        "row": row.name,
        "unit": row.unit,
        "ray": statistics.median(sides["ray"]) if sides["ray"] else None,
        "skate": skate,
        "ratio": statistics.median(ratios) if ratios else None,
        "ratio_min": min(ratios) if ratios else None,
        "ratio_max": max(ratios) if ratios else None,
        "pairs": len(used),
        "void": len(pairs) - len(valid),
        "all_void": not valid,
        "foreign": [round(pair.foreign, 2) for pair in pairs],
        **table.verdicts(row, skate, statistics.median(ratios) if ratios else None, floor),
        "values": sides,
    }


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ", ".join(row.name for row in ALL)
    parser.add_argument("--rows", default="", help=f"only these, separated by commas: {names}")
    parser.add_argument("--pairs", type=int, default=5, help="how often each side is run (5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="least length of a row (1)")
    parser.add_argument("--minutes", type=float, default=26.0,
                        help="after that no further pair begins (26)")
    parser.add_argument("--others", type=float, default=FOREIGN_MAX, metavar="CORES",
                        help=f"above which a pair is void ({FOREIGN_MAX})")
    parser.add_argument("--quick", action="store_true", help="half a second a row")
    parser.add_argument("--skip-ray", action="store_true", help="measure Skate only")
    parser.add_argument("--skip-skate", action="store_true", help="measure Ray only")
    parser.add_argument("--no-scale", action="store_true", help="leave out the rows of scale")
    parser.add_argument("--json", help="where to write the results (bench/results/latest.json)")
    args = parser.parse_args()
    args.rows = [name for name in args.rows.split(",") if name]
    unknown = set(args.rows) - {row.name for row in ALL}
    if unknown:
        parser.error(f"unknown rows: {', '.join(sorted(unknown))}")
    if args.pairs < 1 or args.seconds <= 0 or args.minutes <= 0:
        parser.error("--pairs, --seconds and --minutes must be positive")
    if args.quick:
        args.seconds = min(args.seconds, 0.5)
    return args


def measure(bench: Bench, args: argparse.Namespace, targets: list[str], rows: list[Row],
            scale: list[Row]) -> None:
    """Everything, group by group, turn about."""
    bench.measure_floor()
    for group in groups_of(scale):
        for _ in range(1 if group in LONG_SCALE else SCALE_RUNS):
            say(f"scale: {group} ...")
            bench.measure_pair(group, ["skate"], 0)
    for index in range(args.pairs if rows else 0):
        if bench.late() and index:
            say(f"{args.minutes:g} minutes are over: {index} pairs it is")
            break
        # Whoever goes first in one pair goes second in the next.
        order = targets if index % 2 == 0 else targets[::-1]
        for group in groups_of(rows):
            count = min(args.pairs, PAIRS_MOST.get(group, args.pairs))
            if index < count:
                say(f"pair {index + 1} of {count}: {group} ...")
                bench.measure_pair(group, order, 1 if group in PAIRS_MOST else RETRIES)
        bench.measure_floor()


def main() -> int:
    """Measure, print, save."""
    args = parse()
    load.become_reaper()

    def wanted(rows: tuple[Row, ...]) -> list[Row]:
        return [row for row in rows if not args.rows or row.name in args.rows]

    rows, native = wanted(ROWS), wanted(NATIVE)
    scale = [] if args.no_scale or args.skip_skate else wanted(SCALE)
    targets = [t for t in ("ray", "skate") if not getattr(args, f"skip_{t}")]
    if not rows:
        targets = ["skate"]
    versions = {target: version_of(target) for target in targets}
    for target, version in versions.items():
        if not version:
            hint = "tools/setup.sh bench" if target == "ray" else "make build"
            print(f"{target} cannot be imported; run: {hint}", file=sys.stderr)
            return 1

    header = machine() | {"versions": versions, "seconds": args.seconds, "pairs": args.pairs,
                          "others": args.others}
    bench = Bench(args.seconds, args.minutes, args.others)
    measure(bench, args, targets, rows, scale)
    printed = bench.measure_native() if native and "skate" in targets else {}
    header["load_after"] = [round(x, 2) for x in os.getloadavg()]
    everything = [pair for pairs in bench.pairs.values() for pair in pairs]
    header["foreign"] = round(statistics.fmean([p.foreign for p in everything] or [0.0]), 2)
    floor = {name: statistics.median(values) for name, values in bench.floors.items()}
    results: dict[str, Any] = {
        "machine": header,
        "floor": floor,
        "rows": [summarise(r, bench.pairs.get(r.group, []), floor) for r in rows],
        "scale": [summarise(r, bench.pairs.get(r.group, []), floor) for r in scale],
        "native": table.native_results(native, printed),
    }
    print(table.whole(results))
    path = Path(args.json) if args.json else ROOT / "bench" / "results" / "latest.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {path}")
    missing = [r["row"] for r in results["rows"] if any(r[target] is None for target in targets)]
    missing += [r["row"] for r in results["scale"] if r["skate"] is None]
    if missing:
        print(f"not measured: {', '.join(missing)}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
