"""Hooks of a vendor: what to do when a cluster on Spark, its head or a job of its nodes begins.

The environment variable RAY_ON_SPARK_START_HOOK names a class, `package.module.Class`; on
Databricks there is one of its own without that. The class is made anew wherever it is called, as in
Ray: state belongs to the class or the module, not to the object.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

VARIABLE = "RAY_ON_SPARK_START_HOOK"
DATABRICKS = "DATABRICKS_RUNTIME_VERSION"


class RayOnSparkStartHook:
    """The hook that does nothing. Others derive from it and override what they need."""

    def __init__(self, is_global: bool) -> None:
        self.is_global = is_global

    def get_default_temp_root_dir(self) -> str:
        """The folder for run folders, on driver and executors, when the caller names none."""
        return "/tmp"

    def on_ray_dashboard_created(self, port: int) -> None:
        """There is a dashboard at this port of the driver's machine. Skate has none: not called."""

    def on_cluster_created(self, ray_cluster_handler: Any) -> None:
        """The head serves, and the nodes are about to be asked for."""

    def on_spark_job_created(self, job_group_id: str) -> None:
        """A Spark job that carries nodes is about to be submitted, in this job group."""

    def custom_environment_variables(self) -> dict[str, str]:
        """Variables for the processes of head and nodes, and so for all workers."""
        return {}


def make(is_global: bool, environment: Mapping[str, str] | None = None) -> RayOnSparkStartHook:
    """The hook of this process. ValueError when the variable names no class of hooks."""
    env = os.environ if environment is None else environment
    path = env.get(VARIABLE)
    if path:
        return _check(path, _load(path)(is_global))
    if DATABRICKS in env:
        from skate.util.spark.databricks_hook import DefaultDatabricksRayOnSparkStartHook

        return DefaultDatabricksRayOnSparkStartHook(is_global)
    return RayOnSparkStartHook(is_global)


def _load(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        if not module:
            raise ImportError("it has no dot")
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"the environment variable {VARIABLE} is {path!r}, which names no class that can be "
            f"imported ({error}): it is like package.module.Class"
        ) from None


def _check(path: str, hook: Any) -> RayOnSparkStartHook:
    """A hook need not derive from ours (one written for Ray derives from Ray's)."""
    wanted = [name for name in vars(RayOnSparkStartHook) if not name.startswith("_")]
    missing = [name for name in wanted if not callable(getattr(hook, name, None))]
    if missing:
        raise ValueError(
            f"the environment variable {VARIABLE} is {path!r}, which has no {', '.join(missing)}: "
            "derive it from skate.util.spark.RayOnSparkStartHook"
        )
    return hook  # type: ignore[no-any-return]


def temp_root(hook: RayOnSparkStartHook) -> str | None:
    """The folder that the hook wants; None when it has no wish of its own, so that each machine's
    temp folder (TMPDIR) holds."""
    own = getattr(type(hook), "get_default_temp_root_dir", None)
    if own is RayOnSparkStartHook.get_default_temp_root_dir:
        return None
    return str(hook.get_default_temp_root_dir())


def variables(hook: RayOnSparkStartHook) -> dict[str, str]:
    """What the hook wants in the environment of head and nodes, checked."""
    given = hook.custom_environment_variables()
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, str) or "=" in name or not name:
            raise ValueError(
                f"{type(hook).__name__}.custom_environment_variables() names variables and texts, "
                f"not {name!r}: {value!r}"
            )
    return dict(given)
