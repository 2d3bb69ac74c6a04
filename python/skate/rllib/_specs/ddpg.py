"""DDPG, TD3 and APEX_DDPG."""

from __future__ import annotations

import copy
from typing import Any

from skate.rllib import _config, _engine
from skate.rllib._errors import UnsupportedConfigError
from skate.rllib._specs import Spec

Config = dict[str, Any]

DDPG: Config = _config.with_common_config({
    "twin_q": False,
    "policy_delay": 1,
    "smooth_target_policy": False,
    "target_noise": 0.2,
    "target_noise_clip": 0.5,
    "use_state_preprocessor": False,
    "actor_hiddens": [400, 300],
    "actor_hidden_activation": "relu",
    "critic_hiddens": [400, 300],
    "critic_hidden_activation": "relu",
    "n_step": 1,
    "exploration_config": {
        "type": "OrnsteinUhlenbeckNoise", "random_timesteps": 1000, "ou_base_scale": 0.1,
        "ou_theta": 0.15, "ou_sigma": 0.2, "initial_scale": 1.0, "final_scale": 1.0,
        "scale_timesteps": 10_000},
    "evaluation_config": {"explore": False},
    "timesteps_per_iteration": 1000,
    "buffer_size": 50_000,
    "replay_buffer_config": {},
    "store_buffer_in_checkpoints": None,
    "prioritized_replay": True,
    "prioritized_replay_alpha": 0.6,
    "prioritized_replay_beta": 0.4,
    "final_prioritized_replay_beta": 0.4,
    "prioritized_replay_beta_annealing_timesteps": 20_000,
    "prioritized_replay_eps": 1e-6,
    "training_intensity": None,
    "critic_lr": 1e-3,
    "actor_lr": 1e-3,
    "target_network_update_freq": 0,
    "tau": 0.002,
    "use_huber": False,
    "huber_threshold": 1.0,
    "l2_reg": 1e-6,
    "grad_clip": None,
    "grad_clip_by": "global_norm",
    "adam_epsilon": 1e-7,
    "learning_starts": 1500,
    "rollout_fragment_length": 1,
    "train_batch_size": 256,
    "num_workers": 0,
    "worker_side_prioritization": False,
    "min_iter_time_s": 1,
    # Skate's: layers start as torch.nn.Linear does
    "torch_init": False,
})

TD3: Config = {
    **copy.deepcopy(DDPG),
    "twin_q": True,
    "policy_delay": 2,
    "smooth_target_policy": True,
    "exploration_config": {
        "type": "GaussianNoise", "random_timesteps": 10_000, "stddev": 0.1,
        "initial_scale": 1.0, "final_scale": 1.0, "scale_timesteps": 1},
    "learning_starts": 10_000,
    "l2_reg": 0.0,
    "tau": 5e-3,
    "train_batch_size": 100,
    "buffer_size": 1_000_000,
    "prioritized_replay": False,
    "clip_rewards": False,
}

APEX_DDPG: Config = {
    **copy.deepcopy(DDPG),
    "optimizer": {"max_weight_sync_delay": 400, "num_replay_buffer_shards": 4, "debug": False},
    "exploration_config": {"type": "PerWorkerOrnsteinUhlenbeckNoise"},
    "n_step": 3,
    "num_workers": 32,
    "buffer_size": 2_000_000,
    "learning_starts": 50_000,
    "train_batch_size": 512,
    "rollout_fragment_length": 50,
    "target_network_update_freq": 500_000,
    "timesteps_per_iteration": 25_000,
    "worker_side_prioritization": True,
    "min_iter_time_s": 30,
}

RENAMED = {"num_steps_sampled_before_learning_starts": "learning_starts"}


def widths(value: Any, name: str) -> list[float]:
    """Hidden layers as the engine takes them. ValueError names the key."""
    if not isinstance(value, (list, tuple)) or len(value) > 7 or not all(
            isinstance(h, int) and not isinstance(h, bool) and 0 < h <= 65536 for h in value):
        raise ValueError(f"{name} must be at most 7 widths of 1..65536, got {value!r}")
    return [float(h) for h in value]


def number(config: Config, name: str, low: float = 0.0, open_end: bool = False) -> None:
    """ValueError unless config[name] is a number >= low (> low with `open_end`)."""
    value = config[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (
            value > low if open_end else value >= low):
        sign = ">" if open_end else ">="
        raise ValueError(f"{name} must be a number {sign} {low:g}, got {value!r}")


def checks(config: Config) -> None:
    """The family's own limits."""
    for name in ("target_noise", "target_noise_clip", "l2_reg"):
        number(config, name)
    for name in ("actor_lr", "critic_lr", "tau"):
        number(config, name)
    number(config, "huber_threshold", open_end=True)
    number(config, "policy_delay", 1)
    if config["grad_clip"] is not None:
        number(config, "grad_clip", open_end=True)
    for name in ("actor_hiddens", "critic_hiddens"):
        widths(config[name], name)
    if config["use_state_preprocessor"] not in (False, -1):
        raise UnsupportedConfigError("use_state_preprocessor is not offered, only False: actor "
                                     "and critic have their own layers")


def shared_options(config: Config) -> dict[str, Any]:
    """What all off-policy actor-critics tell the engine."""
    options = _engine.model_options(config)
    for key in ("use_lstm", "lstm_cell_size", "no_final_linear", "vf_share_layers",
                "free_log_std"):
        options.pop(key, None)
    options.update(gamma=config["gamma"], tau=config["tau"], twin_q=bool(config["twin_q"]),
                   n_step=config["n_step"], adam_epsilon=config["adam_epsilon"],
                   normalize_actions=bool(config["normalize_actions"]),
                   torch_init=bool(config["torch_init"]))
    if config["grad_clip"]:
        options.update(grad_clip=float(config["grad_clip"]), grad_clip_by=config["grad_clip_by"])
    return options


def options_of(config: Config) -> dict[str, Any]:
    """DDPG's options in the engine."""
    options = shared_options(config)
    for part in ("actor", "critic"):
        options[f"{part}_hiddens"] = widths(config[f"{part}_hiddens"], f"{part}_hiddens")
        options[f"{part}_hidden_activation"] = config[f"{part}_hidden_activation"]
    for name in ("actor_lr", "critic_lr", "policy_delay", "target_noise", "target_noise_clip",
                 "huber_threshold", "l2_reg"):
        options[name] = config[name]
    for name in ("smooth_target_policy", "use_huber"):
        options[name] = bool(config[name])
    return options


COMMON: dict[str, Any] = {
    "engine": "DDPG", "options": options_of, "checks": checks, "columns": (),
    "renamed": RENAMED, "target_by_plan": True,
    "offered": {"clip_rewards": None, "batch_mode": None, "model.fcnet_activation": None,
                "model.conv_filters": None, "model.post_fcnet_hiddens": None},
}

SPECS = [
    Spec("DDPG", DDPG, "replay:ReplayPlan", **COMMON),
    Spec("TD3", TD3, "replay:ReplayPlan", **COMMON),
    Spec("APEX_DDPG", APEX_DDPG, "replay:ReplayPlan", **COMMON),
]
