"""Rows of data that are larger than the object store: written to disk, read back, sorted.

Both runtimes get the same store and the same folder for what they write out, on a disk. The disk
itself is measured in the same process, just before Skate is, by `dd` with direct I/O of as many
bytes. "On the disk" means it: the time of writing ends when fsync of every file has returned, and
the pages that the kernel keeps of them are dropped before anything is read back.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from target import CPUS, Target

MB = 1 << 20
STORE = 512 * MB  # of the rows of writing and reading
OBJECT = 16 * MB
TOTAL = 4096 * MB
WORDS = OBJECT // 8
PAGE = 512  # words

SORT_STORE = 256 * MB
PARTS = 32
RECORD = np.dtype([("key", "<u8"), ("rest", "<u8", 7)])
RECORDS = 40 * MB // RECORD.itemsize  # of one part: 1.25 GB in all, five times the store
TMPFS_MAGIC = 0x01021994


def folder_on_disk(target: Target) -> Path:
    """A new folder for what is spilled; ends the process when it would lie in memory."""
    folder = Path(tempfile.mkdtemp(prefix="spill-", dir=target.temp_dir))
    done = subprocess.run(["stat", "-f", "-c", "%t", str(folder)], capture_output=True, text=True,
                          check=True)
    if int(done.stdout, 16) == TMPFS_MAGIC:
        sys.exit(f"{folder} lies in memory: set TMPDIR to a folder on a disk")
    return folder


def disk_rates(folder: Path) -> tuple[float, float]:
    """GB/s that dd writes and reads with direct I/O."""
    path, rates = folder / "dd", []
    for ends in (["if=/dev/zero", f"of={path}", "oflag=direct"],
                 [f"if={path}", "of=/dev/null", "iflag=direct"]):
        began = time.perf_counter()
        subprocess.run(["dd", f"bs={OBJECT}", f"count={TOTAL // OBJECT}", *ends], check=True,
                       capture_output=True)
        rates.append(TOTAL / (time.perf_counter() - began) / 1e9)
    path.unlink()
    return rates[0], rates[1]


def files_below(folder: Path) -> Iterator[int]:
    """A descriptor of each file there; what vanishes meanwhile is left out."""
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                fd = os.open(os.path.join(place, name), os.O_RDONLY)
            except OSError:
                continue
            try:
                yield fd
            finally:
                os.close(fd)


def spilled_and_restored(target: Target) -> Iterator[tuple[str, float]]:
    """4 GB put into a store of 512 MB that is full already, then read again in the same order."""
    folder = folder_on_disk(target)
    if target.name == "skate":
        written, read = disk_rates(folder)
        yield "disk_write", written
        yield "disk_read", read
    ray = target.load()
    target.init(object_store_memory=STORE, object_spilling_directory=str(folder))
    data = np.arange(WORDS, dtype=np.int64)
    numbers = itertools.count(1)

    def put() -> Any:
        data[::PAGE] = next(numbers)  # a word in each page tells the objects apart
        return ray.put(data)

    full = [put() for _ in range(STORE // OBJECT)]
    began = time.perf_counter()
    refs = [put() for _ in range(TOTAL // OBJECT)]
    for fd in files_below(folder):
        os.fsync(fd)
    yield "spill_write", TOTAL / (time.perf_counter() - began) / 1e9

    # What was put last is in the store: it has to go, so that reading has nothing to write first.
    # The oldest 4 GB lie on the disk.
    kept = [*full, *refs][: TOTAL // OBJECT]
    del full, refs
    for fd in files_below(folder):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    began = time.perf_counter()
    for number, ref in enumerate(kept, 1):
        view = ray.get(ref)
        assert view[PAGE - 1] == PAGE - 1 and (view[::PAGE] == number).all()
        del view
    yield "spill_read", TOTAL / (time.perf_counter() - began) / 1e9
    del kept, ref
    ray.shutdown()


def sort_of_5x(target: Target) -> Iterator[tuple[str, float]]:
    """1.25 GB of records sorted by tasks in a store of 256 MB: made, parted, merged, read."""
    folder = folder_on_disk(target)
    ray = target.load()
    target.init(object_store_memory=SORT_STORE, object_spilling_directory=str(folder))
    seed = time.time_ns() % 1_000_000

    @ray.remote(num_returns=PARTS)
    def part(number: int) -> list[np.ndarray]:
        records = np.empty(RECORDS, RECORD)
        keys = np.random.default_rng(number).integers(0, 1 << 64, RECORDS, np.uint64)
        keys.sort()
        records["key"] = keys
        records["rest"] = keys[:, None] ^ np.arange(1, 8, dtype=np.uint64)
        bounds = np.array([(i << 64) // PARTS for i in range(1, PARTS)], np.uint64)
        return np.split(records, np.searchsorted(keys, bounds))

    @ray.remote
    def merge(*pieces: np.ndarray) -> np.ndarray:
        records = np.concatenate(pieces)
        return records[np.argsort(records["key"], kind="stable")]

    @ray.remote
    def nothing(i: int) -> int:
        return i

    ray.get([nothing.remote(i) for i in range(2 * CPUS)])  # the workers are there
    began = time.perf_counter()
    pieces = [part.remote(seed + number) for number in range(PARTS)]
    merged = [merge.remote(*(row[column] for row in pieces)) for column in range(PARTS)]
    del pieces
    last, count = 0, 0
    for ref in merged:
        records = ray.get(ref)
        keys = records["key"]
        assert int(keys[0]) >= last and (keys[:-1] <= keys[1:]).all()
        assert (records["rest"][:, 6] == keys ^ np.uint64(7)).all()
        last, count = int(keys[-1]), count + len(records)
        del records, keys
    spent = time.perf_counter() - began
    assert count == PARTS * RECORDS
    yield "sort_5x", spent
    del merged, ref
    ray.shutdown()
