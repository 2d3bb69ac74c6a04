"""What a small object costs beside its bytes: memory of this process and of the daemons."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COUNT, MOST = 1_000_000, 200

PROGRAM = """
import gc, os, sys
import skate

COUNT, SIZE = int(sys.argv[1]), int(sys.argv[2])

def family():
    "This process and all below it."
    found, parents = {os.getpid()}, []
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as stat:
                parents.append((int(name), int(stat.read().rsplit(")", 1)[1].split()[1])))
        except (OSError, ValueError):
            continue
    while more := {pid for pid, parent in parents if parent in found} - found:
        found |= more
    return found

def memory():
    "Private bytes, and the share of each in shared ones: the ledger and the arena."
    total = 0
    for pid in family():
        try:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
                total += sum(int(x.split()[1]) for x in rollup if x.startswith("Pss:"))
        except OSError:
            continue
    return total * 1024

skate.init(num_cpus=1)
refs = [skate.put(bytes(SIZE)) for _ in range(2000)]
refs.extend([None] * COUNT)
gc.collect()
before = memory()
payload = bytearray(SIZE)
for i in range(COUNT):
    payload[:4] = i.to_bytes(4, "little")
    refs[2000 + i] = skate.put(bytes(payload))
print((memory() - before) / COUNT - SIZE)
assert skate.get(refs[2000 + 777])[:4] == (777).to_bytes(4, "little")
skate.shutdown()
"""


@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""),
                    reason="a sanitizer keeps what is freed")
@pytest.mark.parametrize("size", [100, 1000, 1024])
def test_overhead_of_a_small_object(size):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(COUNT), str(size)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 60 < float(done.stdout) <= MOST


def test_values_of_all_small_sizes_keep_apart(session):
    import skate

    sizes = [*range(0, 300, 7), *range(300, 2100, 41), *range(2040, 2060)]
    for turn in range(3):  # freed pieces are used again
        refs = [skate.put(bytes([i % 251 + turn]) * size) for i, size in enumerate(sizes)]
        if turn == 1:
            del refs[::2]
            continue
        for i, (ref, size) in enumerate(zip(refs, sizes, strict=True)):
            assert skate.get(ref) == bytes([i % 251 + turn]) * size
