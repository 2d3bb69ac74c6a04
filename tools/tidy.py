"""The style of this tree as a program: prints each breach as path:line: rule: text.

usage: tidy.py [ROOT]     exit status 1 when there is a breach; tests/test_tidy.py runs it too

Rules: layers (who may include whom), sizes (files and functions), banned (calls), comments (no
//), columns, basenames (unique), readme (each src folder's README names each file), orders (memory
orders only in src/base/atomic.h), marks (unfinished work), paths (of somebody's machine), ruff.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

# folder under src: the folders that it may include besides itself.
PURE = ("base", "loop", "wire")
MIDDLE = (*PURE, "net", "store", "sched", "own", "gcs")
LAYERS: dict[str, tuple[str, ...]] = {
    "base": ("skate",),  # include/skate/errors.h: the codes
    "loop": ("base",),
    "wire": ("base",),
    "net": PURE,
    "store": PURE,
    "sched": PURE,
    "own": PURE,
    "gcs": (*PURE, "sched", "own"),
    "raylet": MIDDLE,
    "gcsd": MIDDLE,
    "core": MIDDLE,
    "arrow": ("base", "skate"),  # include/skate/arrow.h: the structs
    "api": (*MIDDLE, "core", "arrow", "skate"),
    "native": (*MIDDLE, "core", "arrow", "api", "skate"),
    "rl": ("base", "skate"),  # include/skate/env*.h
}
EXT_LAYERS = {"ext": (*MIDDLE, "core", "arrow"), "ext_rl": ("base", "rl")}

C_LINES, H_LINES, PY_LINES, FUNCTION_LINES, COLUMNS = 800, 250, 800, 100, 100
BANNED = ("strcpy", "strcat", "sprintf", "vsprintf", "strtok", "rand", "srand", "system", "atoi",
          "atol", "gets", "alloca")  # fmt: skip
ORDERS = re.compile(r"\b(memory_order_\w+|__ATOMIC_\w+|__atomic_\w+|atomic_(load|store|fetch|"
                    r"exchange|compare|thread)\w*|__sync_\w+)")  # fmt: skip
MARKS = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
PATHS = re.compile(r"(?<![\w.])/(wo" r"rk|fa" r"rm|ro" r"ot|tmp/(bash_jobs|bri" r"ef))/")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
CALL = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
NAME = re.compile(r"(\w+)\s*\(")
TEXT = (".c", ".h", ".py", ".pyi", ".md", ".sh", ".def", ".toml", ".build", ".txt")

# (rule, path): why this one place is right as it is. Nothing else lifts a rule.
WAIVERS: dict[tuple[str, str], str] = {}


@dataclass(frozen=True)
class Breach:
    """One place that breaks one rule."""

    rule: str
    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


def blank(match: re.Match[str]) -> str:
    """Blanks in place of a comment or string, its line ends kept."""
    return re.sub(r"[^\n]", " ", match.group())


NOT_CODE = re.compile(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


@dataclass(frozen=True)
class File:
    """A text file of the tree; code has comments and strings blanked out."""

    path: str
    text: str

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def code(self) -> list[str]:
        return NOT_CODE.sub(blank, self.text).splitlines()

    @property
    def is_c(self) -> bool:
        return self.path.endswith((".c", ".h"))

    @property
    def is_python(self) -> bool:
        return self.path.endswith((".py", ".pyi"))


class Tree:
    """The files under a root that git knows or would take in."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = [f for f in map(self.read, self.names()) if f is not None]

    def names(self) -> list[str]:
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=self.root, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if listed.returncode == 0 and (self.root / ".git").exists():
            return sorted(set(listed.stdout.splitlines()))
        return sorted(str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_file())

    def read(self, name: str) -> File | None:
        path = self.root / name
        if not path.is_file() or not (path.suffix in TEXT or path.name in ("Makefile", "run")):
            return None
        return File(name, path.read_text(errors="replace"))


Rule = Callable[[Tree], Iterator[Breach]]
RULES: dict[str, Rule] = {}


def rule(function: Rule) -> Rule:
    """Enter a rule under its own name."""
    RULES[function.__name__] = function
    return function


@rule
def layers(tree: Tree) -> Iterator[Breach]:
    """An include names a file of its own folder or of one to its left, as "folder/file.h"."""
    for f in tree.files:
        parts = f.path.split("/")
        if not f.is_c or len(parts) < 3:
            continue
        if parts[0] == "src":
            me, allowed = parts[1], LAYERS.get(parts[1])
        elif parts[:2] in (["python", "ext"], ["python", "ext_rl"]):
            me, allowed = parts[1], EXT_LAYERS[parts[1]]
        else:
            continue
        if allowed is None:
            yield Breach("layers", f.path, 1, f"src/{me} is in no layer (tools/tidy.py)")
            continue
        for number, line in enumerate(f.lines, 1):
            found = INCLUDE.match(line)
            folder = found.group(1).split("/")[0] if found and "/" in found.group(1) else me
            if folder != me and folder not in allowed:
                yield Breach("layers", f.path, number, f"{me} may not include {folder}/")


def c_functions(f: File) -> Iterator[tuple[str, int, int]]:
    """(name, first line, lines) of each function definition in K&R layout."""
    start, name, opened = 0, "", False
    for number, line in enumerate(f.code, 1):
        if line[:1].isalpha() or line[:1] == "_":
            start, opened = number, False
            found = NAME.search(line)
            name = found.group(1) if found else ""
        if start and line.rstrip().endswith(") {") and not opened:
            opened = True
        if line.startswith("}") and opened and name:
            yield name, start, number - start + 1
            start, opened = 0, False


