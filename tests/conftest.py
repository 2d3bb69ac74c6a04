"""What every test shares: its own temp folder, a session fixture, and the leak check.

The whole run gets a private temp directory (so a session of somebody else on this machine is
never mistaken for ours) and an environment variable that every process we start inherits. After
each test module Skate is shut down, and then no process that carries the variable, no session
folder and no shared-memory name may be left; otherwise the module's last test reports an error.
"""

from __future__ import annotations

import faulthandler
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MARK = "SKATE_TEST_RUN"
LEAK_PATIENCE_S = 5.0
STDERR = pytest.StashKey[int]()  # the real one, which no test captures
# Helpers of other libraries that outlive a module by design.
ALLOWED = ("multiprocessing.resource_tracker", "pyspark", "java", "loky")


def pytest_configure(config: pytest.Config) -> None:
    """Give the run its mark and its temp folder before any test is imported."""
    config.stash[STDERR] = os.dup(2)
    # Started in the background or by nohup: what is tested would inherit that these are ignored.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if os.environ.get(MARK):
        return
    os.environ[MARK] = str(os.getpid())
    os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="skt-")
    tempfile.tempdir = None


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the run's temp folder."""
    if os.environ.get(MARK) == str(os.getpid()):
        shutil.rmtree(os.environ["TMPDIR"], ignore_errors=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test whose own limit is above faulthandler_timeout has its stacks printed after that."""
    limit = item.get_closest_marker("timeout")
    if limit and 0 < float(item.config.getini("faulthandler_timeout")) < limit.args[0]:
        faulthandler.dump_traceback_later(limit.args[0], file=item.config.stash[STDERR])


def marked_processes() -> list[tuple[int, str]]:
    """(pid, command line) of every living process of this run, but for this one."""
    wanted = f"{MARK}={os.environ[MARK]}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if wanted not in (entry / "environ").read_bytes().split(b"\0"):
                continue
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z" and not any(word in command for word in ALLOWED):
            found.append((int(entry.name), command.strip()))
    return found


def left_files() -> list[str]:
    """Session folders and shared-memory names of this run."""
    base = Path(os.environ["TMPDIR"]) / f"skate-{os.getuid()}"
    left = [str(p) for p in base.glob("*")] if base.is_dir() else []
    shared = Path("/dev/shm").glob("skate*")
    return left + [str(p) for p in shared if p.stat().st_uid == os.getuid()]


def leaks() -> list[str]:
    """Everything that should be gone, in words."""
    return [f"process {pid}: {cmd}" for pid, cmd in marked_processes()] + [
        f"file {name}" for name in left_files()
    ]


def shutdown_skate() -> None:
    """End the session of this process, if a test left one."""
    skate = sys.modules.get("skate")
    if skate is not None and skate.is_initialized():
        skate.shutdown()


@pytest.fixture(scope="module", autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail the module when it leaves a process, a session folder or shared memory behind."""
    on_interrupt = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, on_interrupt)  # pyspark puts its own there
    shutdown_skate()
    deadline = time.monotonic() + LEAK_PATIENCE_S
    left = leaks()
    while left and time.monotonic() < deadline:
        time.sleep(0.02)  # asks again until a deadline: processes take time to die
        left = leaks()
    if left:
        for pid, _ in marked_processes():
            os.kill(pid, signal.SIGKILL)
        for name in left_files():
            shutil.rmtree(name, ignore_errors=True)
        pytest.fail("left behind by this module:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture(scope="session")
def simulators() -> None:
    """The programs of tests/sim, built."""
    build = Path(__file__).resolve().parent.parent / "tools" / "build.py"
    done = subprocess.run(
        [sys.executable, str(build), "sim"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture()
def session() -> Iterator[Any]:
    """A fresh session of two CPUs, ended after the test."""
    import skate

    shutdown_skate()
    skate.init(num_cpus=2)
    yield skate
    skate.shutdown()


_seconds: dict[str, float] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Sum the time of each folder of tests, for the summary."""
    group = report.nodeid.split("::")[0].rpartition("/")[0] or "tests"
    _seconds[group] = _seconds.get(group, 0.0) + report.duration


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Where the time went, by folder."""
    spent = ", ".join(f"{k} {v:.0f} s" for k, v in sorted(_seconds.items()))
    if spent:
        terminalreporter.write_line(f"time by folder: {spent}")
