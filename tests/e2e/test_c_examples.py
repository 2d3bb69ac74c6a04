"""The programs of examples/c, built as a user builds them, and run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_help import EXAMPLES, Site

import skate

PKG_CONFIG = Path(skate.__file__).parent / "lib" / "pkgconfig"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the examples, built by their Makefile."""
    folder = tmp_path_factory.mktemp("c") / "examples"
    shutil.copytree(EXAMPLES / "c", folder)
    env = {**os.environ, "PKG_CONFIG_PATH": str(PKG_CONFIG)}
    command = ["make", "-s", "CFLAGS=-O1 -Wall -Wextra -Werror"]
    subprocess.run(command, cwd=folder, env=env, check=True, timeout=100)
    return folder


@pytest.fixture()
def site() -> Iterator[Site]:
    """A place of its own for each program, which leaves nothing behind."""
    place = Site()
    yield place
    place.assert_nothing_left()
    place.close()


@pytest.mark.parametrize("name", ["hello_task", "pi", "parameter_server", "arrow_aggregation"])
def test_cc_line(built: Path, name: str, tmp_path: Path) -> None:
    """The lines at the top of each file build it, too."""
    text = (built / f"{name}.c").read_text()
    lines = re.findall(r"^ \*\s+(cc .*)$", text, re.MULTILINE)
    assert len(lines) == 2
    shutil.copy(built / f"{name}.c", tmp_path)
    for line in lines:
        env = {"PATH": "/usr/bin:/bin", "PKG_CONFIG_PATH": str(PKG_CONFIG)}
        subprocess.run(["sh", "-c", line], cwd=tmp_path, env=env, check=True, timeout=60)
    assert (tmp_path / name).exists() and (tmp_path / f"{name}.so").exists()


def test_hello(built: Path, site: Site) -> None:
    """Two results and an error."""
    program = site.start("./hello_task", cwd=str(built)).succeeds()
    text = program.text()
    assert "hello, world\n" in text and "19 + 2 = 21\n" in text
    assert "add needs argument 1 (an int), and was given 1 arguments" in text


def test_pi(built: Path, site: Site) -> None:
    """It comes near."""
    text = site.start("./pi", "8", "400000", cwd=str(built)).succeeds().text()
    found = re.findall(r"8 of 8 tasks: pi is about ([0-9.]+)", text)
    assert len(found) == 1 and abs(float(found[0]) - 3.14159) < 0.02


def test_parameter_server(built: Path, site: Site) -> None:
    """The weights are found."""
    text = site.start("./parameter_server", "60", cwd=str(built)).succeeds().text()
    away = [float(x) for x in re.findall(r"the weights are ([0-9.]+) away", text)]
    assert len(away) == 6 and away[-1] < 0.01 < away[0]
