"""What the examples of UDFs share: one table, two UDFs, the same results twice, two times.

Not a program: prefix_models.py and walk_forward.py beside it are.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # here and in all processes of Spark: each computes on one core

import numpy as np

CONF = {  # few rows, much work: Spark would take them for one task's
    "spark.sql.adaptive.coalescePartitions.enabled": "false",
    "spark.sql.shuffle.partitions": "4",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "1000000",
}


def parser(doc: str) -> argparse.ArgumentParser:
    """The options that both programs have."""
    made = argparse.ArgumentParser(
        description=doc.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    made.add_argument("--repeat", type=int, default=2, help="measured runs of each UDF")
    made.add_argument("--executors", type=int, default=2, help="Spark executors = Skate nodes")
    made.add_argument("--cores", type=int, default=2, help="cores of an executor")
    made.add_argument("--seed", type=int, default=1, help="seed of the data")
    return made


def check(made: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End with a sentence when a number makes no sense."""
    if args.repeat < 1 or args.executors < 1:
        made.error("--repeat and --executors must be at least 1")
    if args.cores < 2:
        made.error("--cores must be at least 2: one for the node, one for Spark's own tasks")


def timed(query: Callable[[bool], Any], fanned: bool) -> tuple[np.ndarray, float]:
    """The forecasts in order, and the seconds that Spark took for them."""
    began = time.perf_counter()
    table = query(fanned).toPandas()
    seconds = time.perf_counter() - began
    keys = [c for c in table.columns if c != "forecast"]
    return table.sort_values(keys)["forecast"].to_numpy(), seconds


class Steps:
    """Progress, a line for each step."""

    def __init__(self, count: int) -> None:
        self.count, self.number = count, 0
        self.began = self.last = time.perf_counter()

    def done(self, text: str) -> None:
        """This step is."""
        self.number = min(self.number + 1, self.count)
        now = time.perf_counter()
        print(f"[{self.number}/{self.count}] {text} in {now - self.last:.1f} s", flush=True)
        self.last = now


def run(
    args: argparse.Namespace,
    make_table: Callable[[Any], Any],
    make_query: Callable[[Any, Any], Callable[[bool], Any]],
    what: str,
) -> None:
    """Start Spark and Skate; run the query plain and fanned out; compare, and print."""
    import skate as ray
    from skate.util.spark import local_cluster, setup_ray_cluster, shutdown_ray_cluster

    steps = Steps(5 + args.repeat)
    with local_cluster(args.executors, args.cores, 1024, CONF) as spark:
        steps.done(f"Spark {spark.version}: a master and {args.executors} executors up")
        table = make_table(spark)
        rows = table.count()
        steps.done(f"a table of {rows} rows")
        cluster = setup_ray_cluster(max_worker_nodes=args.executors, num_cpus_worker_node=1)
        ray.init()
        steps.done(f"Skate at {cluster.address}: a head and {args.executors} nodes up")
        query = make_query(table, cluster)
        timed(query, False)
        timed(query, True)
        steps.done("both UDFs run once")
        ratios = []
        for number in range(args.repeat):
            expected, plain_s = timed(query, False)
            found, fanned_s = timed(query, True)
            if not np.array_equal(expected, found):
                sys.exit("the two UDFs do not agree")
            ratios.append(plain_s / fanned_s)
            steps.done(f"run {number + 1}: plain {plain_s:.2f} s, with fan_out {fanned_s:.2f} s")
        shutdown_ray_cluster()
        steps.done("cluster shut down")
    print()
    print(f"  {what}; {len(found)} equal results, to the last bit")
    print(f"  ratio        {np.median(ratios):.2f}x faster with fan_out (median)")
    print(f"  total        {time.perf_counter() - steps.began:.1f} s")
