"""Which files of a working_dir stay behind: .gitignore files, `excludes`, and the usual ballast."""

from __future__ import annotations

import os
import re

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Iterator

BALLAST = (".git", ".venv", "venv", "__pycache__")
_FILES = (".gitignore", ".rayignore")


class Rule:
    """One line in the syntax of .gitignore."""

    def __init__(self, line: str) -> None:
        self.negated = line.startswith("!")
        line = line[1:] if line.startswith(("!", "\\")) else line
        self.folder_only = line.endswith("/")
        line = line.rstrip("/")
        anchored = "/" in line
        self.regex = re.compile(("" if anchored else "(?:.*/)?") + _translate(line.lstrip("/")))

    def matches(self, path: str, is_folder: bool) -> bool:
        """Does it mean this path, which is relative to the rule's folder?"""
        return (is_folder or not self.folder_only) and self.regex.fullmatch(path) is not None


def _translate(pattern: str) -> str:
    out, at = "", 0
    while at < len(pattern):
        char = pattern[at]
        if pattern.startswith("**/", at) and (at == 0 or pattern[at - 1] == "/"):
            out, at = out + "(?:.*/)?", at + 3
        elif pattern.startswith("**", at):
            out, at = out + ".*", at + 2
        elif char == "*":
            out, at = out + "[^/]*", at + 1
        elif char == "?":
            out, at = out + "[^/]", at + 1
        elif char == "[" and "]" in pattern[at + 2 :]:
            end = pattern.index("]", at + 2)
            inside = pattern[at + 1 : end].replace("\\", "\\\\")
            if inside.startswith("!"):
                inside = "^" + inside[1:]
            out, at = f"{out}[{inside}]", end + 1
        elif char == "\\" and at + 1 < len(pattern):
            out, at = out + re.escape(pattern[at + 1]), at + 2
        else:
            out, at = out + re.escape(char), at + 1
    return out


def rules(lines: list[str]) -> list[Rule]:
    """The rules of some lines; empty ones and comments are none."""
    out = []
    for line in lines:
        line = line.rstrip("\n").rstrip()
        if line and not line.startswith("#"):
            out.append(Rule(line))
    return out


def _rules_of(folder: str) -> list[Rule]:
    out: list[Rule] = []
    for name in _FILES:
        try:
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
                out += rules(file.readlines())
        except OSError:
            pass
    return out


def _ignored(stack: list[tuple[str, list[Rule]]], path: str, is_folder: bool) -> bool:
    """The last rule that matches decides; those of inner folders come later."""
    verdict = False
    for base, group in stack:
        inside = path[len(base) :]
        for rule in group:
            if rule.negated == verdict and rule.matches(inside, is_folder):
                verdict = not rule.negated
    return verdict


def files(root: str, excludes: list[str], honour_files: bool = True) -> Iterator[tuple[str, str]]:
    """(path relative to root, path) of each file that is not left behind, in order."""
    first = [Rule(name) for name in BALLAST] + rules(excludes)
    yield from _walk(root, "", [("", first)], {os.path.realpath(root)}, honour_files)


def _walk(
    folder: str, prefix: str, stack: list[tuple[str, list[Rule]]], seen: set[str], honour: bool
) -> Iterator[tuple[str, str]]:
    own = _rules_of(folder) if honour else []
    if own:
        # What `excludes` says, the last of the stack, stands over the files.
        stack = [*stack[:-1], (prefix, own), stack[-1]]
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        relative = prefix + entry.name
        is_folder = entry.is_dir()
        if _ignored(stack, relative, is_folder):
            continue
        if not is_folder:
            if entry.is_file():
                yield relative, entry.path
            continue
        real = os.path.realpath(entry.path)
        if entry.is_symlink() and real in seen:
            continue  # a link to a folder above: for ever
        yield from _walk(entry.path, relative + "/", stack, seen | {real}, honour)
