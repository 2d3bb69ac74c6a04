"""Trainer (newer name: Algorithm): one algorithm of RLlib's names, as a Tune Trainable.

What an algorithm is stands in its spec (_specs/), what it does in an iteration in its plan
(_plans/); here are configs, results, checkpoints, acting and evaluation, the same for all. The
trainer's own process neither imports Gymnasium nor makes an environment unless asked to
(num_workers=0, evaluate()).
"""

from __future__ import annotations

import copy
import logging
import os
import random
from typing import Any

from skate.rllib import _checkpoint, _config, _metrics, _plans
from skate.rllib._callbacks import CallbackList, MetricsLogger
from skate.rllib._errors import CheckpointError, UnsupportedConfigError
from skate.rllib._specs import Spec
from skate.tune.trainable import Trainable

logger = logging.getLogger(__name__)


class Trainer(Trainable):
    """The base of the algorithms' classes, which _registry makes from their specs."""

    _name = "Trainer"
    _spec: Spec
    _default_config: dict[str, Any] = _config.COMMON_CONFIG
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
    def _merge(cls, config: Any) -> dict[str, Any]:
        """The full, checked config of `config` over this class's defaults."""
        if not hasattr(cls, "_spec"):
            raise TypeError(f"{cls.__name__} is no algorithm: subclass one of those, as PPOTrainer")
        return _config.merge(cls._spec, _as_dict(config), cls._default_config)

    @classmethod
    def validate_trial_config(cls, config: dict[str, Any]) -> None:
        """Unknown keys, bad values, an unknown environment: before anything is started."""
        merged = cls._merge(config)
        _plans.plan_class(cls._spec.plan)(cls._spec, merged, 0).check()

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> Any:
        """One bundle for the trainer and one for each rollout and evaluation worker."""
        from skate.tune.resources import PlacementGroupFactory

        merged = cls._merge(config)
        head = {"CPU": float(merged["num_cpus_for_driver"])}
        if merged["num_gpus"]:
            head["GPU"] = float(merged["num_gpus"])
        worker = {"CPU": float(merged["num_cpus_per_worker"]),
                  **{k: float(v) for k, v in merged["custom_resources_per_worker"].items()}}
        if merged["num_gpus_per_worker"]:
            worker["GPU"] = float(merged["num_gpus_per_worker"])
        count = merged["num_workers"] + merged["evaluation_num_workers"]
        return PlacementGroupFactory([head] + [dict(worker)] * count,
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
        """Workers first (their processes start meanwhile), then what the plan needs."""
        from skate.rllib._worker_set import WorkerSet

        self.workers: Any = None
        self.plan: Any = None
        self.config = self._merge(config)
        seed = self.config["seed"]
        self._seed = random.SystemRandom().getrandbits(31) if seed is None else abs(seed)
        first = _plans.plan_class(self._spec.plan)(self._spec, self.config, self._seed)
        first.check()
        self._history = _metrics.EpisodeHistory(self.config["metrics_smoothing_episodes"])
        self._usage = _metrics.SystemUsage()
        self._callbacks = CallbackList(self.config["callbacks"])
        self._logger = MetricsLogger()
        self._evaluation: Any = None
        os.environ.update({k: str(v) for k, v in
                           self.config["extra_python_environs_for_driver"].items()})
        if first.needs_workers:
            if first.external:
                from skate.rllib._external.workers import ExternalSet

                self.workers = ExternalSet(self.config, self._seed)
            else:
                self.workers = WorkerSet(self.config, self._seed, first.worker)
        try:
            self._build(first)
        except BaseException:
            self.cleanup()
            raise

    def _build(self, first: _plans.Plan) -> None:
        about = first.describe(self.workers)
        self._obs_space, self._action_space = about["obs_space"], about["action_space"]
        if about.get("agents") is not None and not first.handles_agents:
            self.plan = self._multi_plan(first)
        else:
            chosen = first.choose(about)
            self.plan = first if isinstance(first, chosen) else chosen(
                self._spec, self.config, self._seed)
        self.plan.log_dir = getattr(self, "logdir", None)
        self.plan.build(about, self.workers)
        if self.workers is not None:
            self.workers.record(about, self.plan.log_dir)
        self._watch = self.plan.watch
        self._callbacks.call("on_algorithm_init", algorithm=self, trainer=self)

    def _multi_plan(self, first: _plans.Plan) -> _plans.Plan:
        """The plan of a multi-agent environment."""
        from skate.rllib._plans.multi_agent import MultiAgentPlan

        if not isinstance(first, _plans.EnginePlan):
            raise UnsupportedConfigError(f"{self._name} has no multi-agent environments")
        inner = type(first)
        if inner.absorb is _plans.EnginePlan.absorb:    # asynchronous ones take turns here
            from skate.rllib._plans.on_policy import OnPolicyPlan as inner
            if (self.config.get("replay_proportion", 0) > 0
                    or self.config.get("minibatch_buffer_size", 1) > 1):
                raise UnsupportedConfigError(
                    "replay_proportion and minibatch_buffer_size are not offered with several "
                    "agents, only 0.0 and 1")
        return MultiAgentPlan(self._spec, self.config, self._seed, inner)

    def step(self) -> dict[str, Any]:
        """One iteration (more, if the config sets a minimum of time or steps for one)."""
        every = self.config["evaluation_interval"]
        due = bool(every) and (self.iteration + 1) % every == 0
        along = due and self.config["evaluation_parallel_to_training"]
        if along:
            self._evaluate_start()
        self._watch.start()
        episodes, sampled = _metrics.Episodes(), 0
        while True:
            done = self.plan.train_once()
            episodes.extend(done.episodes)
            sampled += done.sampled
            self._watch.lap("other")
            seconds = sum(self._watch.last.values())
            if (sampled >= (self.config["timesteps_per_iteration"] or 0)
                    and seconds >= (self.config["min_iter_time_s"] or 0)):
                break
        numbers = self._history.add(episodes.rewards, episodes.lengths)
        numbers.update(_metrics.more_of(episodes))
        result = self._result(numbers, done.stats, sampled)
        _metrics.also(result, episodes)
        if due:
            result.update(self._evaluate_end() if along else self.evaluate())
        self._callbacks.call("on_train_result", trainer=self, algorithm=self, result=result,
                             metrics_logger=self._logger)
        if self.config["env_task_fn"] is not None and self.workers is not None:
            self.workers.set_tasks(self.config["env_task_fn"], result)
        for name, values in self._logger.take().items():
            result[name] = sum(values) / len(values)
        return result

    def _result(self, episodes: dict[str, Any], stats: dict[str, dict[str, Any]],
                sampled: int) -> dict[str, Any]:
        last, total, counters = self._watch.last, self._watch.total, self.plan.counters
        workers = self.workers
        sample_s, learn_s = last.get("sample", 0.0), last.get("learn", 0.0)
        result: dict[str, Any] = {
            **episodes,
            "episodes_total": self._history.total,
            "sampler_perf": {
                "mean_env_wait_ms": workers.step_ms() if workers is not None else 0.0,
                "mean_raw_obs_processing_ms": 0.0,
                "mean_inference_ms": 0.0, "mean_action_processing_ms": 0.0,
                "mean_env_render_ms": 0.0,
            },
            "off_policy_estimator": self.plan.off_policy(),
            "num_healthy_workers": len(workers.remote) if workers is not None else 0,
            "num_replaced_workers": workers.replaced if workers is not None else 0,
            "timesteps_total": counters["sampled"],
            "timesteps_this_iter": sampled,
            "agent_timesteps_total": counters.get("agent_sampled", counters["sampled"]),
            "timers": {
                "sample_time_ms": round(1e3 * sample_s, 3),
                "sample_throughput": round(sampled / max(1e-9, sample_s), 3),
                "learn_time_ms": round(1e3 * learn_s, 3),
                "learn_throughput": round(sampled / max(1e-9, learn_s), 3),
                "sample_time_total_s": total.get("sample", 0.0),
                "learn_time_total_s": total.get("learn", 0.0),
            },
            "info": {
                "learner": _metrics.learner_info(stats),
                "num_steps_sampled": counters["sampled"],
                "num_agent_steps_sampled": counters.get("agent_sampled", counters["sampled"]),
                "num_steps_trained": counters["trained"],
                "num_agent_steps_trained": counters["trained"],
                **self.plan.info(),
            },
            "perf": self._usage.read(),
        }
        result.update(_metrics.newer_names(result, stats))
        return result

    def cleanup(self) -> None:
        """End the workers and what the plan made."""
        if self.plan is not None:
            self.plan.stop()
        if self.workers is not None:
            self.workers.stop()
        if getattr(self, "_evaluation", None) is not None:
            self._evaluation.stop()

    # ---- checkpoints ------------------------------------------------------------------------

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Weights, optimisers, replay, counters and episode window, as plain files."""
        state = {
            "algorithm": self._name, "plan": type(self.plan).__name__,
            "obs_space": self._obs_space, "action_space": self._action_space,
            "counters": dict(self.plan.counters), "episodes": self._history.state(),
            "seed": self.plan.seed, "config": _checkpoint.plain(self.config),
            **self.plan.describe_state(),
        }
        files = self.plan.save()
        if self.workers is not None and self.plan.keeps_workers:
            files.update({f"worker-{i}.bin": block
                          for i, block in enumerate(self.workers.keep())})
        _checkpoint.write(checkpoint_dir, state, files)

    def load_checkpoint(self, checkpoint: Any) -> None:
        """What save_checkpoint() wrote, by a trainer of the same algorithm and nets."""
        folder = _checkpoint.folder_of(checkpoint)
        state = _checkpoint.read(folder)
        if state["algorithm"] != self._name or state["plan"] != type(self.plan).__name__:
            raise CheckpointError(f"the checkpoint in {folder} is of {state['algorithm']} "
                                  f"({state['plan']}), this trainer is {self._name} "
                                  f"({type(self.plan).__name__})")
        if (state["obs_space"]["size"], state["action_space"]["size"]) != (
                self._obs_space["size"], self._action_space["size"]):
            raise CheckpointError(f"the checkpoint in {folder} is of other nets than this "
                                  "trainer's: its spaces differ")
        files = _checkpoint.read_files(folder, state)
        try:
            self.plan.load(files, state)
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"the checkpoint in {folder} does not fit: {error}") from error
        blocks = [files[f"worker-{i}.bin"] for i in range(len(files))
                  if f"worker-{i}.bin" in files]
        if blocks and self.plan.keeps_workers:
            self._go_on(blocks)
        self.plan.counters.update(state["counters"])
        self._history.restore(state["episodes"])
        self._callbacks.call("on_checkpoint_loaded", algorithm=self, trainer=self)

    def _go_on(self, blocks: list[bytes]) -> None:
        """The workers' part of a checkpoint; without it they start new episodes."""
        try:
            self.workers.go_on(blocks)
        except Exception as error:
            logger.warning("the workers start new episodes: what the checkpoint has of them "
                           "cannot be used (%s)", error)

    @classmethod
    def from_checkpoint(cls, path: Any) -> Trainer:
        """A trainer with the checkpoint's own config and state."""
        from skate.rllib._registry import newer_class

        folder = _checkpoint.folder_of(path)
        state = _checkpoint.read(folder)
        config = state["config"]
        if config.get("env") is None:
            raise ValueError(f"the checkpoint in {folder} does not name its environment; build "
                             "the trainer from its config and call restore()")
        if config["multiagent"]["policies"]:
            raise ValueError(f"the checkpoint in {folder} is multi-agent, and functions as "
                             "policy_mapping_fn are not kept: build the trainer from its config "
                             "and call restore()")
        made: Trainer = (cls if hasattr(cls, "_spec") else newer_class(state["algorithm"]))(
            config=config)
        made.restore(folder)
        return made

    # ---- acting -----------------------------------------------------------------------------

    def compute_single_action(self, observation: Any = None, state: Any = None, *,
                              policy_id: str = _metrics.DEFAULT_POLICY,
                              explore: bool | None = None, full_fetch: bool = False,
                              **_ignored: Any) -> Any:
        """The action for one observation; with full_fetch or a state, (action, state, extra)."""
        action, after, extra = self.get_policy(policy_id).compute_single_action(
            observation, state, explore=explore)
        return (action, after, extra) if full_fetch or state is not None else action

    compute_action = compute_single_action

    def compute_actions(self, observations: Any, state: Any = None, *,
                        policy_id: str = _metrics.DEFAULT_POLICY, explore: bool | None = None,
                        **_ignored: Any) -> Any:
        """Actions for a dictionary (key -> observation) or a sequence of observations."""
        named = isinstance(observations, dict)
        rows = list(observations.values()) if named else observations
        actions, _state, _extra = self.get_policy(policy_id).compute_actions(
            rows, state, explore=explore)
        if not named:
            return actions
        return dict(zip(observations, actions.tolist() if actions.ndim == 1 else actions))

    def get_policy(self, policy_id: str = _metrics.DEFAULT_POLICY) -> Any:
        """The policy: get_weights, set_weights, compute_actions."""
        policies = self.plan.policies
        if policy_id not in policies:
            raise KeyError(f"there is no policy {policy_id!r}, only "
                           f"{', '.join(repr(name) for name in policies)}")
        return policies[policy_id]

    def get_weights(self, policies: Any = None) -> dict[str, Any]:
        """{policy id: named arrays} of all policies or those listed."""
        return {name: policy.get_weights() for name, policy in self.plan.policies.items()
                if policies is None or name in policies}

    def set_weights(self, weights: dict[str, Any]) -> None:
        """What get_weights() gives."""
        for name, named in weights.items():
            self.get_policy(name).set_weights(named)

    @property
    def observation_space(self) -> Any:
        """The environment's own space object."""
        return self.plan.spaces()[0]

    @property
    def action_space(self) -> Any:
        """The environment's own space object."""
        return self.plan.spaces()[1]

    def evaluate(self, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
        """{'evaluation': episode statistics}, as the evaluation_... keys say."""
        self._evaluate_start()
        return self._evaluate_end()

    def _evaluate_start(self) -> None:
        from skate.rllib._evaluation import Evaluation

        if self._evaluation is None:
            self._evaluation = Evaluation(self)
        self._callbacks.call("on_evaluate_start", algorithm=self, trainer=self)
        if self.config["custom_eval_function"] is None:
            self._evaluation.start()

    def _evaluate_end(self) -> dict[str, Any]:
        custom = self.config["custom_eval_function"]
        result: dict[str, Any] = (self._evaluation.result() if custom is None else
                                  {"evaluation": custom(self, self.workers)})
        self._callbacks.call("on_evaluate_end", algorithm=self, trainer=self,
                             evaluation_metrics=result)
        return result

    def evaluated_policy(self) -> Any:
        """What evaluation acts with."""
        return getattr(self.plan, "acting", None) or next(iter(self.plan.policies.values()))

    # ---- policies of multi-agent trainers ---------------------------------------------------

    def add_policy(self, policy_id: str, policy_cls: Any = None, *,
                   observation_space: Any = None, action_space: Any = None,
                   config: Any = None, policy_mapping_fn: Any = None,
                   policies_to_train: Any = None, **_ignored: Any) -> Any:
        """One more policy of a multi-agent trainer: the policy."""
        return self._many().add_policy(policy_id, observation_space, action_space,
                                       _as_dict(config), policy_mapping_fn, policies_to_train)

    def remove_policy(self, policy_id: str = _metrics.DEFAULT_POLICY, *,
                      policy_mapping_fn: Any = None, policies_to_train: Any = None,
                      **_ignored: Any) -> None:
        """One policy less."""
        self._many().remove_policy(policy_id, policy_mapping_fn, policies_to_train)

    def _many(self) -> Any:
        if not hasattr(self.plan, "add_policy"):
            raise UnsupportedConfigError("policies come and go in multi-agent environments only")
        return self.plan

    # ---- the newer era's names --------------------------------------------------------------

    def save_to_path(self, path: str | None = None) -> str:
        """save() under its newer name."""
        return self.save(path)

    def restore_from_path(self, path: Any) -> None:
        """restore() under its newer name."""
        self.restore(path)

    def get_state(self) -> dict[str, Any]:
        """All that a checkpoint has, in memory: {'iteration', 'files': {name: bytes}}."""
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            self.save_checkpoint(folder)
            files = {}
            for name in sorted(os.listdir(folder)):
                with open(os.path.join(folder, name), "rb") as source:
                    files[name] = source.read()
        return {"iteration": self.iteration, "files": files}

    def set_state(self, state: dict[str, Any]) -> None:
        """What get_state() gave."""
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            for name, content in state["files"].items():
                with open(os.path.join(folder, os.path.basename(name)), "wb") as out:
                    out.write(content)
            self.load_checkpoint(folder)
        self._iteration = int(state["iteration"])

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
