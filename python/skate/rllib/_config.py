"""Config dictionaries: RLlib's keys and defaults, checks, and the newer era's names.

A config is plain data. merge() lays a user's keys over an algorithm's defaults: a key that neither
era knows raises at once (a typo must not train with a default), and a known key whose value this
engine does not offer raises UnsupportedConfigError, naming what it does offer.
"""

from __future__ import annotations

import copy
import difflib
from typing import Any

from skate.rllib._errors import UnsupportedConfigError

MODEL_DEFAULTS: dict[str, Any] = {
    "fcnet_hiddens": [256, 256],
    "fcnet_activation": "tanh",
    "conv_filters": None,
    "conv_activation": "relu",
    "post_fcnet_hiddens": [],
    "post_fcnet_activation": "relu",
    "free_log_std": False,
    "no_final_linear": False,
    "vf_share_layers": False,
    "use_lstm": False,
    "max_seq_len": 20,
    "lstm_cell_size": 256,
    "lstm_use_prev_action": False,
    "lstm_use_prev_reward": False,
    "use_attention": False,
    "framestack": True,
    "dim": 84,
    "grayscale": False,
    "zero_mean": True,
    "custom_model": None,
    "custom_model_config": {},
    "custom_action_dist": None,
    "custom_preprocessor": None,
}

COMMON_CONFIG: dict[str, Any] = {
    # rollout workers
    "num_workers": 2,
    "num_envs_per_worker": 1,
    "create_env_on_driver": False,
    "rollout_fragment_length": 200,
    "batch_mode": "truncate_episodes",
    # trainer
    "gamma": 0.99,
    "lr": 0.0001,
    "train_batch_size": 200,
    "model": MODEL_DEFAULTS,
    "optimizer": {},
    # environment
    "horizon": None,
    "soft_horizon": False,
    "no_done_at_end": False,
    "env": None,
    "observation_space": None,
    "action_space": None,
    "env_config": {},
    "remote_worker_envs": False,
    "remote_env_batch_wait_ms": 0,
    "env_task_fn": None,
    "render_env": False,
    "record_env": False,
    "clip_rewards": None,
    "normalize_actions": True,
    "clip_actions": False,
    "preprocessor_pref": "deepmind",
    "disable_env_checking": False,
    # debugging
    "log_level": "WARN",
    "callbacks": None,
    "ignore_worker_failures": False,
    "recreate_failed_workers": True,
    "log_sys_usage": True,
    "fake_sampler": False,
    # framework: every name means the C engine
    "framework": "native",
    "eager_tracing": False,
    "eager_max_retraces": 20,
    # exploration
    "explore": True,
    "exploration_config": {"type": "StochasticSampling"},
    # evaluation
    "evaluation_interval": None,
    "evaluation_num_episodes": 10,
    "evaluation_duration": 10,
    "evaluation_duration_unit": "episodes",
    "evaluation_parallel_to_training": False,
    "in_evaluation": False,
    "evaluation_config": {},
    "evaluation_num_workers": 0,
    "custom_eval_function": None,
    # execution
    "sample_async": False,
    "observation_filter": "NoFilter",
    "synchronize_filters": True,
    "compress_observations": False,
    "collect_metrics_timeout": 180,
    "metrics_smoothing_episodes": 100,
    "min_iter_time_s": 0,
    "timesteps_per_iteration": 0,
    "seed": None,
    "extra_python_environs_for_driver": {},
    "extra_python_environs_for_worker": {},
    # resources
    "num_gpus": 0,
    "_fake_gpus": False,
    "num_cpus_per_worker": 1,
    "num_gpus_per_worker": 0,
    "custom_resources_per_worker": {},
    "num_cpus_for_driver": 1,
    "placement_strategy": "PACK",
    # offline data
    "input": "sampler",
    "input_config": {},
    "actions_in_input_normalized": False,
    "input_evaluation": ["is", "wis"],
    "postprocess_inputs": False,
    "shuffle_buffer_size": 0,
    "output": None,
    "output_compress_columns": ["obs", "new_obs"],
    "output_max_file_size": 64 * 1024 * 1024,
    # multi-agent
    "multiagent": {
        "policies": {},
        "policy_map_capacity": 100,
        "policy_map_cache": None,
        "policy_mapping_fn": None,
        "policies_to_train": None,
        "observation_fn": None,
        "replay_mode": "independent",
        "count_steps_by": "env_steps",
    },
    "logger_config": None,
    "simple_optimizer": False,
    "_disable_preprocessor_api": False,
    "_disable_action_flattening": False,
}

