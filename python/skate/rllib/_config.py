"""Config dictionaries: RLlib's keys and defaults, checks, and the newer era's names.

A config is plain data. merge() lays a user's keys over an algorithm's defaults: a key that neither
era knows raises at once (a typo must not train with a default), and a known key whose value this
engine does not offer raises UnsupportedConfigError, naming what it does offer.
"""

from __future__ import annotations

import copy
import difflib
from typing import TYPE_CHECKING, Any

from skate.rllib import _pictures
from skate.rllib._errors import UnsupportedConfigError

if TYPE_CHECKING:
    from skate.rllib._specs import Spec

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
    "framestack": True,         # of Atari's pictures: the last four
    "num_framestacks": "auto",  # that many instead; 0 or 1: none
    "dim": 84,
    "grayscale": False,
    "zero_mean": True,
    "custom_model": None,
    "custom_model_config": {},
    "_rl_module": None,         # what rl_module(rl_module_spec=...) gave
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
    "native_env": "auto",       # Skate's: False steps environments that have a twin in C in Python
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
    # framework: of models of the user's own; for all else every name means the C engine
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
    "output_config": {},
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
    "output_config", "input_read_schema", "off_policy_estimation_methods", "replay_buffer_config",
    "custom_resources_per_worker", "custom_model_config", "logger_config", "policies",
    "extra_python_environs_for_driver", "extra_python_environs_for_worker",
})

# Sub-dictionaries that are replaced whole where their 'type' is another than the default's.
WHOLE_IF_TYPE = frozenset({"exploration_config", "replay_buffer_config"})

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
    "input_": "input",
    "callbacks_class": "callbacks",
    "model_config": "model",
}

# (key, values that work, why or what instead)
OFFERED: list[tuple[str, tuple[Any, ...], str]] = [
    ("batch_mode", ("truncate_episodes",), "fragments are cut at a fixed length"),
    ("observation_filter", ("NoFilter", "MeanStdFilter", "ConcurrentMeanStdFilter", None),
     "there are these"),
    ("soft_horizon", (False,), "episodes end at the horizon"),
    ("no_done_at_end", (False,), "episodes end when the environment says so"),
    ("remote_worker_envs", (False,), "environments live in their worker"),
    ("sample_async", (False,), "it samples and learns in turn"),
    ("input", ("sampler",), "BC, MARWIL, CQL and IQL learn from recorded steps"),
    ("evaluation_duration_unit", ("episodes", "timesteps"), "evaluation counts one of them"),
    ("preprocessor_pref", ("deepmind", "rllib", None), "pictures of Atari are made ready so"),
    ("native_env", ("auto", False), "in C where results are the same, or never"),
    ("framework", ("native", "torch", "tf", "tf2", "tfe"),
     "each means the C engine, but for models of one's own"),
]
MODEL_OFFERED: list[tuple[str, tuple[Any, ...], str]] = [
    ("fcnet_activation", ("tanh", "relu", "linear"), "other activations are not built"),
    ("vf_share_layers", (False,), "policy and value nets are separate"),
    ("use_lstm", (False,), "nets are fully connected"),
    ("use_attention", (False,), "nets are fully connected"),
    ("conv_filters", (None,), "nets are fully connected"),
    ("post_fcnet_hiddens", ([],), "use fcnet_hiddens"),
    ("no_final_linear", (False,), "the last layer is linear"),
    ("custom_model", (None,), "models of the user's own are for A2C, A3C, PG and PPO"),
    ("_rl_module", (None,), "modules of the user's own are for A2C, A3C, PG and PPO"),
    ("custom_action_dist", (None,), "the action space decides"),
    ("custom_preprocessor", (None,), "wrap the environment instead"),
]


# Algorithms that can have a model of the user's own (skate.rllib._models.losses).
OWN_MODELS = frozenset({"A2C", "A3C", "PG", "PPO"})


def with_common_config(extra: dict[str, Any]) -> dict[str, Any]:
    """The common keys with an algorithm's own on top."""
    return {**copy.deepcopy(COMMON_CONFIG), **copy.deepcopy(extra)}


