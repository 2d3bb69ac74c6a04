"""One fresh process of the bench: `child.py TARGET GROUP SECONDS TEMP_DIR`.

Writes one line "row value" for each row as soon as it is measured, to file descriptor 3.
"""

from __future__ import annotations

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from target import Row, Target


def rows_of(group: str) -> Row:
    """What measures a group. One import here and no numpy before "start" is timed."""
    if group == "start":
        from rows_start import start_and_stop as rows
    elif group == "tasks":
        from rows_calls import tasks as rows
    elif group == "calls":
        from rows_calls import actor_calls as rows
    elif group == "objects":
        from rows_objects import objects as rows
    elif group == "actors":
        from rows_calls import actors_started as rows
    elif group == "idle":
        from rows_memory import idle as rows
    elif group == "queue":
        from rows_memory import queued_tasks as rows
    elif group == "spill":
        from rows_spill import spilled_and_restored as rows
    elif group == "sort":
        from rows_spill import sort_of_5x as rows
    elif group == "nodes":
        from rows_nodes import two_nodes as rows
    elif group == "broadcast":
        from rows_nodes import to_many as rows
    elif group.startswith("scale_"):
        from rows_scale import GROUPS

        rows = GROUPS[group]
    else:
        sys.exit(f"unknown group {group}")
    return rows


def main() -> None:
    name, group, seconds, temp_dir = sys.argv[1:]
    target = Target(name, temp_dir, float(seconds))
    rows = rows_of(group)
    with open(3, "w") as out:
        for row, value in rows(target):
            out.write(f"{row} {value!r}\n")
            out.flush()


if __name__ == "__main__":
    main()
