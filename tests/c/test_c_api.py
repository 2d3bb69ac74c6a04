"""Programs in C on the installed libskate.so: cases of api_cases.c, headers, symbols."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import skate

PACKAGE = Path(skate.__file__).parent
HERE = Path(__file__).parent
ENV = {
    **{k: v for k, v in os.environ.items() if k not in ("SKATE_ADDRESS", "RAY_ADDRESS")},
    "PKG_CONFIG_PATH": str(PACKAGE / "lib" / "pkgconfig"),
    "SKATE_PYTHON": sys.executable,
}
OF_THE_TEST = '''
"""What the cases call by import path: it lies in the current folder."""

import skate


class Thing:
    size = 5


def opaque():
    return Thing()


def look_into(thing):
    return thing.size


def total(numbers):
    return float(sum(numbers))


def grow_it(actor):
    return [skate.get(actor.grow.remote(10)), actor]


class Keeper:
    def __init__(self, start):
        self.size = start

    def grow(self, by):
        self.size += by
        return self.size
'''
CASES = ("values", "create", "many", "errors", "bad", "waits", "threads", "forks", "actors",
         "crowd", "python", "groups", "events", "busy", "two", "full", "dead")  # fmt: skip


def shell(line: str, folder: Path) -> None:
    """A line that must succeed, as a user would type it."""
    done = subprocess.run(
        ["sh", "-c", line], cwd=folder, env=ENV, text=True, timeout=60, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the program, the library of its tasks, and a module of Python."""
    folder = tmp_path_factory.mktemp("c")
    sources = " ".join(str(p) for p in sorted(HERE.glob("*_case*.c")))
    flags = "-std=gnu11 -g -O1 -Wall -Wextra -Werror"
    shell(f"cc {flags} -pthread -o api {sources} $(pkg-config --cflags --libs skate)", folder)
    line = f"cc {flags} -shared -fPIC -o libtasks.so {HERE / 'api_tasks.c'}"
    shell(f"{line} $(pkg-config --cflags --libs skate)", folder)
    (folder / "of_the_test.py").write_text(OF_THE_TEST)
    return folder


