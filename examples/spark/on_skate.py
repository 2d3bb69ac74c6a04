"""Spark on Skate: executors on the nodes of a cluster, and one table that both sides work on.

    python examples/spark/on_skate.py [--rows N] [--address HOST:PORT]

Without an address it makes a cluster of this machine. Spark aggregates orders, tasks of Skate fit
a line for each shop where the tables lie, and Spark joins the results again; then the same is done
in plain pandas, and compared.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

import skate as ray
from skate.util.spark import from_refs, init_spark, stop_spark, to_refs

SHOPS = 7
QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # a JVM that is to live for seconds


def fit(table: pa.Table) -> pa.Table:
    """Slope and offset of sales over days for each shop in this block."""
    lines = []
    for shop, days in table.to_pandas().sort_values("day").groupby("shop"):
        slope, offset = np.polyfit(days["day"], days["sales"], 1)
        lines.append((shop, slope, offset))
    return pa.table(pd.DataFrame(lines, columns=["shop", "slope", "offset"]))


def orders(spark: Any, rows: int) -> Any:
    """The same on every run: shop, day and amount of each order."""
    return spark.range(rows).selectExpr(
        f"id % {SHOPS} as shop", f"cast(id / {SHOPS} as bigint) % 60 as day",
        "(id * 2654435761) % 1000 / 10.0D + id % 60 as amount",
    )  # fmt: skip


def in_pandas(rows: int) -> pd.DataFrame:
    """What the result must be."""
    number = np.arange(rows, dtype=np.int64)
    frame = pd.DataFrame({
        "shop": number % SHOPS, "day": number // SHOPS % 60,
        "amount": number * 2654435761 % 1000 / 10.0 + number % 60,
    })  # fmt: skip
    sales = frame.groupby(["shop", "day"], as_index=False)["amount"].sum()
    return fit(pa.table(sales.rename(columns={"amount": "sales"}))).to_pandas()


def main() -> None:
    """Run it, and say how long each step took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--address", help="of a cluster; without it one of this machine is made")
    args = parser.parse_args()
    if args.rows < 1000:
        parser.error("--rows must be 1000 or more")
    ray.init(args.address) if args.address else ray.init(num_cpus=3)
    began = time.monotonic()

    def done(step: int, what: str) -> None:
        print(f"[{step}/4] {what} ({time.monotonic() - began:.1f} s)", flush=True)

    spark = init_spark("on-skate", 2, 1, "512m", configs={
        "spark.ui.enabled": False, "spark.ui.showConsoleProgress": False,
        "spark.driver.extraJavaOptions": QUICK, "spark.executor.extraJavaOptions": QUICK,
    })  # fmt: skip
    try:
        done(1, f"Spark {spark.version} on {len(ray.nodes())} node(s) of Skate")
        by_shop = orders(spark, args.rows).repartition(2, "shop")  # so a shop is in one block
        sales = by_shop.groupBy("shop", "day").sum("amount").toDF("shop", "day", "sales")
        refs = to_refs(sales)
        done(2, f"Spark's sums are {len(refs)} objects of {sum(refs.rows)} rows")
        fitted = [ray.remote(fit).remote(ref) for ref in refs]
        lines = from_refs(spark, fitted).toPandas().sort_values("shop", ignore_index=True)
        done(3, f"{len(lines)} lines fitted in tasks, collected by Spark")
    finally:
        stop_spark()
    pd.testing.assert_frame_equal(lines, in_pandas(args.rows), check_dtype=False, rtol=1e-6)
    done(4, "Spark is stopped; equal to the same in pandas")
    print(lines.to_string(index=False))


if __name__ == "__main__":
    main()
