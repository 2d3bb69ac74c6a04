"""SAC (continuous and discrete), TQC and RNNSAC."""

from __future__ import annotations

import copy
from typing import Any

from skate.rllib import _config
from skate.rllib._errors import UnsupportedConfigError
from skate.rllib._specs import Spec
from skate.rllib._specs.ddpg import number, shared_options, widths

Config = dict[str, Any]

_NET: Config = {
    "fcnet_hiddens": [256, 256], "fcnet_activation": "relu", "post_fcnet_hiddens": [],
    "post_fcnet_activation": None, "custom_model": None, "custom_model_config": {}}

SAC: Config = _config.with_common_config({
    "twin_q": True,
    "use_state_preprocessor": -1,
    "Q_model": _NET,
    "policy_model": _NET,
    "clip_actions": False,
    "tau": 5e-3,
    "initial_alpha": 1.0,
    "target_entropy": "auto",
    "n_step": 1,
    "timesteps_per_iteration": 100,
    "buffer_size": 1_000_000,
    "replay_buffer_config": {},
    "store_buffer_in_checkpoints": None,
    "prioritized_replay": False,
    "prioritized_replay_alpha": 0.6,
    "prioritized_replay_beta": 0.4,
    "prioritized_replay_eps": 1e-6,
    "prioritized_replay_beta_annealing_timesteps": 20_000,
    "final_prioritized_replay_beta": 0.4,
    "training_intensity": None,
    "optimization": {"actor_learning_rate": 3e-4, "critic_learning_rate": 3e-4,
                     "entropy_learning_rate": 3e-4},
    "grad_clip": None,
    "grad_clip_by": "global_norm",
    "adam_epsilon": 1e-7,
    "learning_starts": 1500,
    "rollout_fragment_length": 1,
    "train_batch_size": 256,
    "target_network_update_freq": 0,
    "num_workers": 0,
    "num_gpus_per_worker": 0,
    "num_cpus_per_worker": 1,
    "worker_side_prioritization": False,
    "min_iter_time_s": 1,
    "_deterministic_loss": False,
    "_use_beta_distribution": False,
    # the newer era's: they go before 'optimization'
    "actor_lr": None,
    "critic_lr": None,
    "alpha_lr": None,
    # Skate's: layers start as torch.nn.Linear does; the critics' loss
    "torch_init": False,
    "use_huber": True,
})

TQC: Config = {
    **copy.deepcopy(SAC),
    "n_quantiles": 25,
    "n_critics": 2,
    "top_quantiles_to_drop_per_net": 2,
}

RNNSAC: Config = {
    **copy.deepcopy(SAC),
    "batch_mode": "complete_episodes",
    "zero_init_states": True,
    "burn_in": 0,
    "replay_sequence_length": -1,
}

NEWER: Config = {
    "actor_lr": 3e-5, "critic_lr": 3e-4, "alpha_lr": 3e-4,
    "replay_buffer_config": {"type": "PrioritizedEpisodeReplayBuffer", "capacity": 1_000_000,
                             "alpha": 0.6, "beta": 0.4},
}
RENAMED = {
    "num_steps_sampled_before_learning_starts": "learning_starts",
    "q_model_config": "Q_model", "policy_model_config": "policy_model",
    "optimization_config": "optimization",
}
RATES = {"actor_lr": "actor_learning_rate", "critic_lr": "critic_learning_rate",
         "alpha_lr": "entropy_learning_rate"}


def checks(config: Config) -> None:
    """The family's own limits."""
    for name in ("Q_model", "policy_model"):
        if config[name]["custom_model"] is not None:
            raise UnsupportedConfigError(f"{name}.custom_model is not offered: use its "
                                         "fcnet_hiddens")
        hiddens(config[name], name)
    entropy = config["target_entropy"]
    if entropy not in ("auto", None) and (isinstance(entropy, bool)
                                          or not isinstance(entropy, (int, float))):
        raise ValueError(f"target_entropy must be a number or 'auto', got {entropy!r}")
    number(config, "initial_alpha", open_end=True)
    number(config, "tau")
    if config["grad_clip"] is not None:
        number(config, "grad_clip", open_end=True)
    for key, value in rates(config).items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            raise ValueError(f"{key} must be a number >= 0, got {value!r}")
    for name in ("_deterministic_loss", "_use_beta_distribution"):
        if config[name]:
            raise UnsupportedConfigError(f"{name} is not offered, only False")


