"""Plans: what decides when to sample, to store and to learn.

A trainer has one plan, made from its spec. The trainer knows configs, results, checkpoints and
evaluation; the plan owns engine and policy, and does one iteration in train_once(). A plan that
samples its own way (evolution, bandits, tree search, offline data) sets `needs_workers` to False
and has what it needs made in build().
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

from skate.rllib import _config, _engine, _metrics
from skate.rllib._callbacks import CallbackList
from skate.rllib._errors import CheckpointError, UnsupportedConfigError
from skate.rllib._filter import RunningStat, make_filter
from skate.rllib._plans._batch import Batch, floats, for_engine
from skate.rllib._specs import Spec


@dataclass
class Step:
    """What one train_once() did. `stats` is {policy id: {name: number}}."""

    stats: dict[str, dict[str, Any]]
    sampled: int = 0
    episodes: _metrics.Episodes = field(default_factory=_metrics.Episodes)


class Plan:
    """Base of the plans. `counters` is kept in checkpoints: 'sampled' and 'trained' count steps
    of the environment, others are the plan's own."""

    needs_env = True            # config['env'] must name an environment
    needs_workers = True        # rollout workers are started from the config
    keeps_workers = True        # what the workers are at goes into checkpoints
    handles_agents = False      # the plan itself knows what to do with about['agents']
    log_dir: str | None = None  # of the trial
    records = True              # what its workers sample can be written to config['output']
    worker = "_sampler:Sampler"     # what they are: 'module:Class' below skate.rllib
    evaluation_worker = "_sampler:Sampler"      # the same of evaluation

    def __init__(self, spec: Spec, config: dict[str, Any], seed: int) -> None:
        self.spec = spec
        self.config = config
        self.seed = seed
        self.counters: dict[str, int] = {"sampled": 0, "trained": 0}
        self.watch = _metrics.Stopwatch()
        self.workers: Any = None
        self.obs_space: dict[str, Any] = {}
        self.action_space: dict[str, Any] = {}
        self.policies: dict[str, Any] = {}

    def choose(self, about: dict[str, Any]) -> type[Plan]:
        """The plan to take now that the spaces are known; for those that have a faster twin."""
        return type(self)

    @property
    def external(self) -> bool:
        """Whether episodes come from outside: an ExternalEnv, clients of a policy server."""
        from skate.rllib._external.workers import is_external

        return is_external(self.spec, self.config)

    def check(self) -> None:
        """Before anything is started: what can be known to be wrong."""
        from skate.rllib import _env

        if self.needs_env and not self.external:
            _env.check_env(self.config["env"])
        if self.config["output"] is not None and not (self.needs_workers and self.records):
            raise UnsupportedConfigError(
                f"output={self.config['output']!r}: {self.spec.name} gets no steps from rollout "
                "workers here, so that there is nothing to write")

    def describe(self, workers: Any) -> dict[str, Any]:
        """{'obs_space', 'action_space'} as _spaces describes them; `workers` may be None."""
        if workers is None:
            raise NotImplementedError("a plan without rollout workers must know its spaces")
        return dict(workers.describe())

    def build(self, about: dict[str, Any], workers: Any) -> None:
        """Make engine and policies (into self.policies) for the spaces of describe()."""
        self.workers = workers
        self.obs_space, self.action_space = about["obs_space"], about["action_space"]

    def train_once(self) -> Step:
        """The least that can be called an iteration."""
        raise NotImplementedError

    def scheduled(self, name: str) -> float:
        """config[name] now, by config[name + '_schedule'] if there is one."""
        return _config.at_schedule(self.config.get(f"{name}_schedule"),
                                   self.counters["sampled"], self.config[name])

    def save(self) -> dict[str, bytes]:
        """Files of a checkpoint, by name."""
        return {}

    def load(self, files: dict[str, bytes], state: dict[str, Any]) -> None:
        """What save() gave; `state` is the description in the checkpoint. Raises ValueError and
        changes nothing where the files are of something else."""

    def describe_state(self) -> dict[str, Any]:
        """Plain data for the checkpoint's description."""
        return {}

    def info(self) -> dict[str, Any]:
        """More for result['info']."""
        return {}

    def spaces(self) -> tuple[Any, Any]:
        """The environment's own (observation space, action space)."""
        found: tuple[Any, Any] = self.workers.spaces()
        return found

    def off_policy(self) -> dict[str, Any]:
        """The estimates in result['off_policy_estimator'], of plans that read recorded steps."""
        return {}

    def stop(self) -> None:
        """End what build() made, workers excepted."""

    # What the trainer's evaluation acts with, if the plan's policies can act at all.
    def job(self, config: dict[str, Any]) -> dict[str, Any]:
        """What a sampler needs to know, from the evaluation's config (_engine.job_of)."""
        return _engine.job_of(self.spec, config)

    @property
    def known(self) -> Any:
        """What the observation filter knows; None without one."""
        return None