@rule
def sizes(tree: Tree) -> Iterator[Breach]:
    """Files and functions stay within what one can take in."""
    limits = {".c": C_LINES, ".h": H_LINES, ".py": PY_LINES, ".pyi": PY_LINES}
    for f in tree.files:
        limit = limits.get(Path(f.path).suffix)
        if limit and len(f.lines) > limit:
            yield Breach("sizes", f.path, 1, f"{len(f.lines)} lines, more than {limit}")
        functions = c_functions(f) if f.is_c else py_functions(f) if f.is_python else ()
        for name, line, length in functions:
            if length > FUNCTION_LINES:
                yield Breach("sizes", f.path, line, f"{name}() has {length} lines")


def py_functions(f: File) -> Iterator[tuple[str, int, int]]:
    """(name, first line, lines) of each Python function."""
    try:
        module = ast.parse(f.text)
    except SyntaxError:
        return
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1


@rule
def banned(tree: Tree) -> Iterator[Breach]:
    """Calls without a bound, or with hidden state."""
    for f in tree.files:
        for number, line in enumerate(f.code if f.is_c else (), 1):
            for call in CALL.finditer(line):
                yield Breach("banned", f.path, number, f"{call.group(1)}()")


@rule
def comments(tree: Tree) -> Iterator[Breach]:
    """C comments are /* */."""
    for f in tree.files:
        for number, line in enumerate(f.code if f.is_c else (), 1):
            if "//" in line:
                yield Breach("comments", f.path, number, "// comment")


@rule
def columns(tree: Tree) -> Iterator[Breach]:
    """100 columns, spaces, no blanks at the end (ruff looks after Python)."""
    for f in tree.files:
        for number, line in enumerate(f.lines if f.is_c else (), 1):
            if len(line) > COLUMNS:
                yield Breach("columns", f.path, number, f"{len(line)} columns")
            if "\t" in line or line != line.rstrip():
                yield Breach("columns", f.path, number, "tab, or blanks at the end")


@rule
def basenames(tree: Tree) -> Iterator[Breach]:
    """A C file is found by its name alone."""
    seen: dict[str, str] = {}
    for f in tree.files:
        if f.is_c:
            name = Path(f.path).name
            if name in seen:
                yield Breach("basenames", f.path, 1, f"also {seen[name]}")
            seen[name] = f.path


@rule
def readme(tree: Tree) -> Iterator[Breach]:
    """Each folder of C has a README that names each of its files."""
    texts = {f.path: f.text for f in tree.files}
    missing = set()
    for f in tree.files:
        parts = f.path.split("/")
        if len(parts) < 3 or (parts[0] != "src" and parts[:2] != ["python", parts[1]]):
            continue
        if parts[0] == "python" and parts[1] not in EXT_LAYERS:
            continue
        home = f"{parts[0]}/{parts[1]}/README.md"
        name = parts[-1]
        if name in ("README.md", "meson.build"):
            continue
        stem = Path(name).stem
        pair = re.compile(rf"\b{re.escape(stem)}\.(\[ch\]|\[hc\]|c|h|def|py)")
        if home not in texts:
            if home not in missing:
                yield Breach("readme", f.path, 1, f"{home} is missing")
            missing.add(home)
        elif name not in texts[home] and not (f.is_c and pair.search(texts[home])):
            yield Breach("readme", f.path, 1, f"{home} does not name it")


@rule
def orders(tree: Tree) -> Iterator[Breach]:
    """Memory orders have one home."""
    for f in tree.files:
        if not f.is_c or f.path == "src/base/atomic.h" or not f.path.startswith(("src", "python")):
            continue
        for number, line in enumerate(f.code, 1):
            for found in ORDERS.finditer(line):
                yield Breach("orders", f.path, number, found.group())


@rule
def marks(tree: Tree) -> Iterator[Breach]:
    """Nothing says of itself that it is unfinished."""
    for f in tree.files:
        for number, line in enumerate(f.lines, 1):
            found = MARKS.search(line)
            if found:
                yield Breach("marks", f.path, number, found.group())


@rule
def paths(tree: Tree) -> Iterator[Breach]:
    """No path of the machine that somebody works on."""
    for f in tree.files:
        for number, line in enumerate(f.lines, 1):
            found = PATHS.search(line)
            if found:
                yield Breach("paths", f.path, number, found.group())


@rule
def ruff(tree: Tree) -> Iterator[Breach]:
    """Ruff has nothing to say (its rules: pyproject.toml)."""
    names = [f.path for f in tree.files if f.is_python]
    if not names or not (tree.root / "pyproject.toml").exists():
        return
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--output-format=concise", "--no-cache", *names],
        cwd=tree.root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    for line in done.stdout.splitlines():
        found = re.match(r"(\S+?):(\d+):\d+: (.*)", line)
        if found:
            yield Breach("ruff", found.group(1), int(found.group(2)), found.group(3))
    if done.returncode not in (0, 1):
        yield Breach("ruff", "pyproject.toml", 1, done.stderr.strip()[:200])


def breaches(tree: Tree, names: tuple[str, ...] = ()) -> list[Breach]:
    """Every breach of the named rules (of all without names) that has no waiver."""
    found = [b for name in names or tuple(RULES) for b in RULES[name](tree)]
    return [b for b in found if (b.rule, b.path) not in WAIVERS]


def main(argv: list[str]) -> int:
    """Print the breaches."""
    root = Path(argv[0]) if argv else Path(__file__).resolve().parent.parent
    found = breaches(Tree(root))
    for b in found:
        print(b)
    print(f"tidy: {len(found)} breach(es), {len(WAIVERS)} waiver(s)")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
