"""Skate beside Ray 2.60.0, and beside what the machine itself can do.

Each row is measured in fresh processes, Ray and Skate in turn, at least three times; a ratio is
taken within each pair, and the table shows the median of the ratios with their least and greatest
(a ratio above 1 says that Skate is better). Beside it stands the floor, measured in the same run
by bench/micro/floor.c: two bare C processes with nothing but shared memory between them.

usage: run.py [--rows A,B] [--pairs N] [--quick] [--skip-ray] [--json FILE]
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RAY_PYTHON = ROOT / "build" / "rayenv" / "bin" / "python"
CHILD = ROOT / "bench" / "system" / "child.py"
CHILD_LIMIT_S = 240


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    text: str
    group: str
    unit: str
    less_is_better: bool = False
    floor: str = ""
    floor_text: str = ""
    bar: float = 0.0  # the ratio to Ray that we hold ourselves to; 0: none is set


ROWS = (
    Row("import_to_first_result", "import to first result", "start", "s", True, bar=30),
    Row("shutdown", "shutdown", "start", "s", True),
    Row("tasks_sync", "tasks, one at a time", "calls", "/s", floor="futex",
        floor_text="ring round trips, sleeping", bar=20),
    Row("tasks_async", "tasks, 1,000 at a time", "calls", "/s", floor="pipeline",
        floor_text="ring messages", bar=50),
    Row("tasks_async_args", "  the same, with arguments", "calls", "/s", floor="pipeline",
        floor_text="ring messages"),
    Row("tasks_chain_100", "chain of 100 tasks", "calls", "/s", floor="spin",
        floor_text="ring round trips, spinning"),
    Row("wait_1000", "1,000 tasks, wait one by one", "calls", "/s", floor="pipeline",
        floor_text="ring messages"),
    Row("actor_sync", "actor calls, one at a time", "calls", "/s", floor="futex",
        floor_text="ring round trips, sleeping"),
    Row("actor_async", "actor calls, pipelined", "calls", "/s", floor="pipeline",
        floor_text="ring messages", bar=30),
    Row("actor_async_1_to_4", "actor calls, 1 to 4", "calls", "/s", floor="pipeline",
        floor_text="ring messages"),
    Row("put_small", "put of small values", "calls", "/s"),
    Row("get_small", "get of small values", "calls", "/s"),
    Row("put_100mb", "put of 100 MB", "calls", "GB/s", floor="memcpy",
        floor_text="memcpy, warm shared memory"),
    Row("actors_started", "actors started", "actors", "/s", floor="fork", floor_text="bare forks",
        bar=50),
    Row("idle_worker_mb", "private memory, idle worker", "worker", "MB", True, bar=10),
    Row("queued_100k_mb", "driver, 100,000 queued tasks", "queue", "MB", True),
)
GROUPS = ("start", "calls", "actors", "worker", "queue")


def measure_floor(seconds: float, so_far: dict[str, float]) -> dict[str, float]:
    """Build and run the C floor; the best of all its runs counts."""
    binary = ROOT / "build" / "bench" / "floor"
    binary.parent.mkdir(parents=True, exist_ok=True)
    source = ROOT / "bench" / "micro" / "floor.c"
    subprocess.run(["cc", "-std=gnu11", "-O2", str(source), "-o", str(binary)], check=True)
    done = subprocess.run([str(binary), str(seconds)], check=True, capture_output=True, text=True)
    new = json.loads(done.stdout)
    return {name: max(value, so_far.get(name, 0.0)) for name, value in new.items()}


def run_child(target: str, group: str, seconds: float) -> dict[str, float]:
    """The rows of one group, from one fresh process; those that failed are missing."""
    python = str(RAY_PYTHON) if target == "ray" else sys.executable
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SKATE_"))}
    read_end, write_end = os.pipe()
    folder = tempfile.mkdtemp(prefix="sb-")
    env["SKATE_TMPDIR"] = folder
    code = 'import os,sys; os.dup2(int(sys.argv[1]), 3); os.execv(sys.argv[2], sys.argv[2:])'
    command = [sys.executable, "-S", "-c", code, str(write_end), python, str(CHILD), target, group,
               str(seconds), folder]
    rows = {}
    with tempfile.TemporaryFile("w+") as log:
        try:
            child = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log,
                                     stderr=subprocess.STDOUT, pass_fds=[write_end])
            os.close(write_end)
            with os.fdopen(read_end) as lines:
                try:
                    status: int | str = child.wait(CHILD_LIMIT_S)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
                    status = f"no end within {CHILD_LIMIT_S} s"
                os.set_blocking(lines.fileno(), False)
                for line in lines.read().splitlines():
                    name, value = line.split()
                    rows[name] = float(value)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if status != 0:
            log.seek(0)
            print(f"{target}, group {group}: {status}", file=sys.stderr)
            print("".join(log.readlines()[-15:]), file=sys.stderr)
    return rows


def version_of(target: str) -> str:
    """The runtime's own version, or what is wrong with it."""
    python = str(RAY_PYTHON) if target == "ray" else sys.executable
    module = "ray" if target == "ray" else "skate"
    code = f"import {module}; print({module}.__version__)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    model = platform.machine()
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True,
                            text=True, check=False).stdout.strip()
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": [round(x, 2) for x in os.getloadavg()],
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit,
    }


