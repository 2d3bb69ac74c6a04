"""Multi-agent: one plan of the algorithm for each policy, all fed by the same environments.

multiagent['policies'] names them: {id: PolicySpec, (class, obs space, action space, config), config
or None}, or a list of ids; what is None is taken from the agents that policy_mapping_fn maps there.
A policy that is not in policies_to_train acts and does not learn.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from skate.rllib import _config, _engine, _metrics, _multi, _spaces
from skate.rllib._errors import CheckpointError, UnsupportedConfigError
from skate.rllib._plans import EnginePlan, Plan, Step
from skate.rllib._specs import Spec


class PolicyMap:
    """All policies as the WorkerSet takes one: weights and engines by id."""

    def __init__(self, plans: dict[str, Any]) -> None:
        self._plans = plans
        self._engines: dict[str, Any] = {}

    @property
    def engine(self) -> dict[str, Any]:
        """The engines, always in the same dictionary."""
        self._engines.update({name: plan.engine for name, plan in self._plans.items()})
        return self._engines

    @property
    def version(self) -> int:
        """Updates of all policies."""
        return sum(plan.policy.version for plan in self._plans.values())

    def flat_weights(self) -> dict[str, Any]:
        """Each policy's."""
        return {name: plan.policy.flat_weights() for name, plan in self._plans.items()}


