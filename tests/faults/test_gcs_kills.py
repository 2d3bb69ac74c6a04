"""The control store of a `skate start --head` killed 50 times; 1,000 times: gcs_kills.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(240)
def test_fifty_kills_lose_nothing():
    program = Path(__file__).with_name("gcs_kills.py")
    ran = subprocess.run([sys.executable, str(program), "50"], capture_output=True, text=True,
                         timeout=220, check=False)  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    did = json.loads(ran.stdout.splitlines()[-1])
    assert did["kills"] == 50 and did["lost"] == 0
    assert did["tasks"] > 0 and did["actors"] > 0
