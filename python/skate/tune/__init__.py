"""Tune: many trials of a trainable over a search space, on a Skate cluster.

    from skate import tune
    analysis = tune.run("PPO", stop={"episode_reward_mean": 200},
                        config={"env": "CartPole-v0", "lr": tune.grid_search([0.01, 0.001])})
    print(analysis.best_config)

In reading order: sample.py and _variants.py (search spaces), trainable.py and _function.py (what
a trial runs), tune.py (checks), _runner.py (the event loop), _actor.py (the trial's process),
logger.py and progress_reporter.py (files and terminal), analysis.py (results).

The names below are loaded when they are first used: a trial's process needs few of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Module -> the public names that it holds.
_MODULES: dict[str, str] = {
    "_parameters": "with_parameters",
    "analysis": "Analysis ExperimentAnalysis",
    "callback": "Callback",
    "checkpoint": "Checkpoint",
    "config": "CheckpointConfig FailureConfig RunConfig SyncConfig TuneConfig",
    "error": "TuneError",
    "experiment": "Experiment",
    "progress_reporter": "CLIReporter JupyterNotebookReporter ProgressReporter",
    "registry": "register_env register_trainable",
    "resources": "PlacementGroupFactory with_resources",
    "result_grid": "Result ResultGrid",
    "sample": "choice grid_search lograndint loguniform qlograndint qloguniform qrandint qrandn "
              "quniform randint randn sample_from uniform",
    "session": "TuneContext checkpoint_dir get_checkpoint get_context get_trial_dir get_trial_id "
               "get_trial_name get_trial_resources is_session_enabled report",
    "stopper": "Stopper",
    "trainable": "Trainable",
    "tune": "run run_experiments",
    "tuner": "Tuner",
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [
    "Analysis", "CLIReporter", "Callback", "Checkpoint", "CheckpointConfig", "Experiment",
    "ExperimentAnalysis", "FailureConfig", "JupyterNotebookReporter", "PlacementGroupFactory",
    "ProgressReporter", "Result", "ResultGrid", "RunConfig", "Stopper", "SyncConfig", "Trainable",
    "TuneConfig", "TuneContext", "TuneError", "Tuner", "checkpoint_dir", "choice",
    "get_checkpoint", "get_context", "get_trial_dir", "get_trial_id", "get_trial_name",
    "get_trial_resources", "grid_search", "is_session_enabled", "lograndint", "loguniform",
    "qlograndint", "qloguniform", "qrandint", "qrandn", "quniform", "randint", "randn",
    "register_env", "register_trainable", "report", "run", "run_experiments", "sample_from",
    "uniform", "with_parameters", "with_resources",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *_WHERE})
