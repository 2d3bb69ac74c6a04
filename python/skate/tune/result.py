"""The names of the result keys that Tune fills in or looks at, in one place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

CONFIG = "config"
DATE = "date"
DONE = "done"
DUPLICATE = "__duplicate__"
EPISODES_THIS_ITER = "episodes_this_iter"
EPISODES_TOTAL = "episodes_total"
EXPERIMENT_ID = "experiment_id"
EXPERIMENT_TAG = "experiment_tag"
HOSTNAME = "hostname"
ITERATIONS_SINCE_RESTORE = "iterations_since_restore"
NODE_IP = "node_ip"
PID = "pid"
SHOULD_CHECKPOINT = "should_checkpoint"
TIMESTAMP = "timestamp"
TIMESTEPS_SINCE_RESTORE = "timesteps_since_restore"
TIMESTEPS_THIS_ITER = "timesteps_this_iter"
TIMESTEPS_TOTAL = "timesteps_total"
TIME_SINCE_RESTORE = "time_since_restore"
TIME_THIS_ITER_S = "time_this_iter_s"
TIME_TOTAL_S = "time_total_s"
TRAINING_ITERATION = "training_iteration"
TRIAL_ID = "trial_id"

# Keys that describe the trial's process rather than its learning: no metric, no table column.
AUTO_KEYS = frozenset({
    CONFIG, DATE, DONE, DUPLICATE, EPISODES_THIS_ITER, EPISODES_TOTAL, EXPERIMENT_ID,
    EXPERIMENT_TAG, HOSTNAME, ITERATIONS_SINCE_RESTORE, NODE_IP, PID, SHOULD_CHECKPOINT, TIMESTAMP,
    TIMESTEPS_SINCE_RESTORE, TIMESTEPS_THIS_ITER, TIMESTEPS_TOTAL, TIME_SINCE_RESTORE,
    TIME_THIS_ITER_S, TIME_TOTAL_S, TRAINING_ITERATION, TRIAL_ID,
})

# The key of a metric that a function reports as a bare number: `tune.report(_metric=3)`.
DEFAULT_METRIC = "_metric"


def default_results_dir() -> str:
    """Where experiments go when nobody says otherwise."""
    for key in ("SKATE_RESULTS_DIR", "TUNE_RESULT_DIR"):
        if os.environ.get(key):
            return os.path.expanduser(os.environ[key])
    return os.path.join(os.path.expanduser("~"), "ray_results")


def flatten(result: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """One level of keys; a nested key is the path to it, joined by '/'."""
    flat: dict[str, Any] = {}
    for key, value in result.items():
        name = f"{prefix}{key}"
        if value.__class__ is not float and isinstance(value, Mapping) and value:
            flat.update(flatten(value, name + "/"))
        else:
            flat[name] = value
    return flat


def lookup(result: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """The value of `key`, which may be a path with '/' into nested dictionaries."""
    if key in result:
        return result[key]
    head, slash, rest = key.partition("/")
    while slash:
        inner = result.get(head)
        if isinstance(inner, Mapping):
            found = lookup(inner, rest, _MISSING)
            if found is not _MISSING:
                return found
        more, slash, rest = rest.partition("/")
        head = f"{head}/{more}"
    return default


def has(result: Mapping[str, Any], key: str) -> bool:
    """Whether lookup() would find `key`."""
    return lookup(result, key, _MISSING) is not _MISSING


_MISSING = object()
