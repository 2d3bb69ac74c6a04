"""Dask on the cluster: `dask.compute(x, scheduler=ray_dask_get)`, or enable_dask_on_ray().

Each task of a Dask graph is a task of the cluster; results between them stay in shared memory.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

_HOME = {
    "ProgressBarCallback": "callbacks",
    "RayDaskCallback": "callbacks",
    "dataframe_optimize": "scheduler",
    "disable_dask_on_ray": "scheduler",
    "enable_dask_on_ray": "scheduler",
    "ray_dask_get": "scheduler",
    "ray_dask_get_sync": "scheduler",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'skate.util.dask' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"skate.util.dask.{_HOME[name]}"), name)


__all__ = list(_HOME)
