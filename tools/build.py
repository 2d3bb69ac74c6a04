"""Build Skate into the virtual environment this runs in.

usage: build.py install         make build: a full install by pip, or `quick` when that was done
       build.py quick           make quick: compile what changed, copy what changed (about 1 s)
       build.py units [asan]    compile the C unit tests, plain or with ASan and UBSan; the latter
                                with a sanitized Skate beside it, in build/asan/site
       build.py units tsan      those with several threads, with TSan (tests/unit/tsan.txt)
       build.py sim             the simulator of clusters (tests/sim)

Folders: build/py (what pip and quick share, through meson-python), build/asan, build/tsan. One
build at a time (a lock on build/.lock); several people may call it at once.
"""

from __future__ import annotations

import compileall
import fcntl
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
PY_DIR = BUILD / "py"
ASAN_DIR = BUILD / "asan"
ASAN_SITE = ASAN_DIR / "site"
TSAN_DIR = BUILD / "tsan"
TSAN_LIST = ROOT / "tests" / "unit" / "tsan.txt"
SITE = Path(sysconfig.get_paths()["platlib"])
BIN = Path(sys.executable).parent
ENV = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"}
JOBS = str(min(os.cpu_count() or 1, 16))
ASAN_OPTIONS = [
    "-Db_sanitize=address,undefined",
    "-Db_lundef=false",
    "-Dbuildtype=debugoptimized",
    "-Doptimization=1",
]
TSAN_OPTIONS = [
    "-Db_sanitize=thread",
    "-Db_lundef=false",
    "-Dbuildtype=debugoptimized",
    "-Doptimization=1",
    "-Dpython=disabled",
    "-Dc_args=-Wno-tsan",  # it does not model fences: base/atomic.h
]


