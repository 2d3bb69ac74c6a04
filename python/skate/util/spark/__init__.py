"""Skate on Apache Spark: a cluster whose nodes are tasks of a Spark job. See docs/spark.md."""

from skate.util.spark._attach import attach
from skate.util.spark._cluster import RayClusterOnSpark, setup_ray_cluster, shutdown_ray_cluster
from skate.util.spark._local import local_cluster
from skate.util.spark._plan import MAX_NUM_WORKER_NODES

__all__ = [
    "MAX_NUM_WORKER_NODES",
    "RayClusterOnSpark",
    "attach",
    "local_cluster",
    "setup_ray_cluster",
    "shutdown_ray_cluster",
]
