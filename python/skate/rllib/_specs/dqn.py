"""DQN and its family: SimpleQ, DQN (double, dueling, n-step, prioritised, distributional, noisy),
APEX, R2D2."""

from __future__ import annotations

import copy
from typing import Any

from skate.rllib import _config, _engine
from skate.rllib._errors import UnsupportedConfigError
from skate.rllib._specs import Spec

Config = dict[str, Any]

SIMPLE_Q: Config = _config.with_common_config({
    "exploration_config": {"type": "EpsilonGreedy", "initial_epsilon": 1.0,
                           "final_epsilon": 0.02, "epsilon_timesteps": 10_000},
    "evaluation_config": {"explore": False},
    "timesteps_per_iteration": 1000,
    "target_network_update_freq": 500,
    "buffer_size": 50_000,
    "replay_buffer_config": {},
    "store_buffer_in_checkpoints": None,
    "replay_sequence_length": 1,
    "prioritized_replay": False,
    "lr": 5e-4,
    "lr_schedule": None,
    "adam_epsilon": 1e-8,
    "grad_clip": 40,
    "grad_clip_by": "global_norm",
    "learning_starts": 1000,
    "rollout_fragment_length": 4,
    "train_batch_size": 32,
    "num_workers": 0,
    "worker_side_prioritization": False,
    # the newer era's
    "tau": 1.0,
    "td_error_loss_fn": "huber",
    "epsilon": None,
    # Skate's: layers start as torch.nn.Linear does
    "torch_init": False,
})

DQN: Config = {
    **copy.deepcopy(SIMPLE_Q),
    "num_atoms": 1,
    "v_min": -10.0,
    "v_max": 10.0,
    "noisy": False,
    "sigma0": 0.5,
    "dueling": True,
    "hiddens": [256],
    "double_q": True,
    "n_step": 1,
    "prioritized_replay": True,
    "prioritized_replay_alpha": 0.6,
    "prioritized_replay_beta": 0.4,
    "final_prioritized_replay_beta": 0.4,
    "prioritized_replay_beta_annealing_timesteps": 20_000,
    "prioritized_replay_eps": 1e-6,
    "before_learn_on_batch": None,
    "training_intensity": None,
}

# Ray asks for a GPU here; this engine has no use for one.
APEX: Config = {
    **copy.deepcopy(DQN),
    "optimizer": {"max_weight_sync_delay": 400, "num_replay_buffer_shards": 4, "debug": False},
    "n_step": 3,
    "num_workers": 32,
    "buffer_size": 2_000_000,
    "learning_starts": 50_000,
    "train_batch_size": 512,
    "rollout_fragment_length": 50,
    "target_network_update_freq": 500_000,
    "timesteps_per_iteration": 25_000,
    "exploration_config": {"type": "PerWorkerEpsilonGreedy"},
    "worker_side_prioritization": True,
    "min_iter_time_s": 30,
}

R2D2: Config = {
    **copy.deepcopy(DQN),
    "lr": 1e-4,
    "gamma": 0.997,
    "train_batch_size": 64,
    "adam_epsilon": 1e-3,
    "num_workers": 2,
    "batch_mode": "complete_episodes",
    "zero_init_states": True,
    "burn_in": 0,
    "use_h_function": True,
    "h_function_epsilon": 1e-3,
    "buffer_size": 100_000,
    "prioritized_replay": False,
    "replay_sequence_length": -1,
    "target_network_update_freq": 2500,
}

NEWER: Config = {"epsilon": [[0, 1.0], [10_000, 0.05]], "timesteps_per_iteration": 1000}
RENAMED = {
    "num_steps_sampled_before_learning_starts": "learning_starts",
    "adam_eps": "adam_epsilon",
    "replay_burn_in": "burn_in",
}


