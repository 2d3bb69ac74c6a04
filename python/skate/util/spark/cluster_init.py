"""Set-up and shutdown, where programs for Ray look for them."""

from skate.util.spark._cluster import (
    RayClusterOnSpark,
    setup_global_ray_cluster,
    setup_ray_cluster,
    shutdown_ray_cluster,
)
from skate.util.spark._hook import VARIABLE as RAY_ON_SPARK_START_HOOK
from skate.util.spark._plan import MAX_NUM_WORKER_NODES

__all__ = [
    "MAX_NUM_WORKER_NODES",
    "RAY_ON_SPARK_START_HOOK",
    "RayClusterOnSpark",
    "setup_global_ray_cluster",
    "setup_ray_cluster",
    "shutdown_ray_cluster",
]
