"""How scheduling grows with the cluster: scale.py [--sizes 10,100,...] [--tasks N] [--out FILE]

Runs skate-scale (tests/sim/scale.c: the real GCS, and the real scheduling of thousands of raylets,
in one thread under virtual time), prints a table, and draws docs/internals/scale.svg. A minute and
2 GB for 10,000 nodes and a million tasks.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import plot  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "build" / "py" / "tests" / "sim" / "skate-scale"
CHART = ROOT / "docs" / "internals" / "scale.svg"
SIZES = (10, 100, 1000, 10000)
TASKS_MOST = 1_000_000
SERIES = (
    ("global_p99_us", "choice by the GCS, p99, µs", "#d62728"),
    ("here_p99_us", "choice by a raylet, p99, µs", "#1f77b4"),
    ("cpu_us_per_task", "all of a task, CPU µs", "#9467bd"),
    ("kb_per_node", "memory of a node, KB", "#2ca02c"),
    ("bytes_per_task", "memory of a task, bytes", "#ff7f0e"),
)


def run(nodes: int, tasks: int) -> dict[str, Any]:
    """One size; raises when a task was lost or a node is not whole in the end."""
    done = subprocess.run([PROGRAM, str(nodes), str(tasks)], capture_output=True, text=True,
                          check=False)  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{nodes} nodes: {done.stderr.strip() or done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout)
    result["global_p99_us"] = result["global"]["p99_us"]
    result["here_p99_us"] = result["here"]["p99_us"]
    result["kb_per_node"] = result["bytes_per_node"] / 1000
    return result


def chart(rows: list[dict[str, Any]]) -> str:
    """The SVG."""
    points = {name: [(float(r["nodes"]), max(float(r[name]), 0.01)) for r in rows]
              for name, _, _ in SERIES}  # fmt: skip
    every = [point for line in points.values() for point in line]
    axes = plot.Axes([x for x, _ in every], [y for _, y in every])
    middle = (plot.LEFT + plot.WIDTH - plot.RIGHT) / 2
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {plot.WIDTH + 60} {plot.HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{plot.WIDTH + 60}" height="{plot.HEIGHT}" fill="white"/>',
        plot.text(plot.LEFT, 22, "Scheduling, 10 to 10,000 nodes (both axes logarithmic, grey: "
                  "linear growth)", "start"),
        plot.text(middle, plot.HEIGHT - 10, "nodes"),
        *plot.grid(axes),
    ]
    label_y = -100.0
    for name, words, color in sorted(SERIES, key=lambda s: -points[s[0]][-1][1]):
        at = [(axes.x(x), axes.y(y)) for x, y in points[name]]
        out.append(plot.line(at, color, 2))
        out += [f'<circle cx="{x}" cy="{y}" r="3" fill="{color}"/>' for x, y in at]
        label_y = max(at[-1][1] + 4, label_y + 16)
        out.append(plot.text(at[-1][0] + 10, label_y, words, "start", color))
    return "\n".join([*out, "</svg>"]) + "\n"


def line(row: dict[str, Any]) -> str:
    """A row of the table, for Markdown too."""
    return (f"| {row['nodes']:,} | {row['tasks']:,} | {row['here']['p99_us']:.2f} | "
            f"{row['global']['p50_us']:.2f} | {row['global']['p99_us']:.2f} | "
            f"{row['global']['max_us']:.0f} | {row['cpu_us_per_task']:.1f} | "
            f"{row['bytes_per_node'] / 1000:.0f} | {row['bytes_per_task']:.0f} | "
            f"{row['join_infos_per_node']:.0f} | {row['gcs_in_per_task']:.2f} |")  # fmt: skip


def main(argv: list[str]) -> int:
    """Build, run, print, draw."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--sizes", default=",".join(map(str, SIZES)))
    words.add_argument("--tasks", type=int, default=TASKS_MOST, help="at most; 1,000 for each node")
    words.add_argument("--out", type=Path, help="write the results there as JSON, too")
    asked = words.parse_args(argv)
    subprocess.run([sys.executable, ROOT / "tools" / "build.py", "sim"], check=True)
    rows = []
    print("| nodes | tasks | here p99 µs | GCS p50 µs | GCS p99 µs | GCS max µs | CPU µs a task | "
          "KB a node | bytes a task | rows a newcomer is told | frames to the GCS a task |")
    print("|" + "---|" * 11)
    for nodes in map(int, asked.sizes.split(",")):
        rows.append(run(nodes, min(asked.tasks, 1000 * nodes)))
        print(line(rows[-1]), flush=True)
    if asked.out:
        asked.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    if len(rows) > 1:
        CHART.write_text(chart(rows), encoding="utf-8")
        print(f"drawn: {CHART.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
