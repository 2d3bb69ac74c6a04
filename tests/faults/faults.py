"""The fault runs in full length: `faults.py [NAME...]` (`make faults`), one line for each.

Without names all of them, about 17 minutes: `nodes` (8 nodes, 50,000 tasks, one node killed and
one added every 2 s), `power` (a machine switched off), `head` (the raylet beside the GCS killed),
`gcs` (the GCS killed again and again for a minute), `new-head` (another machine takes over its
address, with a copy of its log), `chaos` and `chaos-long` (everything at once, for a minute),
`full-disk` and `slow-disk` (of its log, half a second for each write), `away-...`, `long-...` (a
node unplugged, deaf, mute, frozen for 3 s and for 8 s), and a minute of each bad network: loss,
duplicates, reordering, jitter, everything, partition, one-way. Needs root and network namespaces.
Exit status 1 when one fails; what it says is why.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="sf", dir="/tmp")
tempfile.tempdir = None

import netns  # noqa: E402
import runs  # noqa: E402

MINUTE = 60.0

RUNS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "nodes": lambda path: runs.churn(path, 50000, nodes=8, task_s=0.01, every_s=2.0),
    "power": lambda path: runs.power_cut(path, 200),
    "gcs": lambda path: runs.gcs(path, MINUTE, 1.0),
    "new-head": lambda path: runs.head_machine(path, 5.0),
    "chaos": lambda path: runs.chaos(path, MINUTE, int(time.time()), 1.5),
    "chaos-long": lambda path: runs.chaos(path, MINUTE, int(time.time()), 8.0),
    "full-disk": lambda path: runs.full_disk(path, 5),
    "slow-disk": lambda path: runs.slow_disk(path, MINUTE, 0.5),
    "head": lambda path: runs.head_raylet(path, 2000),
} | {f"away-{how}": lambda path, how=how: runs.away(path, how, 3.0, 2000) for how in runs.AWAY
} | {f"long-{how}": lambda path, how=how: runs.away(path, how, 8.0, 2000) for how in runs.AWAY
} | {kind: lambda path, kind=kind: runs.weather(path, kind, MINUTE) for kind in runs.Weather.KINDS}


def show(value: Any) -> str:
    """A figure of a report."""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def main(names: list[str]) -> int:
    """Run them one after the other."""
    if unknown := [n for n in names if n not in RUNS]:
        print(f"no such run: {', '.join(unknown)}; there are {', '.join(RUNS)}", file=sys.stderr)
        return 2
    if reason := netns.why_not() or netns.why_no_switch():
        print(f"the fault runs are not possible here: {reason}", file=sys.stderr)
        return 2
    failed = 0
    for name in names or RUNS:
        begun = time.monotonic()
        try:
            did = RUNS[name](Path(os.environ["TMPDIR"]) / f"ledger-{name}")
            text = ", ".join(f"{key} {show(value)}" for key, value in did.items())
            print(f"ok    {name}: {text}", flush=True)
        except Exception:
            failed += 1
            print(f"FAIL  {name}, after {time.monotonic() - begun:.1f} s", flush=True)
            traceback.print_exc()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
