"""contrib/LinUCB and contrib/LinTS."""

from __future__ import annotations

from typing import Any

from skate.rllib import _config
from skate.rllib._specs import Spec


def _defaults(exploration: str) -> dict[str, Any]:
    return _config.with_common_config({
        "num_workers": 0,
        "rollout_fragment_length": 1,
        "train_batch_size": 1,
        "timesteps_per_iteration": 100,
        "exploration_config": {"type": f"ray.rllib.contrib.bandits.exploration.{exploration}"},
    })


def options(config: dict[str, Any]) -> dict[str, Any]:
    """alpha and lambda_ as RLlib's models have them, from model['custom_model_config']."""
    given = config["model"]["custom_model_config"]
    return {"alpha": given.get("alpha", 1.0), "lambda": given.get("lambda_", 1.0)}


def checks(config: dict[str, Any]) -> None:
    """alpha and lambda_ are numbers, and nothing else is meant for the model."""
    given = config["model"]["custom_model_config"]
    for key, value in given.items():
        if key not in ("alpha", "lambda_"):
            raise _config.unknown_key(key, ("alpha", "lambda_"), " in 'custom_model_config'")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            raise ValueError(f"{key} must be a number >= 0, got {value!r}")


SPECS = [
    Spec("contrib/LinUCB", _defaults("UCB"), "own:BanditPlan", "LinUCB", options=options,
         columns=(), checks=checks),
    Spec("contrib/LinTS", _defaults("ThompsonSampling"), "own:BanditPlan", "LinTS",
         options=options, columns=(), checks=checks),
]
