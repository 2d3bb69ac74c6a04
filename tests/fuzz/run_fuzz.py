"""Build a fuzz target with clang's libFuzzer, ASan and UBSan, and run it.

usage: run_fuzz.py TARGET [SECONDS [libFuzzer's own arguments ...]]

TARGET: wire, ring, spill, gcs, raylet or core (fuzz_TARGET.c). clang is not one of the project's
needs: install one (Debian: clang-14 libclang-rt-14-dev) to fuzz with coverage. What is found is in
build/fuzz/TARGET (corpus and crash-*); a crash becomes a named test, then it is fixed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LAYERS = {
    "wire": ["base", "wire", "sched"],
    "ring": ["base", "wire", "sched"],
    "spill": ["base", "wire", "sched", "store"],
    "gcs": ["base", "wire", "sched", "gcs"],
    "raylet": ["base", "loop", "wire", "net", "store", "sched", "own", "gcs", "gcsd", "raylet"],
    "core": ["base", "wire", "sched", "own", "core"],
}
FLAGS = [
    "-std=gnu11", "-g", "-O1", "-D_GNU_SOURCE=", '-DSKATE_VERSION="fuzz"', "-fno-strict-aliasing",
    "-fno-omit-frame-pointer", "-fsanitize=fuzzer,address,undefined",
    "-fno-sanitize-recover=undefined", "-fno-sanitize=pointer-overflow",
]  # fmt: skip


def main(argv: list[str]) -> int:
    """Compile everything the target stands on into one program, then run it."""
    if not argv or argv[0] not in LAYERS:
        print(__doc__, file=sys.stderr)
        return 2
    target, seconds = argv[0], argv[1] if len(argv) > 1 else "60"
    clang = next(filter(None, map(shutil.which, ("clang", "clang-19", "clang-14"))), None)
    if clang is None:
        print("run_fuzz.py: no clang here", file=sys.stderr)
        return 2
    sources = [
        str(f)
        for layer in LAYERS[target]
        for f in sorted((ROOT / "src" / layer).glob("*.c"))
        if not f.name.endswith("_main.c")
    ]
    generated = ROOT / "build/py/src/wire"
    out = ROOT / "build/fuzz" / target
    (out / "corpus").mkdir(parents=True, exist_ok=True)
    libs = ["-luv", "-lcrypto", "-ldl"] if target == "raylet" else []
    command = [
        clang, *FLAGS, f"-I{ROOT / 'src'}", f"-I{ROOT / 'include'}", f"-I{generated}",
        f"-I{generated.parent}", f"-I{ROOT / 'tests/fuzz'}", *sources,
        str(generated / "wire_gen.c"), str(ROOT / "tests/fuzz" / f"fuzz_{target}.c"),
        "-o", str(out / target), *libs, "-lpthread",
    ]  # fmt: skip
    built = subprocess.run(command, check=False).returncode
    if built:
        return built
    return subprocess.run(
        [
            out / target, out / "corpus", f"-max_total_time={seconds}", f"-artifact_prefix={out}/",
            "-max_len=4096", "-len_control=0", "-rss_limit_mb=4096", "-timeout=20",
            "-detect_leaks=0", *argv[2:],
        ],
        check=False,
    ).returncode  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
