"""Trainer: PPO over rollout workers, as a Tune Trainable.

One iteration: weights to the workers, one fragment from each, one update of the C learner on all
CPUs of the trial, metrics. The trainer's own process neither imports Gymnasium nor makes an
environment unless asked to (num_workers=0, evaluate()).
"""

from __future__ import annotations

import copy
import json
import os
import random
from typing import Any

from skate.rllib import _config, _env, _metrics
from skate.tune.trainable import Trainable

STATE_FILE = "algorithm_state.json"
WEIGHTS_FILE = "weights.f32"
LEARNER_FILE = "learner.bin"
STATE_VERSION = 1


class Trainer(Trainable):
    """The base of the algorithms: config handling, checkpoints, actions, evaluation."""

    _name = "Trainer"
    _default_config: dict[str, Any] = _config.PPO_DEFAULTS
    _allow_unknown_configs = False
    _checkpoint_at_end_by_default = True
    _share_process_by_default = True

    def __init__(self, config: Any = None, env: Any = None, logger_creator: Any = None,
                 **kwargs: Any) -> None:
        config = _as_dict(config)
        if env is not None:
            config["env"] = env
        super().__init__(config=config, logger_creator=logger_creator, **kwargs)

    # ---- hooks of Tune, on the driver -------------------------------------------------------

    @classmethod
    def get_default_config(cls) -> dict[str, Any]:
        """A copy of the algorithm's defaults."""
        return copy.deepcopy(cls._default_config)

    @classmethod
    def validate_trial_config(cls, config: dict[str, Any]) -> None:
        """Unknown keys, bad values, an unknown environment: before anything is started."""
        merged = _config.merge(cls._default_config, _as_dict(config))
        _env.check_env(merged["env"])

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> Any:
        """One bundle for the trainer and one for each rollout worker."""
        from skate.tune.resources import PlacementGroupFactory

        merged = _config.merge(cls._default_config, _as_dict(config))
        head = {"CPU": float(merged["num_cpus_for_driver"])}
        if merged["num_gpus"]:
            head["GPU"] = float(merged["num_gpus"])
        worker = {"CPU": float(merged["num_cpus_per_worker"]),
                  **{k: float(v) for k, v in merged["custom_resources_per_worker"].items()}}
        if merged["num_gpus_per_worker"]:
            worker["GPU"] = float(merged["num_gpus_per_worker"])
        return PlacementGroupFactory([head] + [dict(worker)] * merged["num_workers"],
                                     strategy=merged["placement_strategy"])

    @classmethod
    def resource_help(cls, config: dict[str, Any]) -> str:
        """For the message about trials that do not fit."""
        return "a trial takes num_cpus_for_driver + num_workers * num_cpus_per_worker CPUs"

    @classmethod
    def scale_trial_config(cls, config: dict[str, Any], cluster_cpus: float) -> dict[str, Any]:
        """The trainer holds all CPUs; its workers run while it waits, and ask for none."""
        return {"num_cpus_for_driver": max(1, int(cluster_cpus)), "num_cpus_per_worker": 0}

    # ---- Trainable --------------------------------------------------------------------------

    def setup(self, config: dict[str, Any]) -> None:
        """Workers first (their processes start meanwhile), then nets and learner."""
        from skate.rllib._worker_set import WorkerSet

        self.workers: Any = None
        self.config = _config.merge(self._default_config, config)
        _env.check_env(self.config["env"])
        seed = self.config["seed"]
        self._seed = random.SystemRandom().getrandbits(31) if seed is None else abs(seed)
        self._history = _metrics.EpisodeHistory(self.config["metrics_smoothing_episodes"])
        self._usage = _metrics.SystemUsage()
        self._watch = _metrics.Stopwatch()
        self._steps_sampled = self._steps_trained = 0
        self._callbacks = _callbacks(self.config["callbacks"])
        os.environ.update({k: str(v) for k, v in
                           self.config["extra_python_environs_for_driver"].items()})
        self.workers = WorkerSet(self.config, self._seed)
        try:
            self._build(self.workers.describe())
        except BaseException:
            self.workers.stop()
            raise

    def _build(self, about: dict[str, Any]) -> None:
        from skate import _rl
        from skate.rllib._policy import NativePolicy

        config = self.config
        self._obs_space, self._action_space = about["obs_space"], about["action_space"]
        model = config["model"]
        self._core = _rl.Policy(self._obs_space["size"], self._action_space["size"],
                                list(model["fcnet_hiddens"]), model["fcnet_activation"],
                                seed=self._seed)
        self._policy = NativePolicy(self._core, config, self._obs_space, self._action_space)
        self._learner = _rl.Learner(
            self._core, gamma=config["gamma"], lambda_=config["lambda"], lr=config["lr"],
            clip=config["clip_param"], vf_clip=config["vf_clip_param"],
            vf_coeff=config["vf_loss_coeff"], entropy_coeff=config["entropy_coeff"],
            kl_coeff=config["kl_coeff"], kl_target=config["kl_target"],
            grad_clip=config["grad_clip"] or 0.0, minibatch=config["sgd_minibatch_size"],
            epochs=config["num_sgd_iter"], threads=_config.learner_threads(config),
            seed=self._seed)

    def step(self) -> dict[str, Any]:
        """One iteration (more, if the config sets a minimum of time or steps for one)."""
        self._watch.start()
        rewards, lengths, sampled, seconds = [], [], 0, 0.0
        while True:
            fragments, stats = self._train_once()
            more_rewards, more_lengths = _metrics.episodes_of(fragments)
            rewards += more_rewards
            lengths += more_lengths
            sampled += stats["samples"]
            self._watch.lap("other")
            seconds = sum(self._watch.last.values())
            if (sampled >= (self.config["timesteps_per_iteration"] or 0)
                    and seconds >= (self.config["min_iter_time_s"] or 0)):
                break
        result = self._result(self._history.add(rewards, lengths), stats, sampled)
        every = self.config["evaluation_interval"]
        if every and (self.iteration + 1) % every == 0:
            result.update(self.evaluate())
        if self._callbacks is not None:
            self._callbacks.on_train_result(trainer=self, algorithm=self, result=result)
        return result

    def _train_once(self) -> tuple[list[Any], dict[str, Any]]:
        config, now = self.config, self._steps_sampled
        self._lr = _config.at_schedule(config["lr_schedule"], now, config["lr"])
        self._entropy_coeff = _config.at_schedule(config["entropy_coeff_schedule"], now,
                                                  config["entropy_coeff"])
        fragments = self.workers.sample(self._policy.flat_weights(), self._core.version)
        self._watch.lap("sample")
        self._learner.set(lr=self._lr, entropy_coeff=self._entropy_coeff)
        stats = self._learner.update(fragments)
        self._watch.lap("learn")
        self._steps_sampled += stats["samples"]
        self._steps_trained += stats["samples"]
        return fragments, stats

    def _result(self, episodes: dict[str, Any], stats: dict[str, Any],
                sampled: int) -> dict[str, Any]:
        last, total = self._watch.last, self._watch.total
        step_ms = self.workers.step_ms()
        result: dict[str, Any] = {
            **episodes,
            "episodes_total": self._history.total,
            "sampler_perf": {
                "mean_env_wait_ms": step_ms, "mean_raw_obs_processing_ms": 0.0,
                "mean_inference_ms": 0.0, "mean_action_processing_ms": 0.0,
                "mean_env_render_ms": 0.0,
            },
            "off_policy_estimator": {},
            "num_healthy_workers": len(self.workers.remote),
            "num_replaced_workers": self.workers.replaced,
            "timesteps_total": self._steps_sampled,
            "timesteps_this_iter": sampled,
            "agent_timesteps_total": self._steps_sampled,
            "timers": {
                "sample_time_ms": round(1e3 * last["sample"], 3),
                "sample_throughput": round(sampled / max(1e-9, last["sample"]), 3),
                "learn_time_ms": round(1e3 * last["learn"], 3),
                "learn_throughput": round(sampled / max(1e-9, last["learn"]), 3),
                "sample_time_total_s": total["sample"],
                "learn_time_total_s": total["learn"],
            },
            "info": {
                "learner": _metrics.learner_info(stats, self._entropy_coeff),
                "num_steps_sampled": self._steps_sampled,
                "num_agent_steps_sampled": self._steps_sampled,
                "num_steps_trained": self._steps_trained,
                "num_agent_steps_trained": self._steps_trained,
            },
            "perf": self._usage.read(),
        }
        result.update(_metrics.newer_names(result, stats))
        return result

    def cleanup(self) -> None:
        """End the workers."""
        if self.workers is not None:
            self.workers.stop()

    # ---- checkpoints ------------------------------------------------------------------------

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Weights, optimiser, counters and episode window, as plain files."""
        state = {
            "version": STATE_VERSION, "algorithm": self._name,
            "obs_space": self._obs_space, "action_space": self._action_space,
            "model": {key: self.config["model"][key]
                      for key in ("fcnet_hiddens", "fcnet_activation")},
            "policy_version": self._core.version, "steps_sampled": self._steps_sampled,
            "steps_trained": self._steps_trained, "episodes": self._history.state(),
            "seed": self._seed, "config": _plain(self.config),
        }
        with open(os.path.join(checkpoint_dir, STATE_FILE), "w", encoding="utf-8") as out:
            json.dump(state, out)
        with open(os.path.join(checkpoint_dir, WEIGHTS_FILE), "wb") as out:
            out.write(self._policy.flat_weights().tobytes())
        with open(os.path.join(checkpoint_dir, LEARNER_FILE), "wb") as out:
            out.write(self._learner.get_state())

    def load_checkpoint(self, checkpoint: Any) -> None:
        """What save_checkpoint() wrote, by a trainer of the same nets."""
        import numpy as np

        folder = _checkpoint_folder(checkpoint)
        state = read_state(folder)
        if (state["obs_space"]["size"], state["action_space"]["size"]) != (
                self._obs_space["size"], self._action_space["size"]) or list(
                state["model"]["fcnet_hiddens"]) != list(self.config["model"]["fcnet_hiddens"]):
            raise ValueError(f"the checkpoint in {folder} is of other nets than this trainer's")
        with open(os.path.join(folder, WEIGHTS_FILE), "rb") as source:
            weights = np.frombuffer(source.read(), np.float32)
        with open(os.path.join(folder, LEARNER_FILE), "rb") as source:
            self._learner.set_state(source.read())
        self._core.set_weights(weights, state["policy_version"])
        self._steps_sampled = int(state["steps_sampled"])
        self._steps_trained = int(state["steps_trained"])
        self._history.restore(state["episodes"])

    @classmethod
    def from_checkpoint(cls, path: Any) -> Trainer:
        """A trainer with the checkpoint's own config and state."""
        folder = _checkpoint_folder(path)
        config = read_state(folder)["config"]
        if config.get("env") is None:
            raise ValueError(f"the checkpoint in {folder} does not name its environment; build "
                             "the trainer from its config and call restore()")
        made = cls(config=config)
        made.restore(folder)
        return made

    # ---- acting -----------------------------------------------------------------------------

    def compute_single_action(self, observation: Any = None, state: Any = None, *,
                              policy_id: str = _metrics.DEFAULT_POLICY,
                              explore: bool | None = None, full_fetch: bool = False,
                              **_ignored: Any) -> Any:
        """The action for one observation; with full_fetch or a state, (action, [], extra)."""
        self._check_policy(policy_id)
        action, _none, extra = self._policy.compute_single_action(observation, explore=explore)
        return (action, [], extra) if full_fetch or state is not None else action

    compute_action = compute_single_action

    def compute_actions(self, observations: Any, state: Any = None, *,
                        policy_id: str = _metrics.DEFAULT_POLICY, explore: bool | None = None,
                        **_ignored: Any) -> Any:
        """Actions for a dictionary (key -> observation) or a sequence of observations."""
        self._check_policy(policy_id)
        named = isinstance(observations, dict)
        rows = list(observations.values()) if named else observations
        actions, _none, _extra = self._policy.compute_actions(rows, explore)
        return dict(zip(observations, actions.tolist())) if named else actions

    def get_policy(self, policy_id: str = _metrics.DEFAULT_POLICY) -> Any:
        """The policy: get_weights, set_weights, compute_actions."""
        self._check_policy(policy_id)
        return self._policy

    @staticmethod
    def _check_policy(policy_id: str) -> None:
        if policy_id != _metrics.DEFAULT_POLICY:
            raise KeyError(f"there is no policy {policy_id!r}, only {_metrics.DEFAULT_POLICY!r}")

    def get_weights(self, policies: Any = None) -> dict[str, Any]:
        """{'default_policy': named arrays}."""
        return {_metrics.DEFAULT_POLICY: self._policy.get_weights()}

    def set_weights(self, weights: dict[str, Any]) -> None:
        """What get_weights() gives."""
        self._policy.set_weights(weights[_metrics.DEFAULT_POLICY])

    @property
    def observation_space(self) -> Any:
        """The environment's own space object."""
        return self.workers.spaces()[0]

    @property
    def action_space(self) -> Any:
        """The environment's own space object."""
        return self.workers.spaces()[1]

    def evaluate(self, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
        """{'evaluation': episode statistics} of some episodes in an environment of our own."""
        config = self.config
        extra = config["evaluation_config"]
        env_config = {**config["env_config"], **extra.get("env_config", {})}
        explore = extra.get("explore", config["explore"])
        episodes = max(config["evaluation_num_episodes"], 1)
        if config["evaluation_duration"] != 10:
            episodes = config["evaluation_duration"]
        env = _env.make_env(config["env"], _env.EnvContext(env_config), config["horizon"])
        rewards: list[float] = []
        lengths: list[int] = []
        seed: int | None = self._seed + 1_000_000
        try:
            for _ in range(episodes):
                obs, total, steps, done = _env.first_obs(env, seed), 0.0, 0, False
                seed = None
                while not done:
                    action = self.compute_single_action(obs, explore=explore)
                    obs, reward, terminated, truncated, _info = _env.five(env.step(action))
                    total += float(reward)
                    steps += 1
                    done = terminated or truncated
                rewards.append(total)
                lengths.append(steps)
        finally:
            _env.close_env(env)
        result = _metrics.summary(rewards, lengths)
        result["episodes_this_iter"] = episodes
        result["env_runners"] = {"episode_return_mean": result["episode_reward_mean"],
                                 "episode_len_mean": result["episode_len_mean"]}
        return {"evaluation": result}

    # ---- the newer era's names --------------------------------------------------------------

    def save_to_path(self, path: str | None = None) -> str:
        """save() under its newer name."""
        return self.save(path)

    def restore_from_path(self, path: Any) -> None:
        """restore() under its newer name."""
        self.restore(path)

    @classmethod
    def with_updates(cls, name: str | None = None, default_config: dict[str, Any] | None = None,
                     **unknown: Any) -> type[Trainer]:
        """A subclass with another name or other defaults."""
        if unknown:
            raise ValueError(f"with_updates() does not offer {sorted(unknown)}")
        fields: dict[str, Any] = {"__module__": cls.__module__}
        if name is not None:
            fields["_name"] = name
        if default_config is not None:
            fields["_default_config"] = copy.deepcopy(default_config)
        return type(name or cls.__name__, (cls,), fields)


def _as_dict(config: Any) -> dict[str, Any]:
    """A config given as a dictionary, a config object or None."""
    if config is None:
        return {}
    if hasattr(config, "to_dict"):
        return config.to_dict()
    if not isinstance(config, dict):
        raise TypeError(f"config must be a dictionary, got {type(config).__name__}")
    return dict(config)


def _callbacks(cls: Any) -> Any:
    if cls is None:
        return None
    made = cls() if isinstance(cls, type) else cls
    if not hasattr(made, "on_train_result"):
        raise TypeError("callbacks must be a subclass of DefaultCallbacks")
    return made


def _checkpoint_folder(checkpoint: Any) -> str:
    path = os.path.expanduser(os.fspath(getattr(checkpoint, "path", checkpoint)))
    return path if os.path.isdir(path) else os.path.dirname(path)


def read_state(folder: str) -> dict[str, Any]:
    """The description in a checkpoint's folder; ValueError if it is none."""
    path = os.path.join(folder, STATE_FILE)
    try:
        with open(path, encoding="utf-8") as source:
            state = json.load(source)
    except FileNotFoundError:
        raise ValueError(f"{folder} holds no checkpoint of a trainer: no {STATE_FILE}") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(state, dict) or state.get("version") != STATE_VERSION:
        raise ValueError(f"{path} has version {state.get('version')!r}, not {STATE_VERSION}")
    return state


def _plain(value: Any) -> Any:
    """What JSON can hold of a config; the rest becomes None."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return float(value) if hasattr(value, "__float__") else None
