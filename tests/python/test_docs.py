"""The pages for users: their Python blocks run, from top to bottom, as one program."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

DOCS = pathlib.Path(__file__).parents[2] / "docs"
NOT_RUN = {
    "README.md", "c.md", "cli.md", "compat.md", "spark.md", "reference.md", "reference_util.md",
}  # fmt: skip
# c: run by tests/c; cli, compat, spark: nothing runs by itself; reference: test_reference.py
PAGES = sorted(page.name for page in DOCS.glob("*.md") if page.name not in NOT_RUN)
# Of the README all but what needs a Spark, or minutes of learning.
LONG = re.compile("skate.util.spark|skate import tune")
# What blocks need that may be missing: the text in them, the package.
OPTIONAL = {"skate.rllib.models.tf": "tensorflow"}


@pytest.mark.timeout(120)   # the import of a framework takes long on a loaded machine
@pytest.mark.parametrize("page", [*PAGES, "../README.md"])
def test_the_blocks_of_a_page_run(page, tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.M | re.S)
    if page == "../README.md":
        blocks = [block for block in blocks if not LONG.search(block)]
    assert blocks
    missing = [text for text, name in OPTIONAL.items() if importlib.util.find_spec(name) is None]
    blocks = [block for block in blocks if not any(text in block for text in missing)]
    if not blocks:
        pytest.skip(f"needs {', '.join(OPTIONAL[text] for text in missing)}")
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks))
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=110, cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown = done.stdout.splitlines()
    lines = [line for block in blocks for line in block.splitlines()]
    plain = r"print\(.*\)\s+# (\d[\d.]*|True|\[.*\]|\{.*\}|\d+ True)$"  # a value, not prose
    expected = [m[1] for m in (re.match(plain, line.strip()) for line in lines) if m]
    assert expected
    for value in expected:
        assert value in shown, (value, done.stdout)


def test_every_page_is_linked():
    index = (DOCS / "README.md").read_text()
    for page in DOCS.glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page.name
