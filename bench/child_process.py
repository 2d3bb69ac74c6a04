"""Running what measures: a fresh process for a group of rows, programs that print their rows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import load

ROOT = Path(__file__).resolve().parent.parent
RAY_PYTHON = ROOT / "build" / "rayenv" / "bin" / "python"
CHILD = ROOT / "bench" / "system" / "child.py"
CHILD_LIMIT_S = 150
# Opens the pipe for the rows as descriptor 3, whatever its number was, then becomes the child.
BECOME = "import os,sys; os.dup2(int(sys.argv[1]), 3); os.execv(sys.argv[2], sys.argv[2:])"


def run_child(target: str, group: str, seconds: float,
              site: Path | None = None) -> dict[str, float]:
    """The rows of one group, from one fresh process; those that failed are missing.

    site: where the Skate to be measured lies, if not in our own environment.
    """
    python = str(RAY_PYTHON) if target == "ray" else sys.executable
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SKATE_"))}
    folder = tempfile.mkdtemp(prefix="sb-")
    env["SKATE_TMPDIR"] = folder
    if site:
        env["PYTHONPATH"] = str(site)
    read_end, write_end = os.pipe()
    command = [sys.executable, "-S", "-c", BECOME, str(write_end), python, str(CHILD), target,
               group, str(seconds), folder]
    with tempfile.TemporaryFile("w+") as log, os.fdopen(read_end) as lines:
        child = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log,
                                 stderr=subprocess.STDOUT, pass_fds=[write_end])
        os.close(write_end)
        try:
            status: int | str = child.wait(CHILD_LIMIT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            status = f"no end within {CHILD_LIMIT_S} s"
        finally:
            load.clear_away()
            shutil.rmtree(folder, ignore_errors=True)
        os.set_blocking(lines.fileno(), False)
        rows = {name: float(value) for name, value in map(str.split, lines.read().splitlines())}
        if status != 0:
            log.seek(0)
            print(f"{target}, group {group}: {status}", file=sys.stderr)
            print("".join(log.readlines()[-15:]), file=sys.stderr)
    return rows


def run_lines(command: list[str], limit_s: float,
              complain: bool = False) -> list[tuple[str, float, str]]:
    """What a program prints as lines `name value unit`; with `complain` a failure is only told."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit_s,
                              check=not complain)
    except subprocess.TimeoutExpired:
        if not complain:
            raise
        print(f"{command[0]}: no end within {limit_s:g} s", file=sys.stderr)
        return []
    if done.returncode != 0:
        print(f"{command[0]}: {done.returncode}\n{done.stderr[-2000:]}", file=sys.stderr)
    fields = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    return [(f[0], float(f[1]), f[2]) for f in fields if len(f) == 3]
