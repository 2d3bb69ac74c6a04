"""A model for each row inside one pandas UDF on Apache Spark, fanned out through Skate.

    this program = Spark driver            executor 0 (JVM)            executor 1 (JVM)
      Spark master, Skate's head            Spark task: raylet          Spark task: raylet
                 |                            |                           |
                 '--- Spark jobs hold --------+---------------------------'
                                                        |
      SELECT udf(...)  ------> one task: pandas UDF -- attach, fan out
                                                        |  train rows 0..i for every i
                                                        '--> the UDF itself, and Skate workers
                                                             of both nodes

The UDF is an expanding-window forecast: for row i it trains an ElasticNet on the rows before i and
predicts row i. A row depends on all rows before it, so that Spark cannot split the table: as a
plain pandas UDF it uses one core of the whole cluster. With fan_out() the UDF puts the table into
the object store once; tasks take rows from the end, the UDF itself from the beginning, until they
meet. Both answers are compared, bit by bit.

    python examples/spark/prefix_models.py --help
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import both_ways
import numpy as np
import pandas as pd


def forecast(i: int, x: np.ndarray, y: np.ndarray) -> float:
    """Train on the rows before row i, predict row i."""
    from sklearn.linear_model import ElasticNet

    if i < 2:
        return 0.0
    model = ElasticNet(alpha=0.1, l1_ratio=0.5, max_iter=3000).fit(x[:i], y[:i])
    return float(model.predict(x[i : i + 1])[0])


def make_query(features: int, table: Any, cluster: Any) -> Any:
    """The UDF twice: row after row, and with fan_out()."""
    from pyspark.sql.functions import pandas_udf, struct

    names = [f"f{k}" for k in range(features)]

    def arrays(batch: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        return np.ascontiguousarray(batch[names].to_numpy()), batch["y"].to_numpy().copy()

    def plain(batches: Iterator[pd.DataFrame]) -> Iterator[pd.Series]:
        for batch in batches:
            x, y = arrays(batch)
            yield pd.Series([forecast(i, x, y) for i in range(len(y))])

    def fanned(batches: Iterator[pd.DataFrame]) -> Iterator[pd.Series]:
        from skate.util.spark import attach, fan_out

        attach(cluster)
        for batch in batches:
            x, y = arrays(batch)
            yield pd.Series(fan_out(forecast, range(len(y)), broadcast=(x, y)))

    # Type hints written out: with postponed evaluation Spark would see them as text.
    for udf in (plain, fanned):
        udf.__annotations__ = {"batches": Iterator[pd.DataFrame], "return": Iterator[pd.Series]}
    udfs = {False: pandas_udf(plain, "double"), True: pandas_udf(fanned, "double")}
    return lambda fan: table.select("row", udfs[fan](struct(*names, "y")).alias("forecast"))


def make_table(rows: int, features: int, seed: int, spark: Any) -> Any:
    """A table with correlated features, in one partition and one Arrow batch."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, features)) + 0.5 * rng.standard_normal((rows, 1))
    weights = rng.standard_normal(features) * (rng.random(features) < 0.3)
    data = pd.DataFrame(x, columns=[f"f{k}" for k in range(features)])
    data["y"] = x @ weights + 0.5 * rng.standard_normal(rows)
    data["row"] = np.arange(rows)
    return spark.createDataFrame(data).coalesce(1).cache()


def main() -> None:
    parser = both_ways.parser(__doc__)
    parser.add_argument("--rows", type=int, default=400, help="rows of the table = models trained")
    parser.add_argument("--features", type=int, default=150, help="columns of the table")
    args = parser.parse_args()
    if args.rows < 10 or args.features < 1:
        parser.error("--rows must be at least 10, --features must be at least 1")
    both_ways.check(parser, args)
    both_ways.run(
        args,
        partial(make_table, args.rows, args.features, args.seed),
        partial(make_query, args.features),
        f"models       {args.rows} trained by each UDF",
    )


if __name__ == "__main__":
    main()
