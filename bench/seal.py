"""What proof and sealing cost: the rows of two nodes with the usual daemons, and with daemons that
prove the key and then seal nothing; and with TLS on the same wire.

usage: seal.py [PAIRS [SECONDS]]       3 and 1 by default; each variant in fresh processes, in turn

The daemons that seal nothing are built for this alone (bench/micro/meson.build), never installed.
Printed: the median of each row, and what of the unsealed rate is left. Rates need a machine that
does nothing else; so before them comes processor time, which does not: of one connection, both ends
(micro/net_seal.c), and which share of a core sealing takes at the rates of the rows.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import child_process

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "py"
NAMES = ("skate-raylet", "skate-gcs")
VARIANTS = ("unsealed", "sealed", "tls")
# Row of two nodes, what of net_seal it is made of, how many of these are one unit of its rate (GB).
SHARES = (("nodes_actor_sync", "there_and_back", 1.0), ("nodes_actor_async", "in_thousands", 1.0),
          ("nodes_tasks_async", "in_thousands", 1.0), ("nodes_pull_again", "megabyte", 0.001))


def unsealed_daemons(folder: Path) -> None:
    """Build them, and lay them there under the usual names."""
    targets = [f"bench/micro/{name}-unsealed" for name in NAMES]
    subprocess.run(["ninja", "--quiet", "-C", str(BUILD), *targets], check=True)
    for name, target in zip(NAMES, targets, strict=True):
        shutil.copy(BUILD / target, folder / name)


def measure(variant: str, folder: Path, seconds: float) -> dict[str, float]:
    """The rows of two nodes; child_process drops SKATE_ variables, so they go by a site's own."""
    more = {"unsealed": f"os.environ['SKATE_BIN_DIR'] = {str(folder)!r}",
            "tls": "os.environ['SKATE_USE_TLS'] = '1'"}.get(variant, "pass")  # fmt: skip
    site = folder / variant
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(f"import os\n{more}\n")
    return child_process.run_child("skate", "nodes", seconds, site)


def processor_time() -> dict[str, dict[str, float]]:
    """Microseconds for a frame there and back, alone and in thousands, and for a MB."""
    programs = [BUILD / "bench/micro" / name for name in ("net_seal-unsealed", "net_seal")]
    targets = [str(p.relative_to(BUILD)) for p in programs]
    subprocess.run(["ninja", "--quiet", "-C", str(BUILD), *targets], check=True)
    commands = zip(VARIANTS, ([programs[0]], [programs[1]], [programs[1], "tls"]), strict=True)
    found = {}
    for variant, command in commands:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows = (line.split() for line in done.stdout.splitlines())
        found[variant] = {name: float(value) for name, value in rows}
    return found


def main(argv: list[str]) -> int:
    """Measure in turn, print medians."""
    spent = processor_time()
    print(f"{'microseconds':20}" + "".join(f"{v:>12}" for v in VARIANTS))
    for row in spent["sealed"]:
        print(f"{row:20}" + "".join(f"{spent[v][row]:12.4g}" for v in VARIANTS))
    pairs, seconds = int(argv[0]) if argv else 3, float(argv[1]) if argv[1:] else 1.0
    found: dict[str, dict[str, list[float]]] = {v: {} for v in VARIANTS}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        unsealed_daemons(folder)
        for number in range(pairs):
            for variant in VARIANTS if number % 2 == 0 else reversed(VARIANTS):
                for row, value in measure(variant, folder, seconds).items():
                    found[variant].setdefault(row, []).append(value)
    print(f"{'row':20}" + "".join(f"{v:>12}" for v in VARIANTS) + "   sealed   tls")
    for row in found["unsealed"]:
        medians = [statistics.median(found[v].get(row, [float("nan")])) for v in VARIANTS]
        shares = "".join(f"{m / medians[0]:9.3f}" for m in medians[1:])
        print(f"{row:20}" + "".join(f"{m:12.5g}" for m in medians) + shares)
    for row, of, each in SHARES:
        rate = statistics.median(found["sealed"].get(row, [float("nan")]))
        for variant in VARIANTS[1:]:
            more = (spent[variant][of] - spent["unsealed"][of]) / each * rate / 1e6
            print(f"{row:20}{variant:>8}: {100 * more:.1f} % of a core, both ends together")
    return 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main(sys.argv[1:]))
