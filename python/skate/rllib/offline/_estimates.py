"""The estimates that a trainer reports, by the config keys of either era."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from skate.rllib._errors import UnsupportedConfigError
from skate.rllib.offline import _source
from skate.rllib.offline.is_estimator import ImportanceSamplingEstimator
from skate.rllib.offline.wis_estimator import WeightedImportanceSamplingEstimator
from skate.rllib.policy.sample_batch import SampleBatch

OLDER = {"is": ImportanceSamplingEstimator, "wis": WeightedImportanceSamplingEstimator}


def methods(config: dict[str, Any]) -> dict[str, Any]:
    """{name: class or {"type": class, ...}} of off_policy_estimation_methods, else of
    input_evaluation. UnsupportedConfigError: a name that is none."""
    newer = config.get("off_policy_estimation_methods")
    if newer:
        return dict(newer)
    found: dict[str, Any] = {}
    for name in config["input_evaluation"] or []:
        if name == "simulation":
            continue            # evaluation_interval does it
        if isinstance(name, str) and name not in OLDER:
            raise UnsupportedConfigError(f"input_evaluation has {name!r}; there are 'is', 'wis', "
                                         "'simulation' and estimators' classes")
        found[name if isinstance(name, str) else name.__name__] = OLDER.get(name, name)
    return found


def next_episodes(data: SampleBatch, start: int, rows: int) -> tuple[SampleBatch, int]:
    """(whole segments from row `start` on, about `rows` rows of them; the next start)."""
    _done, last = _source.ends_of(data)
    start = start if start < data.count else 0
    if start and not last[start - 1]:
        start = 0
    ends = np.flatnonzero(last[start:]) + start + 1
    enough = ends[ends - start >= min(rows, data.count - start)]
    stop = int(enough[0]) if len(enough) else int(ends[-1])
    part = data[start:stop]
    if "eps_id" not in part:
        part["eps_id"] = np.concatenate([[0], np.cumsum(last[start:stop - 1])])
    return part, stop


def estimate(wanted: dict[str, Any], policy: Any, config: dict[str, Any],
             batch: SampleBatch) -> dict[str, Any]:
    """{name: metrics}; of the older era's estimators the means over episodes."""
    result: dict[str, Any] = {}
    for name, how in wanted.items():
        keywords = dict(how) if isinstance(how, dict) else {"type": how}
        make: Callable[..., Any] = keywords.pop("type")
        made = make(policy, config["gamma"], **keywords)
        if not hasattr(made, "process"):
            made.train(batch)
            result[name] = made.estimate(batch, config.get("ope_split_batch_by_episode", True))
            continue
        made.process(batch)
        metrics = [one.metrics for one in made.get_metrics()]
        result[name] = {key: float(np.mean([one[key] for one in metrics])) for key in metrics[0]}
    return result
