"""Program 4 as users run it, and what is left when a driver is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from spark_help import ROOT, has_java, processes, session_files, until

pytestmark = pytest.mark.skipif(not has_java(), reason="there is no Java")
PROGRAM = ROOT / "examples" / "spark" / "prefix_models.py"
MARK = "SKATE_SPARK_TEST"

DRIVER = """
import sys, time
from skate.util.spark import local_cluster, setup_ray_cluster
import skate
with local_cluster(1, 2, 1024) as spark:
    setup_ray_cluster(max_worker_nodes=1, num_cpus_worker_node=1)
    skate.init()
    skate.get(skate.remote(lambda: 1).remote())
    print("READY", flush=True)
    sys.stdin.read()
"""


@pytest.fixture()
def place() -> Iterator[dict[str, str]]:
    """An environment with a temp folder and a mark of its own."""
    with tempfile.TemporaryDirectory(prefix="skp-") as temp:
        yield {**os.environ, "TMPDIR": temp, MARK: temp}


def test_program(place: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--rows=240", "--features=60", "--repeat=1"],
        env=place, text=True, capture_output=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    for step in range(1, 7):
        assert f"[{step}/6]" in done.stdout
    assert "240 equal results" in done.stdout
    assert re.search(r"ratio +\d+\.\d\dx", done.stdout)
    until(lambda: not processes({MARK: place[MARK]}), 10, "all processes are gone")
    assert session_files(place["TMPDIR"]) == []


def test_help_and_bad_sizes() -> None:
    shown = subprocess.run(
        [sys.executable, str(PROGRAM), "--help"], text=True, capture_output=True, check=False
    )
    assert shown.returncode == 0 and "--rows" in shown.stdout
    for bad in ("--rows=1", "--cores=1", "--repeat=0"):
        done = subprocess.run(
            [sys.executable, str(PROGRAM), bad], text=True, capture_output=True, check=False
        )
        assert done.returncode == 2 and "must be at least" in done.stderr


def test_nothing_is_left_of_a_killed_driver(place: dict[str, str], tmp_path: Path) -> None:
    errors = (tmp_path / "stderr").open("w+")
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER], env=place, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
    )  # fmt: skip
    try:
        lines = iter(driver.stdout.readline, "")
        assert any(line.strip() == "READY" for line in lines), Path(errors.name).read_text()[-3000:]
        commands = " ".join(processes({MARK: place[MARK]}).values())
        assert commands.count("bin/skate-raylet") == 2 and "skate-gcs" in commands
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait(timeout=10)
        until(lambda: not skate_processes(place), 10, "Skate's processes are gone")
        until(lambda: not processes({MARK: place[MARK]}), 30, "Spark's processes are gone")
        until(lambda: not session_files(place["TMPDIR"]), 15, "no file is left")
    finally:
        driver.kill()
        driver.wait()
        errors.close()


def skate_processes(place: dict[str, str]) -> dict[int, str]:
    """Daemons, zygotes and workers of the driver's cluster."""
    words = ("skate-raylet", "skate-gcs", "frozen_modules")
    every = processes({MARK: place[MARK]}).items()
    return {pid: cmd for pid, cmd in every if any(w in cmd for w in words)}
