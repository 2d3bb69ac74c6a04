"""Run by test_spark35.py in an environment with pyspark 3.5 and a folder with Skate alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pyspark

import skate
from skate.util.spark import (
    attach,
    from_refs,
    local_cluster,
    register_objects,
    release,
    setup_ray_cluster,
    shutdown_ray_cluster,
    to_refs,
)


@skate.remote
def double(x: int) -> int:
    """A task."""
    return 2 * x


def main() -> None:
    """The basics, each said when it is done."""
    assert pyspark.__version__.startswith("3.5."), pyspark.__version__
    with local_cluster(1, 3, 1024) as spark:
        cluster = setup_ray_cluster(max_worker_nodes=2, num_cpus_worker_node=1)
        skate.init()
        print("nodes", len(cluster.nodes()), skate.get([double.remote(i) for i in range(3)]))

        def udf(batches: Iterator[Any]) -> Iterator[Any]:
            import pandas as pd

            for batch in batches:
                attach()
                found = skate.get([double.remote(int(x)) for x in batch["id"]])
                yield pd.DataFrame({"id": found})

        rows = spark.range(0, 6, 1, 2).mapInPandas(udf, "id long").collect()
        print("udf", sorted(row["id"] for row in rows))
        refs = to_refs(spark.range(0, 1000, 1, 2))
        back = from_refs(spark, refs)
        total = back.selectExpr("sum(id)").collect()[0][0]
        print("refs", refs.rows, skate.get(refs[0]).num_rows, total)
        release(back)
        try:
            register_objects(spark)
        except RuntimeError as error:
            print("format", "pyspark 4" in str(error))
        shutdown_ray_cluster()
        assert not skate.is_initialized()
        setup_ray_cluster(max_worker_nodes=1, num_cpus_worker_node=3)  # all slots are free again
        shutdown_ray_cluster()
    print("end", sys.version_info[:2] >= (3, 11))


if __name__ == "__main__":
    main()
