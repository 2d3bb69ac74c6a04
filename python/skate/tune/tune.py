"""tune.run(): checks everything, makes the trials, runs them, returns the analysis.

Whatever can be known to be wrong is found before the cluster is touched and before a folder is
made: the arguments, the trainable, the stop criteria and every trial's config.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from skate.tune import result as keys
from skate.tune._runner import RunOptions, TrialRunner
from skate.tune._variants import generate_variants
from skate.tune.analysis import ExperimentAnalysis
from skate.tune.callback import Callback
from skate.tune.error import TuneError
from skate.tune.experiment import Experiment
from skate.tune.logger import LoggerCallback, default_loggers
from skate.tune.progress_reporter import CLIReporter, ProgressReporter
from skate.tune.registry import as_trainable_class, get_trainable_cls
from skate.tune.resources import as_request
from skate.tune.schedulers import make_scheduler
from skate.tune.stopper import DictStopper, TimeoutStopper, is_reward, make_stopper
from skate.tune.trial import TERMINATED, Trial

logger = logging.getLogger("skate.tune")

# Configs that are checked before the first trial starts; a larger space is checked in part.
VALIDATED_MAX = 1000


def run(run_or_experiment: Any, name: str | None = None, metric: str | None = None,
        mode: str | None = None, stop: Any = None, time_budget_s: Any = None,
        config: Any = None, resources_per_trial: Any = None, num_samples: int = 1,
        local_dir: Any = None, search_alg: Any = None, scheduler: Any = None,
        keep_checkpoints_num: int | None = None, checkpoint_score_attr: str | None = None,
        checkpoint_freq: int = 0, checkpoint_at_end: bool = False, verbose: int | None = None,
        progress_reporter: ProgressReporter | None = None, log_to_file: Any = False,
        trial_name_creator: Callable[[Trial], str] | None = None,
        trial_dirname_creator: Callable[[Trial], str] | None = None, sync_config: Any = None,
        export_formats: Any = None, max_failures: int = 0, fail_fast: bool | str = False,
        restore: str | None = None, resume: bool | str | None = None,
        reuse_actors: bool | None = None, raise_on_failed_trial: bool = True,
        callbacks: Sequence[Callback] | None = None, max_concurrent_trials: int | None = None,
        storage_path: Any = None, checkpoint_config: Any = None) -> ExperimentAnalysis:
    """Run the trials of a search space and return what came out.

    `run_or_experiment` is a registered name ("PPO"), a Trainable class, a function or an
    Experiment. Trials whose process dies are started again up to 3 times (or max_failures, if
    that is more); those whose code raises, max_failures times.
    """
    if isinstance(run_or_experiment, Experiment):
        return _run_experiment(run_or_experiment, dict(
            metric=metric, mode=mode, verbose=verbose, callbacks=callbacks, scheduler=scheduler,
            progress_reporter=progress_reporter, fail_fast=fail_fast, reuse_actors=reuse_actors,
            raise_on_failed_trial=raise_on_failed_trial,
            max_concurrent_trials=max_concurrent_trials))
    if resume not in (None, False):
        raise TuneError("resume is not supported yet; `restore` starts from a checkpoint")
    if search_alg is not None:
        raise TuneError("search_alg is not supported yet: the config's grids and domains are "
                        "searched as they stand")
    for argument, value in (("log_to_file", log_to_file), ("export_formats", export_formats)):
        if value:
            logger.warning("tune.run(): %s is not supported yet, ignoring", argument)
    if checkpoint_config is not None:
        keep_checkpoints_num = checkpoint_config.num_to_keep
        checkpoint_freq = checkpoint_config.checkpoint_frequency or 0
        checkpoint_at_end = bool(checkpoint_config.checkpoint_at_end)
        score = checkpoint_config.checkpoint_score_attribute
        low = checkpoint_config.checkpoint_score_order == "min"
        checkpoint_score_attr = f"min-{score}" if score and low else score
    _check_numbers(num_samples=(num_samples, 1), checkpoint_freq=(checkpoint_freq, 0),
                   max_failures=(max_failures, -1), keep_checkpoints_num=(keep_checkpoints_num, 1),
                   max_concurrent_trials=(max_concurrent_trials, 0), verbose=(verbose, 0))
    _check_choices(mode, fail_fast, max_failures)
    _check_texts(name=name, metric=metric, checkpoint_score_attr=checkpoint_score_attr)
    if progress_reporter is not None and not isinstance(progress_reporter, ProgressReporter):
        raise TypeError("progress_reporter must be a ProgressReporter, got "
                        f"{type(progress_reporter).__name__}")
    stopper = make_stopper(stop)
    strict = metric is not None
    if metric is None and isinstance(stopper, DictStopper):
        rewards = [key for key in stopper.bounds if is_reward(key)]
        if len(rewards) == 1:
            metric, mode = rewards[0], mode or "max"
    space = _as_space(config)
    trainable_name, trainable_cls = _resolve(run_or_experiment)
    trials = _make_trials(trainable_name, trainable_cls, space, num_samples, resources_per_trial)
    root = _results_root(local_dir if local_dir is not None else storage_path)
    experiment_name = name or trainable_name
    for trial in trials:
        if trial_name_creator is not None:
            trial.custom_trial_name = str(trial_name_creator(trial))
        if trial_dirname_creator is not None:
            trial.custom_dirname = str(trial_dirname_creator(trial))
        if restore is not None:
            trial.restore_path = _existing(restore)
    options = RunOptions(
        experiment_name=experiment_name,
        experiment_dir=os.path.join(root, experiment_name.replace("/", "_")),
        stopper=stopper, time_budget=TimeoutStopper(time_budget_s) if time_budget_s else None,
        scheduler=make_scheduler(scheduler), callbacks=_all_callbacks(callbacks),
        reporter=progress_reporter or CLIReporter(), verbose=3 if verbose is None else verbose,
        metric=metric, mode=mode or ("max" if metric else None), metric_is_strict=strict,
        max_failures=max_failures, fail_fast=fail_fast, checkpoint_freq=checkpoint_freq,
        checkpoint_at_end=checkpoint_at_end, keep_checkpoints=keep_checkpoints_num,
        checkpoint_score=_score(checkpoint_score_attr),
        max_concurrent=max_concurrent_trials or None,
        reuse_actors=bool(reuse_actors), num_samples=num_samples)
    _start_cluster()
    TrialRunner(trials, options).run()
    analysis = ExperimentAnalysis(
        options.experiment_dir, trials=trials, default_metric=metric, default_mode=options.mode)
    incomplete = [trial for trial in trials if trial.status != TERMINATED]
    if incomplete and raise_on_failed_trial:
        first = next((t.error for t in incomplete if t.error is not None), None)
        raise TuneError("Trials did not complete", incomplete) from first
    return analysis


def run_experiments(experiments: Any, **options: Any) -> list[Trial]:
    """Run one or several Experiments (or {name: spec}), one after another; all their trials."""
    if isinstance(experiments, Experiment):
        experiments = [experiments]
    if isinstance(experiments, Mapping):
        experiments = [Experiment.from_json(name, spec) for name, spec in experiments.items()]
    trials: list[Trial] = []
    for experiment in experiments:
        trials += run(experiment, **options).trials
    return trials


def _run_experiment(experiment: Experiment, options: dict[str, Any]) -> ExperimentAnalysis:
    return run(experiment.run, name=experiment.name, **experiment.options, **options)


# ---- checks ---------------------------------------------------------------------------------


def _check_numbers(**limits: tuple[Any, int]) -> None:
    for name, (value, least) in limits.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def _check_texts(**texts: Any) -> None:
    for name, value in texts.items():
        if value is not None and (not isinstance(value, str) or not value):
            raise TypeError(f"{name} must be a text, got {value!r}")


def _check_choices(mode: Any, fail_fast: Any, max_failures: int) -> None:
    if mode is not None and mode not in ("min", "max"):
        raise ValueError("The `mode` parameter passed to `tune.run()` has to be one of "
                         f"['min', 'max'], got {mode!r}")
    if not (isinstance(fail_fast, bool) or fail_fast == "raise"):
        raise ValueError(f"fail_fast must be one of {{bool, 'raise'}}. Got {fail_fast!r}.")
    if fail_fast and max_failures:
        raise ValueError("max_failures must be 0 if fail_fast=True.")


def _as_space(config: Any) -> dict[str, Any]:
    if config is None:
        return {}
    if not isinstance(config, Mapping) and callable(getattr(config, "to_dict", None)):
        config = config.to_dict()
    if not isinstance(config, Mapping):
        raise ValueError(
            f"The `config` passed to `tune.run()` must be a dictionary, got {config!r}")
    return dict(config)


def _resolve(trainable: Any) -> tuple[str, Any]:
    """(name, class) of a trainable."""
    if isinstance(trainable, str):
        return trainable, get_trainable_cls(trainable)
    try:
        cls = as_trainable_class(trainable)
    except TypeError as error:
        raise TuneError(f"Improper 'run' - not string nor trainable: {error}") from None
    return getattr(cls, "_name", None) or cls.__name__, cls


def _make_trials(name: str, cls: Any, space: dict[str, Any], num_samples: int,
                 resources_per_trial: Any) -> list[Trial]:
    experiment_id = uuid.uuid4().hex[:5]
    asked = as_request(resources_per_trial)
    trials: list[Trial] = []
    for index, (config, chosen) in enumerate(generate_variants(space, num_samples)):
        if index < VALIDATED_MAX:
            cls.validate_trial_config(config)
        request = as_request(cls.default_resource_request(config))
        if request is not None and asked is not None and not _is_overridable(cls):
            raise ValueError(
                f"Resources for {cls} have been automatically set by its "
                "`default_resource_request()` method. Please clear the `resources_per_trial` "
                "option.")
        trials.append(Trial(
            trainable_name=name, trainable_cls=cls, config=config, index=index, chosen=chosen,
            trial_id=f"{experiment_id}_{index:05d}", request=asked or request))
    if not trials:
        raise TuneError("the search space has no trial: a grid_search() is empty")
    return trials


def _is_overridable(cls: Any) -> bool:
    """Whether resources_per_trial may replace what the class asks for: functions only."""
    from skate.tune._function import FunctionRunner

    return issubclass(cls, FunctionRunner)


def _results_root(given: Any) -> str:
    if given is None:
        return keys.default_results_dir()
    if not isinstance(given, (str, os.PathLike)):
        raise TypeError(f"local_dir must be a path, got {given!r}")
    path = os.fspath(given)
    if path.startswith("file://"):
        path = path[len("file://"):]
    if "://" in path:
        raise ValueError(f"only local folders can hold results, got {path!r}")
    return os.path.abspath(os.path.expanduser(path))


def _existing(path: Any) -> str:
    path = os.path.expanduser(os.fspath(path))
    if not os.path.exists(path):
        raise ValueError(f"restore: there is no checkpoint at {path!r}")
    return path


def _score(attribute: str | None) -> tuple[str, str] | None:
    if attribute is None:
        return None
    if attribute.startswith("min-"):
        return attribute[4:], "min"
    return attribute, "max"


def _all_callbacks(given: Sequence[Callback] | None) -> list[Callback]:
    callbacks = list(given or [])
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks must be tune.Callback objects, got {callback!r}")
    kinds = {type(c) for c in callbacks if isinstance(c, LoggerCallback)}
    return [logger for logger in default_loggers() if type(logger) not in kinds] + callbacks


def _start_cluster() -> None:
    import skate as ray

    if not ray.is_initialized():
        ray.init()
