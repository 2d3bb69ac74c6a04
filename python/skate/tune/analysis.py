"""ExperimentAnalysis: what came out of an experiment, live or from its folder."""

from __future__ import annotations

import glob
import json
import math
import os
import pickle
from typing import Any

from skate.tune import result as keys
from skate.tune.checkpoint import Checkpoint
from skate.tune.logger import PARAMS_PICKLE, PROGRESS_FILE, RESULT_FILE
from skate.tune.trial import Trial

SCOPES = ("last", "avg", "last-5-avg", "last-10-avg", "all")


class ExperimentAnalysis:
    """The trials of an experiment and questions about them.

    Made by tune.run(), or from the folder (or experiment_state file) of an earlier run.
    """

    def __init__(self, experiment_checkpoint_path: Any = None, trials: list[Trial] | None = None,
                 default_metric: str | None = None, default_mode: str | None = None) -> None:
        if default_mode is not None and default_mode not in ("min", "max"):
            raise ValueError(f"`default_mode` has to be None or one of [min, max], "
                             f"got {default_mode!r}")
        self.default_metric, self.default_mode = default_metric, default_mode
        if default_metric and not default_mode:
            self.default_mode = "max"
        if trials is None:
            path = os.path.expanduser(os.fspath(experiment_checkpoint_path))
            state = _find_state(path)
            trials = _load_trials(state)
            self.experiment_path = os.path.dirname(state)
        else:
            self.experiment_path = os.fspath(experiment_checkpoint_path or "")
        self.trials = trials

    # ---- the best ---------------------------------------------------------------------------

    def _measure(self, metric: str | None, mode: str | None) -> tuple[str, str]:
        metric, mode = metric or self.default_metric, mode or self.default_mode
        if not metric:
            raise ValueError(
                "No `metric` has been passed and no default metric exists: pass one to this "
                "method or to tune.run()")
        if not mode:
            raise ValueError(
                "No `mode` has been passed and no default mode exists: pass 'min' or 'max' to "
                "this method or to tune.run()")
        if mode not in ("min", "max"):
            raise ValueError(f"`mode` has to be one of [min, max], got {mode!r}")
        return metric, mode

    def get_best_trial(self, metric: str | None = None, mode: str | None = None,
                       scope: str = "last", filter_nan_and_inf: bool = True) -> Trial | None:
        """The trial with the best value of the metric.

        scope: the last value, its average ("avg", "last-5-avg", "last-10-avg") or its best ("all").
        """
        metric, mode = self._measure(metric, mode)
        if scope not in SCOPES:
            raise ValueError(f"ExperimentAnalysis: `scope` must be one of {SCOPES}, got {scope!r}")
        kind = mode if scope == "all" else scope
        best, best_value = None, 0.0
        for trial in self.trials:
            value = trial.metric(metric, kind)
            if math.isnan(value) or (filter_nan_and_inf and math.isinf(value)):
                continue
            if best is None or (value > best_value if mode == "max" else value < best_value):
                best, best_value = trial, value
        return best

    def get_best_config(self, metric: str | None = None, mode: str | None = None,
                        scope: str = "last") -> dict[str, Any] | None:
        """The config of the best trial."""
        best = self.get_best_trial(metric, mode, scope)
        return best.config if best else None

    def get_best_logdir(self, metric: str | None = None, mode: str | None = None,
                        scope: str = "last") -> str | None:
        """The folder of the best trial."""
        best = self.get_best_trial(metric, mode, scope)
        return best.logdir if best else None

    def get_best_checkpoint(self, trial: Any, metric: str | None = None,
                            mode: str | None = None) -> Checkpoint | None:
        """Among a trial's checkpoints the one at whose result the metric was best."""
        metric, mode = self._measure(metric, mode)
        sign = 1 if mode == "max" else -1
        rated = []
        for checkpoint, result in self._trial(trial).checkpoints:
            value = _float(keys.lookup(result, metric))
            if not math.isnan(value):
                rated.append((sign * value, result.get(keys.TRAINING_ITERATION, 0), checkpoint))
        return max(rated, key=lambda item: item[:2])[2] if rated else None

    def get_last_checkpoint(self, trial: Any = None, metric: str | None = None,
                            mode: str | None = None) -> Checkpoint | None:
        """The newest checkpoint of a trial (of the best one by default)."""
        chosen = self._trial(trial) if trial is not None else self.get_best_trial(metric, mode)
        return chosen.checkpoint if chosen else None

    def get_trial_checkpoints_paths(self, trial: Any, metric: str | None = None,
                                    ) -> list[tuple[str, Any]]:
        """(path, metric) of each checkpoint of a trial."""
        metric = metric or self.default_metric or keys.TRAINING_ITERATION
        return [(str(path), keys.lookup(result, metric))
                for path, result in self._trial(trial).checkpoints]

    def _trial(self, trial: Any) -> Trial:
        if isinstance(trial, Trial):
            return trial
        for candidate in self.trials:
            if trial in (candidate.trial_id, candidate.name, candidate.logdir):
                return candidate
        raise ValueError(f"{trial!r} is no trial of this experiment")

    def _best(self) -> Trial:
        best = self.get_best_trial()
        if best is None:
            raise ValueError(
                f"no trial has reported a value of {self.default_metric!r}")
        return best

    @property
    def best_trial(self) -> Trial:
        """The best trial by the metric and mode of the experiment."""
        return self._best()

    @property
    def best_config(self) -> dict[str, Any]:
        """Its config."""
        return self._best().config

    @property
    def best_logdir(self) -> str | None:
        """Its folder."""
        return self._best().logdir

    @property
    def best_result(self) -> dict[str, Any]:
        """Its last result."""
        return self._best().last_result

    @property
    def best_checkpoint(self) -> Checkpoint | None:
        """Its best checkpoint."""
        return self.get_best_checkpoint(self._best())

    @property
    def best_dataframe(self) -> Any:
        """All its results, as a data frame."""
        return self.trial_dataframes[self._best().logdir]

    @property
    def best_result_df(self) -> Any:
        """Its last result, as a data frame of one row."""
        import pandas

        return pandas.DataFrame.from_records([_row(self._best())], index=keys.TRIAL_ID)

    # ---- all --------------------------------------------------------------------------------

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """The last result of each trial, by trial id."""
        return {trial.trial_id: trial.last_result for trial in self.trials}

    @property
    def results_df(self) -> Any:
        """The same, as a data frame."""
        import pandas

        rows = [_row(trial) for trial in self.trials if trial.last_result]
        return pandas.DataFrame.from_records(rows, index=keys.TRIAL_ID) if rows else (
            pandas.DataFrame())

    def dataframe(self, metric: str | None = None, mode: str | None = None) -> Any:
        """A row per trial: its last result, or the one where the metric was best."""
        import pandas

        if mode is not None and mode not in ("min", "max"):
            raise ValueError(f"`mode` has to be one of [min, max], got {mode!r}")
        rows = []
        for trial in self.trials:
            result: dict[str, Any] | None = trial.last_result or None
            if metric is not None and result is not None:
                sign = 1 if (mode or self.default_mode or "max") == "max" else -1
                history = [r for r in _history(trial)
                           if not math.isnan(_float(keys.lookup(r, metric)))]
                if history:
                    result = max(history, key=lambda r: sign * _float(keys.lookup(r, metric)))
            if result is not None:
                rows.append(_row(trial, result))
        return pandas.DataFrame(rows)

    @property
    def trial_dataframes(self) -> dict[str, Any]:
        """The progress.csv of each trial as a data frame, by folder."""
        import pandas

        frames = {}
        for trial in self.trials:
            path = os.path.join(trial.logdir or "", PROGRESS_FILE)
            if trial.logdir and os.path.exists(path):
                frames[trial.logdir] = pandas.read_csv(path)
        return frames

    def get_all_configs(self, prefix: bool = False) -> dict[str, dict[str, Any]]:
        """The config of each trial, by folder."""
        return {trial.logdir: ({f"config/{k}": v for k, v in trial.config.items()} if prefix
                               else trial.config)
                for trial in self.trials if trial.logdir}

    def stats(self) -> dict[str, Any]:
        """How many trials are in which state."""
        counts: dict[str, int] = {}
        for trial in self.trials:
            counts[trial.status] = counts.get(trial.status, 0) + 1
        return counts

    def __repr__(self) -> str:
        return (f"<ExperimentAnalysis {self.experiment_path} ({len(self.trials)} trials, "
                f"{self.stats()})>")


