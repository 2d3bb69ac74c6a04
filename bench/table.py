"""The table for people: what was measured, and what of it was to be reached."""

from __future__ import annotations

from typing import Any

from bench_rows import ALL, FLOORS, Row, floor_verdict, part

BY_NAME = {row.name: row for row in ALL}


def number(value: float | None) -> str:
    """Three figures that matter, thousands separated."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def with_unit(value: float | None, unit: str) -> str:
    """A number and its unit."""
    if value is None:
        return "-"
    return f"{number(value)}{'' if unit.startswith(('/', '%')) else ' '}{unit}"


def verdicts(row: Row, skate: float | None, ratio: float | None,
             floor: dict[str, float]) -> dict[str, Any]:
    """What a row had to reach and whether it did: `*_met` is None where nothing can be said."""
    found: dict[str, Any] = {"bar": row.bar or None, "bar_met": None, "limit": row.limit,
                             "limit_met": None, "floor": row.floor or None,
                             "floor_value": floor.get(row.floor), "floor_met": None,
                             "floor_text": None, "spin_share": None}
    if row.bar and ratio is not None:
        found["bar_met"] = ratio >= row.bar
    if row.limit is not None and skate is not None:
        found["limit_met"] = skate <= row.limit if row.less_is_better else skate >= row.limit
    if skate and row.floor in floor:
        verdict = floor_verdict(row, skate, floor[row.floor])
        if verdict:
            found["floor_met"], found["floor_text"] = verdict
        if row.rule == "sync" and "spin" in floor:
            found["spin_share"] = skate / floor["spin"]
    return found


def native_results(rows: list[Row], printed: dict[str, tuple[float, str]]) -> list[dict[str, Any]]:
    """Rows of the C programs: those we know in our order, then whatever else they printed."""
    known = {row.name: row for row in rows}
    extra = [Row(n, n.replace("_", " "), "native", u) for n, (_, u) in printed.items()
             if n not in BY_NAME]
    results = []
    for row in [*known.values(), *extra]:
        value, unit = printed.get(row.name, (None, row.unit))
        results.append({"row": row.name, "unit": unit, "skate": value, "text": row.text,
                        **verdicts(row, value, None, {})})
    return results


def said(met: bool | None) -> str:
    """A verdict in a word."""
    return "" if met is None else "met" if met else "MISSED"


def goal(result: dict[str, Any]) -> str:
    """The column of bars: a ratio to Ray or a bound on Skate's number."""
    row = BY_NAME.get(result["row"])
    if result["bar"]:
        return f"{number(result['bar'])}x {said(result['bar_met'])}".rstrip()
    if result["limit"] is not None and row:
        sign = "<=" if row.less_is_better else ">="
        bound = with_unit(result["limit"], result["unit"])
        return f"{sign} {bound} {said(result['limit_met'])}".rstrip()
    return ""


def floor_cell(result: dict[str, Any]) -> str:
    """The column of floors."""
    if result["floor_value"] is None:
        return ""
    text = f"{result['floor']} {number(result['floor_value'])}"
    if result["floor_text"]:
        text += f": {result['floor_text']}, {said(result['floor_met'])}"
    if result["spin_share"]:
        text += f" ({part(result['spin_share'], 1.0)} of spin)"
    return text


def ratio_cell(result: dict[str, Any]) -> str:
    """The column of ratios."""
    if result.get("ratio") is None:
        return "-"
    least, most = number(result["ratio_min"]), number(result["ratio_max"])
    return f"{number(result['ratio'])}x ({least} .. {most})"


def pairs_cell(result: dict[str, Any]) -> str:
    """How many pairs it is the median of, and how many were void."""
    if "pairs" not in result:
        return ""
    if result["all_void"] and result["pairs"]:
        return f"ALL {result['pairs']} VOID"
    return f"{result['pairs']}" + (f", {result['void']} void" if result["void"] else "")


def lines_of(head: tuple[str, ...], lines: list[tuple[str, ...]], last_left: int) -> list[str]:
    """Columns: the first and the last ones to the left, numbers to the right."""
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    out = []
    for line in [head, tuple("-" * width for width in widths), *lines]:
        cells = [
            cell.ljust(width) if i == 0 or i >= last_left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        out.append("  ".join(cells).rstrip())
    return out


def text_of(result: dict[str, Any]) -> str:
    """The words of a row."""
    row = BY_NAME.get(result["row"])
    return row.text if row else result.get("text", result["row"])


def compared(results: list[dict[str, Any]]) -> list[str]:
    """Rows that have two sides."""
    head = ("row", "Ray", "Skate", "better by (min .. max)", "pairs", "bar", "floor")
    return lines_of(head, [
        (text_of(r), with_unit(r["ray"], r["unit"]), with_unit(r["skate"], r["unit"]),
         ratio_cell(r), pairs_cell(r), goal(r), floor_cell(r))
        for r in results
    ], 5)


def alone(results: list[dict[str, Any]]) -> list[str]:
    """Rows of Skate alone."""
    return lines_of(("row", "Skate", "runs", "bound"), [
        (text_of(r), with_unit(r["skate"], r["unit"]), pairs_cell(r), goal(r)) for r in results
    ], 3)


def summary(results: dict[str, Any]) -> list[str]:
    """How many bars were met, and which were not."""
    out = []
    everything = [*results["rows"], *results["scale"], *results["native"]]
    for key, words in (("bar_met", "bars against Ray"), ("limit_met", "bounds"),
                       ("floor_met", "floors")):
        judged = [r for r in everything if r.get(key) is not None]
        missed = [r["row"] for r in judged if not r[key]]
        if judged:
            end = f"; missed: {', '.join(missed)}" if missed else ""
            out.append(f"{words}: {len(judged) - len(missed)} of {len(judged)} met{end}")
    return out


def whole(results: dict[str, Any]) -> str:
    """Everything that is printed."""
    m = results["machine"]
    out = [
        f"{m['cpu']}, {m['cores']} cores, {m['memory_gb']:.0f} GB, Linux {m['kernel']}, Python "
        f"{m['python']}",
        f"commit {m['commit']}, {m['time']}; "
        + ", ".join(f"{name} {version}" for name, version in m["versions"].items()),
        f"load {m['load'][0]} before, {m['load_after'][0]} after; others used {m['foreign']} cores "
        f"on average (a pair is void above {m['others']:g})",
        "floors: " + "\n        ".join(
            f"{name:8s} {number(value)} {FLOORS[name]}" for name, value in results["floor"].items()
        ),
    ]
    if results["rows"]:
        out += ["", *compared(results["rows"])]
    if results["scale"]:
        out += ["", *alone(results["scale"])]
    if any(r["skate"] is not None for r in results["native"]):
        out += ["", *alone(results["native"])]
    return "\n".join([*out, "", *summary(results)])