# Sub-dictionaries that take any key.
FREE_KEYS = frozenset({
    "env_config", "evaluation_config", "optimizer", "exploration_config", "input_config",
    "custom_resources_per_worker", "custom_model_config", "logger_config", "policies",
    "extra_python_environs_for_driver", "extra_python_environs_for_worker",
})

# The newer era's name of a key -> ours.
RENAMED = {
    "num_env_runners": "num_workers",
    "num_rollout_workers": "num_workers",
    "num_envs_per_env_runner": "num_envs_per_worker",
    "num_cpus_per_env_runner": "num_cpus_per_worker",
    "num_gpus_per_env_runner": "num_gpus_per_worker",
    "custom_resources_per_env_runner": "custom_resources_per_worker",
    "num_cpus_for_main_process": "num_cpus_for_driver",
    "num_cpus_for_local_worker": "num_cpus_for_driver",
    "train_batch_size_per_learner": "train_batch_size",
    "minibatch_size": "sgd_minibatch_size",
    "num_epochs": "num_sgd_iter",
    "lambda_": "lambda",
    "create_env_on_local_worker": "create_env_on_driver",
    "create_local_env_runner": "create_env_on_driver",
    "metrics_num_episodes_for_smoothing": "metrics_smoothing_episodes",
    "min_time_s_per_iteration": "min_iter_time_s",
    "min_sample_timesteps_per_iteration": "timesteps_per_iteration",
    "restart_failed_env_runners": "recreate_failed_workers",
    "ignore_env_runner_failures": "ignore_worker_failures",
    "evaluation_num_env_runners": "evaluation_num_workers",
    "callbacks_class": "callbacks",
    "model_config": "model",
}

# (key, values that work, why or what instead)
OFFERED: list[tuple[str, tuple[Any, ...], str]] = [
    ("batch_mode", ("truncate_episodes",), "fragments are cut at a fixed length"),
    ("observation_filter", ("NoFilter", None), "observations are not normalised"),
    ("soft_horizon", (False,), "episodes end at the horizon"),
    ("no_done_at_end", (False,), "episodes end when the environment says so"),
    ("clip_rewards", (None, False), "rewards are used as they are"),
    ("remote_worker_envs", (False,), "environments live in their worker"),
    ("sample_async", (False,), "PPO samples and learns in turn"),
    ("input", ("sampler",), "there is no offline input"),
    ("output", (None,), "there is no offline output"),
    ("env_task_fn", (None,), "there is no curriculum"),
    ("custom_eval_function", (None,), "evaluate() is built in"),
    ("evaluation_num_workers", (0,), "evaluation runs in the trainer's process"),
    ("evaluation_parallel_to_training", (False,), "evaluation runs between iterations"),
    ("evaluation_duration_unit", ("episodes",), "evaluation counts episodes"),
    ("framework", ("native", "torch", "tf", "tf2", "tfe"), "each means the C engine"),
]
MODEL_OFFERED: list[tuple[str, tuple[Any, ...], str]] = [
    ("fcnet_activation", ("tanh", "relu", "linear"), "other activations are not built"),
    ("vf_share_layers", (False,), "policy and value nets are separate"),
    ("use_lstm", (False,), "nets are fully connected"),
    ("use_attention", (False,), "nets are fully connected"),
    ("conv_filters", (None,), "nets are fully connected"),
    ("post_fcnet_hiddens", ([],), "use fcnet_hiddens"),
    ("no_final_linear", (False,), "the last layer is linear"),
    ("custom_model", (None,), "use fcnet_hiddens"),
    ("custom_action_dist", (None,), "the action space decides"),
    ("custom_preprocessor", (None,), "wrap the environment instead"),
]


