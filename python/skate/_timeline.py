"""`timeline()`: what ran where and when, as Chrome trace events (Perfetto shows them too)."""

from __future__ import annotations

from skate import _state
from skate._state import Asked

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

_COLOURS = {
    "task": "generic_work", "task:execute": "rail_response",
    "task:deserialize_arguments": "rail_load", "task:store_outputs": "rail_idle",
    "submit_task": "background_memory_dump",
}  # fmt: skip


def _spans(row: dict[str, Any]) -> list[tuple[str, str, int, int]]:
    """(category, colour, from, to) of one record."""
    begin, end, args, done = (row[k] for k in ("begin_ns", "end_ns", "args_ns", "done_ns"))
    if row["state"] == 7:
        return [("submit_task", "submit_task", begin, begin)]
    if row["state"] == 8 or not end:
        return []
    spans = [(f"task::{row['name']}", "task", begin, end)]
    if args and done:  # noted for some hundred runs a second
        spans += [
            ("task:deserialize_arguments", "task:deserialize_arguments", begin, args),
            ("task:execute", "task:execute", args, done),
            ("task:store_outputs", "task:store_outputs", done, end),
        ]
    else:
        spans.append(("task:execute", "task:execute", begin, end))
    return spans


def events(asked: Asked) -> list[dict[str, Any]]:
    """The trace events of what the processes of the cluster remember."""
    ips = {row["node"]: row["ip"] for row in asked.node_rows()}
    out = []
    for row in asked.runs():
        kind = "driver" if row["state"] == 7 else "worker"
        pid, tid = ips.get(row["proc"] >> 32, "?"), f"{kind}:{asked.worker_id(row['proc'])}"
        about = {
            "task_id": _state.task_hex(row["task"], row["job"]),
            "job_id": _state.job_hex(row["job"]),
            "attempt_number": row["attempt"],
            "func_or_class_name": row["name"],
            "actor_id": row["actor"].hex() if row["kind"] else None,
        }
        for category, colour, begin, end in _spans(row):
            out.append({
                "cat": category, "name": category, "pid": pid, "tid": tid, "ts": begin / 1e3,
                "dur": max(0, end - begin) / 1e3, "cname": _COLOURS[colour], "args": about,
                "ph": "X",
            })  # fmt: skip
    return out


def timeline(filename: str | None) -> list[dict[str, Any]] | None:
    """The events, or the file written."""
    found = events(Asked(30.0))
    if filename is None:
        return found
    import json

    with open(filename, "w", encoding="utf-8") as file:
        json.dump(found, file)
    return None
