"""AlgorithmConfig: the newer era's builder over the same config dictionaries.

Each group (environment, env_runners, training, ...) takes keywords under either era's names and
returns the config itself; a keyword that nobody knows raises at once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from skate.rllib import _config

# Keywords that choose between engines that we do not have; they change nothing here.
WITHOUT_EFFECT = frozenset({
    "enable_rl_module_and_learner", "enable_env_runner_and_connector_v2",
    "num_learners", "num_cpus_per_learner", "num_gpus_per_learner", "local_gpu_idx",
    "num_aggregator_actors_per_learner", "max_requests_in_flight_per_learner",
    "torch_compile_learner", "torch_compile_worker", "rl_module_spec", "log_gradients",
    "keep_per_episode_custom_metrics", "export_native_model_files",
    "checkpoint_trainable_policies_only", "sample_timeout_s",
    "validate_env_runners_after_construction",
    "max_num_env_runner_restarts", "delay_between_env_runner_restarts_s",
    "env_runner_health_probe_timeout_s", "env_runner_restore_timeout_s",
    "restart_failed_sub_environments", "gym_env_vectorize_mode", "render_mode", "is_atari",
    "tf_session_args", "local_tf_session_args", "log_sys_usage",
    "num_consecutive_env_runner_failures_tolerance", "evaluation_sample_timeout_s",
    "evaluation_force_reset_envs_before_iteration", "update_worker_filter_stats",
    "use_worker_filter_stats",
})


class AlgorithmConfig:
    """A config under construction."""

    def __init__(self, algo_class: type | None = None) -> None:
        from skate.rllib._ppo import PPO

        object.__setattr__(self, "algo_class", algo_class or PPO)
        object.__setattr__(self, "_values", {})

    def _known(self) -> dict[str, Any]:
        return self.algo_class._default_config  # type: ignore[attr-defined]

    def _set(self, keywords: dict[str, Any]) -> AlgorithmConfig:
        for key, value in keywords.items():
            name = _config.RENAMED.get(key, key)
            if name in WITHOUT_EFFECT:
                continue
            if name == "use_kl_loss":
                if not value:
                    self._values["kl_coeff"] = 0.0
                continue
            if name == "grad_clip_by" and value == "global_norm":
                continue
            if name not in self._known():
                raise _config.unknown_key(
                    key, [*self._known(), *_config.RENAMED, *WITHOUT_EFFECT])
            if isinstance(value, dict) and isinstance(self._values.get(name), dict):
                value = {**self._values[name], **value}
            self._values[name] = value
        return self

    def training(self, **keywords: Any) -> AlgorithmConfig:
        """lr, gamma, train_batch_size, minibatch_size, num_epochs, lambda_, clip_param, ..."""
        return self._set(keywords)

    def environment(self, env: Any = None, **keywords: Any) -> AlgorithmConfig:
        """env, env_config, ..."""
        return self._set(keywords if env is None else {"env": env, **keywords})

    def framework(self, framework: str | None = None, **keywords: Any) -> AlgorithmConfig:
        """Any name: each means the C engine."""
        return self._set(keywords if framework is None else {"framework": framework, **keywords})

    def evaluation(self, **keywords: Any) -> AlgorithmConfig:
        """evaluation_interval, evaluation_duration, evaluation_config, ..."""
        if hasattr(keywords.get("evaluation_config"), "to_dict"):
            keywords["evaluation_config"] = keywords["evaluation_config"].to_dict()
        return self._set(keywords)

    def callbacks(self, callbacks_class: Any = None, **keywords: Any) -> AlgorithmConfig:
        """A subclass of DefaultCallbacks."""
        return self._set(keywords if callbacks_class is None
                         else {"callbacks": callbacks_class, **keywords})

    # Groups that take keywords only and differ in nothing but their name.
    env_runners = rollouts = resources = debugging = reporting = training
    checkpointing = fault_tolerance = experimental = learners = api_stack = training
    rl_module = python_environment = offline_data = multi_agent = exploration = training

    def to_dict(self) -> dict[str, Any]:
        """The keys that were set (the trainer adds the defaults)."""
        return copy.copy(self._values)

    def update_from_dict(self, config: dict[str, Any]) -> AlgorithmConfig:
        """Set many keys at once."""
        return self._set(config)

    def copy(self) -> AlgorithmConfig:
        """An independent config."""
        made = type(self)()
        object.__setattr__(made, "algo_class", self.algo_class)
        made._values.update(copy.deepcopy(self._values))
        return made

    def validate(self) -> None:
        """Raise for values that cannot work."""
        _config.merge(self._known(), self._values)

    def build_algo(self, env: Any = None, logger_creator: Callable[..., Any] | None = None,
                   **_ignored: Any) -> Any:
        """The trainer."""
        return self.algo_class(config=self.to_dict(), env=env, logger_creator=logger_creator)

    build = build_algo

    def get(self, key: str, default: Any = None) -> Any:
        """A key's value, set or default."""
        try:
            return self[key]
        except KeyError:
            return default

    def __getitem__(self, key: str) -> Any:
        name = _config.RENAMED.get(key, key)
        if name in self._values:
            return self._values[name]
        if name in self._known():
            return self._known()[name]
        raise _config.unknown_key(key, self._known())

    def __setitem__(self, key: str, value: Any) -> None:
        self._set({key: value})

    def __contains__(self, key: object) -> bool:
        return _config.RENAMED.get(str(key), key) in self._known()

    def keys(self) -> Iterator[str]:
        """The names of all keys."""
        return iter(self._known())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(str(error)) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self._set({name: value})