def tqc_checks(config: Config) -> None:
    """SAC's and those of the quantiles."""
    checks(config)
    for name in ("n_quantiles", "n_critics"):
        if not isinstance(config[name], int) or config[name] < 1:
            raise ValueError(f"{name} must be an integer >= 1, got {config[name]!r}")
    drop = config["top_quantiles_to_drop_per_net"]
    if not isinstance(drop, int) or not 0 <= drop < config["n_quantiles"]:
        raise ValueError("top_quantiles_to_drop_per_net must be an integer from 0 to n_quantiles "
                         f"- 1 ({config['n_quantiles'] - 1}), got {drop!r}")


def rnnsac_checks(config: Config) -> None:
    """SAC's and RLlib's limits of the recurrent one."""
    checks(config)
    length = config["model"]["max_seq_len"]
    if config["replay_sequence_length"] not in (-1, length + int(config["burn_in"])):
        raise ValueError("replay_sequence_length is burn_in + model.max_seq_len: leave it at -1")
    if config["prioritized_replay"]:
        raise ValueError("prioritized_replay must be False with RNNSAC")
    if config["n_step"] > 1:
        raise ValueError(f"n_step must be 1 with RNNSAC, got {config['n_step']!r}")
    if config["batch_mode"] != "complete_episodes":
        raise ValueError("batch_mode must be 'complete_episodes' with RNNSAC")
    number(config, "burn_in")
    if config["train_batch_size"] < length:
        raise ValueError(f"train_batch_size {config['train_batch_size']} must be at least "
                         f"model.max_seq_len {length}")


def hiddens(model: Config, name: str) -> list[float]:
    """The layers of Q_model or policy_model, one activation for all."""
    after = model["post_fcnet_hiddens"] or []
    if after and model["post_fcnet_activation"] not in (None, model["fcnet_activation"]):
        raise UnsupportedConfigError(f"{name}.post_fcnet_activation must be its fcnet_activation")
    return widths([*model["fcnet_hiddens"], *after], f"{name}.fcnet_hiddens")


def rates(config: Config) -> dict[str, Any]:
    """The three learning rates, by the newer names."""
    return {new: config["optimization"].get(old, 3e-4) if config[new] is None else config[new]
            for new, old in RATES.items()}


def options_of(config: Config) -> dict[str, Any]:
    """SAC's options in the engine."""
    options = {**shared_options(config), **rates(config)}
    for part, name in (("actor", "policy_model"), ("critic", "Q_model")):
        options[f"{part}_hiddens"] = hiddens(config[name], name)
        options[f"{part}_hidden_activation"] = config[name]["fcnet_activation"]
    if config["target_entropy"] not in ("auto", None):
        options["target_entropy"] = float(config["target_entropy"])
    options.update(initial_alpha=config["initial_alpha"], use_huber=bool(config["use_huber"]))
    return options


def tqc_options(config: Config) -> dict[str, Any]:
    """TQC's; its loss has no other form."""
    options = options_of(config)
    for name in ("n_quantiles", "n_critics", "top_quantiles_to_drop_per_net"):
        options[name] = config[name]
    return options


def rnnsac_options(config: Config) -> dict[str, Any]:
    """SAC's with an LSTM in every net."""
    return {**options_of(config), "lstm_cell_size": config["model"]["lstm_cell_size"],
            "zero_init_states": bool(config["zero_init_states"]), "burn_in": config["burn_in"]}


COMMON: dict[str, Any] = {
    "columns": (), "renamed": RENAMED, "target_by_plan": True, "newer": NEWER,
    "offered": {"clip_rewards": None, "batch_mode": None, "model.fcnet_activation": None,
                "model.conv_filters": None, "model.post_fcnet_hiddens": None},
}

SPECS = [
    Spec("SAC", SAC, "replay:ReplayPlan", "SAC", options=options_of, checks=checks, **COMMON),
    Spec("TQC", TQC, "replay:ReplayPlan", "TQC", options=tqc_options, checks=tqc_checks,
         **COMMON),
    Spec("RNNSAC", RNNSAC, "sequences:SequencePlan", "RNNSAC", options=rnnsac_options,
         checks=rnnsac_checks, **{**COMMON, "newer": {}, "offered": {
             **COMMON["offered"], "model.use_lstm": None}}),
]
