"""List C files for meson, which has no globs of its own.

usage: sources.py folder DIR   the *.c of DIR and its subfolders, without *_main.c
       sources.py mains DIR    the *_main.c of DIR
       sources.py units DIR    "file.c<TAB>lib lib ..." for each *_test.c of DIR

Paths are printed relative to the source root. tools/build.py compares what this prints with
what the last configuration saw, and configures again when a file came or went.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINKS = re.compile(r"/\*.*?\blinks:\s*([a-z ]+?)\s*[.*]", re.DOTALL)


def folder(path: Path) -> list[str]:
    """Every C file below path that belongs into its library."""
    found = sorted(path.rglob("*.c")) if path.is_dir() else []
    return [str(f.relative_to(ROOT)) for f in found if not f.name.endswith("_main.c")]


def mains(path: Path) -> list[str]:
    """The files that become a daemon."""
    found = sorted(path.glob("*_main.c")) if path.is_dir() else []
    return [str(f.relative_to(ROOT)) for f in found]


def units(path: Path) -> list[str]:
    """Unit tests and the libraries that the first lines of each name, as in `links: base wire`."""
    lines = []
    for f in sorted(path.glob("*_test.c")):
        head = "\n".join(f.read_text(errors="replace").splitlines()[:15])
        match = LINKS.search(head)
        lines.append(f"{f.name}\t{match.group(1) if match else ''}")
    return lines


def main(argv: list[str]) -> int:
    """Print the list asked for."""
    if len(argv) != 2 or argv[0] not in ("folder", "mains", "units"):
        print(__doc__, file=sys.stderr)
        return 2
    listing = {"folder": folder, "mains": mains, "units": units}[argv[0]]
    for line in listing(ROOT / argv[1]):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
