"""The disk under the log of the GCS is full or slow: refused with a reason, never lost."""

from __future__ import annotations

import subprocess

import disks
import pytest
import runs


@pytest.mark.timeout(120)
def test_a_full_disk(namespaces, tmp_path):
    try:
        disks.SmallDisk(1 << 20).close()
    except OSError as error:
        pytest.skip(str(error))
    did = runs.full_disk(tmp_path / "ledger")
    assert did["kept"] and did["refused"]


@pytest.mark.timeout(120)
def test_a_slow_disk(namespaces, tmp_path):
    """The full size: half a second for each read and write."""
    tried = subprocess.run(
        [*disks.SlowDisk(tmp_path / "try").around, "true"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if tried.returncode:
        pytest.skip(f"no such file system here: {tried.stderr.strip()}")
    did = runs.slow_disk(tmp_path / "ledger", 1.5, 0.03)
    assert did["kept"] and did["rounds"]
