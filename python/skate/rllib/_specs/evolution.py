"""ES and ARS."""

from __future__ import annotations

from typing import Any

from skate.rllib import _config, _engine
from skate.rllib._specs import Spec

EVALUATION = {"num_envs_per_worker": 1, "observation_filter": "NoFilter"}

ES_DEFAULTS: dict[str, Any] = _config.with_common_config({
    "action_noise_std": 0.01,
    "l2_coeff": 0.005,
    "noise_stdev": 0.02,
    "episodes_per_batch": 1000,
    "train_batch_size": 10000,
    "eval_prob": 0.003,
    "return_proc_mode": "centered_rank",
    "num_workers": 10,
    "stepsize": 0.01,
    "observation_filter": "MeanStdFilter",
    "noise_size": 250000000,
    "report_length": 10,
    "evaluation_config": EVALUATION,
})

ARS_DEFAULTS: dict[str, Any] = _config.with_common_config({
    "action_noise_std": 0.0,
    "noise_stdev": 0.02,
    "num_rollouts": 32,
    "rollouts_used": 32,
    "num_workers": 2,
    "sgd_stepsize": 0.01,
    "observation_filter": "MeanStdFilter",
    "noise_size": 250000000,
    "eval_prob": 0.03,
    "report_length": 10,
    "offset": 0,
    "evaluation_config": EVALUATION,
})

# key -> (least, integer); the greatest number is the engine's to check
ES_NUMBERS = {"action_noise_std": 0, "l2_coeff": 0, "noise_stdev": 0, "episodes_per_batch": 1,
              "eval_prob": 0, "stepsize": 0, "noise_size": 1, "report_length": 1}
ARS_NUMBERS = {"action_noise_std": 0, "noise_stdev": 0, "num_rollouts": 1, "rollouts_used": 1,
               "sgd_stepsize": 0, "noise_size": 1, "eval_prob": 0, "report_length": 1}
WHOLE = frozenset({"episodes_per_batch", "noise_size", "report_length", "num_rollouts",
                   "rollouts_used"})


def _check(config: dict[str, Any], numbers: dict[str, int]) -> None:
    for key, least in numbers.items():
        value = config[key]
        kind = int if key in WHOLE else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind) or not value >= least:
            what = "an integer" if key in WHOLE else "a number"
            raise ValueError(f"{key} must be {what} >= {least}, got {value!r}")
    if config["eval_prob"] > 1:
        raise ValueError(f"eval_prob must be at most 1, got {config['eval_prob']!r}")


def check_es(config: dict[str, Any]) -> None:
    """ES's own limits."""
    _check(config, ES_NUMBERS)
    modes = ("centered_rank", "sign", "centered_sign_rank")
    if config["return_proc_mode"] not in modes:
        raise ValueError(f"return_proc_mode must be one of {', '.join(modes)}, got "
                         f"{config['return_proc_mode']!r}")


def check_ars(config: dict[str, Any]) -> None:
    """ARS's own limits."""
    _check(config, ARS_NUMBERS)
    offset = config["offset"]
    if isinstance(offset, bool) or not isinstance(offset, (int, float)):
        raise ValueError(f"offset must be a number, got {offset!r}")


def _shared(config: dict[str, Any]) -> dict[str, Any]:
    return {**_engine.model_options(config), "noise_size": config["noise_size"],
            "observation_filter": config["observation_filter"] or "NoFilter"}


def es_options(config: dict[str, Any]) -> dict[str, Any]:
    """What src/rl/algo/algo_es.c reads for ES."""
    return {**_shared(config), **{key: config[key] for key in (
        "stepsize", "l2_coeff", "return_proc_mode")}}


def ars_options(config: dict[str, Any]) -> dict[str, Any]:
    """The same for ARS."""
    return {**_shared(config), **{key: config[key] for key in (
        "sgd_stepsize", "num_rollouts", "rollouts_used")}}


OFFERED: dict[str, tuple[Any, ...] | None] = {
    "observation_filter": ("MeanStdFilter", "ConcurrentMeanStdFilter", "NoFilter", None)}

SPECS = [
    Spec("ES", ES_DEFAULTS, "own:EvolutionPlan", "ES", options=es_options, columns=(),
         offered=OFFERED, checks=check_es, trainer="_plans.own:EvolutionTrainer"),
    Spec("ARS", ARS_DEFAULTS, "own:EvolutionPlan", "ARS", options=ars_options, columns=(),
         offered=OFFERED, checks=check_ars, trainer="_plans.own:EvolutionTrainer"),
]
