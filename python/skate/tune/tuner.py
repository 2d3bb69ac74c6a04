"""Tuner: the newer face of tune.run()."""

from __future__ import annotations

from typing import Any

from skate.tune.config import CheckpointConfig, FailureConfig, RunConfig, TuneConfig
from skate.tune.result_grid import ResultGrid
from skate.tune.tune import run


class Tuner:
    """Tuner(trainable, param_space=..., tune_config=..., run_config=...).fit()."""

    def __init__(self, trainable: Any = None, *, param_space: Any = None,
                 tune_config: TuneConfig | None = None,
                 run_config: RunConfig | None = None) -> None:
        if trainable is None:
            raise ValueError("You need to provide a trainable to tune.")
        _expect(tune_config, TuneConfig, "tune_config")
        _expect(run_config, RunConfig, "run_config")
        self._trainable = trainable
        self._param_space = param_space
        self._tune_config = tune_config or TuneConfig()
        self._run_config = run_config or RunConfig()
        self._results: ResultGrid | None = None

    def fit(self) -> ResultGrid:
        """Run all trials; failed ones are in the grid's errors."""
        tune, rest = self._tune_config, self._run_config
        failure = rest.failure_config or FailureConfig()
        saving = rest.checkpoint_config or CheckpointConfig()
        score = saving.checkpoint_score_attribute
        if score and saving.checkpoint_score_order == "min":
            score = f"min-{score}"
        analysis = run(
            self._trainable, name=rest.name, metric=tune.metric, mode=tune.mode, stop=rest.stop,
            config=self._param_space, num_samples=tune.num_samples,
            local_dir=rest.storage_path, checkpoint_freq=saving.checkpoint_frequency or 0,
            checkpoint_at_end=bool(saving.checkpoint_at_end),
            keep_checkpoints_num=saving.num_to_keep, checkpoint_score_attr=score,
            verbose=1 if rest.verbose is None else rest.verbose,
            progress_reporter=rest.progress_reporter, callbacks=rest.callbacks,
            max_failures=failure.max_failures, fail_fast=failure.fail_fast,
            max_concurrent_trials=tune.max_concurrent_trials, time_budget_s=tune.time_budget_s,
            reuse_actors=tune.reuse_actors, scheduler=tune.scheduler, search_alg=tune.search_alg,
            trial_name_creator=tune.trial_name_creator,
            trial_dirname_creator=tune.trial_dirname_creator, raise_on_failed_trial=False,
            log_to_file=rest.log_to_file)
        self._results = ResultGrid(analysis)
        return self._results

    def get_results(self) -> ResultGrid:
        """What fit() returned."""
        if self._results is None:
            raise RuntimeError("Can't return results as the experiment has not been run yet: "
                               "call fit() first")
        return self._results


def _expect(value: Any, kind: type, name: str) -> None:
    if value is not None and not isinstance(value, kind):
        raise ValueError(f"`{name}` must be a {kind.__name__} object, got {type(value).__name__}")
