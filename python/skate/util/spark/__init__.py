"""Skate on Apache Spark: a cluster whose nodes are tasks of a Spark job. See docs/spark.md.

What is named here is imported when it is first asked for: a UDF needs attach() only, and soon.

The modules, in reading order:
- nodes on executors: _plan, _budget, _gpu (pure), _guards, _slots; _cluster (set-up), _head,
  _head_keeper, _away_head; _fleet, _job, _connect, _task (what runs in a node's Spark task),
  _orphans, _janitor; _watch, _scale, _scaler; _hook, databricks_hook, cluster_init, _global, _ship,
  _keep_logs, _read_logs; _local (a Spark for one machine);
- in UDFs: _executor, _driver_job, _attach, _fan_out;
- data: _transfer, _blocks, _exchange, _recover, _objects; streams: _queues, _streams,
  _stream_format; Delta: _delta, _delta_files, _delta_filter, _delta_format, _delta_source;
- Spark on Skate: _hosted_plan, _hosted_jvm, _hosted_actors, _hosted_session.
"""

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

    from skate.util.spark._attach import attach
    from skate.util.spark._cluster import (
        RayClusterOnSpark,
        setup_global_ray_cluster,
        setup_ray_cluster,
        shutdown_ray_cluster,
    )
    from skate.util.spark._delta_format import register_delta
    from skate.util.spark._fan_out import fan_out
    from skate.util.spark._hook import RayOnSparkStartHook
    from skate.util.spark._hosted_session import init_spark, stop_spark
    from skate.util.spark._local import local_cluster
    from skate.util.spark._plan import MAX_NUM_WORKER_NODES
    from skate.util.spark._ship import ship
    from skate.util.spark._streams import (
        drop_stream,
        end_stream,
        objects_sink,
        read_stream,
        write_stream,
    )
    from skate.util.spark._transfer import (
        from_refs,
        publish_objects,
        read_objects,
        register_objects,
        release,
        to_refs,
        withdraw_objects,
    )

__all__ = [
    "MAX_NUM_WORKER_NODES",
    "RayClusterOnSpark",
    "RayOnSparkStartHook",
    "attach",
    "drop_stream",
    "end_stream",
    "fan_out",
    "from_refs",
    "init_spark",
    "local_cluster",
    "objects_sink",
    "publish_objects",
    "read_objects",
    "read_stream",
    "register_delta",
    "register_objects",
    "release",
    "setup_global_ray_cluster",
    "setup_ray_cluster",
    "ship",
    "shutdown_ray_cluster",
    "stop_spark",
    "to_refs",
    "withdraw_objects",
    "write_stream",
]

_MODULES = {
    "MAX_NUM_WORKER_NODES": "_plan",
    "RayClusterOnSpark": "_cluster",
    "RayOnSparkStartHook": "_hook",
    "attach": "_attach",
    "drop_stream": "_streams",
    "end_stream": "_streams",
    "fan_out": "_fan_out",
    "from_refs": "_transfer",
    "init_spark": "_hosted_session",
    "local_cluster": "_local",
    "objects_sink": "_streams",
    "publish_objects": "_transfer",
    "read_objects": "_transfer",
    "read_stream": "_streams",
    "register_delta": "_delta_format",
    "register_objects": "_transfer",
    "release": "_transfer",
    "setup_global_ray_cluster": "_cluster",
    "setup_ray_cluster": "_cluster",
    "ship": "_ship",
    "shutdown_ray_cluster": "_cluster",
    "stop_spark": "_hosted_session",
    "to_refs": "_transfer",
    "withdraw_objects": "_transfer",
    "write_stream": "_streams",
}


def __getattr__(name: str) -> "Any":
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