def with_common_config(extra: dict[str, Any]) -> dict[str, Any]:
    """The common keys with an algorithm's own on top."""
    return {**copy.deepcopy(COMMON_CONFIG), **copy.deepcopy(extra)}


PPO_DEFAULTS: dict[str, Any] = with_common_config({
    "use_critic": True,
    "use_gae": True,
    "lambda": 1.0,
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
    "grad_clip": None,
    "batch_mode": "truncate_episodes",
    "observation_filter": "NoFilter",
})


def unknown_key(key: Any, known: Any, where: str = "") -> KeyError:
    """The error for a key nobody knows, with the nearest one."""
    near = difflib.get_close_matches(str(key), [str(k) for k in known], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ConfigKeyError(f"Unknown config parameter {str(key)!r}{where}{hint}")


class ConfigKeyError(KeyError, ValueError):
    """An unknown key in a config. A KeyError (as callers of RLlib expect) that prints plainly."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def translate(config: dict[str, Any]) -> dict[str, Any]:
    """A copy with the newer era's names replaced; both names of one thing may not differ."""
    out: dict[str, Any] = {}
    for key, value in config.items():
        name = RENAMED.get(key, key)
        if name in out and out[name] != value:
            raise ConfigKeyError(f"config gives {name!r} twice with different values "
                                 f"(once as {key!r})")
        out[name] = value
    for name in ("lr", "entropy_coeff"):
        if isinstance(out.get(name), (list, tuple)):
            out[f"{name}_schedule"] = out[name]
            out[name] = out[name][0][1]
    return out


def merge(defaults: dict[str, Any], config: dict[str, Any] | None) -> dict[str, Any]:
    """The full, checked config: `config` over `defaults`."""
    merged = copy.deepcopy(defaults)
    for key, value in translate(config or {}).items():
        if key not in merged:
            raise unknown_key(key, [*merged, *RENAMED])
        if isinstance(value, dict) and isinstance(merged[key], dict):
            _merge_inner(merged[key], value, key)
        else:
            merged[key] = value
    if merged["model"].get("vf_share_layers") is None:
        merged["model"]["vf_share_layers"] = False
    check(merged)
    return merged


def _merge_inner(into: dict[str, Any], extra: dict[str, Any], where: str) -> None:
    for key, value in extra.items():
        if key not in into and where not in FREE_KEYS:
            raise unknown_key(key, into, f" in {where!r}")
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge_inner(into[key], value, key)
        else:
            into[key] = value


def check(config: dict[str, Any]) -> None:
    """Raise for a value that cannot work."""
    for key, offered, why in OFFERED:
        _check_offered(config, key, offered, why)
    for key, offered, why in MODEL_OFFERED:
        _check_offered(config["model"], key, offered, f"{why} (in 'model')")
    if config["multiagent"]["policies"]:
        raise UnsupportedConfigError("multiagent policies are not offered: one policy per trainer")
    for key in ("num_workers", "num_envs_per_worker", "train_batch_size", "sgd_minibatch_size",
                "num_sgd_iter", "metrics_smoothing_episodes"):
        _check_int(config, key, 0 if key == "num_workers" else 1)
    if config["rollout_fragment_length"] != "auto":
        _check_int(config, "rollout_fragment_length", 1)
    for key, low in (("gamma", 0.0), ("lambda", 0.0), ("lr", 0.0), ("kl_coeff", 0.0),
                     ("kl_target", 0.0), ("clip_param", 0.0), ("vf_clip_param", 0.0),
                     ("vf_loss_coeff", 0.0), ("entropy_coeff", 0.0), ("num_cpus_per_worker", 0.0),
                     ("num_cpus_for_driver", 0.0), ("num_gpus", 0.0)):
        _check_number(config, key, low, 1.0 if key in ("gamma", "lambda") else None)
    if config["horizon"] is not None:
        _check_int(config, "horizon", 1)
    if config["grad_clip"] is not None:
        _check_number(config, "grad_clip", 0.0, None)
    if config["sgd_minibatch_size"] > config["train_batch_size"]:
        raise ValueError(f"sgd_minibatch_size {config['sgd_minibatch_size']} must be <= "
                         f"train_batch_size {config['train_batch_size']}")
    if not config["use_gae"] or not config["use_critic"]:
        raise UnsupportedConfigError("use_gae and use_critic must be True")
    seed = config["seed"]
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise ValueError(f"seed must be an integer or None, got {seed!r}")
    for name in ("lr_schedule", "entropy_coeff_schedule"):
        check_schedule(config[name], name)
    hiddens = config["model"]["fcnet_hiddens"]
    if not isinstance(hiddens, (list, tuple)) or len(hiddens) > 7 or not all(
            isinstance(h, int) and not isinstance(h, bool) and 0 < h <= 65536 for h in hiddens):
        raise ValueError(f"fcnet_hiddens must be at most 7 widths of 1..65536, got {hiddens!r}")


def _check_offered(config: dict[str, Any], key: str, offered: tuple[Any, ...], why: str) -> None:
    value = config.get(key, offered[0])
    if not any(value is o or (type(value) is type(o) and value == o) for o in offered):
        names = " or ".join(repr(o) for o in offered)
        raise UnsupportedConfigError(f"{key}={value!r} is not offered, only {names}: {why}")


def _check_int(config: dict[str, Any], key: str, low: int) -> None:
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{key} must be an integer >= {low}, got {value!r}")


def _check_number(config: dict[str, Any], key: str, low: float, high: float | None) -> None:
    value = config[key]
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise ValueError(f"{key} must be a number, got {value!r}")
    number = float(value)
    if not low <= number < float("inf") or (high is not None and number > high):
        limit = f"{low} to {high}" if high is not None else f">= {low}"
        raise ValueError(f"{key} must be {limit}, got {value!r}")


def check_schedule(points: Any, name: str) -> None:
    """A schedule is None or [[timestep, value], ...] with growing timesteps."""
    if points is None:
        return
    try:
        steps = [float(p[0]) for p in points]
        good = bool(steps) and steps == sorted(steps) and all(
            len(p) == 2 and float(p[1]) >= 0 for p in points)
    except (TypeError, ValueError, IndexError):
        good = False
    if not good:
        raise ValueError(f"{name} must be [[timestep, value >= 0], ...] with growing timesteps, "
                         f"got {points!r}")


def at_schedule(points: Any, timestep: int, otherwise: float) -> float:
    """The piecewise linear value at `timestep`, or `otherwise` without a schedule."""
    if points is None:
        return float(otherwise)
    before = points[0]
    for point in points:
        if timestep < point[0]:
            span = point[0] - before[0]
            part = (timestep - before[0]) / span if span > 0 else 0.0
            return float(before[1] + max(0.0, part) * (point[1] - before[1]))
        before = point
    return float(before[1])


def fragment_steps(config: dict[str, Any]) -> tuple[int, int]:
    """(steps that one worker collects in each of its environments per iteration, length of a cut).

    As RLlib: if whole rounds of rollout_fragment_length do not add up to train_batch_size, the
    fragment grows until one round does.
    """
    columns = max(1, config["num_workers"]) * config["num_envs_per_worker"]
    length = config["rollout_fragment_length"]
    batch = config["train_batch_size"]
    if length == "auto" or batch % (columns * length) != 0:
        steps = -(-batch // columns)
        return steps, steps
    return batch // columns, length


def learner_threads(config: dict[str, Any]) -> int:
    """All CPUs of the trial: its workers wait while the learner runs."""
    import os

    asked = config["num_cpus_for_driver"] + config["num_workers"] * config["num_cpus_per_worker"]
    return max(1, min(int(asked), len(os.sched_getaffinity(0)), 64))
