"""AlgorithmConfig: the newer era's builder over the same config dictionaries.

Each group (environment, env_runners, training, ...) takes keywords under either era's names and
returns the config itself; a keyword that nobody knows raises at once.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from typing import Any

from skate.rllib import _config

logger = logging.getLogger(__name__)

# Keywords that choose between engines that we do not have; they change nothing here.
WITHOUT_EFFECT = frozenset({
    "enable_rl_module_and_learner", "enable_env_runner_and_connector_v2",
    "num_learners", "num_cpus_per_learner", "num_gpus_per_learner", "local_gpu_idx",
    "num_aggregator_actors_per_learner", "max_requests_in_flight_per_learner",
    "torch_compile_learner", "torch_compile_worker", "log_gradients",
    "keep_per_episode_custom_metrics", "export_native_model_files",
    "checkpoint_trainable_policies_only", "sample_timeout_s",
    "validate_env_runners_after_construction",
    "max_num_env_runner_restarts", "delay_between_env_runner_restarts_s",
    "env_runner_health_probe_timeout_s", "env_runner_restore_timeout_s",
    "restart_failed_sub_environments", "gym_env_vectorize_mode", "render_mode",
    "tf_session_args", "local_tf_session_args", "log_sys_usage",
    "num_consecutive_env_runner_failures_tolerance", "evaluation_sample_timeout_s",
    "evaluation_force_reset_envs_before_iteration", "update_worker_filter_stats",
    "use_worker_filter_stats",
    # of offline_data(): files are read as what they are, once
    "input_read_method", "input_read_method_kwargs", "input_read_episodes",
    "input_read_sample_batches", "input_read_batch_size", "input_filesystem",
    "input_filesystem_kwargs", "input_compress_columns", "input_spaces_jsonable",
    "materialize_data", "materialize_mapped_data", "map_batches_kwargs", "iter_batches_kwargs",
    "ignore_final_observation", "prelearner_class", "prelearner_buffer_class",
    "prelearner_buffer_kwargs", "prelearner_module_synch_period", "offline_sampling",
    "output_max_rows_per_file", "output_write_remaining_data", "output_write_method",
    "output_write_method_kwargs", "output_filesystem", "output_filesystem_kwargs",
    "output_write_episodes",
})


class AlgorithmConfig:
    """A config under construction."""

    def __init__(self, algo_class: type | None = None) -> None:
        from skate.rllib import _registry

        object.__setattr__(self, "algo_class", algo_class or _registry.newer_class("PPO"))
        object.__setattr__(self, "_values", {})

    def _known(self) -> dict[str, Any]:
        return self.algo_class._default_config  # type: ignore[attr-defined]

    def _renamed(self) -> dict[str, str]:
        """Newer names -> ours, this algorithm's among them."""
        return {**_config.RENAMED, **self.algo_class._spec.renamed}  # type: ignore[attr-defined]

    def _set(self, keywords: dict[str, Any]) -> AlgorithmConfig:
        renamed = self._renamed()
        for key, value in keywords.items():
            name = renamed.get(key, key)
            if name in WITHOUT_EFFECT:
                if name in ("num_learners", "num_gpus_per_learner") and value:
                    logger.warning("%s=%r changes nothing: the learner runs in the trainer's own "
                                   "process, on the CPUs given to it (DDPPO's are its workers)",
                                   name, value)
                continue
            if name == "is_atari":
                if value is False:
                    self._values["preprocessor_pref"] = None
                continue
            if name == "grad_clip_by" and value == "global_norm":
                continue
            if name not in self._known():
                raise _config.unknown_key(
                    key, [*self._known(), *renamed, *WITHOUT_EFFECT])
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
        """A subclass of DefaultCallbacks, a list of them, or functions by hook's name."""
        from skate.rllib._callbacks import HOOKS, from_functions

        functions = {name: keywords.pop(name) for name in HOOKS if name in keywords}
        if functions:
            made = from_functions({k: f for k, f in functions.items() if f is not None})
            callbacks_class = made if callbacks_class is None else [callbacks_class, made]
        return self._set(keywords if callbacks_class is None
                         else {"callbacks": callbacks_class, **keywords})

    def multi_agent(self, **keywords: Any) -> AlgorithmConfig:
        """policies, policy_mapping_fn, policies_to_train, count_steps_by."""
        known = self._known()["multiagent"]
        for key in keywords:
            if key not in known and key not in WITHOUT_EFFECT:
                raise _config.unknown_key(key, known, " in 'multi_agent'")
        return self._set({"multiagent": {key: value for key, value in keywords.items()
                                         if key in known}})

    # Groups that take keywords only and differ in nothing but their name.
    env_runners = rollouts = resources = debugging = reporting = training
    checkpointing = fault_tolerance = experimental = learners = api_stack = training
    python_environment = offline_data = exploration = training

    def rl_module(self, *, rl_module_spec: Any = None, model_config: Any = None,
                  **keywords: Any) -> AlgorithmConfig:
        """A module of the user's own (RLModuleSpec), or the keys of the built-in nets."""
        if rl_module_spec is not None:
            if not isinstance(getattr(rl_module_spec, "module_class", None), type):
                raise TypeError("rl_module_spec must be an RLModuleSpec with a module_class, got "
                                f"{rl_module_spec!r}")
            own = model_config if model_config is not None else rl_module_spec.model_config
            self._set({"model": {"_rl_module": {"module_class": rl_module_spec.module_class,
                                                "model_config": own}}})
        elif model_config is not None:
            told = model_config if isinstance(model_config, dict) else vars(model_config)
            self._set({"model": dict(told)})
        return self._set(keywords)

    def to_dict(self) -> dict[str, Any]:
        """The keys that were set, and where the newer era's defaults are others than the 1.8
        era's, those; the trainer adds the rest."""
        newer = copy.deepcopy(self.algo_class._spec.newer)  # type: ignore[attr-defined]
        return {**newer, **self._values}

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
        self.algo_class._merge(self._values)  # type: ignore[attr-defined]

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
        name = self._renamed().get(key, key)
        if name in self._values:
            return self._values[name]
        if name in self._known():
            return self._known()[name]
        raise _config.unknown_key(key, self._known())

    def __setitem__(self, key: str, value: Any) -> None:
        self._set({key: value})

    def __contains__(self, key: object) -> bool:
        return self._renamed().get(str(key), key) in self._known()

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
