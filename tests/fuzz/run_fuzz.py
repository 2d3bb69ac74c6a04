"""Build fuzz targets with clang's libFuzzer, ASan and UBSan, and run them.

usage: run_fuzz.py TARGET|all [SECONDS [libFuzzer's own arguments ...]]
       run_fuzz.py keep TARGET     what build/fuzz/TARGET has, minimised, into tests/fuzz/corpus

A TARGET is a fuzz_TARGET.c. Each begins with its corpus, tests/fuzz/corpus/TARGET. clang is not one
of the project's needs: install one (Debian: clang-14 libclang-rt-14-dev) to fuzz with coverage.
What is found is in build/fuzz/TARGET (corpus and crash-*); a crash becomes a named test, then it
is fixed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent.parent
CORPUS = ROOT / "tests/fuzz/corpus"
OUT = ROOT / "build/fuzz"
NODE = ["base", "loop", "wire", "net", "store", "sched", "own", "gcs", "gcsd", "raylet"]
# What a target stands on: folders of src, or single files of them.
LAYERS = {
    "wire": ["base", "wire", "sched"],
    "ring": ["base", "wire", "sched"],
    "spill": ["base", "wire", "sched", "store"],
    "gcs": ["base", "wire", "sched", "gcs"],
    "gate": ["base", "loop", "wire", "sched", "net", "gcsd/gate.c"],
    "records": ["base", "wire", "sched", "gcs"],
    "helper": ["base", "loop", "wire", "net", "store", "sched",
               "raylet/spawn.c", "raylet/stream.c"],
    "raylet": NODE,
    "core": ["base", "wire", "sched", "own", "store/table.c", "core"],
    "net": ["base", "loop", "wire", "sched", "net"],
    "peer": NODE,
    "tls": ["base", "loop", "wire", "sched", "net"],
    "settings": NODE,
    "arrow": ["base", "wire", "sched", "arrow"],
    "value": ["base", "wire", "sched", "api/value_facts.c"],
    "env": ["base", "wire", "sched", "rl/env"],
}
LIBS = {"net": ["uv", "ssl", "crypto"], "tls": ["uv", "ssl", "crypto"],
        "helper": ["uv", "ssl", "crypto"], "gate": ["uv", "ssl", "crypto"],
        "arrow": ["cmocka"]}
NODE_LIBS = ["uv", "ssl", "crypto", "sqlite3", "hiredis", "dl"]
FLAGS = [
    "-std=gnu11", "-g", "-O1", "-D_GNU_SOURCE=", '-DSKATE_VERSION="fuzz"', "-fno-strict-aliasing",
    "-fno-omit-frame-pointer", "-fsanitize=fuzzer,address,undefined",
    "-fno-sanitize-recover=undefined", "-fno-sanitize=pointer-overflow",
]  # fmt: skip
RUN = [
    "-max_len=4096", "-len_control=0", "-rss_limit_mb=4096", "-timeout=20", "-detect_leaks=0",
]  # fmt: skip
KEEP_BYTES, KEEP_INPUTS = 180_000, 200  # of a committed corpus
KEEP_SLOW = {"raylet": 50, "peer": 50, "core": 100, "tls": 60}  # inputs, each of which takes long


def find_clang() -> str | None:
    """A clang of this machine."""
    return next(filter(None, map(shutil.which, ("clang", "clang-19", "clang-14"))), None)


def sources_of(target: str) -> list[str]:
    """Every C file that a target needs beside itself."""
    found = []
    for layer in LAYERS[target]:
        if layer.endswith(".c"):
            found.append(str(ROOT / "src" / layer))
            continue
        files = sorted((ROOT / "src" / layer).glob("*.c"))
        found += [str(f) for f in files if not f.name.endswith("_main.c")]
    return found


def compile_one(clang: str, source: str, newest: float) -> str | None:
    """The object of a source, compiled when it or any header is younger; None: it failed."""
    name = os.path.relpath(source, ROOT).replace("/", "_")
    result = OUT / "objects" / f"{name}.o"
    if result.exists() and result.stat().st_mtime > max(newest, os.stat(source).st_mtime):
        return str(result)
    generated = ROOT / "build/py/src/wire"
    command = [
        clang, *FLAGS, f"-I{ROOT / 'src'}", f"-I{ROOT / 'include'}", f"-I{generated}",
        f"-I{generated.parent}", f"-I{ROOT / 'tests/fuzz'}", "-c", source, "-o", str(result),
    ]  # fmt: skip
    return None if subprocess.run(command, check=False).returncode else str(result)


def build(target: str) -> int:
    """Compile everything the target stands on into one program. Exit code of clang, 2: no clang."""
    clang = find_clang()
    if clang is None:
        print("run_fuzz.py: no clang here", file=sys.stderr)
        return 2
    (OUT / target / "corpus").mkdir(parents=True, exist_ok=True)
    (OUT / "objects").mkdir(exist_ok=True)
    libs = NODE_LIBS if LAYERS[target] is NODE else LIBS.get(target, [])
    sources = [*sources_of(target), str(ROOT / "build/py/src/wire/wire_gen.c")]
    headers = [*(ROOT / "src").rglob("*.h"), *(ROOT / "build/py/src/wire").glob("*.h")]
    newest = max(f.stat().st_mtime for f in headers)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        objects = list(pool.map(lambda source: compile_one(clang, source, newest), sources))
    own = ROOT / "tests/fuzz" / f"fuzz_{target}.c"
    made = compile_one(clang, str(own), time.time())  # it may include files of any kind
    if made is None or None in objects:
        return 1
    command = [clang, *FLAGS, *(o for o in (*objects, made) if o), "-o", str(OUT / target / target),
               *(f"-l{lib}" for lib in libs), "-lpthread", "-lm"]  # fmt: skip
    return subprocess.run(command, check=False).returncode


def fuzz(target: str, seconds: str, more: list[str], log: IO[bytes] | None = None) -> int:
    """Run one target, which was built; 0: nothing was found. log: for what it says."""
    out = OUT / target
    folders = [out / "corpus", *([CORPUS / target] if (CORPUS / target).is_dir() else [])]
    command = [out / target, *folders, f"-max_total_time={seconds}", f"-artifact_prefix={out}/"]
    return subprocess.run([*command, *RUN, *more], check=False, stdout=log, stderr=log).returncode


def fuzz_all(seconds: str, more: list[str]) -> int:
    """All of them, as many at once as there are cores. A line for each; all that one said which
    found something."""
    built = {target: build(target) for target in LAYERS}
    worst = max(built.values())

    def one(target: str) -> str:
        nonlocal worst
        path = OUT / target / "last.log"
        with open(path, "wb") as log:
            code = fuzz(target, seconds, ["-print_final_stats=1", *more], log)
        said = path.read_text(errors="replace")
        runs = re.search(r"number_of_executed_units: (\d+)", said)
        worst = worst or code
        if code:
            return f"{said}\nfuzz: {target}: exit code {code}, see above"
        return f"fuzz: {target}: nothing found in {runs[1] if runs else '?'} runs, {seconds} s"

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for line in pool.map(one, [target for target, code in built.items() if code == 0]):
            print(line, flush=True)
    return worst


def keep(target: str) -> int:
    """Minimise what was found so far into the committed corpus, smallest inputs first."""
    out, folder = OUT / target, CORPUS / target
    small = out / "minimised"
    shutil.rmtree(small, ignore_errors=True)
    small.mkdir(parents=True)
    folders = [out / "corpus", *([folder] if folder.is_dir() else [])]
    done = subprocess.run([out / target, "-merge=1", *RUN, small, *folders], check=False)
    if done.returncode:
        return done.returncode
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    used, count = 0, KEEP_SLOW.get(target, KEEP_INPUTS)
    found = sorted(small.iterdir(), key=lambda p: (p.stat().st_size, p.name))
    step = max(1, len(found) // count)  # of all sizes, small ones as well as large
    for path in found[::step]:
        used += path.stat().st_size
        if used > KEEP_BYTES:
            break
        shutil.copy(path, folder / path.name[:16])
    return 0


def main(argv: list[str]) -> int:
    """Do what the first argument says."""
    if len(argv) == 2 and argv[0] == "keep" and argv[1] in LAYERS:
        return keep(argv[1])
    if not argv or (argv[0] not in LAYERS and argv[0] != "all"):
        print(__doc__, file=sys.stderr)
        return 2
    if argv[0] == "all" and find_clang() is None:
        print("fuzz: no clang here: only the committed inputs are run, by the unit tests")
        return 0
    seconds = argv[1] if len(argv) > 1 else "60"
    if argv[0] == "all":
        return fuzz_all(seconds, argv[2:])
    return build(argv[0]) or fuzz(argv[0], seconds, argv[2:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
