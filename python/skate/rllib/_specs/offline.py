"""BC, MARWIL, CQL, IQL: algorithms that learn from recorded steps."""

from __future__ import annotations

import copy
from typing import Any

from skate.rllib import _config, _engine
from skate.rllib._errors import UnsupportedConfigError
from skate.rllib._specs import Spec

Config = dict[str, Any]

# What all of them have, in both eras; the newer era's keys of offline_data() that mean something
# here. dataset_num_iters_per_learner: updates an iteration, None: one pass over the data.
_OFFLINE: Config = {
    "input_read_schema": {},
    "dataset_num_iters_per_learner": 1,
    "off_policy_estimation_methods": {},
    "ope_split_batch_by_episode": True,
    "replay_buffer_size": 10_000,
    "grad_clip": None,
    "lr_schedule": None,
    "num_workers": 0,
}

MARWIL: Config = _config.with_common_config({
    **_OFFLINE,
    "use_gae": True,
    "beta": 1.0,
    "vf_coeff": 1.0,
    "bc_logstd_coeff": 0.0,
    "moving_average_sqd_adv_norm_update_rate": 1e-8,
    "moving_average_sqd_adv_norm_start": 100.0,
    "lambda": 1.0,
    "lr": 1e-4,
    "rollout_fragment_length": 200,
    "train_batch_size": 2000,
    "learning_starts": 0,
    "postprocess_inputs": True,
})

BC: Config = {**copy.deepcopy(MARWIL), "beta": 0.0, "postprocess_inputs": False}

_NET: Config = {
    "fcnet_hiddens": [256, 256], "fcnet_activation": "relu", "post_fcnet_hiddens": [],
    "post_fcnet_activation": None, "custom_model": None, "custom_model_config": {}}

CQL: Config = _config.with_common_config({
    **_OFFLINE,
    "bc_iters": 20_000,
    "temperature": 1.0,
    "num_actions": 10,
    "lagrangian": False,
    "lagrangian_thresh": 5.0,
    "min_q_weight": 5.0,
    "deterministic_backup": True,
    "twin_q": True,
    "Q_model": _NET,
    "policy_model": _NET,
    "tau": 5e-3,
    "initial_alpha": 1.0,
    "target_entropy": "auto",
    "n_step": 1,
    "replay_buffer_config": {},
    "prioritized_replay": False,
    "replay_buffer_size": 1_000_000,
    "training_intensity": None,
    "optimization": {"actor_learning_rate": 3e-4, "critic_learning_rate": 3e-4,
                     "entropy_learning_rate": 3e-4},
    "adam_epsilon": 1e-7,
    "learning_starts": 1500,
    "rollout_fragment_length": 1,
    "train_batch_size": 256,
    "target_network_update_freq": 0,
    "lr": 3e-4,
    "input_evaluation": [],
    # the newer era's: they go before 'optimization'
    "actor_lr": None,
    "critic_lr": None,
    "alpha_lr": None,
})

IQL: Config = _config.with_common_config({
    **_OFFLINE,
    "beta": 0.1,
    "expectile": 0.8,
    "actor_lr": 3e-4,
    "critic_lr": 3e-4,
    "value_lr": 3e-4,
    "lr": 3e-4,
    "twin_q": True,
    "tau": 1.0,
    "target_network_update_freq": 0,
    "train_batch_size": 2000,
    "replay_buffer_size": 1_000_000,
    "adam_epsilon": 1e-7,
    "input_evaluation": [],
})

RENAMED = {
    "q_model_config": "Q_model", "policy_model_config": "policy_model",
    "optimization_config": "optimization",
    "num_steps_sampled_before_learning_starts": "learning_starts",
}
RATES = {"actor_lr": "actor_learning_rate", "critic_lr": "critic_learning_rate",
         "alpha_lr": "entropy_learning_rate"}
OFFERED: dict[str, tuple[Any, ...] | None] = {
    "input": None, "model.fcnet_activation": None, "model.conv_filters": None,
    "model.vf_share_layers": None,
}


def _at_least(config: Config, key: str, low: float, integer: bool = False) -> None:
    value = config[key]
    good = isinstance(value, int if integer else (int, float)) and not isinstance(value, bool)
    if not good or not value >= low:
        kind = "an integer" if integer else "a number"
        raise ValueError(f"{key} must be {kind} >= {low:g}, got {value!r}")


def checks(config: Config) -> None:
    """What reading needs."""
    times = config["dataset_num_iters_per_learner"]
    if times is not None:
        _at_least(config, "dataset_num_iters_per_learner", 1, integer=True)
    _at_least(config, "replay_buffer_size", 1, integer=True)
    _at_least(config, "shuffle_buffer_size", 0, integer=True)
    from skate.rllib.offline import _estimates

    _estimates.methods(config)


