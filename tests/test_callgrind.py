"""The hot paths of the core stay within their budgets of instructions (tools/instructions.py).

Time is noise on a shared machine, instructions are not. Who makes a path dearer on purpose, or
cheaper, runs `tools/instructions.py --rewrite` and commits tests/instructions.json with the reason.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import instructions  # noqa: E402  (from tools/)

PROFILE = """\
fn=(1) main
3 10
cfn=(2) path_put
calls=2 7
4 300
cfn=(3) other
calls=1 9
4 5000
fn=(2)
7 100
cfn=(3)
calls=2 9
8 200
fn=(4) more
cfn=(2)
calls=2 7
4 340
"""


def test_a_profile_is_read() -> None:
    """Costs of all callers are added, other functions are not counted twice."""
    assert instructions.read_profile(PROFILE) == {"path_put": 160.0}


def test_a_dearer_path_is_named() -> None:
    """Six per cent above the budget is too much, four are not; the line says which and by what."""
    budgets = dict.fromkeys(instructions.PATHS, 1000.0)
    dear = instructions.Verdict("path_put", 1060, budgets["path_put"], instructions.MARGIN)
    assert dear.exceeded
    assert "put of a small value" in str(dear)
    assert "+6.0 %  EXCEEDED" in str(dear)
    assert not instructions.Verdict("path_put", 1040, 1000, instructions.MARGIN).exceeded


@pytest.mark.timeout(3 * instructions.LIMIT_S + 120)
def test_paths_within_their_budgets(tmp_path: Path) -> None:
    """Counted anew with callgrind."""
    verdicts = instructions.judge(instructions.least(tmp_path))
    table = "\n".join(map(str, verdicts))
    assert not [v for v in verdicts if v.exceeded], (
        f"hot paths take more instructions than their budgets:\n{table}\n"
        "if that is meant, run tools/instructions.py --rewrite and say why in the commit"
    )
