"""The style check: this tree passes each rule, and each rule finds what it is there for."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import tidy  # noqa: E402

LONG = "int f(void) {\n" + "    g();\n" * 120 + "}\n"
MARK = "TO" + "DO"
BAD = {
    "layers": ("src/base/x.c", '#include "core/core.h"\n'),
    "sizes": ("src/base/x.c", LONG),
    "banned": ("src/base/x.c", "void f(void) {\n    strcpy(a, b);\n}\n"),
    "comments": ("src/base/x.c", "int a; // no\n"),
    "columns": ("src/base/x.c", "int " + "a" * 120 + ";\n"),
    "basenames": ("src/wire/y.c", "int a;\n"),
    "readme": ("src/base/z.c", "int a;\n"),
    "orders": ("src/base/x.c", "int f(void) {\n    return __atomic_load_n(p, 0);\n}\n"),
    "marks": ("src/base/x.c", f"/* {MARK}: finish */\n"),
    "paths": ("docs/a.md", "see /wo" + "rk/main\n"),
    "ruff": ("tools/a.py", "import os\n"),
}


@functools.cache
def this_tree() -> tidy.Tree:
    """Read once."""
    return tidy.Tree(ROOT)


@pytest.mark.parametrize("rule", list(tidy.RULES))
def test_tree_is_tidy(rule: str) -> None:
    """No breach of this rule anywhere in the tree."""
    found = tidy.breaches(this_tree(), (rule,))
    assert not found, "\n" + "\n".join(map(str, found[:40]))


@pytest.mark.parametrize("rule", list(tidy.RULES))
def test_rule_can_fail(rule: str, tmp_path: Path) -> None:
    """A tree with one mistake breaks the rule, and the clean one does not."""
    for name, text in (
        ("src/base/README.md", "y.c, x.[ch]\n"),
        ("src/base/y.c", '/* strcpy(a, b) // "x" */\n#include "base/x.h"\nint a;\n'),
        ("src/base/x.h", "int a;\n"),
        ("pyproject.toml", "[tool.ruff.lint]\nselect = ['F']\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert tidy.breaches(tidy.Tree(tmp_path), (rule,)) == []
    name, text = BAD[rule]
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
    assert [b.rule for b in tidy.breaches(tidy.Tree(tmp_path), (rule,))] == [rule]


def test_waivers_have_reasons_and_are_needed() -> None:
    """A waiver gives a reason, and is gone when its breach is."""
    for (rule, path), reason in tidy.WAIVERS.items():
        assert len(reason) > 20, path
        found = [b for b in tidy.RULES[rule](this_tree()) if b.path == path]
        assert found, f"{path} needs no waiver of {rule} any more"