def number(value: float | None) -> str:
    """Three figures that matter, thousands separated."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def summarise(row: Row, pairs: list[dict[str, dict[str, float]]]) -> dict[str, object]:
    """Medians of one row and the ratios within its pairs."""
    sides = {
        target: [pair[target][row.name] for pair in pairs if row.name in pair.get(target, {})]
        for target in ("ray", "skate")
    }
    ratios = []
    for pair in pairs:
        ray, skate = (pair.get(target, {}).get(row.name) for target in ("ray", "skate"))
        if ray and skate:
            ratios.append(ray / skate if row.less_is_better else skate / ray)
    return {
        "row": row.name,
        "unit": row.unit,
        "bar": row.bar or None,
        "ray": statistics.median(sides["ray"]) if sides["ray"] else None,
        "skate": statistics.median(sides["skate"]) if sides["skate"] else None,
        "ratio": statistics.median(ratios) if ratios else None,
        "ratio_min": min(ratios) if ratios else None,
        "ratio_max": max(ratios) if ratios else None,
        "values": sides,
    }


def print_table(rows: list[Row], results: list[dict[str, object]], floor: dict[str, float]) -> None:
    """The table for people."""
    head = ("row", "Ray 2.60.0", "Skate", "better by (min .. max)", "bar", "floor")
    lines = []
    for row, result in zip(rows, results, strict=True):
        ratio = "-"
        if result["ratio"] is not None:
            ratio = (f"{number(result['ratio'])}x ({number(result['ratio_min'])} .. "
                     f"{number(result['ratio_max'])})")
        bound = f"{number(floor[row.floor])} {row.floor_text}" if row.floor in floor else ""
        ray, skate = (
            "-" if result[side] is None else f"{number(result[side])} {row.unit}"
            for side in ("ray", "skate")
        )
        bar = ""
        if row.bar:
            verdict = "" if result["ratio"] is None else ", " + (
                "met" if result["ratio"] >= row.bar else "MISSED")
            bar = f"{number(row.bar)}x{verdict}"
        lines.append((row.text, ray, skate, ratio, bar, bound))
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    for line in [head, tuple("-" * width for width in widths), *lines]:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:5], widths[1:5], strict=True)]
        print("  ".join([*cells, line[5]]).rstrip())


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ", ".join(row.name for row in ROWS)
    parser.add_argument("--rows", default="", help=f"only these, separated by commas: {names}")
    parser.add_argument("--pairs", type=int, default=3, help="how often each side is run (3)")
    parser.add_argument("--seconds", type=float, default=1.0, help="least length of a row (1)")
    parser.add_argument("--quick", action="store_true", help="half a second a row")
    parser.add_argument("--skip-ray", action="store_true", help="measure Skate only")
    parser.add_argument("--skip-skate", action="store_true", help="measure Ray only")
    parser.add_argument("--json", help="where to write the results (bench/results/latest.json)")
    args = parser.parse_args()
    args.rows = [name for name in args.rows.split(",") if name]
    unknown = set(args.rows) - {row.name for row in ROWS}
    if unknown:
        parser.error(f"unknown rows: {', '.join(sorted(unknown))}")
    if args.pairs < 1 or args.seconds <= 0:
        parser.error("--pairs and --seconds must be positive")
    if args.quick:
        args.seconds = min(args.seconds, 0.5)
    return args


def main() -> int:
    """Measure, print, save."""
    args = parse()
    rows = [row for row in ROWS if not args.rows or row.name in args.rows]
    groups = [group for group in GROUPS if any(row.group == group for row in rows)]
    targets = [t for t in ("ray", "skate") if not getattr(args, f"skip_{t}")]
    versions = {target: version_of(target) for target in targets}
    for target, version in versions.items():
        if not version:
            hint = "tools/setup.sh bench" if target == "ray" else "make build"
            print(f"{target} cannot be imported; run: {hint}", file=sys.stderr)
            return 1

    header = machine() | {"versions": versions, "seconds": args.seconds, "pairs": args.pairs}
    print(f"{header['cpu']}, {header['cores']} cores, Linux {header['kernel']}, "
          f"load {header['load'][0]}; " + ", ".join(f"{k} {v}" for k, v in versions.items()))
    floor = measure_floor(args.seconds / 4, {})

    pairs: list[dict[str, dict[str, float]]] = []
    for index in range(args.pairs):
        pair: dict[str, dict[str, float]] = {target: {} for target in targets}
        # Turn about: whoever goes first in one pair goes second in the next.
        for target in targets if index % 2 == 0 else targets[::-1]:
            for group in groups:
                print(f"pair {index + 1} of {args.pairs}: {target}, {group} ...", file=sys.stderr)
                pair[target] |= run_child(target, group, args.seconds)
        pairs.append(pair)
        floor = measure_floor(args.seconds / 4, floor)

    results = [summarise(row, pairs) for row in rows]
    header["load_after"] = [round(x, 2) for x in os.getloadavg()]
    print_table(rows, results, floor)
    path = Path(args.json) if args.json else ROOT / "bench" / "results" / "latest.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": header, "floor": floor, "rows": results}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
    print(f"\nwritten to {path}")
    missing = [r["row"] for r in results if any(r[target] is None for target in targets)]
    if missing:
        print(f"not measured: {', '.join(missing)}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
