"""Program 4: machine learning inside a pandas UDF on Apache Spark, fanned out through Skate.

    this program = Spark driver            executor 0 (JVM)            executor 1 (JVM)
      Spark master, Skate's head            Spark task: raylet          Spark task: raylet
                 |                            |                           |
                 '--- one Spark job holds ----+---------------------------'
                                                        |
      SELECT udf(...)  ------> one task: pandas UDF -- attach, put data once, fan out
                                                        |  train rows 0..i for every i
                                                        '--> Skate workers of both nodes

The UDF is an expanding-window forecast: for row i it trains an ElasticNet on the rows before i and
predicts row i. A row depends on all rows before it, so that Spark cannot split the table: as a
plain pandas UDF it uses one core of the whole cluster. With Skate the UDF puts the table into the
object store once, and sends chunks of row numbers to the workers of all nodes. Both answers are
compared, bit by bit.

    python examples/spark_udf.py --help
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

CHUNKS = 16  # pieces that one UDF call is cut into; each is long against the cost of a task


def forecast(x: np.ndarray, y: np.ndarray, rows: range) -> list[float]:
    """For each row: train on the rows before it, predict it."""
    from sklearn.linear_model import ElasticNet

    out = []
    for i in rows:
        if i < 2:
            out.append(0.0)
            continue
        model = ElasticNet(alpha=0.1, l1_ratio=0.5, max_iter=3000).fit(x[:i], y[:i])
        out.append(float(model.predict(x[i : i + 1])[0]))
    return out


def split(count: int, chunks: int) -> list[range]:
    """The row numbers in ranges of about equal length; later rows take somewhat longer."""
    bounds = np.unique(np.linspace(0, count, chunks + 1).astype(int))
    return [range(int(a), int(b)) for a, b in zip(bounds, bounds[1:])]


def make_udfs(features: int, address: str) -> tuple[Any, Any]:
    """The two UDFs: the same model, here row after row, there fanned out. Columns: f0.., y."""
    from pyspark.sql.functions import pandas_udf

    names = [f"f{k}" for k in range(features)]

    def arrays(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        return np.ascontiguousarray(table[names].to_numpy()), table["y"].to_numpy().copy()

    def plain(batches: Iterator[pd.DataFrame]) -> Iterator[pd.Series]:
        for table in batches:
            x, y = arrays(table)
            yield pd.Series(forecast(x, y, range(len(y))))

    def fanned_out(batches: Iterator[pd.DataFrame]) -> Iterator[pd.Series]:
        import skate as ray
        from skate.util.spark import attach

        attach(address)
        work = ray.remote(forecast)
        for table in batches:
            x, y = (ray.put(a) for a in arrays(table))
            pieces = split(len(table), CHUNKS)
            # The longest first, so that none of them is left alone at the end.
            refs = {piece: work.remote(x, y, piece) for piece in reversed(pieces)}
            yield pd.Series([value for piece in pieces for value in ray.get(refs[piece])])

    # Type hints written out: with postponed evaluation Spark would see them as text.
    for udf in (plain, fanned_out):
        udf.__annotations__ = {"batches": Iterator[pd.DataFrame], "return": Iterator[pd.Series]}
    return pandas_udf(plain, "double"), pandas_udf(fanned_out, "double")


def make_table(spark: Any, rows: int, features: int, seed: int) -> Any:
    """A table with correlated features, in one partition and one Arrow batch."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, features)) + 0.5 * rng.standard_normal((rows, 1))
    weights = rng.standard_normal(features) * (rng.random(features) < 0.3)
    data = pd.DataFrame(x, columns=[f"f{k}" for k in range(features)])
    data["y"] = x @ weights + 0.5 * rng.standard_normal(rows)
    return spark.createDataFrame(data).coalesce(1).cache()


def timed(table: Any, udf: Any) -> tuple[np.ndarray, float]:
    """The column that the UDF makes, and the seconds that it took."""
    from pyspark.sql.functions import struct

    began = time.perf_counter()
    column = table.select(udf(struct(*table.columns)).alias("forecast")).toPandas()["forecast"]
    return column.to_numpy(), time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=700, help="rows of the table = models trained")
    parser.add_argument("--features", type=int, default=200, help="columns of the table")
    parser.add_argument("--repeat", type=int, default=2, help="measured runs of each UDF")
    parser.add_argument("--executors", type=int, default=2, help="Spark executors = Skate nodes")
    parser.add_argument("--cores", type=int, default=2, help="cores of an executor")
    parser.add_argument("--seed", type=int, default=1, help="seed of the data")
    args = parser.parse_args()
    if args.rows < 10 or args.features < 1 or args.repeat < 1 or args.executors < 1:
        parser.error("--rows must be at least 10; --features, --repeat, --executors at least 1")
    if args.cores < 2:
        parser.error("--cores must be at least 2: one for the node, one for Spark's own tasks")

    from skate.util.spark import local_cluster, setup_ray_cluster, shutdown_ray_cluster

    began = last = time.perf_counter()

    def progress(text: str) -> None:
        nonlocal last
        now = time.perf_counter()
        print(f"{text} in {now - last:.1f} s", flush=True)
        last = now

    conf = {"spark.sql.execution.arrow.maxRecordsPerBatch": str(args.rows)}
    with local_cluster(args.executors, args.cores, 1024, conf) as spark:
        progress(f"[1/6] Spark {spark.version}: a master and {args.executors} executors up")

        table = make_table(spark, args.rows, args.features, args.seed)
        table.count()
        progress(f"[2/6] a table of {args.rows} rows and {args.features} features")

        cluster = setup_ray_cluster(max_worker_nodes=args.executors, num_cpus_worker_node=1)
        progress(f"[3/6] Skate at {cluster.address}: a head and {args.executors} nodes up")

        plain_udf, skate_udf = make_udfs(args.features, cluster.address)
        warm = table.limit(args.rows // 8)
        timed(warm, plain_udf)
        timed(warm, skate_udf)
        progress("[4/6] both UDFs run once on an eighth of the rows")

        ratios = []
        for run in range(args.repeat):
            expected, plain_s = timed(table, plain_udf)
            found, skate_s = timed(table, skate_udf)
            if not np.array_equal(expected, found):
                sys.exit("the two UDFs do not agree")
            ratios.append(plain_s / skate_s)
            progress(
                f"[5/6] run {run + 1}: plain pandas UDF {plain_s:.2f} s, through Skate "
                f"{skate_s:.2f} s"
            )

        shutdown_ray_cluster()
        progress("[6/6] cluster shut down")

    print()
    print(f"  models       {args.rows} trained by each UDF; {len(found)} equal results")
    print(f"  ratio        {np.median(ratios):.2f}x faster through Skate (median)")
    print(f"  total        {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
