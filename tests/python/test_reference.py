"""docs/reference*.md: every public name has an entry, and the examples in them run."""

from __future__ import annotations

import importlib
import os
import pathlib
import re
import subprocess
import sys

import pytest

import skate

DOCS = pathlib.Path(__file__).parents[2] / "docs"
PAGES = sorted(page.name for page in DOCS.glob("reference*.md"))
RUNNER = """
import doctest, sys
flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
failed, count = doctest.testfile(sys.argv[1], module_relative=False, optionflags=flags)
print(count, "examples")
sys.exit(1 if failed or not count else 0)
"""


def entries(page: str) -> dict[str, str]:
    """Name -> text of its entry; names that share one have the same text."""
    found: dict[str, str] = {}
    waiting: list[str] = []
    for part in re.split(r"^### ", (DOCS / page).read_text(), flags=re.M)[1:]:
        name, _, text = part.partition("\n")
        waiting.append(name.strip().strip("`"))
        if text.split("\n## ")[0].strip():
            found |= dict.fromkeys(waiting, text)
            waiting = []
    assert not waiting, waiting
    return found


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_run(page, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(DOCS / page)], capture_output=True, text=True,
        timeout=120, cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_every_name_has_an_entry_with_an_example():
    found = entries("reference.md")
    for name in skate.__all__:
        assert name in found, f"docs/reference.md has no entry for {name}"
        assert ">>>" in found[name], f"the entry of {name} has no example"


UTIL = {
    "util": None,
    "util.queue": ["Queue"],
    "util.multiprocessing": ["Pool"],
    "util.joblib": None,
    "util.dask": None,
    "util.metrics": ["Counter", "Gauge", "Histogram"],
    "util.scheduling_strategies": [
        "PlacementGroupSchedulingStrategy", "NodeAffinitySchedulingStrategy",
        "NodeLabelSchedulingStrategy",
    ],
    "dag": None,
    "runtime_env": None,
    "cross_language": None,
    "cluster_utils": ["Cluster"],
}  # fmt: skip


@pytest.mark.parametrize("module", UTIL)
def test_every_name_beside_the_core_has_an_entry(module):
    found = entries("reference_util.md")
    names = UTIL[module] or importlib.import_module(f"skate.{module}").__all__
    for name in names:
        assert f"{module}.{name}" in found, f"no entry for {module}.{name}"
        assert ">>>" in found[f"{module}.{name}"], f"no example for {module}.{name}"


def test_every_name_has_a_docstring():
    for name in skate.__all__:
        thing = getattr(skate, name)
        if callable(thing):
            assert (thing.__doc__ or "").strip(), name