Analysis = ExperimentAnalysis


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _row(trial: Trial, result: dict[str, Any] | None = None) -> dict[str, Any]:
    result = dict(result or trial.last_result)
    config = result.pop(keys.CONFIG, trial.config)
    row = keys.flatten(result)
    row.update({f"config/{key}": value for key, value in keys.flatten(config).items()})
    row["logdir"] = trial.logdir
    row[keys.TRIAL_ID] = trial.trial_id
    return row


def _history(trial: Trial) -> list[dict[str, Any]]:
    """All results of a trial, from its result.json."""
    path = os.path.join(trial.logdir or "", RESULT_FILE)
    if not trial.logdir or not os.path.exists(path):
        return [trial.last_result]
    with open(path, encoding="utf-8") as source:
        return [json.loads(line) for line in source if line.endswith("\n")]


def _find_state(path: str) -> str:
    if os.path.isfile(path):
        return path
    found = glob.glob(os.path.join(glob.escape(path), "experiment_state-*.json"))
    if not found:
        raise ValueError(f"Experiment checkpoint path must be an experiment's folder or its "
                         f"experiment_state file: {path!r} holds no experiment_state-*.json")
    return max(found, key=os.path.getmtime)


def _load_trials(state_file: str) -> list[Trial]:
    with open(state_file, encoding="utf-8") as source:
        state = json.load(source)
    trials = []
    for saved in state["trials"]:
        trial = Trial(
            trainable_name=saved["trainable_name"], trainable_cls=None,
            config=_load_config(saved), trial_id=saved["trial_id"], index=saved["index"])
        trial.custom_trial_name = saved["name"]
        trial.experiment_tag = saved["experiment_tag"]
        trial.evaluated_params = saved["evaluated_params"]
        trial.status, trial.logdir = saved["status"], saved["logdir"]
        trial.num_failures, trial.error_msg = saved["num_failures"], saved["error"]
        for result in _history(trial) if trial.logdir else []:
            trial.update_last_result(result)
        trial.last_result = trial.last_result or saved["last_result"]
        trial.checkpoints = [(Checkpoint(item["path"]), item["result"])
                             for item in saved["checkpoints"]]
        trials.append(trial)
    return trials


def _load_config(saved: dict[str, Any]) -> dict[str, Any]:
    path = os.path.join(saved["logdir"] or "", PARAMS_PICKLE)
    if saved["logdir"] and os.path.exists(path):
        try:
            with open(path, "rb") as source:
                return pickle.load(source)
        except Exception:
            # Its classes may be gone; the plain form is always there.
            return saved["config"]
    return saved["config"]
