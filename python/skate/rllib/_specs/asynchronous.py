"""A3C, IMPALA and APPO: workers sample while the learner learns."""

from __future__ import annotations

import copy
from typing import Any

from skate.rllib import _config
from skate.rllib._errors import UnsupportedConfigError
from skate.rllib._specs import Spec
from skate.rllib._specs.policy_gradient import (
    A3C,
    OFFERED,
    a3c_checks,
    a3c_options,
    check_model,
    loss_options,
)

Config = dict[str, Any]

# Ray asks for a GPU for IMPALA's learner; this engine has no use for one.
IMPALA: Config = _config.with_common_config({
    "vtrace": True,
    "vtrace_clip_rho_threshold": 1.0,
    "vtrace_clip_pg_rho_threshold": 1.0,
    "vtrace_drop_last_ts": True,
    "rollout_fragment_length": 50,
    "train_batch_size": 500,
    "min_iter_time_s": 10,
    "num_workers": 2,
    "num_multi_gpu_tower_stacks": 1,
    "minibatch_buffer_size": 1,
    "num_sgd_iter": 1,
    "replay_proportion": 0.0,
    "replay_buffer_num_slots": 0,
    "learner_queue_size": 16,
    "learner_queue_timeout": 300,
    "max_sample_requests_in_flight_per_worker": 2,
    "broadcast_interval": 1,
    "num_aggregation_workers": 0,
    "grad_clip": 40.0,
    "grad_clip_by": "global_norm",
    "opt_type": "adam",
    "lr": 0.0005,
    "lr_schedule": None,
    "decay": 0.99,
    "momentum": 0.0,
    "epsilon": 0.1,
    "vf_loss_coeff": 0.5,
    "entropy_coeff": 0.01,
    "entropy_coeff_schedule": None,
    "_separate_vf_optimizer": False,
    "_lr_vf": 0.0005,
    "after_train_step": None,
    # the newer era's
    "num_aggregator_actors_per_learner": 0,
    "max_requests_in_flight_per_aggregator_actor": 3,
    "timeout_s_sampler_manager": 0.0,
    "timeout_s_aggregator_manager": 0.0,
    "num_gpu_loader_threads": 8,
    # Skate's: means over the rows instead of sums, as the newer era has it
    "loss_mean": False,
})

APPO: Config = {
    **{key: value for key, value in copy.deepcopy(IMPALA).items() if key != "loss_mean"},
    "use_critic": True,
    "use_gae": True,
    "lambda": 1.0,
    "clip_param": 0.4,
    "use_kl_loss": False,
    "kl_coeff": 1.0,
    "kl_target": 0.01,
    "replay_buffer_num_slots": 100,
    "target_update_frequency": 1,       # in updates
    # the newer era's
    "target_network_update_freq": None,     # in rounds of the circular buffer's passes
    "tau": 1.0,
    "use_circular_buffer": False,
    "circular_buffer_num_batches": 8,
    "circular_buffer_iterations_per_batch": 2,
    "simple_queue_size": 32,
    "target_worker_clipping": 2.0,
}

# Keys with one value that works, and why.
ONLY: dict[str, tuple[Any, str]] = {
    "num_aggregation_workers": (0, "the trainer itself joins fragments to batches"),
    "_separate_vf_optimizer": (False, "there is one optimiser"),
    "after_train_step": (None, "use the callback on_train_result"),
    "grad_clip_by": ("global_norm", "the gradient is clipped by its global norm"),
    "use_gae": (True, "without V-trace advantages are GAE's"),
    "use_critic": (True, "there is a critic"),
}

LOSS = ("vtrace_clip_rho_threshold", "vtrace_clip_pg_rho_threshold", "num_sgd_iter", "grad_clip",
        "opt_type", "decay", "momentum", "epsilon", "vf_loss_coeff", "entropy_coeff", "vtrace")


def checks(config: Config) -> None:
    """Limits of IMPALA and APPO."""
    check_model(config)
    for key, (value, why) in ONLY.items():
        if key in config and config[key] != value:
            raise UnsupportedConfigError(f"{key}={config[key]!r} is not offered, only {value!r}: "
                                         f"{why}")
    for key in ("max_sample_requests_in_flight_per_worker", "broadcast_interval",
                "minibatch_buffer_size"):
        _config._check_int(config, key, 1)
    _config._check_int(config, "replay_buffer_num_slots", 0)
    _config._check_number(config, "replay_proportion", 0.0, None)
    if config["replay_proportion"] > 0 and config["replay_buffer_num_slots"] == 0:
        raise ValueError("replay_proportion > 0 needs replay_buffer_num_slots > 0")
    for key in ("circular_buffer_num_batches", "circular_buffer_iterations_per_batch",
                "target_network_update_freq"):
        if config.get(key) is not None:
            _config._check_int(config, key, 1)


def _passes(config: Config) -> dict[str, Any]:
    """num_sgd_iter of the engine: all passes at once, or one where batches take turns."""
    if config.get("use_circular_buffer"):
        return {"num_sgd_iter": config["circular_buffer_iterations_per_batch"]}
    return {"num_sgd_iter": 1} if config["minibatch_buffer_size"] > 1 else {}


def impala_checks(config: Config) -> None:
    """IMPALA is V-trace."""
    checks(config)
    if not config["vtrace"]:
        raise UnsupportedConfigError("vtrace=False is not offered for IMPALA: use APPO or A2C")


def impala_options(config: Config) -> dict[str, Any]:
    """For the engine's IMPALA."""
    return {**loss_options(config, "loss_mean", *LOSS), **_passes(config)}


def appo_options(config: Config) -> dict[str, Any]:
    """For the engine's APPO."""
    told = {**loss_options(config, "lambda", "clip_param", "use_kl_loss", "kl_coeff", "kl_target",
                           "tau", "target_worker_clipping", *LOSS), **_passes(config)}
    every = config["target_update_frequency"]
    if config["target_network_update_freq"] is not None:    # 2.60 counts passes
        passes = (config["target_network_update_freq"] * config["circular_buffer_num_batches"]
                  * config["circular_buffer_iterations_per_batch"])
        every = -(-passes // told["num_sgd_iter"])
    elif config["minibatch_buffer_size"] > 1:
        every *= config["num_sgd_iter"]
    return {**told, "target_update_frequency": every}


SPECS = [
    Spec("A3C", A3C, "asynchronous:GradientsPlan", engine="A3C", options=a3c_options,
         columns=("vf",), checks=a3c_checks, offered={**OFFERED, "sample_async": (True, False)}),
    Spec("IMPALA", IMPALA, "asynchronous:AsynchronousPlan", engine="IMPALA",
         options=impala_options, columns=("logp",), checks=impala_checks, offered=OFFERED,
         newer={"loss_mean": True}),
    Spec("APPO", APPO, "asynchronous:AsynchronousPlan", engine="APPO", options=appo_options,
         columns=("logp", "vf"), checks=checks, offered=OFFERED,
         newer={"target_network_update_freq": 2, "use_circular_buffer": True}),
]