def marwil_checks(config: Config) -> None:
    """MARWIL's own limits."""
    checks(config)
    for key in ("beta", "vf_coeff", "moving_average_sqd_adv_norm_start"):
        _at_least(config, key, 0.0)


def bc_checks(config: Config) -> None:
    """BC is MARWIL without weights."""
    marwil_checks(config)
    if config["beta"] != 0.0:
        raise ValueError(f"beta must be 0 for BC, got {config['beta']!r}; MARWIL takes others")


def cql_checks(config: Config) -> None:
    """CQL's own limits."""
    checks(config)
    _at_least(config, "num_actions", 1, integer=True)
    for key in ("bc_iters", "min_q_weight", "tau"):
        _at_least(config, key, 0.0)
    if not config["temperature"] > 0:
        raise ValueError(f"temperature must be above 0, got {config['temperature']!r}")
    for name in ("Q_model", "policy_model"):
        if config[name]["custom_model"] is not None:
            raise UnsupportedConfigError(f"{name}.custom_model is not offered: use its "
                                         "fcnet_hiddens")
    if config["n_step"] != 1 or config["prioritized_replay"]:
        raise UnsupportedConfigError("CQL here draws single steps alike: n_step=1, "
                                     "prioritized_replay=False")


def iql_checks(config: Config) -> None:
    """IQL's own limits."""
    checks(config)
    _at_least(config, "beta", 0.0)
    if not 0.0 < config["expectile"] < 1.0:
        raise ValueError(f"expectile must be between 0 and 1, got {config['expectile']!r}")


def _clip(config: Config) -> Config:
    return {} if config["grad_clip"] is None else {"grad_clip": float(config["grad_clip"])}


def marwil_options(config: Config) -> Config:
    """The options of MARWIL and BC in the engine."""
    return {**_engine.model_options(config), **_clip(config), **{key: config[key] for key in (
        "lr", "beta", "vf_coeff", "bc_logstd_coeff", "moving_average_sqd_adv_norm_update_rate",
        "moving_average_sqd_adv_norm_start")}}


def _shared(config: Config) -> Config:
    return {**_clip(config), **{key: config[key] for key in (
        "gamma", "tau", "target_network_update_freq", "twin_q", "adam_epsilon")},
        "normalize_actions": bool(config["normalize_actions"])}


def cql_options(config: Config) -> Config:
    """CQL's in the engine."""
    options = _shared(config)
    for part, name in (("actor", "policy_model"), ("critic", "Q_model")):
        model = config[name]
        options[f"{part}_hiddens"] = [float(n) for n in (*model["fcnet_hiddens"],
                                                         *(model["post_fcnet_hiddens"] or []))]
        options[f"{part}_hidden_activation"] = model["fcnet_activation"]
    for new, old in RATES.items():
        options[new] = config["optimization"][old] if config[new] is None else config[new]
    for key in ("bc_iters", "temperature", "num_actions", "lagrangian", "lagrangian_thresh",
                "min_q_weight", "deterministic_backup", "initial_alpha"):
        options[key] = config[key]
    if config["target_entropy"] not in ("auto", None):
        options["target_entropy"] = float(config["target_entropy"])
    return options


def iql_options(config: Config) -> Config:
    """IQL's in the engine; all its nets are config['model']."""
    options, model = _shared(config), config["model"]
    for part in ("actor", "critic"):
        options[f"{part}_hiddens"] = [float(n) for n in model["fcnet_hiddens"]]
        options[f"{part}_hidden_activation"] = model["fcnet_activation"]
    for key in ("beta", "expectile", "actor_lr", "critic_lr", "value_lr"):
        options[key] = config[key]
    return options


NEWER: Config = {"dataset_num_iters_per_learner": None, "input_evaluation": []}

SPECS = [
    Spec("MARWIL", MARWIL, "offline:OfflinePlan", "MARWIL", newer=NEWER,
         options=marwil_options, offered=OFFERED, checks=marwil_checks),
    Spec("BC", BC, "offline:OfflinePlan", "BC", newer=NEWER, options=marwil_options,
         offered=OFFERED, checks=bc_checks),
    Spec("CQL", CQL, "offline:OfflinePlan", "CQL", renamed=RENAMED, options=cql_options,
         newer={**NEWER, "actor_lr": 1e-4, "critic_lr": 1e-3, "alpha_lr": 1e-3},
         offered={"input": None}, checks=cql_checks),
    Spec("IQL", IQL, "offline:OfflinePlan", "IQL", newer=NEWER, renamed=RENAMED,
         options=iql_options, offered={"input": None, "model.fcnet_activation": None},
         checks=iql_checks),
]
