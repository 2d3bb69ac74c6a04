"""Write the table of the last `make bench` into README.md, between its two marks.

usage: readme_numbers.py [RESULTS.json]     default: bench/results/latest.json
"""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- measured -->\n", "<!-- /measured -->\n"


def amount(value: float | None, unit: str) -> str:
    """A number with as many digits as it deserves."""
    if value is None:
        return "-"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{digits}f} {unit}".replace(" /s", "/s")


def row_texts() -> dict[str, str]:
    """The words of each row, from the bench itself."""
    sys.path.insert(0, str(ROOT / "bench"))
    import run

    last, texts = "", {}
    for row in run.ROWS:
        text = row.text.strip()
        if text.startswith("the same, "):
            text = f"{last}, {text.removeprefix('the same, ')}"
        else:
            last = text
        texts[row.name] = text
    return texts


def times(ratio: float) -> str:
    """A ratio with three digits."""
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"


def table(results: dict[str, Any]) -> str:
    """The section: what was measured where, then the rows."""
    m, floor, texts = results["machine"], results["floor"], row_texts()
    where = (
        f"`make bench` on {m['cores']} cores ({m['cpu']}), {m['memory_gb']:.0f} GB, Python "
        f"{m['python']}, commit {m['commit']}, load {m['load'][0]:.1f} at the start and "
        f"{m['load_after'][0]:.1f} at the end. Ray is {m['versions']['ray']}; both ran in turn, "
        f"{m['pairs']} times; the ratio is the median of the pairs' ratios (least to greatest), "
        "above 1 where Skate is better."
    )
    below = (
        "The floor of the same machine in the same run, two bare C processes: "
        f"{floor['spin']:,.0f} ring round trips/s spinning, {floor['futex']:,.0f}/s sleeping, "
        f"{floor['pipeline']:,.0f} messages/s in a stream; memcpy {floor['memcpy']:.1f} GB/s; "
        f"{floor['fork']:,.0f} forks/s."
    )
    rows = ["| | Ray | Skate | ratio |", "| --- | ---: | ---: | ---: |"]
    for r in results["rows"]:
        if r["ratio"] is not None:
            ratio = f"{times(r['ratio'])} ({times(r['ratio_min'])} to {times(r['ratio_max'])})"
            ray, skate = amount(r["ray"], r["unit"]), amount(r["skate"], r["unit"])
            rows.append(f"| {texts.get(r['row'], r['row'])} | {ray} | {skate} | {ratio} |")
    return "\n".join([textwrap.fill(where, 100), "", *rows, "", textwrap.fill(below, 100), ""])


def main(argv: list[str]) -> int:
    """Replace the section."""
    source = Path(argv[0]) if argv else ROOT / "bench" / "results" / "latest.json"
    readme = ROOT / "README.md"
    head, found, rest = readme.read_text().partition(BEGIN)
    _, closed, tail = rest.partition(END)
    if not found or not closed:
        print("README.md has not both marks", file=sys.stderr)
        return 1
    readme.write_text(head + BEGIN + table(json.loads(source.read_text())) + END + tail)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