def settle(config: Config) -> None:
    """The newer era's 'epsilon' is an exploration_config; what cannot work raises."""
    epsilon = config["epsilon"]
    if epsilon is not None:
        points = [[0, epsilon]] if isinstance(epsilon, (int, float)) else epsilon
        _config.check_schedule(points, "epsilon")
        if any(not 0 <= float(p[1]) <= 1 for p in points):
            raise ValueError(f"epsilon must be 0 to 1, got {epsilon!r}")
        config["exploration_config"] = {"type": "EpsilonGreedy",
                                        "epsilon_schedule": [tuple(p) for p in points]}
    if config["td_error_loss_fn"] not in ("huber", "mse"):
        raise ValueError("td_error_loss_fn must be 'huber' or 'mse', got "
                         f"{config['td_error_loss_fn']!r}")
    if config.get("before_learn_on_batch") is not None:
        raise UnsupportedConfigError("before_learn_on_batch is not offered: batches stay in C")
    if config.get("num_atoms", 1) > 1 and not config["v_min"] < config["v_max"]:
        raise ValueError(f"v_min must be below v_max, got {config['v_min']!r} and "
                         f"{config['v_max']!r}")
    if config.get("noisy") and config["exploration_config"].get("type") == "EpsilonGreedy":
        # as RLlib: a noisy net explores by itself
        config["exploration_config"] = {"type": "EpsilonGreedy", "initial_epsilon": 0.0,
                                        "final_epsilon": 0.0}


def settle_r2d2(config: Config) -> None:
    """R2D2's own limits."""
    settle(config)
    if config["n_step"] > 1:
        raise ValueError(f"n_step must be 1 with R2D2, got {config['n_step']!r}")
    if config["num_atoms"] > 1:
        raise ValueError(f"num_atoms must be 1 with R2D2, got {config['num_atoms']!r}")
    if config["replay_sequence_length"] != -1:
        raise ValueError("replay_sequence_length is burn_in + model.max_seq_len: leave it at -1")
    if config["train_batch_size"] < config["model"]["max_seq_len"]:
        raise ValueError(f"train_batch_size {config['train_batch_size']} must be at least "
                         f"model.max_seq_len {config['model']['max_seq_len']}")


def common_options(config: Config) -> dict[str, Any]:
    """What all of the family tell the engine."""
    options = _engine.model_options(config)
    for key in ("use_lstm", "lstm_cell_size", "no_final_linear", "vf_share_layers",
                "free_log_std"):
        options.pop(key, None)
    options.update(
        gamma=config["gamma"], lr=config["lr"], adam_epsilon=config["adam_epsilon"],
        tau=config["tau"], huber=config["td_error_loss_fn"] == "huber",
        torch_init=bool(config["torch_init"]))
    if config["grad_clip"]:
        options.update(grad_clip=float(config["grad_clip"]), grad_clip_by=config["grad_clip_by"])
    return options


def simple_q_options(config: Config) -> dict[str, Any]:
    """SimpleQ: one net to the values, the target net's own best action."""
    return {**common_options(config), "hiddens": [], "dueling": False, "double_q": False}


def q_options(config: Config) -> dict[str, Any]:
    """DQN's heads."""
    return {**common_options(config), "hiddens": [float(n) for n in config["hiddens"]],
            "dueling": bool(config["dueling"]), "double_q": bool(config["double_q"]),
            "noisy": bool(config["noisy"]), "sigma0": config["sigma0"],
            "num_atoms": config["num_atoms"], "v_min": config["v_min"], "v_max": config["v_max"]}


def r2d2_options(config: Config) -> dict[str, Any]:
    """The same on sequences; huber is always on."""
    options = {**q_options(config), "lstm_cell_size": config["model"]["lstm_cell_size"],
               "zero_init_states": bool(config["zero_init_states"]),
               "burn_in": config["burn_in"], "use_h_function": bool(config["use_h_function"]),
               "h_function_epsilon": config["h_function_epsilon"]}
    del options["huber"]
    return options


MODELS: dict[str, Any] = {f"model.{key}": None for key in (
    "fcnet_activation", "conv_filters", "post_fcnet_hiddens", "no_final_linear")}
COMMON: dict[str, Any] = {
    "columns": (), "renamed": RENAMED, "target_by_plan": True,
    "offered": {"clip_rewards": None, "batch_mode": None, **MODELS},
}

SPECS = [
    Spec("SimpleQ", SIMPLE_Q, "replay:ReplayPlan", "DQN", newer=NEWER, options=simple_q_options,
         checks=settle, **COMMON),
    Spec("DQN", DQN, "replay:ReplayPlan", "DQN", newer=NEWER, options=q_options, checks=settle,
         **COMMON),
    Spec("APEX", APEX, "replay:ReplayPlan", "DQN", options=q_options, checks=settle, **COMMON),
    Spec("R2D2", R2D2, "sequences:SequencePlan", "R2D2", options=r2d2_options,
         checks=settle_r2d2,
         **{**COMMON, "offered": {**COMMON["offered"], "model.use_lstm": None}}),
]
