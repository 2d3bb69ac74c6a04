"""The main job: run the example programs one after another and say what ran and how long it took.

usage: demo.py [NAME...]     without names: all four; each program's output passes through
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 300


@dataclass(frozen=True)
class Program:
    """One example and what it shows."""

    name: str
    shows: str


PROGRAMS = (
    Program("task_graph", "tasks that call tasks; one array shared without a copy"),
    Program("actor_tree", "actors, a tree of them, a parameter server"),
    Program("tune_cartpole", "PPO on CartPole-v0 under Tune, three learning rates"),
    Program("spark/prefix_models", "a pandas UDF fanned out through Skate on Apache Spark"),
)


def run(program: Program) -> tuple[str, float]:
    """Run one example; (outcome, seconds). A program that hangs is ended with its children."""
    start = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-u", str(ROOT / "examples" / f"{program.name}.py")],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"},
        start_new_session=True,
    )
    try:
        code = child.wait(timeout=LIMIT_S)
        outcome = "ok" if code == 0 else f"failed (exit status {code})"
    except subprocess.TimeoutExpired:
        outcome = f"failed (no end within {LIMIT_S} s)"
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    except KeyboardInterrupt:
        os.killpg(child.pid, signal.SIGINT)
        child.wait()
        raise
    return outcome, time.monotonic() - start


def main(argv: list[str]) -> int:
    """Run what was asked for and print the summary."""
    known = {p.name: p for p in PROGRAMS}
    if any(a not in known for a in argv):
        print(__doc__, file=sys.stderr)
        return 2
    chosen = [known[a] for a in argv] or list(PROGRAMS)
    rows = []
    for number, program in enumerate(chosen, 1):
        place = f"{number}/{len(chosen)} examples/{program.name}.py"
        print(f"\n== {place}: {program.shows}", flush=True)
        rows.append((program, *run(program)))
    print("\n== summary")
    for program, outcome, seconds in rows:
        print(f"{program.name + '.py':<22} {seconds:7.1f} s  {outcome:<8}  {program.shows}")
    bad = sum(outcome != "ok" for _, outcome, _ in rows)
    print(f"{len(rows) - bad} of {len(rows)} programs ran to their end, "
          f"{sum(seconds for _, _, seconds in rows):.1f} s in all")  # fmt: skip
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