ENGINE_FILE = "engine.bin"


class EnginePlan(Plan):
    """A plan with one algorithm of the C engine as policy and learner."""

    def build(self, about: dict[str, Any], workers: Any) -> None:
        """Engine and policy; the workers are told what to sample with."""
        from skate.rllib._policy import EnginePolicy

        super().build(about, workers)
        spec, config = self.spec, self.config
        self.engine_name, options = _engine.chosen(spec, config)
        self.engine = _engine.make(self.engine_name, options, self.obs_space, self.action_space,
                                   self.seed)
        self.policy = EnginePolicy(self.engine, config, self.obs_space, self.action_space)
        self.policies = {_metrics.DEFAULT_POLICY: self.policy}
        self.callbacks = CallbackList(config["callbacks"])
        self.callbacks.call("on_create_policy", policy_id=_metrics.DEFAULT_POLICY,
                            policy=self.policy)
        made = make_filter(config["observation_filter"], self.obs_space["size"])
        self._known = made.known if made is not None else None
        self.policy.filter = made
        if workers is not None:
            workers.configure(self.job(config), self.engine)

    @property
    def known(self) -> Any:
        """All that the filters of the workers saw."""
        return self._known

    def absorb(self, parts: list[tuple[int, dict[str, Any]]], steps: int, fragment: int
               ) -> dict[str, Any]:
        """Learn from (worker, columns) that were sampled: the statistics, {} if nothing was
        learned. `steps` counts the environments' steps, `fragment` is that of each environment
        in the columns, 0 if they are ragged (multi-agent)."""
        raise NotImplementedError

    def collect(self, steps: int) -> list[tuple[dict[str, Any], _metrics.Episodes]]:
        """`steps` steps of every environment: (columns, episodes that ended) of each worker."""
        answers: list[Any] = self.workers.collect(self.policy, steps, self.counters["sampled"],
                                                  self._known)
        if self._known is not None:
            for _columns, ended in answers:
                self._known.join(ended.noted)
        return answers

    def learn(self, batch: Batch) -> dict[str, Any]:
        """One learn() of the engine: its statistics."""
        extra: dict[str, Any] = {}
        if self.callbacks.has("on_learn_on_batch"):
            self.callbacks.call("on_learn_on_batch", policy=self.policy,
                                train_batch=batch.columns, result=extra)
        return {**self.engine.learn(batch.rows, batch.steps, floats(batch.columns)), **extra}

    def schedules(self) -> None:
        """Tell the engine the present value of what has a schedule in the config."""
        for name in ("lr", "entropy_coeff"):
            if self.config.get(f"{name}_schedule") is not None:
                self.engine.set(name, self.scheduled(name))

    def for_learning(self, columns: dict[str, Any], fragment: int) -> Batch:
        """The batch as learn() takes it: sequences of max_seq_len for a recurrent net."""
        return for_engine(self.engine, columns, int(self.config["model"]["max_seq_len"]),
                          fragment)

    def describe_state(self) -> dict[str, Any]:
        """The engine's name and the plan's own state."""
        return {"engine": self.engine_name, "plan_state": self.state_to_save(),
                "filter": self._known.state() if self._known is not None else None}

    def save(self) -> dict[str, bytes]:
        """All of the engine: parameters, optimisers, random numbers."""
        return {ENGINE_FILE: self.engine.state()}

    def load(self, files: dict[str, bytes], state: dict[str, Any]) -> None:
        """What save() gave."""
        if state["engine"] != self.engine_name:
            raise CheckpointError(f"it is of the engine's {state['engine']!r}, this is "
                                  f"{self.engine_name!r}")
        self.engine.set_state(files[ENGINE_FILE])
        if self._known is not None and state.get("filter"):
            self._known = RunningStat.of(state["filter"])
            self.policy.filter.sync(self._known)
        self.state_to_load(state["plan_state"])

    def state_to_save(self) -> dict[str, Any]:
        """Plain data of the plan's own, for JSON."""
        return {}

    def state_to_load(self, state: dict[str, Any]) -> None:
        """What state_to_save() gave."""


def plan_class(name: str) -> type[Plan]:
    """The class that a spec's 'module:Class' names."""
    module, _, attribute = name.partition(":")
    found: type[Plan] = getattr(importlib.import_module(f"skate.rllib._plans.{module}"), attribute)
    return found
