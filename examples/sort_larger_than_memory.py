"""A sort of more records than the object store holds: what does not fit goes to disk and returns.

    make_part 0 ──┬─> range 0 ──┐
    make_part 1 ──┼─> range 1   ├─ merge ──> range 0, sorted ──┐
       ...        └─> range R   │                              ├─ the driver reads one after another
    make_part M ──┬─> range 0 ──┘                              │
                  └─> ...           merge ──> range 1, sorted ─┘

Each `make_part` makes some records, sorts them by their keys and returns them cut into R ranges of
keys, as R refs (num_returns). Each `merge` takes one range of every part. With the defaults that is
320 MB of records in a store of 64 MB: nothing in the program says what is in memory and what is on
disk, the node does. The driver checks that the order is right and that no record is missing.

    python examples/sort_larger_than_memory.py --help
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

import skate as ray

MB = 1 << 20
RECORD = np.dtype([("key", "<u8"), ("rest", "<u8", 7)])  # 64 bytes


@ray.remote
def make_part(seed: int, count: int, ranges: int) -> Any:
    """`count` records with random keys, sorted, cut into ranges of equal width."""
    records = np.empty(count, RECORD)
    keys = np.sort(np.random.default_rng(seed).integers(0, 1 << 64, count, np.uint64))
    records["key"] = keys
    records["rest"] = keys[:, None] ^ np.arange(1, 8, dtype=np.uint64)
    bounds = np.array([(i << 64) // ranges for i in range(1, ranges)], np.uint64)
    cut = np.split(records, np.searchsorted(keys, bounds))
    return cut if ranges > 1 else cut[0]


@ray.remote
def merge(*pieces: np.ndarray) -> np.ndarray:
    """The records of one range, sorted. The pieces are read in place, in the object store."""
    records = np.concatenate(pieces)
    return records[np.argsort(records["key"], kind="stable")]


def check(records: np.ndarray, last: int) -> int:
    """Stop the program if a record is out of order or damaged; the last key."""
    keys = records["key"]
    if len(keys) == 0:
        return last
    assert int(keys[0]) >= last and (keys[:-1] <= keys[1:]).all(), "not in order"
    assert (records["rest"] == keys[:, None] ^ np.arange(1, 8, dtype=np.uint64)).all(), "damaged"
    return int(keys[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=320, help="size of all records")
    parser.add_argument("--store-megabytes", type=int, default=64, help="size of the object store")
    parser.add_argument("--parts", type=int, default=40, help="parts, and ranges, of the records")
    parser.add_argument("--spill-directory", help="where to put what does not fit in memory")
    parser.add_argument("--num-cpus", type=int, default=2, help="CPUs of the local cluster")
    parser.add_argument("--seed", type=int, default=1, help="seed of the data")
    args = parser.parse_args()
    if args.megabytes < 1 or args.parts < 1 or args.store_megabytes < 1:
        parser.error("--megabytes, --store-megabytes and --parts must be at least 1")
    # Each CPU merges one range at a time: the pieces of it and the result are in use together.
    working = 2 * args.num_cpus * args.megabytes / args.parts
    if working > args.store_megabytes:
        parser.error(f"{args.num_cpus} merges at a time use {working:.0f} MB, the store has "
                     f"{args.store_megabytes}: more --parts make them smaller")

    ray.init(num_cpus=args.num_cpus, object_store_memory=args.store_megabytes * MB,
             object_spilling_directory=args.spill_directory)
    count = args.megabytes * MB // RECORD.itemsize // args.parts
    print(f"[1/3] {args.parts} parts of {count:,} records, {args.megabytes} MB in all, "
          f"in a store of {args.store_megabytes} MB")

    began = time.perf_counter()
    make = make_part.options(num_returns=args.parts)
    parts = [make.remote(args.seed + i, count, args.parts) for i in range(args.parts)]
    if args.parts == 1:
        parts = [[ref] for ref in parts]
    ranges = [merge.remote(*(part[i] for part in parts)) for i in range(args.parts)]
    del parts  # from here on each piece is freed when it has been merged
    ray.wait(ranges, num_returns=len(ranges), fetch_local=False)
    sorted_in = time.perf_counter() - began
    print(f"[2/3] sorted in {sorted_in:.2f} s, {args.megabytes / sorted_in:,.0f} MB/s")

    began, last, found = time.perf_counter(), 0, 0
    for ref in ranges:
        records = ray.get(ref)
        last = check(records, last)
        found += len(records)
        del records  # a view that is alive keeps its bytes in memory
    assert found == count * args.parts, f"{found} of {count * args.parts} records"
    seconds = time.perf_counter() - began
    print(f"[3/3] checked: {found:,} records in order, read in {seconds:.2f} s")
    ray.shutdown()


if __name__ == "__main__":
    main()
