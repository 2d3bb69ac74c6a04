"""Trainable: what one trial runs.

A subclass gives setup(config) and step() -> dict, and, to be restorable, save_checkpoint(dir) and
load_checkpoint(dir or what save_checkpoint returned). Tune builds it inside the trial's actor and
drives it with train(), save(), restore() and stop(); a user may do the same by hand, without any
cluster. RLlib's trainers are Trainables.

Three class-level hooks are called on the driver before any trial exists, so that a bad config
fails at once and leaves nothing behind: validate_trial_config, default_resource_request and
scale_trial_config. All three get the trial's resolved config and must not touch the runtime.
"""

from __future__ import annotations

import copy
import json
import os
import pickle
import socket
import time
import uuid
from datetime import datetime
from typing import Any

from skate.tune import result as keys

METADATA_FILE = ".tune_metadata"
DICT_FILE = "checkpoint_dict.pkl"


class Trainable:
    """One training run: made from a config, advanced a step at a time, saved and restored."""

    # A trainable that writes a checkpoint at the end of every trial, asked or not.
    _checkpoint_at_end_by_default = False
    # A trainable whose trials may follow one another in one process (a new object each time).
    _share_process_by_default = False

    def __init__(self, config: dict[str, Any] | None = None, logger_creator: Any = None,
                 **_ignored: Any) -> None:
        from skate.tune import session

        trial = session.current_trial()
        self._experiment_id = uuid.uuid4().hex
        self.config: dict[str, Any] = config or {}
        self._trial_id: str | None = trial.trial_id if trial else None
        self._trial_name: str | None = trial.trial_name if trial else None
        self._logdir: str | None = trial.logdir if trial else None
        self._trial_resources: Any = trial.resources if trial else None
        self._logger_creator = logger_creator
        self._iteration = 0
        self._time_total = 0.0
        self._timesteps_total: int | None = None
        self._episodes_total: int | None = None
        self._time_since_restore = 0.0
        self._timesteps_since_restore = 0
        self._iterations_since_restore = 0
        self._restored = False
        self._local_ip = _node_ip()
        self._hostname = socket.gethostname()
        self._start_time = time.time()
        self.setup(copy.copy(self.config))

    # ---- what subclasses give ---------------------------------------------------------------

    def setup(self, config: dict[str, Any]) -> None:
        """Build everything that step() needs."""

    def step(self) -> dict[str, Any]:
        """Train for a while and return metrics."""
        raise NotImplementedError(f"{type(self).__name__} must define step()")

    def save_checkpoint(self, checkpoint_dir: str) -> Any:
        """Write into `checkpoint_dir`, or return a dictionary to be written there."""
        raise NotImplementedError(f"{type(self).__name__} does not define save_checkpoint()")

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Undo save_checkpoint: gets its dictionary, or the directory (or path) it wrote."""
        raise NotImplementedError(f"{type(self).__name__} does not define load_checkpoint()")

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take on another trial's config in place; False when that cannot be done."""
        return False

    def cleanup(self) -> None:
        """Give back what setup() took."""

    def log_result(self, result: dict[str, Any]) -> None:
        """See each result inside the trial's process (Tune's own loggers run on the driver)."""

    def _export_model(self, export_formats: list[str], export_dir: str) -> dict[str, str]:
        return {}

    # ---- hooks on the driver ----------------------------------------------------------------

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> Any:
        """Resources of a trial: a PlacementGroupFactory or a dictionary; None for one CPU."""
        return None

    @classmethod
    def resource_help(cls, config: dict[str, Any]) -> str:
        """What to tell a user whose trials ask for more than the cluster has."""
        return ""

    @classmethod
    def validate_trial_config(cls, config: dict[str, Any]) -> None:
        """Raise a typed error for a config that cannot work (called before anything starts)."""

    @classmethod
    def scale_trial_config(cls, config: dict[str, Any], cluster_cpus: float) -> dict[str, Any]:
        """Keys to change when the trial asks for more CPUs than the whole cluster has.

        The trial's own actor then holds `cluster_cpus` (all of the cluster's, or of its largest
        node's), and actors that it makes must ask for none.
        """
        return {}

    # ---- what Tune and users call -----------------------------------------------------------

    def train(self) -> dict[str, Any]:
        """One step(), its metrics completed with time, counts and who ran it."""
        start = time.perf_counter()
        metrics = self.step()
        if not isinstance(metrics, dict):
            raise TypeError(
                f"step() of {type(self).__name__} must return a dictionary of metrics, "
                f"got {type(metrics).__name__}")
        metrics = dict(metrics)
        if metrics.get(keys.DUPLICATE):
            return metrics
        self._iteration += 1
        self._iterations_since_restore += 1
        elapsed = metrics.get(keys.TIME_THIS_ITER_S)
        if elapsed is None:
            elapsed = time.perf_counter() - start
        self._time_total += elapsed
        self._time_since_restore += elapsed
        self._count_steps(metrics)

        filled = self.get_auto_filled_metrics(time_this_iter=elapsed)
        for key in (keys.TRAINING_ITERATION, keys.DONE):
            if key in metrics and metrics[key] is not None:
                filled.pop(key)
        metrics.update(filled)
        self.log_result(metrics)
        return metrics

    def _count_steps(self, metrics: dict[str, Any]) -> None:
        """Keep the totals of environment steps and episodes, from either form of report."""
        this_iter = metrics.get(keys.TIMESTEPS_THIS_ITER)
        if this_iter is not None:
            self._timesteps_total = (self._timesteps_total or 0) + int(this_iter)
            self._timesteps_since_restore += int(this_iter)
        if metrics.get(keys.TIMESTEPS_TOTAL) is not None:
            total = metrics[keys.TIMESTEPS_TOTAL]
            if this_iter is None:
                self._timesteps_since_restore += int(total) - (self._timesteps_total or 0)
            self._timesteps_total = int(total)
        if metrics.get(keys.EPISODES_TOTAL) is not None:
            self._episodes_total = int(metrics[keys.EPISODES_TOTAL])
        elif metrics.get(keys.EPISODES_THIS_ITER) is not None:
            self._episodes_total = ((self._episodes_total or 0)
                                    + int(metrics[keys.EPISODES_THIS_ITER]))

    def get_auto_filled_metrics(self, now: datetime | None = None,
                                time_this_iter: float | None = None) -> dict[str, Any]:
        """What every result holds whatever step() returned."""
        now = now or datetime.now()
        filled: dict[str, Any] = {
            keys.DONE: False,
            keys.TRIAL_ID: self.trial_id,
            keys.EXPERIMENT_ID: self._experiment_id,
            keys.TRAINING_ITERATION: self._iteration,
            keys.DATE: now.strftime("%Y-%m-%d_%H-%M-%S"),
            keys.TIMESTAMP: int(now.timestamp()),
            keys.TIME_THIS_ITER_S: time_this_iter,
            keys.TIME_TOTAL_S: self._time_total,
            keys.PID: os.getpid(),
            keys.HOSTNAME: self._hostname,
            keys.NODE_IP: self._local_ip,
            keys.CONFIG: self.config,
            keys.TIME_SINCE_RESTORE: self._time_since_restore,
            keys.ITERATIONS_SINCE_RESTORE: self._iterations_since_restore,
        }
        if self._timesteps_total is not None:
            filled[keys.TIMESTEPS_TOTAL] = self._timesteps_total
            filled[keys.TIMESTEPS_SINCE_RESTORE] = self._timesteps_since_restore
        if self._episodes_total is not None:
            filled[keys.EPISODES_TOTAL] = self._episodes_total
        return filled

    def save(self, checkpoint_dir: str | None = None) -> str:
        """Write a checkpoint folder and return its path.

        Without `checkpoint_dir` it is checkpoint_NNNNNN in the trial's folder, NNNNNN being the
        iteration. The folder appears whole or not at all: it is written beside and renamed.
        """
        final = checkpoint_dir or os.path.join(self.logdir, f"checkpoint_{self._iteration:06d}")
        final = os.path.abspath(os.path.expanduser(final))
        parent = os.path.dirname(final)
        os.makedirs(parent, exist_ok=True)
        if os.path.isdir(final):
            self._write_checkpoint(final)
            return final
        import tempfile

        work = tempfile.mkdtemp(prefix=".saving_", dir=parent)
        try:
            self._write_checkpoint(work)
            os.chmod(work, 0o755)
            os.rename(work, final)
        except BaseException:
            import shutil

            shutil.rmtree(work, ignore_errors=True)
            raise
        return final

    def _write_checkpoint(self, folder: str) -> None:
        saved = self.save_checkpoint(folder)
        relative = None
        if isinstance(saved, dict):
            with open(os.path.join(folder, DICT_FILE), "wb") as out:
                _pickler().dump(saved, out)
        elif isinstance(saved, str):
            relative = os.path.relpath(saved, folder)
            if relative.startswith(".."):
                raise ValueError(
                    f"save_checkpoint() returned {saved!r}, which is not inside the folder that "
                    f"it was given ({folder})")
        elif saved is not None:
            raise TypeError(
                "save_checkpoint() must return a dictionary, a path or None, "
                f"got {type(saved).__name__}")
        metadata = {
            "version": 1,
            "path": relative,
            "is_dict": isinstance(saved, dict),
            "experiment_id": self._experiment_id,
            "iteration": self._iteration,
            "timesteps_total": self._timesteps_total,
            "episodes_total": self._episodes_total,
            "time_total": self._time_total,
        }
        with open(os.path.join(folder, METADATA_FILE), "w", encoding="utf-8") as out:
            json.dump(metadata, out)

    def restore(self, checkpoint_path: Any) -> None:
        """Take the state of a checkpoint: its folder, or any file in it."""
        path = os.path.expanduser(os.fspath(getattr(checkpoint_path, "path", checkpoint_path)))
        folder = path if os.path.isdir(path) else os.path.dirname(path)
        try:
            with open(os.path.join(folder, METADATA_FILE), encoding="utf-8") as source:
                metadata = json.load(source)
        except FileNotFoundError:
            raise ValueError(f"{path!r} is not a checkpoint: no {METADATA_FILE} in it") from None
        if metadata["is_dict"]:
            with open(os.path.join(folder, DICT_FILE), "rb") as source:
                self.load_checkpoint(pickle.load(source))
        elif metadata["path"] is not None:
            self.load_checkpoint(os.path.normpath(os.path.join(folder, metadata["path"])))
        else:
            self.load_checkpoint(folder)
        self._experiment_id = metadata["experiment_id"]
        self._iteration = metadata["iteration"]
        self._timesteps_total = metadata["timesteps_total"]
        self._episodes_total = metadata["episodes_total"]
        self._time_total = metadata["time_total"]
        self._time_since_restore = 0.0
        self._timesteps_since_restore = 0
        self._iterations_since_restore = 0
        self._restored = True

    def stop(self) -> None:
        """End this object's life; nothing else may be called after."""
        self.cleanup()

    def reset(self, new_config: dict[str, Any]) -> bool:
        """Start over as another trial in the same object, if reset_config allows it."""
        if not self.reset_config(new_config):
            return False
        self.config = new_config
        self._iteration = 0
        self._time_total = self._time_since_restore = 0.0
        self._timesteps_total = self._episodes_total = None
        self._timesteps_since_restore = self._iterations_since_restore = 0
        self._restored = False
        self._experiment_id = uuid.uuid4().hex
        return True

    def export_model(self, export_formats: list[str] | str,
                     export_dir: str | None = None) -> dict[str, str]:
        """Write the model in the named formats, for the subclasses that can."""
        if isinstance(export_formats, str):
            export_formats = [export_formats]
        return self._export_model(export_formats, export_dir or self.logdir)

    # ---- who am I ---------------------------------------------------------------------------

    @property
    def logdir(self) -> str:
        """The trial's folder; outside Tune, one made in the results directory on first use."""
        if self._logdir is None:
            import tempfile

            root = keys.default_results_dir()
            os.makedirs(root, exist_ok=True)
            stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
            self._logdir = tempfile.mkdtemp(prefix=f"{type(self).__name__}_{stamp}", dir=root)
        return self._logdir

    @property
    def trial_id(self) -> str:
        """The trial's id, or 'default' outside Tune."""
        return self._trial_id or "default"

    @property
    def trial_name(self) -> str:
        """The trial's name, or 'default' outside Tune."""
        return self._trial_name or "default"

    @property
    def trial_resources(self) -> Any:
        """What the trial was given."""
        return self._trial_resources

    @property
    def iteration(self) -> int:
        """How many times train() has returned."""
        return self._iteration

    @property
    def training_iteration(self) -> int:
        """The same, by its newer name."""
        return self._iteration

    def get_config(self) -> dict[str, Any]:
        """The config as given."""
        return self.config


def _pickler() -> Any:
    """cloudpickle when there is one (classes and functions of __main__), else pickle."""
    try:
        import cloudpickle

        return cloudpickle
    except ImportError:
        return pickle


def _node_ip() -> str:
    """The address by which this node is known to the cluster; without a cluster, loopback."""
    from skate.tune import session

    trial = session.current_trial()
    return trial.node_ip if trial else "127.0.0.1"
