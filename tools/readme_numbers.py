"""Write the numbers of the last `make bench` to where they are told, each between its two marks.

The table beside Ray goes into README.md, what one node holds into docs/internals/measuring.md with
its chart. usage: readme_numbers.py [RESULTS.json]     default: bench/results/latest.json
"""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import bench_rows  # noqa: E402
import plot  # noqa: E402  (of the bench)

DISK_ROWS = frozenset(row.name for row in bench_rows.ROWS if row.rule == "disk")
README, MEASURING = ROOT / "README.md", ROOT / "docs" / "internals" / "measuring.md"


def amount(value: float | None, unit: str) -> str:
    """A number with as many digits as it deserves."""
    if value is None:
        return "-"
    if 0 < value < 0.01:
        return f"{value:.2g} {unit}"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{digits}f} {unit}".replace(" /s", "/s")


def row_texts() -> dict[str, str]:
    """The words of each row, from the bench itself; indented ones continue the one above."""
    head, texts = "", {}
    for row in bench_rows.ALL:
        text = row.text.strip()
        if row.text.startswith(" "):
            text = f"{head}, {text.removeprefix('the same, ')}"
        else:
            head = text.split(": ")[0]
        texts[row.name] = text
    return texts


def times(ratio: float) -> str:
    """A ratio with three digits."""
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"


def where(m: dict[str, Any]) -> str:
    """What was measured on what."""
    return (
        f"`make bench` on {m['cores']} cores ({m['cpu']}), {m['memory_gb']:.0f} GB, Python "
        f"{m['python']}, commit {m['commit']}, load {m['load'][0]:.1f} at the start and "
        f"{m['load_after'][0]:.1f} at the end, of which others used {m['foreign']:.1f} cores."
    )


def bar_of(r: dict[str, Any]) -> str:
    """What a row is to reach; in words only when it does not."""
    if r["row"] in DISK_ROWS:
        share = f"{100 * bench_rows.SHARES['disk']:.0f} % of the disk"
        return share + ("" if r["floor_met"] else " (missed)")
    if r["bar"]:
        return f"{r['bar']:.0f}" + ("" if r["bar_met"] else " (missed)")
    if r["limit"] is not None:
        return f"{r['limit']:g} {r['unit']}" + ("" if r["limit_met"] else " (missed)")
    return ""


def table(results: dict[str, Any]) -> str:
    """Beside Ray: what was measured where, then the rows."""
    m, floor, texts = results["machine"], results["floor"], row_texts()
    both = [r for r in results["rows"] if r["ratio"] is not None]
    few = " or ".join(map(str, sorted(set(bench_rows.PAIRS_MOST.values()))))
    void = sum(1 for r in both if r["all_void"])
    head = (
        f"{where(m)} Ray is {m['versions'].get('ray', 'not measured')}; both ran in turn, "
        f"{max((r['pairs'] for r in both), default=0)} times (what takes long {few} times); the "
        "ratio is the median of the pairs' ratios (least to greatest), above 1 where Skate is "
        "better; the bar is what we hold ourselves to."
        + (f" In {void} rows all pairs were disturbed by others." if void else "")
    )
    below = (
        "The floor of the same machine in the same run, two bare C processes: "
        f"{floor['spin']:,.0f} ring round trips/s spinning, {floor['futex']:,.0f}/s sleeping, "
        f"{floor['pipeline']:,.0f} messages/s in a stream; memcpy {floor['memcpy']:.1f} GB/s; "
        f"{floor['fork']:,.0f} forks/s. Bare Python: {floor['pycall']:,.0f} calls/s of a function "
        f"in another process, {floor['asyncio']:,.0f} asyncio tasks/s."
    )
    if "disk_write" in floor:
        below += (f" The disk, by dd with direct I/O: {floor['disk_write']:.2f} GB/s written, "
                  f"{floor['disk_read']:.2f} GB/s read.")
    lines = ["| | Ray | Skate | ratio | bar |", "| --- | ---: | ---: | ---: | ---: |"]
    for r in both:
        bar = bar_of(r)
        ratio = f"{times(r['ratio'])} ({times(r['ratio_min'])} to {times(r['ratio_max'])})"
        ray, skate = amount(r["ray"], r["unit"]), amount(r["skate"], r["unit"])
        lines.append(f"| {texts.get(r['row'], r['row'])} | {ray} | {skate} | {ratio} | {bar} |")
    return "\n".join([textwrap.fill(head, 100), "", *lines, "", textwrap.fill(below, 100), ""])


def scale(results: dict[str, Any]) -> str:
    """What one node holds, and how waiting tasks grow."""
    texts, points = row_texts(), plot.points_of(results)
    grown = ", ".join(
        f"{words.split(',')[0]} with the power {plot.slope(points[name]):.2f}"
        for name, words, _ in plot.SERIES
    )
    lines = ["| on one node | |", "| --- | ---: |"]
    for r in [*results["scale"], *results["native"]]:
        if r["skate"] is not None:
            text = texts.get(r["row"], r.get("text", r["row"]))
            lines.append(f"| {text} | {amount(r['skate'], r['unit'])} |")
    below = f"From 10,000 to 1,000,000 waiting tasks these grow: {grown} (1 is linear)."
    return "\n".join([textwrap.fill(where(results["machine"]), 100), "", *lines, "",
                      textwrap.fill(below, 100), ""])


def replace(path: Path, mark: str, body: str) -> bool:
    """Put the body between the two marks of a page; false when it has not both."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->\n"
    head, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        print(f"{path.name} has not both marks {mark}", file=sys.stderr)
        return False
    path.write_text(head + begin + body + end + tail, encoding="utf-8")
    return True


def main(argv: list[str]) -> int:
    """Replace what the results have numbers for."""
    source = Path(argv[0]) if argv else plot.RESULTS
    results = json.loads(source.read_text(encoding="utf-8"))
    done = True
    if any(r["ratio"] is not None for r in results["rows"]):
        done = replace(README, "measured", table(results))
    if results["scale"]:
        done = replace(MEASURING, "scale", scale(results)) and done
        plot.CHART.write_text(plot.chart(results), encoding="utf-8")
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
