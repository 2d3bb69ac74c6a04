"""What both ways to MLflow share: a connection to a store, an experiment there, and its runs.

mlflow is imported when a Tracker is made, and no earlier: that takes more than a second.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlparse

from skate.tune import result as keys

logger = logging.getLogger("skate.air.mlflow")

# What MLflow takes in one request.
METRICS_A_BATCH = 1000
PARAMS_A_BATCH = 100
# How MLflow says that there is no experiment of that id, and that there is one of that name.
_NO_SUCH = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
_THERE_IS_ONE = "RESOURCE_ALREADY_EXISTS"
_PROBE_S = 2.0


class MLflowMissingError(ImportError, RuntimeError):
    """MLflow is not installed."""


def need_mlflow() -> None:
    """Raise MLflowMissingError when there is no mlflow; does not import it."""
    from importlib.util import find_spec

    if find_spec("mlflow") is None:
        raise MLflowMissingError(
            "MLflow was not found in this Python. Install the client with `pip install "
            "mlflow-skinny` (it talks to a tracking server), or all of MLflow with `pip install "
            "mlflow`; trials need it on every node.", name="mlflow")


class Tracker:
    """An experiment of a store, and what is written into its runs."""

    def __init__(self, tracking_uri: str | None, registry_uri: str | None,
                 token: str | None) -> None:
        """Choose the store for this process: the arguments, else what MLflow knows already.

        token: becomes MLFLOW_TRACKING_TOKEN of this process, where MLflow looks for it.
        Raises MLflowMissingError.
        """
        need_mlflow()
        import mlflow

        if token:
            os.environ["MLFLOW_TRACKING_TOKEN"] = token
        if tracking_uri is not None:
            mlflow.set_tracking_uri(tracking_uri)
        if registry_uri is not None:
            mlflow.set_registry_uri(registry_uri)
        self.mlflow: Any = mlflow
        self.uri = str(mlflow.get_tracking_uri())
        self.experiment_id: str | None = None
        _warn_if_refused(self.uri)
        try:
            with _sqlite_lock(self.uri):
                self.client: Any = mlflow.MlflowClient()
        except Exception as error:
            _hint(error, self.uri)
            raise

    def choose_experiment(self, experiment_id: str | None, name: str | None, *, create: bool,
                          artifact_location: str | None = None) -> None:
        """Find the experiment by its id, else by its name, else create it by its name.

        Both fall back on MLFLOW_EXPERIMENT_ID and MLFLOW_EXPERIMENT_NAME. Raises ValueError when
        nothing was found or named.
        """
        if experiment_id is None:
            experiment_id = os.environ.get("MLFLOW_EXPERIMENT_ID")
        if name is None:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME")
        try:
            with _sqlite_lock(self.uri):
                found = self._by_id(experiment_id) or self._by_name(name)
                if found is None and name and create:
                    found = self._create(name, artifact_location)
        except Exception as error:
            _hint(error, self.uri)
            raise
        if found is None:
            raise ValueError(_nothing_found(experiment_id, name, create))
        self.experiment_id = found

    def _by_id(self, experiment_id: str | None) -> str | None:
        if experiment_id is None:
            return None
        try:
            return str(self.client.get_experiment(experiment_id).experiment_id)
        except self.mlflow.MlflowException as error:
            if error.error_code not in _NO_SUCH:
                raise
            return None

    def _by_name(self, name: str | None) -> str | None:
        found = self.client.get_experiment_by_name(name) if name else None
        return str(found.experiment_id) if found is not None else None

    def _create(self, name: str, artifact_location: str | None) -> str | None:
        try:
            return str(self.client.create_experiment(name, artifact_location=artifact_location))
        except self.mlflow.MlflowException as error:
            # Trials that start at the same time all find that there is none yet.
            if error.error_code != _THERE_IS_ONE:
                raise
            return self._by_name(name)

    # ---- runs -------------------------------------------------------------------------------

    def start_run(self, name: str | None, tags: Mapping[str, Any]) -> str:
        """A new run, which is not the active one of any thread. Returns its id."""
        run = self.client.create_run(self.experiment_id, run_name=name, tags=dict(tags))
        return str(run.info.run_id)

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Nested ones by the path to them; MLflow keeps all values as text."""
        from mlflow.entities import Param

        every = [Param(str(key), str(value)) for key, value in keys.flatten(params).items()]
        for some in _batches(every, PARAMS_A_BATCH):
            self.client.log_batch(run_id, params=some)

    def log_metrics(self, run_id: str, metrics: Mapping[str, Any], step: int) -> None:
        """Everything that is a number; what is not is left out."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        every = [Metric(key, value, now, step) for key, value in numbers(metrics).items()]
        for some in _batches(every, METRICS_A_BATCH):
            self.client.log_batch(run_id, metrics=some)

    def log_folder(self, run_id: str, folder: str) -> None:
        """All files of a folder become artifacts."""
        self.client.log_artifacts(run_id, folder)

    def end_run(self, run_id: str, status: str) -> None:
        """The run is over: FINISHED, FAILED or KILLED. One that somebody ended stays as it is."""
        active = self.mlflow.active_run()
        if active is not None and active.info.run_id == run_id:
            self.mlflow.end_run(status)
        elif self.client.get_run(run_id).info.status == "RUNNING":
            self.client.set_terminated(run_id, status)


@contextmanager
def _sqlite_lock(uri: str) -> Iterator[None]:
    """Whoever opens a database file first makes its tables: only one process at a time."""
    import fcntl

    parts = urlparse(uri)
    path = parts.path[1:]  # sqlite:///relative, sqlite:////absolute
    folder = os.path.dirname(path) or "."
    if not parts.scheme.startswith("sqlite") or not path or not os.path.isdir(folder):
        yield
        return
    with open(f"{path}.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among metrics, nested ones by the path to them.

    The trial's own facts (its id, its host) are no metrics, even where they read like a number.
    """
    found: dict[str, float] = {}
    for key, value in keys.flatten(metrics).items():
        if value is None or isinstance(value, str) and key in keys.AUTO_KEYS:
            continue
        try:
            found[str(key)] = float(value)
        except (TypeError, ValueError):
            continue
    return found


