"""A node that has cores only while its drivers wait (mode="shared" on Spark), without Spark."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import pytest
from e2e_help import eventually

import skate
from skate import _core, _store_config
from skate.cluster_utils import Cluster


@pytest.fixture()
def shared(no_leaks: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """One node of two CPUs, one of which is others' unless lent."""
    real = _store_config.settings
    monkeypatch.setattr(
        _store_config, "settings",
        lambda *given: [*real(*given), ("shared_cpus", 1), ("lend_cpus", 1)],
    )  # fmt: skip
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    yield cluster
    skate.shutdown()
    cluster.shutdown()


@skate.remote
def meet(folder: str, name: str, others: int, seconds: float) -> bool:
    """Do so many others run at the same time?"""
    Path(folder, name).touch()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if len(os.listdir(folder)) > others:
            return True
        time.sleep(0.01)
    return False


def both(folder: Path, seconds: float) -> list[bool]:
    """Two tasks that wait for each other, while this driver is in get()."""
    folder.mkdir()
    return skate.get([meet.remote(str(folder), name, 1, seconds) for name in ("a", "b")])


def free() -> float:
    """CPUs that are free."""
    return skate.available_resources().get("CPU", 0.0)


def test_a_driver_that_waits_lends_its_core(shared: Cluster, tmp_path: Path) -> None:
    shared.connect()
    assert skate.cluster_resources()["CPU"] == 2
    assert eventually(lambda: free() == 1)
    assert both(tmp_path / "no", 0.5) == [False, True], "it does not lend: one after the other"
    _core.lend(True)
    assert both(tmp_path / "yes", 30.0) == [True, True], "it lends: both at once"
    assert eventually(lambda: free() == 1), "and has its core back"
    _core.lend(False)
    assert both(tmp_path / "again", 0.5) == [False, True]


def test_a_member_that_waits_lends_its_core(shared: Cluster, tmp_path: Path) -> None:
    """A UDF that joined the driver's job."""
    shared.connect()
    code = (
        "import sys, cloudpickle, skate\n"
        "from skate import _core\n"
        "meet, ref = cloudpickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "skate.get(ref)\n"
        "_core.lend(sys.argv[3] == 'lend')\n"
        "names, seconds = ('a', 'b'), float(sys.argv[4])\n"
        "print(skate.get([meet.remote(sys.argv[2], name, 1, seconds) for name in names]))"
    )
    given = cloudpickle.dumps((meet, skate.put(0))).hex()
    for word, seconds, answer in (("lend", 30.0, "[True, True]"), ("no", 0.5, "[False, True]")):
        (tmp_path / word).mkdir()
        done = subprocess.run(
            [sys.executable, "-c", code, given, str(tmp_path / word), word, str(seconds)],
            text=True, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.stdout.strip() == answer, done.stderr
        assert eventually(lambda: free() == 1)


WAITS = """
import sys, time
import skate
from skate import _core
skate.init(sys.argv[1], log_to_driver=False)
_core.lend(True)
ref = skate.remote(num_cpus=0)(time.sleep).remote(600)
print("READY", flush=True)
skate.get(ref)
"""


def test_a_driver_that_is_killed_while_it_waits(shared: Cluster) -> None:
    shared.connect()
    other = subprocess.Popen([sys.executable, "-c", WAITS, shared.address], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None and other.stdout.readline() == b"READY\n"
        assert eventually(lambda: free() == 2), "lent"
        other.send_signal(signal.SIGKILL)
        assert eventually(lambda: free() == 1), "its core went with it"
    finally:
        other.kill()
        other.wait()
