"""contrib/AlphaZero."""

from __future__ import annotations

from typing import Any

from skate.rllib import _config, _engine
from skate.rllib._specs import Spec

DEFAULTS: dict[str, Any] = _config.with_common_config({
    "rollout_fragment_length": 200,
    "train_batch_size": 4000,
    "sgd_minibatch_size": 128,
    "shuffle_sequences": True,
    "num_sgd_iter": 30,
    "learning_starts": 1000,
    "buffer_size": 10000,
    "lr": 5e-5,
    "lr_schedule": None,
    "vf_share_layers": False,
    "grad_clip": None,
    "batch_mode": "complete_episodes",
    "observation_filter": "NoFilter",
    "mcts_config": {
        "puct_coefficient": 1.0,
        "num_simulations": 30,
        "temperature": 1.5,
        "dirichlet_epsilon": 0.25,
        "dirichlet_noise": 0.03,
        "argmax_tree_policy": False,
        "add_dirichlet_noise": True,
    },
    "ranked_rewards": {
        "enable": True,
        "percentile": 75,
        "buffer_max_length": 1000,
        "initialize_buffer": True,
        "num_init_rewards": 100,
    },
    "evaluation_config": {
        "mcts_config": {"argmax_tree_policy": True, "add_dirichlet_noise": False},
    },
})


def options(config: dict[str, Any]) -> dict[str, Any]:
    """What src/rl/algo/algo_alphazero.c reads."""
    told = {**_engine.model_options(config), "lr": config["lr"]}
    if config["vf_share_layers"] or config["model"]["vf_share_layers"]:
        told["vf_share_layers"] = True
    if config["grad_clip"]:
        told["grad_clip"] = config["grad_clip"]
    return told


def _number(config: dict[str, Any], key: str, least: float, most: float) -> None:
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (
            not least <= value <= most):
        raise ValueError(f"{key} must be a number of {least:g} to {most:g}, got {value!r}")


def checks(config: dict[str, Any]) -> None:
    """The numbers of the search and of the ranked rewards."""
    search, ranked = config["mcts_config"], config["ranked_rewards"]
    for key, least, most in (("puct_coefficient", 0, 1e9), ("temperature", 0, 1e3),
                             ("dirichlet_epsilon", 0, 1), ("dirichlet_noise", 1e-9, 1e9)):
        _number(search, key, least, most)
    _number(ranked, "percentile", 0, 100)
    for where, key, least in ((search, "num_simulations", 2), (ranked, "buffer_max_length", 1),
                              (ranked, "num_init_rewards", 1)):
        value = where[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{key} must be an integer >= {least}, got {value!r}")


SPECS = [Spec("contrib/AlphaZero", DEFAULTS, "alpha_zero:AlphaZeroPlan", "AlphaZero",
              options=options, columns=(), checks=checks,
              offered={"batch_mode": ("complete_episodes", "truncate_episodes"),
                       "model.vf_share_layers": (False, True)},
              trainer="_plans.alpha_zero:AlphaZeroTrainer")]
