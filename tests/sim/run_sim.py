"""Run seeds of the simulator, as many at once as there are processors, and say which fail.

usage: run_sim.py [--seeds N | A-B] [--list FILE] [--again] [skate-sim's own options]

--again runs each seed twice: the hash over all that happened must be the same.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = ROOT / "build" / "py" / "tests" / "sim" / "skate-sim"
SEED_SECONDS = 120


def seeds_of(text: str) -> list[int]:
    """N: the first N seeds; A-B: from A to B, both among them."""
    first, _, last = text.partition("-")
    return list(range(int(first), int(last) + 1)) if last else list(range(1, int(first) + 1))


def listed(path: Path) -> list[tuple[int, list[str]]]:
    """The seeds of a file, each with options of its own: `SEED [options]  # why`."""
    lines = [line.partition("#")[0].split() for line in path.read_text().splitlines()]
    return [(int(words[0]), words[1:]) for words in lines if words]


def run_seed(seed: int, options: list[str]) -> tuple[int, str]:
    """One run: exit status (124: it took too long) and what it said."""
    command = [str(PROGRAM), "--seed", str(seed), *options]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SEED_SECONDS,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 124, f"seed {seed}: not ended after {SEED_SECONDS} s"
    return done.returncode, (done.stdout[-2000:] + done.stderr[-2000:]).strip()


def hash_of(said: str) -> str:
    """The hash that the last line of a run ends with."""
    return said.rpartition("hash ")[2]


def judge(seed: int, options: list[str], again: bool) -> str:
    """Empty, or why the seed fails."""
    code, said = run_seed(seed, options)
    if code:
        return f"exit status {code}: {said}\n    again: {PROGRAM} --seed {seed} " + " ".join(
            [*options, "--trace"]
        )
    if again and hash_of(run_seed(seed, options)[1]) != hash_of(said):
        return f"seed {seed} {' '.join(options)}: two runs of it differ"
    return ""


def main(argv: list[str]) -> int:
    """Run them; 1 when some fail."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="50")
    parser.add_argument("--list", type=Path)
    parser.add_argument("--again", action="store_true")
    args, options = parser.parse_known_args(argv)
    jobs = listed(args.list) if args.list else [(seed, options) for seed in seeds_of(args.seeds)]
    began = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        results = list(pool.map(lambda job: judge(job[0], job[1], args.again), jobs))
    failures = [text for text in results if text]
    for text in failures:
        print(text)
    print(f"{len(jobs)} seeds, {len(failures)} failing, {time.monotonic() - began:.1f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
