"""The logs of a node, read where it runs: by a task that is pinned to it and needs no CPU."""

from __future__ import annotations

import os
from typing import Any

MOST_BYTES = 4 << 20  # of one file, its end


def last_lines(path: str, tail: int | None) -> str:
    """The end of a file: `tail` lines, None: all, up to MOST_BYTES."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - MOST_BYTES))
            text = file.read(MOST_BYTES).decode(errors="replace")
    except OSError as error:
        return f"(cannot be read: {error.strerror})\n"
    if size > MOST_BYTES:
        text = text.partition("\n")[2]
    if tail is None:
        return text
    return "".join(text.splitlines(keepends=True)[-tail:] if tail else [])


def read_folder(folder: str, tail: int | None) -> dict[str, str]:
    """Name of each log file of a node -> its end."""
    found = {}
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            found[name] = last_lines(path, tail)
    return found


def pick(rows: list[dict[str, Any]], node: Any) -> dict[str, Any]:
    """The node that is meant: by NodeID, its beginning, by NodeName, its number, or its row of
    nodes(). The living one, or that which ended last. ValueError: none, or several."""
    if isinstance(node, dict):
        node = node.get("NodeID")
    text = str(node)
    wanted = [row for row in rows if row["NodeID"] == text or row["NodeName"] == text]
    if not wanted and isinstance(node, int):
        wanted = [row for row in rows if row["Labels"].get("spark-partition") == text]
    if not wanted and isinstance(node, str) and len(node) >= 6:
        wanted = [row for row in rows if row["NodeID"].startswith(text)]
    living = [row for row in wanted if row["Alive"]]
    if len(living) == 1:
        return living[0]
    if wanted and not living:
        return wanted[-1]
    names = ", ".join(row["NodeName"] for row in rows if row["Alive"])
    raise ValueError(f"there {'are several nodes' if living else 'is no node'} {node!r}; living "
                     f"ones are {names}")  # fmt: skip


def of_ended(row: dict[str, Any], said: str, tail: int | None) -> dict[str, str]:
    """Of a node that has ended: what its raylet said to the head, and how it ended. The rest is
    gone with it, unless set-up was told to keep it."""
    reason = row["DeathReasonMessage"] or "nobody knows why"
    lines = [*said.splitlines(), f"(the node has ended: {reason}. collect_log_to_path= of set-up "
             "keeps all of its logs)"]  # fmt: skip
    kept = lines if tail is None else lines[-tail:] if tail else []
    return {"raylet.err": "".join(line + "\n" for line in kept)}


def of_node(row: dict[str, Any], tail: int | None) -> dict[str, str]:
    """Ask that node. This process has a session."""
    import skate
    from skate.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    folder = os.path.join(os.path.dirname(row["RayletSocketName"]), "logs")
    there = NodeAffinitySchedulingStrategy(row["NodeID"], soft=False)
    task = skate.remote(num_cpus=0, scheduling_strategy=there, max_retries=0)(read_folder)
    result: dict[str, str] = skate.get(task.remote(folder, tail), timeout=30)
    return result