def unknown_key(key: Any, known: Any, where: str = "") -> KeyError:
    """The error for a key nobody knows, with the nearest one."""
    near = difflib.get_close_matches(str(key), [str(k) for k in known], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ConfigKeyError(f"Unknown config parameter {str(key)!r}{where}{hint}")


class ConfigKeyError(KeyError, ValueError):
    """An unknown key in a config. A KeyError (as callers of RLlib expect) that prints plainly."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def translate(config: dict[str, Any], renamed: dict[str, str] | None = None) -> dict[str, Any]:
    """A copy with the newer era's names replaced; both names of one thing may not differ."""
    names = {**RENAMED, **(renamed or {})}
    out: dict[str, Any] = {}
    for key, value in config.items():
        name = names.get(key, key)
        if name in out and out[name] != value:
            raise ConfigKeyError(f"config gives {name!r} twice with different values "
                                 f"(once as {key!r})")
        out[name] = value
    for name in ("lr", "entropy_coeff"):
        if isinstance(out.get(name), (list, tuple)):
            out[f"{name}_schedule"] = out[name]
            out[name] = out[name][0][1]
    return out


def merge(spec: Spec, config: dict[str, Any] | None,
          defaults: dict[str, Any] | None = None) -> dict[str, Any]:
    """The full, checked config: `config` over the spec's defaults (or other ones)."""
    merged = copy.deepcopy(spec.defaults if defaults is None else defaults)
    for key, value in translate(config or {}, spec.renamed).items():
        if key not in merged:
            raise unknown_key(key, [*merged, *RENAMED, *spec.renamed])
        if isinstance(value, dict) and isinstance(merged[key], dict) and not (
                key in WHOLE_IF_TYPE and value.get("type", merged[key].get("type"))
                != merged[key].get("type")):
            _merge_inner(merged[key], value, key)
        else:
            merged[key] = value
    if merged["model"].get("vf_share_layers") is None:
        merged["model"]["vf_share_layers"] = False
    check(merged, spec)
    return merged


def _merge_inner(into: dict[str, Any], extra: dict[str, Any], where: str) -> None:
    for key, value in extra.items():
        if key not in into and where not in FREE_KEYS:
            raise unknown_key(key, into, f" in {where!r}")
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge_inner(into[key], value, key)
        else:
            into[key] = value


# Keys that must be integers, and the least; checked where an algorithm has them.
INTEGERS = {
    "evaluation_num_workers": 0,
    "num_workers": 0, "num_envs_per_worker": 1, "train_batch_size": 1, "sgd_minibatch_size": 1,
    "num_sgd_iter": 1, "metrics_smoothing_episodes": 1, "learning_starts": 0, "n_step": 1,
    "num_atoms": 1, "buffer_size": 1, "target_network_update_freq": 0,
}
# Keys that must be numbers >= 0 (None where that is the default), and the greatest.
NUMBERS: dict[str, float | None] = {
    "gamma": 1.0, "lambda": 1.0, "lr": None, "kl_coeff": None, "kl_target": None,
    "clip_param": None, "vf_clip_param": None, "vf_loss_coeff": None, "entropy_coeff": None,
    "num_cpus_per_worker": None, "num_cpus_for_driver": None, "num_gpus": None,
    "grad_clip": None, "tau": 1.0, "actor_lr": None, "critic_lr": None, "adam_epsilon": None,
}


def check(config: dict[str, Any], spec: Spec) -> None:
    """Raise for a value that cannot work."""
    for key, offered, why in OFFERED:
        if key == "input" and callable(config["input"]):
            continue            # a policy server
        _check_offered(config, key, spec.offered.get(key, offered), why)
    for key, offered, why in MODEL_OFFERED:
        if key in ("custom_model", "_rl_module") and spec.name in OWN_MODELS:
            continue
        _check_offered(config["model"], key, spec.offered.get(f"model.{key}", offered),
                       f"{why} (in 'model')")
    for key, low in INTEGERS.items():
        if config.get(key) is not None or (key in config and spec.defaults[key] is not None):
            _check_int(config, key, low)
    if config["rollout_fragment_length"] != "auto":
        _check_int(config, "rollout_fragment_length", 1)
    for key, high in NUMBERS.items():
        if config.get(key) is not None or (key in config and spec.defaults[key] is not None):
            _check_number(config, key, 0.0, high)
    if config["horizon"] is not None:
        _check_int(config, "horizon", 1)
    seed = config["seed"]
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise ValueError(f"seed must be an integer or None, got {seed!r}")
    _pictures.check(config)
    for name in ("lr_schedule", "entropy_coeff_schedule"):
        check_schedule(config.get(name), name)
    hiddens = config["model"]["fcnet_hiddens"]
    if not isinstance(hiddens, (list, tuple)) or len(hiddens) > 7 or not all(
            isinstance(h, int) and not isinstance(h, bool) and 0 < h <= 65536 for h in hiddens):
        raise ValueError(f"fcnet_hiddens must be at most 7 widths of 1..65536, got {hiddens!r}")
    spec.checks(config)


def _check_offered(config: dict[str, Any], key: str, offered: tuple[Any, ...] | None,
                   why: str) -> None:
    if offered is None:
        return
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
