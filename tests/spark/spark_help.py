"""What the Spark tests share: waiting for a condition, and looking at this run's processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MARK = "SKATE_TEST_RUN"


def until(condition: Callable[[], object], seconds: float, what: str) -> object:
    """Ask again until the condition holds; its value. Fails the test after a deadline."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}; {value!r}"
        time.sleep(0.02)  # asks again until a deadline


def processes(marks: dict[str, str] | None = None) -> dict[int, str]:
    """pid: command line of the living processes that carry these environment variables."""
    wanted = [f"{k}={v}".encode() for k, v in (marks or {MARK: os.environ[MARK]}).items()]
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX" and all(w in environment for w in wanted):
            found[int(entry.name)] = command.strip()
    return found


def session_files(temp: str) -> list[str]:
    """What lies in the folder of Skate's sessions, and Spark's own folder of local_cluster()."""
    base = Path(temp) / f"skate-{os.getuid()}"
    left = [str(p) for p in base.glob("*")] if base.is_dir() else []
    return left + [str(p) for p in Path(temp).glob("skate-spark-*")]


def has_java() -> bool:
    """Is there a Java for Spark? The set-up installs one; elsewhere these tests are skipped."""
    import shutil

    return shutil.which("java") is not None or "JAVA_HOME" in os.environ
