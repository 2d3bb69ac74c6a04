"""The hook of Databricks runtimes: their disk, their proxy, their accounts, their idle notebooks.

It reaches into what that runtime alone has (`dbruntime`, the notebook's displayHTML); elsewhere
nobody calls it.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from skate.util.spark._hook import RayOnSparkStartHook

AUTO_SHUTDOWN = "DATABRICKS_RAY_ON_SPARK_AUTOSHUTDOWN_MINUTES"
POLL_S = 3.0
_ACCOUNTS = (
    ("DATABRICKS_HOST", "DATABRICKS_TOKEN"),
    ("DATABRICKS_HOST", "DATABRICKS_CLIENT_ID", "DATABRICKS_CLIENT_SECRET"),
)


def _entry_point() -> Any:
    from dbruntime import UserNamespaceInitializer  # type: ignore[import-not-found]

    return UserNamespaceInitializer.getOrCreate().get_spark_entry_point()


def account(environment: dict[str, str]) -> dict[str, str] | None:
    """The variables by which tasks reach the workspace (MLflow), if all of one kind are there."""
    for names in _ACCOUNTS:
        if all(name in environment for name in names):
            return {name: environment[name] for name in names}
    return None


def idle_minutes(environment: dict[str, str], is_global: bool) -> float:
    """After how many minutes without a command in the notebook the cluster is ended; 0: never."""
    text = environment.get(AUTO_SHUTDOWN, "30")
    try:
        minutes = float(text)
    except ValueError:
        minutes = -1.0
    if not 0 <= minutes < 1e9:
        raise ValueError(f"{AUTO_SHUTDOWN} is a number of minutes >= 0, not {text!r}")
    return 0.0 if is_global else minutes  # others may use a global one unseen


class DefaultDatabricksRayOnSparkStartHook(RayOnSparkStartHook):
    """What Databricks runtimes do unless RAY_ON_SPARK_START_HOOK names another class."""

    def get_default_temp_root_dir(self) -> str:
        """The local disk of a Databricks machine."""
        return "/local_disk0/tmp"

    def on_cluster_created(self, ray_cluster_handler: Any) -> None:
        """Watch the notebook: the cluster ends with its idleness."""
        minutes = idle_minutes(dict(os.environ), self.is_global)
        if not minutes:
            _say("the cluster runs until shutdown_ray_cluster(), or until the notebook detaches")
            return
        entry = _entry_point()
        try:
            entry.getIdleTimeMillisSinceLastNotebookExecution()
        except Exception as error:  # py4j raises what it likes
            _say(f"the notebook's idle time cannot be read ({type(error).__name__}): end the "
                 "cluster with shutdown_ray_cluster()")  # fmt: skip
            return
        _say(f"the cluster is shut down after {minutes:g} minutes without a command in this "
             f"notebook; {AUTO_SHUTDOWN} sets how many, 0: never")  # fmt: skip
        threading.Thread(
            target=watch, args=(entry, ray_cluster_handler, minutes), daemon=True,
            name="skate-spark-idle",
        ).start()  # fmt: skip

    def on_spark_job_created(self, job_group_id: str) -> None:
        """The notebook's cancel button must not end the nodes."""
        _entry_point().registerBackgroundSparkJobGroup(job_group_id)

    def custom_environment_variables(self) -> dict[str, str]:
        """The interface for Gloo, the workspace's account, no second MLflow integration."""
        found = account(dict(os.environ))
        if found is None:
            _say("tasks cannot reach the workspace's MLflow: set DATABRICKS_HOST and "
                 "DATABRICKS_TOKEN (or DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET) before "
                 "set-up")  # fmt: skip
        return {
            **super().custom_environment_variables(),
            "GLOO_SOCKET_IFNAME": "eth0",
            "DISABLE_MLFLOW_INTEGRATION": "TRUE",
            **(found or {}),
        }


def watch(entry: Any, cluster: Any, minutes: float, period_s: float = POLL_S) -> None:
    """Until the cluster is down, or shut down here because the notebook was idle for so long."""
    pause = threading.Event()
    while not cluster.is_shutdown:
        if entry.getIdleTimeMillisSinceLastNotebookExecution() > minutes * 60_000:
            cluster.shutdown()
            return
        pause.wait(period_s)


def _say(text: str) -> None:
    print(f"(skate on spark) {text}", file=sys.stderr, flush=True)
