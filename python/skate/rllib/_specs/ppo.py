"""PPO."""

from __future__ import annotations

import copy
from typing import Any

from skate.rllib import _config
from skate.rllib._errors import UnsupportedConfigError
from skate.rllib._specs import Spec
from skate.rllib._specs.policy_gradient import (
    OFFERED,
    check_model,
    loss_options,
)

DEFAULTS: dict[str, Any] = _config.with_common_config({
    "use_critic": True,
    "use_gae": True,
    "lambda": 1.0,
    "use_kl_loss": True,        # the newer era's
    "kl_coeff": 0.2,
    "kl_target": 0.01,
    "rollout_fragment_length": 200,
    "train_batch_size": 4000,
    "sgd_minibatch_size": 128,
    "shuffle_sequences": True,
    "num_sgd_iter": 30,
    "lr": 5e-5,
    "lr_schedule": None,
    "vf_loss_coeff": 1.0,
    "entropy_coeff": 0.0,
    "entropy_coeff_schedule": None,
    "clip_param": 0.3,
    "vf_clip_param": 10.0,
    # Where the eras differ. "value": the value's move from the old one is clipped; "loss": the
    # squared error is. kl_coeff adapts to the "mean" KL of an update, or to its "last" minibatch's.
    "vf_clip_mode": "value",
    "kl_update": "mean",
    # What is left over from whole minibatches waits for the next pass, or goes over into it.
    "wrap_minibatches": False,
    "grad_clip": None,
    "batch_mode": "truncate_episodes",
    "observation_filter": "NoFilter",
})


NEWER: dict[str, Any] = {"vf_clip_mode": "loss", "kl_update": "last", "wrap_minibatches": True,
                         "rollout_fragment_length": "auto"}
RENAMED = {"shuffle_batch_per_epoch": "shuffle_sequences"}


def check_loss(config: dict[str, Any]) -> None:
    """The texts and flags of the loss."""
    for key, values in (("vf_clip_mode", ("value", "loss")), ("kl_update", ("mean", "last")),
                        ("shuffle_sequences", (True, False)),
                        ("wrap_minibatches", (True, False)), ("use_kl_loss", (True, False))):
        if config[key] not in values:
            raise ValueError(f"{key} must be {values[0]!r} or {values[1]!r}, got {config[key]!r}")


def checks(config: dict[str, Any]) -> None:
    """PPO's own limits."""
    if config["sgd_minibatch_size"] > config["train_batch_size"]:
        raise ValueError(f"sgd_minibatch_size {config['sgd_minibatch_size']} must be <= "
                         f"train_batch_size {config['train_batch_size']}")
    if not config["use_gae"] or not config["use_critic"]:
        raise UnsupportedConfigError("use_gae and use_critic must be True")
    check_loss(config)
    check_model(config)


def options(config: dict[str, Any]) -> dict[str, Any]:
    """For the engine's PPO, which has what the fused learner has not."""
    told = loss_options(config, "lambda", "kl_coeff", "kl_target", "sgd_minibatch_size",
                        "num_sgd_iter", "vf_loss_coeff", "entropy_coeff", "clip_param",
                        "vf_clip_param", "vf_clip_mode", "kl_update", "shuffle_sequences",
                        "wrap_minibatches",
                        "grad_clip")
    return told if config["use_kl_loss"] else {**told, "kl_coeff": 0.0}


# RLlib wants a batch of its own in each worker: rollout_fragment_length steps of each environment.
DDPPO: dict[str, Any] = {
    **copy.deepcopy(DEFAULTS),
    "num_workers": 2,
    "num_envs_per_worker": 5,
    "rollout_fragment_length": 100,
    "train_batch_size": 500,
    "sgd_minibatch_size": 50,
    "num_sgd_iter": 10,
    "kl_coeff": 0.0,
    "kl_target": 0.0,
    "keep_local_weights_in_sync": True,
    "torch_distributed_backend": "gloo",
}


def ddppo_checks(config: dict[str, Any]) -> None:
    """DDPPO's own limits."""
    check_loss(config)
    check_model(config)
    rows = config["rollout_fragment_length"] * config["num_envs_per_worker"]
    if config["train_batch_size"] not in (-1, DDPPO["train_batch_size"], rows):
        raise ValueError("set rollout_fragment_length instead of train_batch_size: a worker of "
                         "DDPPO learns from rollout_fragment_length * num_envs_per_worker steps")
    if config["sgd_minibatch_size"] > rows:
        raise ValueError(f"sgd_minibatch_size {config['sgd_minibatch_size']} must be <= "
                         f"rollout_fragment_length * num_envs_per_worker = {rows}")
    if config["kl_coeff"] != 0.0:
        raise ValueError("kl_coeff must be 0 for DDPPO: the workers do not adapt it together")
    for key, value in (("use_gae", True), ("use_critic", True),
                       ("torch_distributed_backend", "gloo"),
                       ("keep_local_weights_in_sync", True)):
        if config[key] != value:
            raise UnsupportedConfigError(f"{key}={config[key]!r} is not offered, only {value!r}")


SPECS = [
    Spec("PPO", DEFAULTS, "ppo:PPOPlan", engine="PPO", options=options, checks=checks,
         offered=OFFERED, newer=NEWER, renamed=RENAMED),
    Spec("DDPPO", DDPPO, "decentralised:DecentralisedPlan", engine="DDPPO", options=options,
         checks=ddppo_checks, newer={"vf_clip_mode": "loss"}, offered={
             **OFFERED, "batch_mode": ("truncate_episodes",), "model.use_lstm": (False,)}),
]