def _batches(every: list[Any], size: int) -> Iterator[list[Any]]:
    for begin in range(0, len(every), size):
        yield every[begin : begin + size]


def _nothing_found(experiment_id: str | None, name: str | None, create: bool) -> str:
    if create:
        return (f"MLflow has no experiment with the id {experiment_id!r}, and there is no name to "
                "create one by. Give experiment_name=, or set MLFLOW_EXPERIMENT_NAME.")
    return (f"MLflow has no experiment with the id {experiment_id!r} or the name {name!r}. Create "
            "it before (`mlflow experiments create -n NAME`), name one that exists, or pass "
            "create_experiment_if_not_exists=True.")


def _warn_if_refused(uri: str) -> None:
    """MLflow tries for minutes to reach a server that is not there: say so at once."""
    parts = urlparse(uri)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), _PROBE_S).close()
    except ConnectionRefusedError:
        logger.warning(
            "Nothing listens on %s:%d, where the MLflow server should be (%s). MLflow goes on "
            "trying for some minutes; MLFLOW_HTTP_REQUEST_MAX_RETRIES=1 shortens that.",
            parts.hostname, port, uri)
    except OSError:
        return  # A proxy may know the way.


def _hint(error: Exception, uri: str) -> None:
    """Add to MLflow's own error what helps here."""
    from importlib.util import find_spec

    scheme = urlparse(uri).scheme
    if scheme in ("", "file"):
        error.add_note(
            f"The store is the folder {uri!r}. Trials on several nodes need a server: start "
            "`mlflow server --backend-store-uri sqlite:///mlflow.db` and give "
            "tracking_uri='http://HOST:5000' or set MLFLOW_TRACKING_URI.")
    elif scheme.startswith("sqlite") and find_spec("sqlalchemy") is None:
        error.add_note(
            f"The store is the file {uri!r}; mlflow-skinny can only talk to a server. Start one "
            f"with `mlflow server --backend-store-uri {uri}` and give its address, or install all "
            "of MLflow with `pip install mlflow`.")
