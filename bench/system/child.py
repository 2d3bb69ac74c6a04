"""One fresh process of the bench: `child.py TARGET GROUP SECONDS TEMP_DIR`.

Writes one line "row value" for each row as soon as it is measured, to file descriptor 3.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from target import Target


def main() -> None:
    name, group, seconds, temp_dir = sys.argv[1:]
    target = Target(name, temp_dir, float(seconds))
    # One import here and no numpy before "start" is timed.
    if group == "start":
        from rows_start import start_and_stop as rows
    elif group == "calls":
        from rows_calls import calls as rows
    elif group == "worker":
        from rows_memory import idle_worker as rows
    elif group == "queue":
        from rows_memory import queued_tasks as rows
    elif group == "actors":
        from rows_memory import actors as rows
    else:
        sys.exit(f"unknown group {group}")
    with os.fdopen(3, "w") as out:
        for row, value in rows(target):
            out.write(f"{row} {value!r}\n")
            out.flush()


if __name__ == "__main__":
    main()
