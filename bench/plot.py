"""A chart of queued tasks, as an SVG file without any library: plot.py [RESULTS.json] [OUT.svg]

From the rows `scale_queue_*` of a run of the bench: seconds to submit and to drain, and memory of
the driver, over the number of tasks; both axes logarithmic, so that what grows linearly is a
straight line of the slope of the grey ones.
"""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "latest.json"
CHART = ROOT / "docs" / "internals" / "queued_tasks.svg"
WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 40, 50
SERIES = (
    ("s", "submit, s", "#1f77b4"),
    ("drain_s", "drain, s", "#d62728"),
    ("mb", "driver's memory, MB", "#2ca02c"),
)
ROW = re.compile(r"scale_queue_(\d+)_(\w+)")


def points_of(results: dict[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """series -> [(tasks, value)] in growing order."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in results.get("scale", []):
        match = ROW.fullmatch(row["row"])
        if match and row["skate"]:
            found.setdefault(match.group(2), []).append((float(match.group(1)), row["skate"]))
    return {name: sorted(points) for name, points in found.items()}


def slope(points: list[tuple[float, float]]) -> float:
    """The exponent of growth from the second point on (the first is all set-up): 1 is linear."""
    (x0, y0), (x1, y1) = points[min(1, len(points) - 2)], points[-1]
    return math.log(y1 / y0) / math.log(x1 / x0)


class Axes:
    """Where a value lies on the picture."""

    def __init__(self, xs: list[float], ys: list[float]) -> None:
        self.x0, self.x1 = math.floor(math.log10(min(xs))), math.ceil(math.log10(max(xs)))
        self.y0, self.y1 = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))

    def x(self, value: float) -> float:
        share = (math.log10(value) - self.x0) / (self.x1 - self.x0)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        share = (math.log10(value) - self.y0) / (self.y1 - self.y0)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def text(x: float, y: float, words: str, anchor: str = "middle", color: str = "#333") -> str:
    """Some words."""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{color}">{words}</text>'


def line(points: list[tuple[float, float]], color: str, width: float) -> str:
    """A line through points of the picture."""
    path = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}"/>'


def grid(axes: Axes) -> list[str]:
    """Decades, their names, and lines of linear growth."""
    out = []
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for power in range(axes.x0, axes.x1 + 1):
        x = axes.x(10.0**power)
        out += [line([(x, TOP), (x, bottom)], "#eee", 1), text(x, bottom + 18, f"{10**power:,}")]
    for power in range(axes.y0, axes.y1 + 1):
        y = axes.y(10.0**power)
        out += [line([(LEFT, y), (right, y)], "#eee", 1),
                text(LEFT - 8, y + 4, f"{10.0**power:g}", "end")]
    for power in range(axes.y0, axes.y1 - (axes.x1 - axes.x0) + 1):
        ends = [(10.0**axes.x0, 10.0**power), (10.0**axes.x1, 10.0 ** (power + axes.x1 - axes.x0))]
        out.append(line([(axes.x(x), axes.y(y)) for x, y in ends], "#ccc", 1))
    return out


def chart(results: dict[str, Any]) -> str:
    """The SVG."""
    points = points_of(results)
    if not all(len(points.get(name, [])) >= 2 for name, _, _ in SERIES):
        raise ValueError("the results have no rows scale_queue_*: run the bench without --no-scale")
    every = [point for name, _, _ in SERIES for point in points[name]]
    axes = Axes([x for x, _ in every], [y for _, y in every])
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 22, "Queued tasks on one node (both axes logarithmic, grey: linear growth)",
             "start"),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "tasks that wait"),
        *grid(axes),
    ]
    label_y = -100.0
    for name, words, color in sorted(SERIES, key=lambda s: -points[s[0]][-1][1]):
        at = [(axes.x(x), axes.y(y)) for x, y in points[name]]
        out.append(line(at, color, 2))
        out += [f'<circle cx="{x}" cy="{y}" r="3" fill="{color}"/>' for x, y in at]
        label_y = max(at[-1][1] + 4, label_y + 16)  # one below the other, never on it
        out.append(text(at[-1][0] + 10, label_y, words, "start", color))
    return "\n".join([*out, "</svg>"]) + "\n"


def main(argv: list[str]) -> int:
    """Draw."""
    source = Path(argv[0]) if argv else RESULTS
    target = Path(argv[1]) if len(argv) > 1 else CHART
    results = json.loads(source.read_text(encoding="utf-8"))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(chart(results), encoding="utf-8")
    for name, words, _ in SERIES:
        print(f"{words}: grows with the power {slope(points_of(results)[name]):.2f} of the tasks")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