class MultiAgentPlan(Plan):
    """The plans of the policies, and who learns when."""

    def __init__(self, spec: Spec, config: dict[str, Any], seed: int,
                 inner: type[EnginePlan]) -> None:
        super().__init__(spec, config, seed)
        self._inner = inner
        self.plans: dict[str, EnginePlan] = {}
        self.counters["agent_sampled"] = 0
        self._agents: dict[str, Any] = {}

    def build(self, about: dict[str, Any], workers: Any) -> None:
        """A plan for each policy; the workers are told all of them."""
        super().build(about, workers)
        self._agents = about["agents"]
        if self.config["observation_filter"] not in (None, "NoFilter"):
            raise UnsupportedConfigError("observation_filter: multi-agent observations are not "
                                         "filtered, only 'NoFilter'")
        if self.config["batch_mode"] != "truncate_episodes":
            raise UnsupportedConfigError("batch_mode: multi-agent fragments are cut, only "
                                         "'truncate_episodes'")
        self._mapping = self.config["multiagent"]["policy_mapping_fn"]
        for name, given in named_policies(self.config).items():
            self._add(name, *given)
        self._train = self.config["multiagent"]["policies_to_train"]
        self.acting = PolicyMap(self.plans)
        if workers is not None:
            workers.configure(self.job(self.config), self.acting.engine)

    def _add(self, name: str, obs: Any, action: Any, extra: dict[str, Any]) -> None:
        """A policy and its plan."""
        config = _config.merge(self.spec, {**extra}, self.config) if extra else self.config
        config = {**config, "multiagent": {**config["multiagent"]}}
        spaces = self._spaces_of(name)
        pair = (spaces[0] if obs is None else _spaces.describe(obs),
                spaces[1] if action is None else _spaces.describe_actions(action))
        plan = self._inner(self.spec, config, self.seed + 101 * len(self.plans))
        plan.build({"obs_space": pair[0], "action_space": pair[1]}, None)
        self.plans[name] = plan
        self.policies[name] = plan.policy

    def _spaces_of(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Those of the agents that map to a policy."""
        if self._agents["shared"] is not None:
            shared: tuple[dict[str, Any], dict[str, Any]] = self._agents["shared"]
            return shared
        call = _multi.mapping_call(self._mapping)
        found = list(self._agents["agents"].items())
        for agent, pair in found:
            try:
                if call(agent, None, None) == name:
                    return pair[0], pair[1]
            except Exception:       # a mapping that reads the episode: any agent's will do
                break
        if all(pair == found[0][1] for _agent, pair in found):
            return found[0][1][0], found[0][1][1]
        raise ValueError(f"policy {name!r}: no agent maps to it, so give it an observation_space "
                         "and an action_space")

    def job(self, config: dict[str, Any]) -> dict[str, Any]:
        """What a sampler needs to know of all policies."""
        return {"policies": {name: {**_engine.job_of(self.spec, {
                    **plan.config, "explore": config["explore"]}),
                    "obs_space": plan.obs_space, "action_space": plan.action_space}
                    for name, plan in self.plans.items()},
                "mapping": self._mapping, "explore": bool(config["explore"]),
                "callbacks": _engine.sampling_callbacks(config)}

    def trains(self, name: str) -> bool:
        """Whether a policy learns."""
        if self._train is None:
            return True
        return bool(self._train(name)) if callable(self._train) else name in self._train

    def train_once(self) -> Step:
        """Sample what the policies' plans want, then each learns from its rows."""
        episodes = _metrics.Episodes()
        parts: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        ask, wanted = next(iter(self.plans.values())).steps_per_train()     # type: ignore
        by_agents = self.config["multiagent"]["count_steps_by"] == "agent_steps"
        steps = rows = 0
        while (rows if by_agents else steps) < wanted:
            for worker, (columns, ended) in enumerate(self.workers.collect(
                    self.acting, ask, self.counters["sampled"])):
                episodes.extend(ended)
                for name, part in columns.items():
                    parts.setdefault(name, []).append((worker, part))
                    rows += len(part["rewards"])
            steps += ask * self.workers.columns()
        self.watch.lap("sample")
        stats = {}
        for name, given in parts.items():
            if self.trains(name):
                told = self.plans[name].absorb(given, steps, 0)
                if told:
                    stats[name] = told
        self.watch.lap("learn")
        self.counters["sampled"] += steps
        self.counters["trained"] += steps
        self.counters["agent_sampled"] += rows
        return Step(stats, steps, episodes)

    # ---- policies that come and go ----------------------------------------------------------

    def add_policy(self, name: str, obs: Any, action: Any, extra: dict[str, Any],
                   mapping: Any = None, to_train: Any = None) -> Any:
        """One more policy; the workers begin anew with all of them."""
        if name in self.plans:
            raise ValueError(f"there is a policy {name!r} already")
        if mapping is not None:
            self._mapping = mapping
        self._add(name, obs, action, extra)
        return self._changed(name, to_train)

    def remove_policy(self, name: str, mapping: Any = None, to_train: Any = None) -> None:
        """One less."""
        if name not in self.plans or len(self.plans) == 1:
            raise ValueError(f"there is no policy {name!r} to remove, or it is the last")
        if mapping is not None:
            self._mapping = mapping
        del self.plans[name], self.policies[name]
        self._changed(name, to_train)

    def _changed(self, name: str, to_train: Any) -> Any:
        if to_train is not None:
            self._train = to_train
        self.acting = PolicyMap(self.plans)
        self.workers.configure(self.job(self.config), self.acting.engine)
        return self.policies.get(name)

    # ---- checkpoints ------------------------------------------------------------------------

    def describe_state(self) -> dict[str, Any]:
        """Each policy's."""
        return {"policies": {name: {**plan.describe_state(), "counters": dict(plan.counters)}
                             for name, plan in self.plans.items()}}

    def save(self) -> dict[str, bytes]:
        """Each policy's files, its id before their names."""
        return {f"{quote(name, safe='')}.{file}": content for name, plan in self.plans.items()
                for file, content in plan.save().items()}

    def load(self, files: dict[str, bytes], state: dict[str, Any]) -> None:
        """What save() gave."""
        if set(state["policies"]) != set(self.plans):
            raise CheckpointError(f"it has the policies {', '.join(state['policies'])}, this "
                                  f"trainer {', '.join(self.plans)}")
        for name, plan in self.plans.items():
            prefix = f"{quote(name, safe='')}."
            plan.load({file.removeprefix(prefix): content for file, content in files.items()
                       if file.startswith(prefix)}, state["policies"][name])
            plan.counters.update(state["policies"][name]["counters"])


def named_policies(config: dict[str, Any]) -> dict[str, tuple[Any, Any, dict[str, Any]]]:
    """{id: (observation space, action space, config)} of multiagent['policies']."""
    given = config["multiagent"]["policies"] or {_metrics.DEFAULT_POLICY: None}
    if not isinstance(given, dict):
        given = {name: None for name in ([given] if isinstance(given, str) else
                                         sorted(given) if isinstance(given, (set, frozenset))
                                         else given)}
    found = {}
    for name, one in given.items():
        if one is None:
            one = (None, None, None, {})
        elif isinstance(one, dict):
            one = (None, None, None, one)
        elif hasattr(one, "observation_space"):
            one = (one.policy_class, one.observation_space, one.action_space, one.config)
        if not isinstance(one, (list, tuple)) or len(one) != 4:
            raise ValueError(f"multiagent policies[{name!r}] must be a PolicySpec, (None, "
                             f"observation space, action space, config) or None, got {one!r}")
        extra = one[3].to_dict() if hasattr(one[3], "to_dict") else dict(one[3] or {})
        found[str(name)] = (one[1], one[2], extra)
    return found
