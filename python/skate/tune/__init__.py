"""Tune: many trials of a trainable over a search space, on a Skate cluster.

    from skate import tune
    analysis = tune.run("PPO", stop={"episode_reward_mean": 200},
                        config={"env": "CartPole-v0", "lr": tune.grid_search([0.01, 0.001])})
    print(analysis.best_config)

In reading order: sample.py and _variants.py (search spaces), trainable.py and _function.py (what
a trial runs), tune.py (checks), _runner.py (the event loop), _actor.py (the trial's process),
logger.py and progress_reporter.py (files and terminal), analysis.py (results).
"""

from skate.tune._parameters import with_parameters
from skate.tune.analysis import Analysis, ExperimentAnalysis
from skate.tune.callback import Callback
from skate.tune.checkpoint import Checkpoint
from skate.tune.config import CheckpointConfig, FailureConfig, RunConfig, SyncConfig, TuneConfig
from skate.tune.error import TuneError
from skate.tune.experiment import Experiment
from skate.tune.progress_reporter import CLIReporter, JupyterNotebookReporter, ProgressReporter
from skate.tune.registry import register_env, register_trainable
from skate.tune.resources import PlacementGroupFactory, with_resources
from skate.tune.result_grid import Result, ResultGrid
from skate.tune.sample import (
    choice,
    grid_search,
    lograndint,
    loguniform,
    qlograndint,
    qloguniform,
    qrandint,
    qrandn,
    quniform,
    randint,
    randn,
    sample_from,
    uniform,
)
from skate.tune.session import (
    TrialContext as TuneContext,
)
from skate.tune.session import (
    checkpoint_dir,
    get_checkpoint,
    get_context,
    get_trial_dir,
    get_trial_id,
    get_trial_name,
    get_trial_resources,
    is_session_enabled,
    report,
)
from skate.tune.stopper import Stopper
from skate.tune.trainable import Trainable
from skate.tune.tune import run, run_experiments
from skate.tune.tuner import Tuner

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
