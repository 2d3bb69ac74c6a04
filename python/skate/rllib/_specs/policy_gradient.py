"""PG, A2C and A3C, and what the whole on-policy family shares: options, nets, checks."""

from __future__ import annotations

import copy
from typing import Any

from skate.rllib import _config, _engine
from skate.rllib._errors import UnsupportedConfigError
from skate.rllib._specs import Spec

Config = dict[str, Any]

# What the on-policy algorithms of the engine take of the keys that others do not.
OFFERED: dict[str, tuple[Any, ...] | None] = {
    "batch_mode": ("truncate_episodes", "complete_episodes"),
    "clip_rewards": None,
    "model.fcnet_activation": ("tanh", "relu", "linear", "sigmoid", "elu", "swish", "silu",
                               "softplus", "leaky_relu", "gelu"),
    "model.vf_share_layers": (False, True),
    "model.use_lstm": (False, True),
    "model.conv_filters": None,
    "model.post_fcnet_hiddens": None,
}

PG: Config = _config.with_common_config({
    "num_workers": 0,
    "lr": 0.0004,
    "lr_schedule": None,
    "_disable_preprocessor_api": True,
})

A3C: Config = _config.with_common_config({
    "use_critic": True,
    "use_gae": True,
    "lambda": 1.0,
    "grad_clip": 40.0,
    "lr": 0.0001,
    "lr_schedule": None,
    "vf_loss_coeff": 0.5,
    "entropy_coeff": 0.01,
    "entropy_coeff_schedule": None,
    "min_iter_time_s": 5,
    "sample_async": True,
    "rollout_fragment_length": 10,
    # The first four as IMPALA's. Our own: the mean over a batch, orthogonal start values.
    "opt_type": "adam",
    "decay": 0.99,
    "momentum": 0.0,
    "epsilon": 0.1,
    "loss_mean": False,
    "ortho_init": False,
})

A2C: Config = {
    **copy.deepcopy(A3C),
    "rollout_fragment_length": 20,
    "min_iter_time_s": 10,
    "sample_async": False,
    "microbatch_size": None,
}


def loss_options(config: Config, *keys: str) -> dict[str, Any]:
    """The engine's options: the nets, gamma, lr and these keys of the config; None is left out."""
    told = {key: config[key] for key in ("gamma", "lr", *keys) if config[key] is not None}
    return {**_engine.model_options(config), **told}


def check_model(config: Config) -> None:
    """What the nets of the family do not have."""
    model = config["model"]
    for key in ("lstm_use_prev_action", "lstm_use_prev_reward"):
        if model.get(key):
            raise UnsupportedConfigError(f"{key}=True is not offered (in 'model'): the LSTM reads "
                                         "observations only")
    _config._check_int(model, "max_seq_len", 1)
    _config._check_int(model, "lstm_cell_size", 1)


def pg_options(config: Config) -> dict[str, Any]:
    """For the engine's PG."""
    return loss_options(config)


def a3c_options(config: Config) -> dict[str, Any]:
    """For the engine's A2C and A3C."""
    return loss_options(config, "use_critic", "use_gae", "lambda", "grad_clip", "vf_loss_coeff",
                        "entropy_coeff", "opt_type", "decay", "momentum", "epsilon", "loss_mean",
                        "ortho_init")


def a3c_checks(config: Config) -> None:
    """Limits of A2C and A3C."""
    check_model(config)
    if config["use_gae"] and not config["use_critic"]:
        raise ValueError("use_gae=True needs use_critic=True")
    if config.get("microbatch_size"):
        raise UnsupportedConfigError("microbatch_size is not offered: a batch is learned at once")


SPECS = [
    Spec("PG", PG, "on_policy:OnPolicyPlan", engine="PG", options=pg_options, columns=(),
         offered=OFFERED, checks=check_model),
    Spec("A2C", A2C, "on_policy:OnPolicyPlan", engine="A2C", options=a3c_options,
         columns=("vf",), offered=OFFERED, checks=a3c_checks),
]