def run(*args: str, quiet: bool = False) -> int:
    """Run a command at the root; its output shows unless quiet and successful."""
    if not quiet:
        return subprocess.run(args, cwd=ROOT, env=ENV, check=False).returncode
    done = subprocess.run(
        args, cwd=ROOT, env=ENV, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        sys.stdout.write(done.stdout.decode(errors="replace")[-8000:])
    return done.returncode


def source_list() -> str:
    """What meson's run_command calls would see now."""
    sys.path.insert(0, str(ROOT / "tools"))
    import sources

    src = ROOT / "src"
    lines: list[str] = []
    if src.is_dir():
        for d in sorted(p for p in src.iterdir() if p.is_dir()):
            lines += sources.folder(d) + sources.mains(d)
            lines += [str(f) for f in sorted(d.glob("meson.build"))]
    for d in ("python/ext", "python/ext_rl"):
        lines += sources.folder(ROOT / d)
        lines += [str(f) for f in sorted((ROOT / d).glob("meson.build"))]
    lines += sources.units(ROOT / "tests" / "unit")
    lines.append((ROOT / "tests" / "sim" / "meson.build").read_text())
    return "\n".join(lines)


def configure(folder: Path, options: list[str]) -> int:
    """Set the folder up, or again when a C file or meson.build came or went."""
    seen = folder / ".sources"
    now = source_list()
    if not (folder / "build.ninja").exists():
        shutil.rmtree(folder, ignore_errors=True)
        r = run("meson", "setup", str(folder), *options, quiet=True)
    elif not seen.exists() or seen.read_text() != now:
        r = run("meson", "setup", "--reconfigure", str(folder), quiet=True)
    else:
        return 0
    if r == 0:
        seen.write_text(now)
    return r


def ninja(folder: Path, *targets: str) -> int:
    """Compile; go on after an error so that one broken folder does not hide the others."""
    return run("ninja", "--quiet", "-C", str(folder), "-j", JOBS, "-k", "0", *targets)


def copy_changed(source: Path, target: Path) -> int:
    """Replace target when source is newer or of another size; atomically, it may be mapped."""
    a = source.stat()
    if target.exists():
        b = target.stat()
        if a.st_size == b.st_size and a.st_mtime_ns == b.st_mtime_ns:
            return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.new")
    shutil.copy2(source, beside)
    os.replace(beside, target)
    return 1


def mirror(source: Path, target: Path, keep: set[Path]) -> int:
    """Copy a package folder; drop modules that neither it nor another entry of the plan has."""
    wanted = {
        p.relative_to(source)
        for p in source.rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    changed = sum(copy_changed(source / p, target / p) for p in sorted(wanted))
    for old in list(target.rglob("*.py")) + list(target.rglob("*.pyi")):
        if old.relative_to(target) not in wanted and old not in keep:
            old.unlink()
            changed += 1
    return changed


def copy_install(folder: Path = PY_DIR, site: Path = SITE) -> int:
    """Copy what meson's install plan names for the package into site-packages.

    With bytecode, as pip leaves it: an import that has to compile first is several times slower.
    """
    plan = json.loads((folder / "meson-info" / "intro-install_plan.json").read_text())
    pairs = [
        (Path(source), site / entry["destination"].removeprefix("{py_platlib}/"))
        for section in plan.values()
        for source, entry in section.items()
        if entry["destination"].startswith("{py_platlib}/") and Path(source).exists()
    ]
    keep = {target for source, target in pairs if source.is_file()}
    changed = sum(
        mirror(source, target, keep) if source.is_dir() else copy_changed(source, target)
        for source, target in pairs
    )
    compileall.compile_dir(site / "skate", quiet=2)
    return changed


def pip_facts() -> str:
    """The part of pyproject.toml that only pip can apply."""
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return json.dumps([tables["build-system"], tables["project"], tables["tool"]["meson-python"]])


def is_installed() -> bool:
    """pip's own install is there, and nothing that it read has changed since."""
    facts = PY_DIR / ".pip_facts"
    return (
        any(SITE.glob("skate_ray-*.dist-info/RECORD"))
        and (PY_DIR / "build.ninja").exists()
        and facts.exists()
        and facts.read_text() == pip_facts()
    )


def quick() -> int:
    """Compile and copy what changed; a full install when there has been none."""
    if not is_installed():
        r = pip_install()
        if r == 0 or not (PY_DIR / "build.ninja").exists():
            return r
        print("skate: pip could not install it; bringing over what compiles")
    r = configure(PY_DIR, [])
    r = ninja(PY_DIR) or r
    changed = copy_install()
    print(f"skate: {changed} file(s) brought up to date")
    return r


def pip_install() -> int:
    """The real thing: what `pip install .` of a user does, but with a lasting build folder."""
    print("skate: compiling, then installing by pip", flush=True)
    shutil.rmtree(SITE / "skate", ignore_errors=True)
    args = ["--no-build-isolation", "--no-deps", "--force-reinstall", "--quiet"]
    r = run(
        sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *args,
        f"--config-settings=build-dir={PY_DIR}", ".",
    )  # fmt: skip
    if r == 0:
        (PY_DIR / ".sources").write_text(source_list())
        (PY_DIR / ".pip_facts").write_text(pip_facts())
        copy_install()
    return r


def units(variant: str) -> int:
    """Compile the unit tests of one variant."""
    if not any((ROOT / "tests" / "unit").glob("*_test.c")):
        return 0
    if variant == "asan":
        r = configure(ASAN_DIR, ASAN_OPTIONS)
        r = r or ninja(ASAN_DIR, "all", "unit-tests")
        if r == 0:
            copy_install(ASAN_DIR, ASAN_SITE)
        return r
    if variant == "tsan":
        names = [n for n in TSAN_LIST.read_text().split("\n") if n and not n.startswith("#")]
        r = configure(TSAN_DIR, TSAN_OPTIONS)
        return r or ninja(TSAN_DIR, *(f"tests/unit/{name}" for name in names))
    r = configure(PY_DIR, []) if is_installed() else pip_install()
    return r or ninja(PY_DIR, "unit-tests", "tests/sim/skate-sim", "tests/sim/skate-scale")


def sim() -> int:
    """Compile the simulator."""
    r = configure(PY_DIR, []) if is_installed() else pip_install()
    return r or ninja(PY_DIR, "tests/sim/skate-sim", "tests/sim/skate-scale")


def main(argv: list[str]) -> int:
    """Take the lock, then do one thing."""
    BUILD.mkdir(exist_ok=True)
    commands = {"install": quick, "quick": quick, "pip": pip_install, "sim": sim}
    with open(BUILD / ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if argv[:1] == ["units"]:
            return units(argv[1] if len(argv) > 1 else "plain")
        if len(argv) == 1 and argv[0] in commands:
            return commands[argv[0]]()
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
