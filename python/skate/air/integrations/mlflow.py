"""Runs of Tune in MLflow: by a callback on the driver, or from inside the trials.

    tune.run(train, callbacks=[MLflowLoggerCallback("http://...", experiment_name="prices")])

    def train(config):
        mlflow = setup_mlflow(config, "http://...", experiment_name="prices")
        mlflow.log_metric("loss", 0.5)

The callback writes what the trials report and needs MLflow on the driver only. setup_mlflow()
gives the trial an active run of its own, for figures, models and autologging.
"""

from __future__ import annotations

import logging
from typing import Any

from skate.air._mlflow import MLflowMissingError, Tracker, need_mlflow
from skate.tune import result as keys
from skate.tune import session
from skate.tune.logger import LoggerCallback
from skate.tune.trial import Trial

__all__ = ["MLflowLoggerCallback", "MLflowMissingError", "setup_mlflow"]

logger = logging.getLogger("skate.air.mlflow")


class _NoopModule:
    """Stands for mlflow where nothing shall be logged: every attribute and call is one more."""

    def __getattr__(self, name: str) -> _NoopModule:
        return _NoopModule()

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        return None


def setup_mlflow(
    config: dict[str, Any] | None = None,
    tracking_uri: str | None = None,
    registry_uri: str | None = None,
    experiment_id: str | None = None,
    experiment_name: str | None = None,
    tracking_token: str | None = None,
    artifact_location: str | None = None,
    run_name: str | None = None,
    create_experiment_if_not_exists: bool = False,
    tags: dict[str, Any] | None = None,
    rank_zero_only: bool = True,
) -> Any:
    """Start an MLflow run that is the active one of the calling thread; give the mlflow module.

    Called in a trial of Tune, the run ends with the trial: FINISHED, or FAILED when the trial
    raised. An active run that is there already is used, and not ended.

    Args:
        config: logged as the run's parameters.
        tracking_uri, registry_uri: the stores; default: what MLflow has, as MLFLOW_TRACKING_URI.
        experiment_id, experiment_name: which experiment, the id goes first. In a trial they
            default to the trial's id and name, elsewhere to MLFLOW_EXPERIMENT_ID and _NAME.
        tracking_token: sets MLFLOW_TRACKING_TOKEN in this process.
        artifact_location: where a newly made experiment keeps its artifacts.
        run_name: default: the experiment's name.
        create_experiment_if_not_exists: create the experiment when there is none of that name.
        tags: of the run, when it is a new one.
        rank_zero_only: in distributed training, workers but the first get a module whose
            functions do nothing.

    Returns: the module mlflow.

    Errors: MLflowMissingError (an ImportError and a RuntimeError) without MLflow, ValueError when
    the experiment is not there, mlflow.MlflowException for what the store refuses.
    """
    need_mlflow()
    trial = session.current_trial()
    if trial is not None:
        if rank_zero_only and trial.get_world_rank() != 0:
            return _NoopModule()
        experiment_id = experiment_id or trial.get_trial_id()
        experiment_name = experiment_name or trial.get_trial_name()
    tracker = Tracker(tracking_uri, registry_uri, tracking_token)
    tracker.choose_experiment(experiment_id, experiment_name,
                              create=create_experiment_if_not_exists,
                              artifact_location=artifact_location)
    run = tracker.mlflow.active_run()
    if run is None:
        run = tracker.mlflow.start_run(run_name=run_name or experiment_name,
                                       experiment_id=tracker.experiment_id, tags=tags)
        if trial is not None:
            _end_with_trial(tracker, run.info.run_id)
    tracker.log_params(run.info.run_id, config or {})
    return tracker.mlflow


def _end_with_trial(tracker: Tracker, run_id: str) -> None:
    def end(failed: bool) -> None:
        tracker.end_run(run_id, "FAILED" if failed else "FINISHED")

    session.at_trial_end(end)


class MLflowLoggerCallback(LoggerCallback):
    """Give every trial a run in MLflow, with its config, its results, its tags and its end.

    Numbers of a result become metrics at the step `timesteps_total`, or `training_iteration` when
    there is none. All of it is written by the driver. A trial that is started again goes on in its
    run; the runs of an interrupted experiment end as KILLED.

    Args:
        tracking_uri, registry_uri: the stores; default: what MLflow has, as MLFLOW_TRACKING_URI.
        experiment_name: created when there is none; default: MLFLOW_EXPERIMENT_NAME.
        tags: of every run, beside `trial_name`.
        tracking_token: sets MLFLOW_TRACKING_TOKEN in this process.
        save_artifact: at its end, keep the trial's folder as the run's artifacts.
        log_params_on_trial_end: log the config at the trial's end instead of its start.

    Errors: MLflowMissingError when it is made without MLflow; ValueError, when the experiment
    begins, if no experiment was named.
    """

    def __init__(
        self,
        tracking_uri: str | None = None,
        *,
        registry_uri: str | None = None,
        experiment_name: str | None = None,
        tags: dict[str, Any] | None = None,
        tracking_token: str | None = None,
        save_artifact: bool = False,
        log_params_on_trial_end: bool = False,
    ) -> None:
        need_mlflow()
        self.tracking_uri = tracking_uri
        self.registry_uri = registry_uri
        self.experiment_name = experiment_name
        self.tags = tags
        self.tracking_token = tracking_token
        self.should_save_artifact = save_artifact
        self.log_params_on_trial_end = log_params_on_trial_end
        self._tracker: Tracker | None = None
        self._runs: dict[str, str] = {}  # of trials, by their id
        self._ended: set[str] = set()

    def setup(self, stop: Any = None, num_samples: int | None = None,
              total_num_samples: int | None = None, **info: Any) -> None:
        """Connect, and find or create the experiment."""
        self._tracker = Tracker(self.tracking_uri, self.registry_uri, self.tracking_token)
        self._tracker.choose_experiment(None, self.experiment_name, create=True)
        self._runs.clear()
        self._ended.clear()

    def _need_tracker(self) -> Tracker:
        if self._tracker is None:
            raise RuntimeError("MLflowLoggerCallback: setup() was not called")
        return self._tracker

    def log_trial_start(self, trial: Trial) -> None:
        """Start the trial's run; nothing when it has one."""
        if trial.trial_id in self._runs:
            return
        tracker = self._need_tracker()
        tags = {**(self.tags or {}), "trial_name": str(trial)}
        run_id = self._runs[trial.trial_id] = tracker.start_run(str(trial), tags)
        if not self.log_params_on_trial_end:
            tracker.log_params(run_id, trial.config)

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """Log the numbers of a result."""
        step = result.get(keys.TIMESTEPS_TOTAL) or result[keys.TRAINING_ITERATION]
        self._need_tracker().log_metrics(self._runs[trial.trial_id], result, int(step))

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Log what is to be logged last; end the run."""
        tracker = self._need_tracker()
        self.log_trial_start(trial)  # of a trial that could not start
        run_id = self._runs[trial.trial_id]
        if self.should_save_artifact and trial.logdir:
            tracker.log_folder(run_id, trial.logdir)
        if self.log_params_on_trial_end:
            tracker.log_params(run_id, trial.config)
        tracker.end_run(run_id, "FAILED" if failed else "FINISHED")
        self._ended.add(trial.trial_id)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """End the runs of trials that an interruption left."""
        if self._tracker is None:
            return
        for trial_id, run_id in self._runs.items():
            if trial_id not in self._ended:
                try:
                    self._tracker.end_run(run_id, "KILLED")
                except Exception as error:  # what ended the experiment is what the user must see
                    logger.warning("The MLflow run %s could not be ended: %s", run_id, error)
