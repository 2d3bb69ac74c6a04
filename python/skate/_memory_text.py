"""What `skate memory` and internal_api.memory_summary() print, as text."""

from __future__ import annotations

import time

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

UNITS = {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30}
GROUPS = {"NODE_ADDRESS": ("node address", "ip"), "STACK_TRACE": ("stack trace", "call_site")}
SORTS = {"PID": "pid", "OBJECT_SIZE": "object_size", "REFERENCE_TYPE": "reference_type"}
ROWS_MOST = 1000  # of all tables, if nothing else is said
_LEAKS_MOST, _PROCESSES_MOST = 20, 10
_KINDS = {
    "LOCAL_REFERENCE": "Local References", "PINNED_IN_MEMORY": "Pinned",
    "USED_BY_PENDING_TASK": "Used by task", "CAPTURED_IN_OBJECT": "Captured in Objects",
    "ACTOR_HANDLE": "Actor Handles",
}  # fmt: skip


def human(count: float) -> str:
    """Bytes as people read them: 12.0 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _size(count: float, units: str) -> str:
    if count < 0:
        return "?"
    return f"{count / UNITS[units]:.{0 if units == 'B' else 2}f} {units}"


def table(heads: list[str], cells: list[list[str]], numbers: set[int] | None = None) -> list[str]:
    """Columns side by side, two spaces between; those of numbers end at one line."""
    widths = [max(len(line[k]) for line in [heads, *cells]) for k in range(len(heads))]
    right = numbers or set()
    return ["  ".join(t.rjust(w) if k in right else t.ljust(w)
                      for k, (t, w) in enumerate(zip(line, widths, strict=True))).rstrip()
            for line in [heads, *cells]]  # fmt: skip


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


# ------------------------------------------------------------------------------ rows of objects


def _holders(row: dict[str, Any]) -> str:
    """Who has it besides the refs of the process itself."""
    out = []
    if row["running_here"]:
        out.append("the task that runs here")
    if row["pins"]:
        out.append(_count(row["pins"], "view or wait", "views or waits"))
    if row["used_by_tasks"]:
        out.append(_count(row["used_by_tasks"], "task"))
    if row["captured_in"]:
        out.append(_count(row["captured_in"], "value"))
    others = sorted(set(row["borrower_pids"]))
    if others:
        shown = " ".join(str(pid) if pid else "gone" for pid in others[:8])
        out.append(f"pid{'s' if len(others) > 1 else ''} {shown}{' ...' if others[8:] else ''}")
    return ", ".join(out)


_HEADS = ["IP Address", "PID", "Type", "Call Site", "Status", "Attempt", "Where", "Size", "Age",
          "Reference Type", "Owner", "Holders", "Object Ref"]  # fmt: skip


def _cells(row: dict[str, Any], units: str) -> list[str]:
    return [row["ip"], str(row["pid"]), row["type"].title(), row["call_site"], row["task_status"],
            str(row["attempt_number"]), row["where"], _size(row["object_size"], units),
            _age(row["age_s"]), row["reference_type"], str(row["owner_pid"] or "gone"),
            _holders(row), row["object_id"]]  # fmt: skip


def _narrow(rows: list[dict[str, Any]], units: str, by_node: bool, sites: bool) -> list[str]:
    """Two or three lines an object, none of them wide."""
    heads = ["PID", "Size", "Reference Type", "Object Ref"]
    cells = [[str(r["pid"]), _size(r["object_size"], units), r["reference_type"], r["object_id"]]
             for r in rows]  # fmt: skip
    lines = table(heads, cells, {0, 1})
    out = lines[:1]
    for row, line in zip(rows, lines[1:], strict=True):
        facts = [row["type"].lower(), row["where"], f"{_age(row['age_s'])} old",
                 f"task {row['task_status']}" if row["task_status"] not in ("NIL", "FINISHED")
                 else "", "" if by_node else row["ip"],
                 "" if row["owner_pid"] == row["pid"] else f"owner {row['owner_pid'] or 'gone'}"]
        held = _holders(row)
        if held:
            facts.append(f"held by {held}")
        out += [line, "       " + " · ".join(f for f in facts if f)]
        if sites and by_node:
            out.append("       " + row["call_site"])
    return out


def _summary(groups: list[dict[str, Any]], units: str, width: int) -> list[str]:
    """Sums of one table; an object counts once, where it is owned."""
    own = [g for g in groups if g["owned"] or g["reference_type"] == "REST"]
    heads, values = ["Mem Used by Objects"], [_size(sum(g["bytes"] for g in own), units)]
    for kind, title in _KINDS.items():
        some = [g for g in groups if g["reference_type"] == kind]
        heads.append(title)
        values.append(f"{sum(g['count'] for g in some)}, "
                      f"({_size(sum(g['bytes'] for g in some), units)})")  # fmt: skip
    lines = table(heads, [values])
    if width and max(map(len, lines)) > width:
        return [f"{head:<20}{value}" for head, value in zip(heads, values, strict=True)
                if not value.startswith("0, ")]
    return lines


def _objects(found: dict[str, Any], o: Options) -> list[str]:
    title, field = GROUPS[o.group_by]
    by = SORTS[o.sort_by]
    shown = f"{o.num_entries} entries" if o.num_entries else "all entries"
    lines = [f"Grouping by {title}...        Sorting by {by.replace('_', ' ')}...        "
             f"Display {shown} per group...", ""]  # fmt: skip
    groups: dict[str, list[dict[str, Any]]] = {}
    for group in found["groups"]:
        groups.setdefault(str(group[field]), []).append(group)
    tables: dict[str, list[dict[str, Any]]] = {key: [] for key in groups}
    for row in found["objects"]:
        tables.setdefault(str(row[field]), []).append(row)
    for key, rows in tables.items():
        rows = rows[: o.num_entries]  # they come the largest first
        rows.sort(key=lambda r: r[by], reverse=by == "object_size")
        lines += [f"--- Summary for {title}: {key} ---",
                  *_summary(groups.get(key, []), o.units, o.width), ""]  # fmt: skip
        if not rows:
            continue
        lines.append(f"--- Object references for {title}: {key} ---")
        lines += [*_object_table(rows, o, found["call_sites"]), ""]
    if found["rows_left_out"]:
        lines += [f"{found['rows_left_out']:,} of {found['total']:,} references, the smallest, are "
                  "counted above and not shown: -n shows more.", ""]  # fmt: skip
    if not found["call_sites"] and found["total"]:
        lines += ["To see the line that made each ref, set SKATE_record_ref_creation_sites=1 (or",
                  "Ray's RAY_record_ref_creation_sites=1) for the program and for `skate start`.",
                  ""]  # fmt: skip
    return lines


def _object_table(rows: list[dict[str, Any]], o: Options, sites: bool) -> list[str]:
    cells = [_cells(row, o.units) for row in rows]
    if o.no_format:
        return [", ".join(line) for line in [_HEADS, *cells]]
    lines = table(_HEADS, cells, {1, 5, 7, 10})
    if o.width and max(map(len, lines)) > o.width:
        return _narrow(rows, o.units, o.group_by == "NODE_ADDRESS", sites)
    return lines


# ----------------------------------------------------------------------------- leaks and stores


def _leaks(found: dict[str, Any]) -> list[str]:
    rows = found["leaks"]
    after = _age(found["leaks_after_s"])
    if not rows:
        return []
    count, size = sum(r["count"] for r in rows), sum(r["bytes"] for r in rows)
    lines = [f"--- Leaked? {_count(count, 'object')}, {human(size)}, older than {after} and in no "
             "task's hands ---"]  # fmt: skip
    cells = []
    for row in rows[:_LEAKS_MOST]:
        who = f"idle worker {row['pid']}" if row["idle_worker"] else f"pid {row['pid']}"
        if not row["pid"]:
            who = "a process that is gone"
        how = {"refs": f"refs of {who}", "views": f"views of {who}"}.get(
            row["held_by"], f"{who} (owner {row['owner_pid']})"
        )
        cells.append([human(row["bytes"]), f"{row['count']:,}", _age(row["oldest_s"]), how,
                      row["call_site"]])  # fmt: skip
    heads = ["Size", "Objects", "Oldest", "Held by", "Call Site"]
    lines += table(heads, cells, {0, 1, 2})
    if rows[_LEAKS_MOST:]:
        lines.append(f"... and {len(rows) - _LEAKS_MOST} more lines: --format json has all")
    return [*lines, ""]


def _throughput(row: dict[str, Any], verb: str) -> str:
    seconds = row[f"{verb}_ns"] / 1e9
    bytes_done = row[{"spill": "spilled_bytes", "restore": "restored_bytes"}[verb]]
    return f"{human(bytes_done / seconds)}/s" if seconds else "-"


def _store(row: dict[str, Any]) -> list[str]:
    share = 100 * row["resident"] / row["budget"] if row["budget"] else 0
    lines = [f"--- Object store of node {row['ip']} ({row['node_id'][:12]}) ---"]
    facts = [
        ("memory", f"{human(row['resident'])} of {human(row['budget'])} ({share:.1f} %)"
         + (f", and {human(row['warm'])} free and kept warm" if row["warm"] else "")),
        ("objects", f"{_count(row['objects'], 'object')}, {human(row['object_bytes'])}"),
        ("lent and empty", f"{human(row['spare'])} kept by processes for reuse, "
         f"{human(row['unexplained'])} of no object"),
        ("spilled", f"{human(row['spilled'])}, spill files {human(row['disk_used'])}"),
        ("mapped from files", human(row["in_files"])),
        ("pinned by readers", human(row["pinned"])),
        ("copies", f"{_count(int(row['copies']), 'copy', 'copies')} of other nodes' objects, "
         f"{human(row['copies_bytes'])}; nobody uses {row['unused_copies']} of them, "
         f"{human(row['unused_copies_bytes'])}"),
        ("held for readers", f"{human(row['held'])} of processes that died"),
        ("kept results", f"{human(row['kept'])} of workers that ended"),
        ("lost", f"{human(row['lost'])} of spill files that cannot be read"),
    ]  # fmt: skip
    always = {"memory", "objects", "lent and empty"}
    needed = {"spilled": row["spilled"] or row["disk_used"], "mapped from files": row["in_files"],
              "pinned by readers": row["pinned"], "copies": row["copies"],
              "held for readers": row["held"], "kept results": row["kept"],
              "lost": row["lost"]}  # fmt: skip
    lines += [f"{name:<18}{text}" for name, text in facts if name in always or needed.get(name)]
    lines += _events(row)
    if row["waits"] and not row["waiting"]:
        lines.append(f"{'waited':<18}{_count(row['waits'], 'request')} for room, none now")
    if row["waiting"]:
        text = row["waits_for"] or _count(row["waiting"], "request") + " for room"
        lines.append(f"{'waiting':<18}{text}")
    if row["refused"] or row["failures"]:
        lines.append(f"{'failed':<18}{_count(row['refused'], 'request')} refused, store full; "
                     f"{_count(row['failures'], 'failure')} of spill files")  # fmt: skip
    return [*lines, *_store_processes(row), ""]


def _events(row: dict[str, Any]) -> list[str]:
    """What moved since the start, and how fast: on average, while it did, and now."""
    cells = []
    for name, count, size, rate, average in (
        ("spilled", "spills", "spilled_bytes", "spill_rate", _throughput(row, "spill")),
        ("restored", "restores", "restored_bytes", "restore_rate", _throughput(row, "restore")),
        ("evicted", "evictions", "evicted_bytes", "evict_rate", "-"),
        ("pulled", "pulls", "pulled_bytes", "pull_rate", "-"),
    ):
        if row[count]:
            cells.append([name, f"{row[count]:,}", human(row[size]), average,
                          f"{human(row[rate])}/s"])  # fmt: skip
    if not cells:
        return []
    return table(["since the start", "Times", "Bytes", "While busy", "Last 10 s"], cells,
                 {1, 2, 3, 4})  # fmt: skip


def _store_processes(row: dict[str, Any]) -> list[str]:
    names = {"dead": "dead process", "copies": "raylet's copies", "kept": "kept results"}
    cells = []
    for p in row["processes"][:_PROCESSES_MOST]:
        who = names.get(p["what"], f"pid {p['pid']}" if p["pid"] else "a process that left")
        known = p["answered"]
        cells.append([who, human(p["bytes"]), f"{p['objects']:,}", human(p["object_bytes"]),
                      human(p["spare"]) if known else "?",
                      human(p["unexplained"]) if known else "?"])  # fmt: skip
    if not cells:
        return []
    lines = table(["memory lent to", "Bytes", "Objects", "Their bytes", "Empty", "Of no object"],
                  cells, {1, 2, 3, 4, 5})  # fmt: skip
    if row["processes"][_PROCESSES_MOST:]:
        rest = row["processes"][_PROCESSES_MOST:]
        lines.append(f"... and {len(rest)} more with {human(sum(p['bytes'] for p in rest))}")
    return lines


def _aggregate(nodes: list[dict[str, Any]]) -> list[str]:
    """Lines that programs know from Ray."""
    total = {key: sum(row[key] for row in nodes) for key in (
        "budget", "resident", "objects", "spilled_bytes", "spills", "spill_ns",
        "restored_bytes", "restores", "restore_ns",
    )}  # fmt: skip
    share = 100 * total["resident"] / total["budget"] if total["budget"] else 0
    lines = ["--- Aggregate object store stats across all nodes ---",
             f"Plasma memory usage {total['resident'] / 2**20:.0f} MiB, "
             f"{total['objects']} objects, {share:.2f}% full",
             f"Object store memory usage {total['resident'] / 2**20:.0f} MiB of "
             f"{total['budget'] / 2**20:.0f} MiB, {share:.2f}% full, {len(nodes)} node(s)"]
    for verb, done, count, way in (("Spilled", "spilled_bytes", "spills", "write"),
                                   ("Restored", "restored_bytes", "restores", "read")):
        if total[count]:
            ns = total[{"write": "spill_ns", "read": "restore_ns"}[way]]
            rate = total[done] / 2**20 / (ns / 1e9) if ns else 0
            lines.append(f"{verb} {total[done] / 2**20:.0f} MiB, {total[count]} objects, "
                         f"avg {way} throughput {rate:.0f} MiB/s")  # fmt: skip
    return lines


def _silent(silent: list[dict[str, Any]]) -> list[str]:
    if not silent:
        return []
    shown = ", ".join(f"{s['what']} {s['pid'] or '?'} of node {s['node']}" for s in silent[:10])
    return [f"Left out, for no answer came in time: {shown}{' ...' if silent[10:] else ''}. "
            "What they hold is missing above."]  # fmt: skip


class Options:
    """How it is shown. width: of the terminal; 0: lines may be as long as they like."""

    def __init__(
        self, group_by: str = "NODE_ADDRESS", sort_by: str = "OBJECT_SIZE", units: str = "B",
        stats_only: bool = False, num_entries: int | None = None, no_format: bool = False,
        width: int = 0,
    ) -> None:  # fmt: skip
        for value, known in ((group_by, GROUPS), (sort_by, SORTS), (units, UNITS)):
            if value not in known:
                raise ValueError(f"{value!r} is not one of {', '.join(known)}")
        self.group_by, self.sort_by, self.units = group_by, sort_by, units
        self.stats_only, self.num_entries, self.no_format = stats_only, num_entries, no_format
        self.width = width

    def rows(self) -> tuple[int, int]:
        """Rows that are needed: of each process, of all together."""
        if self.stats_only:
            return 0, 0
        return (self.num_entries, 10_000) if self.num_entries else (ROWS_MOST, ROWS_MOST)


def text(found: dict[str, Any], options: Options) -> str:
    """What _memory.look() has found."""
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found["time"]))
    lines = [f"======== Object references status: {now} ========"]
    if not options.stats_only:
        lines += [*_objects(found, options), *_leaks(found)]
    for row in found["nodes"]:
        lines += _store(row)
    return "\n".join([*lines, *_aggregate(found["nodes"]), *_silent(found["silent"])])
