"""How many instructions the hot paths of the core take, by callgrind; budgets and their check.

usage: instructions.py            count and print beside the budgets; exit 1 when one is exceeded
       instructions.py --rewrite  write what was counted as the new budgets, and print what changed

tests/unit/core_paths_test.c runs each path some thousand times in lockstep on one thread; callgrind
counts what happened inside each of its path_*() functions. Nothing waits there, so that the load of
the machine has next to no part in the numbers. Budgets: tests/instructions.json, with the compiler
they were taken with; another compiler gets a wider margin. Run by tests/test_callgrind.py.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import build  # noqa: E402  (ours, beside this file)

BUDGETS = ROOT / "tests" / "instructions.json"
PROGRAM = "tests/unit/core_paths_test"
ROUNDS = 2000
BURST = 32  # calls in one path_actor_burst()
MARGIN, MARGIN_OTHER_COMPILER = 0.05, 0.5
LIMIT_S = 30  # of one run; it takes 2
# The C library picks its memcpy by the processor; without these all processors take the same one.
SAME_LIBC = "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-ERMS,-FSRM"

NAME = re.compile(r"c?fn=\((\d+)\)(?: (.*))?")
PATHS = {
    "path_submit": "submit of a task (core_submit)",
    "path_execute": "execute: the worker takes a task (core_next)",
    "path_complete": "complete: the worker's result (core_finish)",
    "path_result": "result of a task: wait, read, drop",
    "path_put": "put of a small value (core_put)",
    "path_get": "get of a small value: wait, read",
    "path_drop": "drop of a ref (core_ref_drop)",
    "path_task_alone": "task, round trip of both sides",
    "path_actor_submit": "submit of an actor call (core_submit)",
    "path_actor_call_alone": "actor call, round trip of both sides",
    "path_actor_burst": "actor call among 32, round trip of both sides",
}


@dataclass(frozen=True)
class Verdict:
    """One path: what it took, what it may take."""

    path: str
    counted: float
    budget: float
    margin: float

    @property
    def exceeded(self) -> bool:
        return self.counted > self.budget * (1 + self.margin)

    def __str__(self) -> str:
        change = 100 * (self.counted / self.budget - 1) if self.budget else 0.0
        end = f"  EXCEEDED: more than {100 * self.margin:.0f} % above" if self.exceeded else ""
        return (f"{PATHS.get(self.path, self.path):50s} {self.counted:9,.0f}  budget "
                f"{self.budget:9,.0f}  {change:+6.1f} %{end}")


def compiler() -> str:
    """The C compiler's own words for itself, without where it was packaged."""
    text = subprocess.check_output(["cc", "-dumpfullversion"], text=True).strip()
    return f"cc {text.split('.')[0]} on {os.uname().machine}"


def compile_program() -> Path:
    """Build the program if it is not up to date."""
    build.BUILD.mkdir(exist_ok=True)
    with open(build.BUILD / ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        failed = build.configure(build.PY_DIR, []) if build.is_installed() else build.pip_install()
        failed = failed or build.ninja(build.PY_DIR, PROGRAM)
    if failed:
        raise RuntimeError(f"{PROGRAM} could not be compiled (see above)")
    return build.PY_DIR / PROGRAM


def read_profile(text: str) -> dict[str, float]:
    """Instructions of one call of each path_*() in a profile, what they call included."""
    names: dict[str, str] = {}
    cost: dict[str, int] = defaultdict(int)
    calls: dict[str, int] = defaultdict(int)
    callee, pending = "", False
    for line in text.splitlines():
        found = NAME.match(line)
        if found:
            number, name = found.groups()
            if name:
                names[number] = name
            if line.startswith("c"):
                callee = names.get(number, "")
        elif line.startswith("calls="):
            calls[callee] += int(line[6:].split()[0])
            pending = True
        elif pending:  # the line behind calls= holds the inclusive cost
            cost[callee] += int(line.split()[1])
            pending = False
    return {
        name: cost[name] / calls[name] / (BURST if name == "path_actor_burst" else 1)
        for name in calls
        if name.startswith("path_")
    }


def count(folder: Path) -> dict[str, float]:
    """Run the program under callgrind, its files in `folder`."""
    if not shutil.which("valgrind"):
        raise RuntimeError("valgrind is not installed: tools/setup.sh test")
    program, profile = compile_program(), folder / "profile"
    env = {**os.environ, "ROUNDS": str(ROUNDS), "GLIBC_TUNABLES": SAME_LIBC}
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}", str(program)]
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr)[-3000:]
        raise RuntimeError(f"{PROGRAM} failed under callgrind:\n{said}")
    found = read_profile(profile.read_text(errors="replace"))
    if set(found) != set(PATHS):
        raise RuntimeError(f"paths found: {sorted(found)}; expected: {sorted(PATHS)}")
    return found


def least(folder: Path, runs: int = 3) -> dict[str, float]:
    """Count again while something is above its budget: only what every run says is judged."""
    found = count(folder)
    while runs > 1 and BUDGETS.exists() and any(v.exceeded for v in judge(found)):
        again = count(folder)
        found = {path: min(found[path], again[path]) for path in PATHS}
        runs -= 1
    return found


def judge(found: dict[str, float]) -> list[Verdict]:
    """Each path beside its budget."""
    kept = json.loads(BUDGETS.read_text(encoding="utf-8"))
    margin = MARGIN if kept["compiler"] == compiler() else MARGIN_OTHER_COMPILER
    return [Verdict(path, found[path], kept["budgets"][path], margin) for path in PATHS]


def main(argv: list[str]) -> int:
    """Count, then compare or rewrite."""
    if argv not in ([], ["--rewrite"]):
        print(__doc__, file=sys.stderr)
        return 2
    folder = ROOT / "build" / "callgrind"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        found = count(folder) if argv else least(folder)
    except (RuntimeError, subprocess.TimeoutExpired) as problem:
        print(problem, file=sys.stderr)
        return 2
    verdicts = judge(found) if BUDGETS.exists() else [Verdict(p, found[p], 0, 0) for p in PATHS]
    for verdict in verdicts:
        print(verdict if not argv else str(verdict).partition("  EXCEEDED")[0])
    if argv:
        budgets = {path: round(found[path]) for path in PATHS}
        text = json.dumps({"compiler": compiler(), "budgets": budgets}, indent=1)
        BUDGETS.write_text(text + "\n", encoding="utf-8")
        print(f"written to {BUDGETS.relative_to(ROOT)}")
        return 0
    return 1 if any(v.exceeded for v in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
