"""An old revision of Skate beside the working tree: does a row fall by more than its noise?

The old revision gets a git worktree and a build of its own under build/compare; the new one is what
lies here, built in the same way. Both run in turn (whoever goes first goes second the next time),
with the rows of this tree's bench. A row falls when the median of its ratios new/old is below 1 by
more than its noise, and four of five pairs say so. The noise is the width of the middle half of the
ratios, and never less than 5 %. What others disturbed (more than 0.3 of a core) is measured again,
and left out if it stays so. Rows that take long are measured when they are named. Exit status 1
when a row falls, 2 when too few pairs of a row are left.

usage: compare.py REV [--rows A,B] [--pairs N] [--seconds S]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import load
from bench_rows import PAIRS_MOST, ROWS, Row, groups_of
from child_process import run_child
from run import FOREIGN_MAX, git, say
from table import lines_of, number, with_unit

FOLDER = ROOT / "build" / "compare"
NOISE_LEAST = 0.05
PAIRS_LEAST = 3
AGREE = 0.8
RETRIES = 2
# Runs in the tools/ of the tree that is built; the last line says where the package lies.
BUILD = """
import sys
sys.path.insert(0, "tools")
import build
from pathlib import Path
folder = Path(sys.argv[1])
failed = build.configure(folder, ["-Dbuildtype=debugoptimized", "-Db_ndebug=false"])
failed = failed or build.ninja(folder)
if not failed:
    build.copy_install(folder, folder / "site")
sys.exit(failed)
"""


@dataclass(frozen=True)
class Verdict:
    """One row: how the new side stands to the old one."""

    ratio: float
    noise: float
    fell: bool
    rose: bool


def judge(ratios: list[float]) -> Verdict:
    """From ratios new/old of the pairs (above 1: better)."""
    ratio = statistics.median(ratios)
    if len(ratios) >= 4:
        quarter, _, three_quarters = statistics.quantiles(ratios, n=4, method="inclusive")
        spread = three_quarters - quarter
    else:
        spread = max(ratios) - min(ratios)
    noise = max(NOISE_LEAST, spread)

    def agree(count: int) -> bool:
        return count >= AGREE * len(ratios)

    fell = ratio < 1 - noise and agree(sum(r < 1 for r in ratios))
    rose = ratio > 1 + noise and agree(sum(r > 1 for r in ratios))
    return Verdict(ratio, noise, fell, rose)


def old_tree(commit: str) -> Path:
    """A worktree of that commit; those of other commits are removed."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for other in FOLDER.glob("tree-*"):
        if other.name != f"tree-{commit}":
            subprocess.run(["git", "worktree", "remove", "--force", str(other)], cwd=ROOT,
                           check=False, capture_output=True)
            shutil.rmtree(other, ignore_errors=True)
            shutil.rmtree(FOLDER / f"old-{other.name.removeprefix('tree-')}", ignore_errors=True)
    tree = FOLDER / f"tree-{commit}"
    if not (tree / "meson.build").exists():
        subprocess.run(["git", "worktree", "prune"], cwd=ROOT, check=True)
        subprocess.run(["git", "worktree", "add", "--quiet", "--force", "--detach", str(tree),
                        commit], cwd=ROOT, check=True)
    return tree


def build_site(tree: Path, folder: Path) -> Path:
    """Compile a tree with this interpreter; where its package lies then."""
    say(f"building {tree.name} ...")
    done = subprocess.run([sys.executable, "-c", BUILD, str(folder)], cwd=tree, check=False,
                          capture_output=True, text=True)
    if done.returncode != 0:
        print((done.stdout + done.stderr)[-4000:], file=sys.stderr)
        raise SystemExit(2)
    return folder / "site"


def measure(sites: dict[str, Path], groups: list[str],
            args: argparse.Namespace) -> tuple[list[dict[str, dict[str, float]]], int]:
    """(pair -> side -> row -> value without the void ones, how many were void)."""
    found, void = [], 0
    for index in range(args.pairs):
        order = ["old", "new"] if index % 2 == 0 else ["new", "old"]
        pair: dict[str, dict[str, float]] = {"old": {}, "new": {}}
        for group in groups:
            say(f"pair {index + 1} of {args.pairs}: {group} ...")
            for _ in range(1 + RETRIES):
                with load.CpuLoad() as others:
                    values = {s: run_child("skate", group, args.seconds, sites[s]) for s in order}
                if others.cores <= args.others:
                    for side in order:
                        pair[side] |= values[side]
                    break
                void += 1
                say(f"  void: others used {others.cores:.1f} cores")
        found.append(pair)
    return found, void


def report(rows: list[Row], pairs: list[dict[str, dict[str, float]]]) -> tuple[list[str], int]:
    """(table, exit status)."""
    lines: list[tuple[str, ...]] = []
    status = 0
    for row in rows:
        both = [(p["old"][row.name], p["new"][row.name]) for p in pairs
                if row.name in p["old"] and row.name in p["new"]]
        both = [(old, new) for old, new in both if old and new]
        if len(both) < min(PAIRS_LEAST, len(pairs)):
            # A row that the old revision cannot run says nothing about the new one.
            new = any(row.name in p["new"] for p in pairs) and not both
            lines.append((row.text, "-", "-", "-", "-", "only the new one has it" if new
                          else f"only {len(both)} of {len(pairs)} pairs are undisturbed"))
            status = status if new else status or 2
            continue
        verdict = judge([old / new if row.less_is_better else new / old for old, new in both])
        status = 1 if verdict.fell else status
        words = "FELL" if verdict.fell else "better" if verdict.rose else ""
        lines.append((row.text, *(with_unit(statistics.median(side), row.unit)
                                  for side in zip(*both, strict=True)),
                      f"{number(verdict.ratio)}x", f"{100 * verdict.noise:.0f} %", words))
    return lines_of(("row", "old", "new", "better by", "noise", ""), lines, 5), status


def main() -> int:
    """Build, measure in turn, print, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rev", help="the revision to compare with: a commit, tag or branch")
    parser.add_argument("--rows", default="", help="only these, separated by commas")
    parser.add_argument("--pairs", type=int, default=7, help="how often each side is run (7)")
    parser.add_argument("--seconds", type=float, default=0.5, help="least length of a row (0.5)")
    parser.add_argument("--others", type=float, default=FOREIGN_MAX, metavar="CORES",
                        help=f"above which a measurement is void ({FOREIGN_MAX})")
    args = parser.parse_args()
    wanted = [name for name in args.rows.split(",") if name]
    unknown = set(wanted) - {row.name for row in ROWS}
    commit = git("rev-parse", "--short", "--verify", "--quiet", f"{args.rev}^{{commit}}")
    if unknown or not commit or args.pairs < 1 or args.seconds <= 0:
        parser.error(f"unknown rows: {', '.join(sorted(unknown))}" if unknown else
                     f"no such revision: {args.rev}" if not commit else
                     "--pairs and --seconds must be positive")
    rows = [row for row in ROWS
            if (row.name in wanted if wanted else row.group not in PAIRS_MOST)]
    load.become_reaper()
    sites = {"old": build_site(old_tree(commit), FOLDER / f"old-{commit}"),
             "new": build_site(ROOT, FOLDER / "new")}
    pairs, void = measure(sites, groups_of(rows), args)
    lines, status = report(rows, pairs)
    print(f"old: {commit}; new: the working tree at {git('rev-parse', '--short', 'HEAD')}; "
          f"{len(pairs)} pairs; {void} measurements were void")
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main())
