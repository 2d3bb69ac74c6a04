"""ResultGrid: what Tuner.fit() returns, a list of Results over an ExperimentAnalysis."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from skate.tune import result as keys
from skate.tune.analysis import ExperimentAnalysis
from skate.tune.checkpoint import Checkpoint
from skate.tune.logger import PROGRESS_FILE
from skate.tune.trial import ERROR, TERMINATED, Trial


@dataclass
class Result:
    """One trial's outcome."""

    metrics: dict[str, Any] | None
    checkpoint: Checkpoint | None
    error: BaseException | None
    path: str | None
    best_checkpoints: list[tuple[Checkpoint, dict[str, Any]]] | None = None

    @property
    def config(self) -> dict[str, Any] | None:
        """The trial's config."""
        return (self.metrics or {}).get(keys.CONFIG)

    @property
    def log_dir(self) -> str | None:
        """The trial's folder, by its elder name."""
        return self.path

    @property
    def metrics_dataframe(self) -> Any:
        """All results as a data frame; None if there are none."""
        import pandas

        path = os.path.join(self.path or "", PROGRESS_FILE)
        return pandas.read_csv(path) if self.path and os.path.exists(path) else None

    def get_best_checkpoint(self, metric: str, mode: str) -> Checkpoint | None:
        """Among the checkpoints the one at whose result the metric was best."""
        if mode not in ("min", "max"):
            raise ValueError(f"`mode` has to be one of [min, max], got {mode!r}")
        sign = 1 if mode == "max" else -1
        rated = []
        for checkpoint, metrics in self.best_checkpoints or []:
            value = keys.lookup(metrics, metric)
            if value is not None and not math.isnan(float(value)):
                rated.append((sign * float(value), checkpoint))
        return max(rated, key=lambda item: item[0])[1] if rated else None


class ResultGrid:
    """The results of all trials, in their order."""

    def __init__(self, experiment_analysis: ExperimentAnalysis) -> None:
        self._experiment_analysis = experiment_analysis
        self._results = [_result(trial) for trial in experiment_analysis.trials]

    @property
    def experiment_path(self) -> str:
        """The experiment's folder."""
        return self._experiment_analysis.experiment_path

    def get_best_result(self, metric: str | None = None, mode: str | None = None,
                        scope: str = "last", filter_nan_and_inf: bool = True) -> Result:
        """The result of the best trial."""
        best = self._experiment_analysis.get_best_trial(metric, mode, scope, filter_nan_and_inf)
        if best is None:
            name = metric or self._experiment_analysis.default_metric
            raise RuntimeError(
                f"No best trial found for the given metric: {name}. This means that no trial has "
                "reported this metric, or all values reported for this metric are NaN.")
        return _result(best)

    def get_dataframe(self, filter_metric: str | None = None,
                      filter_mode: str | None = None) -> Any:
        """A row per trial."""
        return self._experiment_analysis.dataframe(metric=filter_metric, mode=filter_mode)

    def __len__(self) -> int:
        return len(self._results)

    def __getitem__(self, index: int) -> Result:
        return self._results[index]

    def __iter__(self) -> Iterator[Result]:
        return iter(self._results)

    @property
    def errors(self) -> list[BaseException]:
        """The errors of the trials that failed."""
        return [result.error for result in self._results if result.error is not None]

    @property
    def num_errors(self) -> int:
        """How many trials failed."""
        return sum(trial.status == ERROR for trial in self._experiment_analysis.trials)

    @property
    def num_terminated(self) -> int:
        """How many trials ended well."""
        return sum(trial.status == TERMINATED for trial in self._experiment_analysis.trials)

    def __repr__(self) -> str:
        return f"ResultGrid<{self._results!r}>"


def _result(trial: Trial) -> Result:
    return Result(
        metrics={**trial.last_result, keys.CONFIG: trial.config}, checkpoint=trial.checkpoint,
        error=trial.error if trial.status == ERROR else None, path=trial.logdir,
        best_checkpoints=list(trial.checkpoints))
