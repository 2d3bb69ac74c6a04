"""Rows of the data plane: a DataFrame to objects and back, against Spark's own pipe.

    python bench/spark/handoff.py [--rows N] [--repeat N]

Prints one line of JSON for each row: seconds of each repeat, their median, and the bar. What the
hand-off takes beyond Spark's own pipe is measured where it happens: in the task, the time that is
not spent waiting for Spark's batches; in the driver, until the refs are there. (The difference of
two whole jobs is shown too; it is mostly noise, since a job of 40 MB takes seconds.)
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

COLUMNS = 5  # of doubles: 40 bytes a row


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and the seconds."""
    began = time.perf_counter()
    value = work()
    return value, time.perf_counter() - began


def row(name: str, seconds: list[float], bar: float | None = None) -> bool:
    """Print one. Did it meet its bar?"""
    shown: dict[str, Any] = {
        "row": name, "median_s": round(statistics.median(seconds), 4),
        "best_s": round(min(seconds), 4), "all_s": [round(s, 4) for s in seconds],
    }  # fmt: skip
    met = bar is None or statistics.median(seconds) <= bar
    if bar is not None:
        shown |= {"bar_s": bar, "met": met}
    print(json.dumps(shown), flush=True)
    return met


def drop(batches: Any) -> Any:
    """The pipe alone: all rows come to the Python worker, a few words go back."""
    import pyarrow as pa

    count = sum(batch.num_rows for batch in batches)
    yield pa.RecordBatch.from_pydict({"count": [count]})


class Waited:
    """Batches, and how long it took to get them."""

    def __init__(self, batches: Any) -> None:
        self._batches, self.seconds = iter(batches), 0.0

    def __iter__(self) -> Waited:
        return self

    def __next__(self) -> Any:
        began = time.perf_counter()
        try:
            return next(self._batches)
        finally:
            self.seconds += time.perf_counter() - began


def hand_off(df: Any, schema: Any) -> tuple[Any, float]:
    """What to_refs() does, with a clock: the refs, and the seconds beyond the pipe."""
    import secrets

    from skate.util.spark import _blocks, _exchange, _transfer

    writing = _blocks.Writing(_exchange.link(), "b-" + secrets.token_hex(8))

    def write(batches: Any) -> Any:
        import pyarrow as pa

        from skate.util.spark import _blocks

        writing.link.join()  # attach() has a row of its own
        waited = Waited(batches)
        began = time.perf_counter()
        rows = list(_blocks.write_rows(writing, waited))
        taken = time.perf_counter() - began - waited.seconds
        for batch in rows:
            yield batch.append_column("seconds", pa.array([taken] * batch.num_rows))

    rows = df.mapInArrow(write, _blocks.ROWS_DDL + ", seconds double").collect()
    exchange = _exchange.exchange(writing.link)
    blocks = _transfer.blocks_of(rows)
    (refs, _, _), claimed = timed(
        lambda: _transfer.claimed(exchange, writing.transfer, blocks, schema)
    )
    return refs, max(row["seconds"] for row in rows) + claimed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=7)
    args = parser.parse_args()

    import skate
    from skate.util.spark import from_refs, local_cluster, release, to_refs

    with local_cluster(2, 1, 1024) as spark:
        skate.init(num_cpus=2)
        numbers = [f"cast(id as double) * {k + 1} as c{k}" for k in range(COLUMNS)]
        df = spark.range(0, args.rows, 1, 1).selectExpr(*numbers).cache()
        df.count()
        pipe, whole, differ, beyond, mapping, back = [], [], [], [], [], []
        for turn in range(args.repeat + 2):
            _, alone = timed(lambda: df.mapInArrow(drop, "count long").collect())
            refs, taken = timed(lambda: to_refs(df))
            refs, own = hand_off(df, refs.schema)
            table, mapped = timed(partial(skate.get, refs[0]))
            assert table.num_rows == args.rows
            again = from_refs(spark, refs)
            total, returned = timed(again.agg({"c0": "sum"}).first)
            assert total[0] == args.rows * (args.rows - 1) / 2
            release(again)
            del table
            if turn >= 2:  # the first ones start Python, and warm the JVM
                pipe.append(alone)
                whole.append(taken)
                differ.append(taken - alone)
                beyond.append(own)
                mapping.append(mapped)
                back.append(returned)
        row("spark pipe alone, 40 MB", pipe)
        row("to_refs, 40 MB", whole)
        row("to_refs less the pipe, as whole jobs", differ)
        met = row("hand-off beyond the pipe, 40 MB", beyond, 0.050)
        met &= row("mapping 40 MB", mapping, 0.001)
        row("from_refs and a sum, 40 MB", back)
        skate.shutdown()
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
