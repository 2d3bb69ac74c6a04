"""Trial: one config of an experiment and everything the driver knows about its run.

Only the runner changes a trial; callbacks, reporters and analyses read it.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from typing import Any

from skate.tune import result as keys
from skate.tune._variants import Path, experiment_tag, parameter_name
from skate.tune.checkpoint import Checkpoint
from skate.tune.resources import PlacementGroupFactory

PENDING = "PENDING"
RUNNING = "RUNNING"
PAUSED = "PAUSED"
TERMINATED = "TERMINATED"
ERROR = "ERROR"
STATES = (RUNNING, PAUSED, PENDING, TERMINATED, ERROR)

_WINDOWS = (5, 10)
_DIR_NAME_MAX = 160


class MetricStats:
    """The history of one metric of one trial, in constant space."""

    __slots__ = ("avg", "count", "last", "max", "min", "recent")

    def __init__(self) -> None:
        self.count = 0
        self.last = self.avg = math.nan
        self.max, self.min = -math.inf, math.inf
        self.recent = deque[float](maxlen=max(_WINDOWS))

    def add(self, value: float) -> None:
        """Take in the next value; nan counts as the last one but not as an extreme."""
        self.last = value
        self.recent.append(value)
        if value != value:
            return
        self.count += 1
        if value > self.max:
            self.max = value
        if value < self.min:
            self.min = value
        self.avg = value if self.count == 1 else self.avg + (value - self.avg) / self.count

    def __getitem__(self, scope: str) -> float:
        if scope in ("last", "avg"):
            return getattr(self, scope)
        if scope in ("max", "min"):
            return getattr(self, scope) if self.count else math.nan
        for n in _WINDOWS:
            if scope == f"last-{n}-avg":
                window = list(self.recent)[-n:]
                return sum(window) / len(window)
        raise KeyError(scope)


class Trial:
    """One config and its run."""

    def __init__(self, *, trainable_name: str, trainable_cls: type | None,
                 config: dict[str, Any], trial_id: str, index: int,
                 chosen: dict[Path, Any] | None = None,
                 request: PlacementGroupFactory | None = None) -> None:
        self.trainable_name = trainable_name
        self.trainable_cls = trainable_cls
        self.config = config
        self.trial_id = trial_id
        self.index = index
        self.evaluated_params = {parameter_name(path): value
                                 for path, value in (chosen or {}).items()}
        self.experiment_tag = experiment_tag(index, chosen or {})
        self.request = request or PlacementGroupFactory([{"CPU": 1}])
        # Keys laid over the config in the trial's process only (a trial scaled to the cluster).
        self.overrides: dict[str, Any] = {}
        self.scaled = False
        self.status = PENDING
        self.custom_trial_name: str | None = None
        self.custom_dirname: str | None = None
        self.logdir: str | None = None
        self.experiment_name = ""
        self.last_result: dict[str, Any] = {}
        self.metric_analysis: dict[str, MetricStats] = {}
        self.checkpoints: list[tuple[Checkpoint, dict[str, Any]]] = []
        self.restore_path: str | None = None
        self.num_failures = 0
        self.num_system_failures = 0
        self.error: BaseException | None = None
        self.error_msg: str | None = None
        self.start_time: float | None = None
        self.pid: int | None = None
        self.node_ip: str | None = None
        self.last_printed = -math.inf
        # What the runner is waiting for; see _runner.py.
        self.actor: Any = None
        self.finishing = False

    # ---- names ------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """'PPO_CartPole-v0_6f570_00000'."""
        if self.custom_trial_name:
            return self.custom_trial_name
        env = self.config.get("env") if isinstance(self.config, dict) else None
        if env is not None and not isinstance(env, str):
            env = getattr(env, "__name__", type(env).__name__)
        parts = [self.trainable_name, env, self.trial_id] if env else [
            self.trainable_name, self.trial_id]
        return "_".join(parts).replace("/", "_")

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name

    def folder_name(self, stamp: str) -> str:
        """The folder's name: the trial, its number, what was chosen for it, the date."""
        if self.custom_dirname:
            return self.custom_dirname.replace("/", "_")
        name = f"{self.name}_{self.experiment_tag}".replace("/", "_").replace(os.sep, "_")
        return f"{name[:_DIR_NAME_MAX]}_{stamp}"

    @property
    def local_path(self) -> str | None:
        """The folder, by its newer names."""
        return self.logdir

    @property
    def path(self) -> str | None:
        """The folder, by its newer names."""
        return self.logdir

    @property
    def error_file(self) -> str | None:
        """Where the traceback of a failed trial is."""
        if self.logdir and self.error_msg is not None:
            return os.path.join(self.logdir, "error.txt")
        return None

    @property
    def location(self) -> str:
        """Where the trial runs, for the table."""
        return f"{self.node_ip}:{self.pid}" if self.pid else ""

    # ---- what happened ----------------------------------------------------------------------

    def update_last_result(self, result: dict[str, Any]) -> None:
        """Take in a result."""
        self.last_result = result
        metrics = {key: value for key, value in result.items() if key != keys.CONFIG}
        for key, value in keys.flatten(metrics).items():
            if isinstance(value, (bool, str)) or value is None:
                continue
            try:
                number = float(value)
            except (TypeError, ValueError):
                continue
            stats = self.metric_analysis.get(key)
            if stats is None:
                stats = self.metric_analysis[key] = MetricStats()
            stats.add(number)

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint."""
        return self.checkpoints[-1][0] if self.checkpoints else None

    def add_checkpoint(self, path: str) -> Checkpoint:
        """Note a checkpoint that was written at the last result."""
        checkpoint = Checkpoint(path)
        self.checkpoints = [item for item in self.checkpoints if item[0] != checkpoint]
        self.checkpoints.append((checkpoint, self.last_result))
        return checkpoint

    def metric(self, name: str, scope: str = "last") -> float:
        """A metric's value over the trial's history; nan if it has none."""
        stats = self.metric_analysis.get(name)
        return stats[scope] if stats else math.nan

    @property
    def runtime(self) -> float:
        """Seconds since its process was ready."""
        return time.monotonic() - self.start_time if self.start_time else 0.0

    def is_finished(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in (TERMINATED, ERROR)
