"""Other people's libraries on `import ray`, under `skate run`, in their own environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from compat_target import ON_RAY, ray

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PYTHON = ROOT / "build/clients/bin/python"
STAMP = ROOT / "build/stamps/clients"

pytestmark = [
    pytest.mark.skipif(ON_RAY, reason="the environment of these programs has no Ray"),
    pytest.mark.skipif(
        not (PYTHON.exists() and STAMP.exists()), reason="needs `make setup-clients` (1.5 GB)"
    ),
    pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="not under ASan"),
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="build/clients is Python 3.11's"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the Skate under test and nothing else of this environment."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "skate").symlink_to(Path(ray.__file__).parent)
    return folder


@pytest.mark.timeout(240)
@pytest.mark.parametrize("library", ["sklearn", "dask", "modin", "optuna", "torch"])
def test_program(library, site, tmp_path):
    done = subprocess.run(
        [PYTHON, "-m", "skate.cli", "run", HERE / f"program_{library}.py"],
        capture_output=True, text=True, timeout=200, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site), "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-6000:]
    assert f"{library}: fine" in done.stdout