def run(built: Path, *cases: str, **more: str) -> None:
    """The program with these cases says that all is well."""
    done = subprocess.run(
        [str(built / "api"), str(built / "libtasks.so"), *cases], cwd=built, env={**ENV, **more},
        text=True, timeout=55, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"exit {done.returncode}: {done.stdout}"
    assert done.stdout.splitlines()[-1] == "done"


@pytest.mark.parametrize("case", CASES)
def test_case(case: str, built: Path) -> None:
    """The case in a session of its own, which ends with the program."""
    run(built, case)


def test_killed(built: Path, no_leaks: None) -> None:
    """kill -9: daemons, workers and files of its session are gone, too (no_leaks looks)."""
    command = [str(built / "api"), str(built / "libtasks.so"), "hang"]
    with subprocess.Popen(command, cwd=built, env=ENV, text=True, stdout=subprocess.PIPE) as hung:
        assert hung.stdout is not None
        line = hung.stdout.readline()
        hung.kill()
    assert line == "hangs\n"


def test_no_interpreter(built: Path) -> None:
    """What is missing is named, and what to set."""
    done = subprocess.run(
        [str(built / "api"), str(built / "libtasks.so"), "values"], cwd=built, text=True,
        env={**ENV, "SKATE_PYTHON": "/no/python"}, capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "/no/python cannot be run: let SKATE_PYTHON name" in done.stdout


def test_running_cluster(built: Path) -> None:
    """The program joins the session of a Python program, and leaves it as it was."""
    if skate.is_initialized():
        skate.shutdown()
    context = skate.init(num_cpus=2)
    try:
        kept = skate.put("kept")
        run(built, "values", "errors", "actors", SKATE_ADDRESS=context.address_info["gcs_address"])
        address = context.address_info["gcs_address"]
        run(built, "leave", SKATE_ADDRESS=address)
        run(built, "find", SKATE_ADDRESS=address)
        left = skate.get_actor("left behind", "of the test")
        assert skate.get(left.add.remote(7)) == 90
        skate.kill(left)
        assert skate.get(kept) == "kept"
        assert skate.get(skate.remote(lambda: 1).remote()) == 1
    finally:
        skate.shutdown()


def test_no_leak(built: Path) -> None:
    """valgrind finds no mistaken access, and nothing that was not given back."""
    assert shutil.which("valgrind"), "valgrind is missing; `make setup-test` installs it"
    done = subprocess.run(
        ["valgrind", "--quiet", "--leak-check=full", "--errors-for-leak-kinds=definite",
         "--error-exitcode=9", str(built / "api"), str(built / "libtasks.so"), "values", "errors",
         "bad", "actors", "groups"],
        cwd=built, env=ENV, capture_output=True, text=True, timeout=58, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout


def test_the_tour(tmp_path: Path) -> None:
    """docs/c.md: its two files are built by the lines in them, and print what the page says."""
    text = (HERE.parents[1] / "docs" / "c.md").read_text()
    blocks = re.findall(r"^```c\n(.*?)^```$", text, re.M | re.S)
    for name, block in zip(("mine.c", "main.c"), blocks, strict=True):
        (tmp_path / name).write_text(block)
        line = re.match(r"/\* \S+: (.*) \*/", block)
        assert line
        shell(line[1].replace("cc ", "cc -Wall -Wextra -Werror ", 1), tmp_path)
    done = subprocess.run(
        ["./main"], cwd=tmp_path, env=ENV, capture_output=True, text=True, timeout=55, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["64", "3", "50", "5"]


# ------------------------------------------------------------------------- headers and symbols

MACROS = """
#include <skate/task.h>

struct state { int64_t n; };
static int make(skate_task *call, void *self) { (void)call, (void)self; return 0; }
static void end(void *self) { (void)self; }
SKATE_TASK(twice) { return skate_return_int(call, 2 * skate_arg_int(call, 0)); }
SKATE_TASK(nothing) { return 0; }
SKATE_ACTOR(thing, sizeof(struct state), make, end, SKATE_METHOD("again", make))
"""
STANDARDS = ("cc -std=c11", "c++ -std=c++11", "c++ -std=c++17", "c++ -std=c++20")
HEADERS = sorted(p.name for p in (PACKAGE / "include" / "skate").glob("*.h"))


@pytest.mark.parametrize("compiler", STANDARDS)
def test_headers_alone(compiler: str, tmp_path: Path) -> None:
    """Each header is complete in itself, and strict compilers have nothing to say."""
    suffix = "c" if compiler.startswith("cc") else "cpp"
    assert "skate.h" in HEADERS
    for name in HEADERS:
        text = f"#include <skate/{name}>\n#include <skate/{name}>\nint main() {{ return 0; }}\n"
        (tmp_path / f"{name}.{suffix}").write_text(text)
    (tmp_path / f"macros.{suffix}").write_text(MACROS)
    line = f"{compiler} -pedantic-errors -Wall -Wextra -Werror -fsyntax-only *.{suffix}"
    shell(f"{line} $(pkg-config --cflags skate)", tmp_path)


def declared() -> set[str]:
    """The functions that the headers promise."""
    names: set[str] = set()
    for name in HEADERS:
        text = (PACKAGE / "include" / "skate" / name).read_text()
        text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        names |= set(re.findall(r"SKATE_API\b[^;{]*?\b(skate_\w+)\(", text))
    return names


def test_symbols() -> None:
    """The library exports what the headers declare, under its version, and nothing else."""
    library = PACKAGE / "lib" / "libskate.so.0"
    done = subprocess.run(
        ["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True
    )
    symbols = [line.split()[-1] for line in done.stdout.splitlines()]
    functions = {s.partition("@")[0] for s in symbols if s.endswith("@@SKATE_0")}
    assert functions == declared()
    others = [s for s in symbols if not s.endswith("@@SKATE_0")]
    assert sorted(others) == ["SKATE_0", "SKATE_PRIVATE", "skate_native_main@@SKATE_PRIVATE"]
