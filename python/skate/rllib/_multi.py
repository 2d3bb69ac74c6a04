"""Multi-agent sampling: dictionaries of agents to columns of policies.

A MultiPart does for a Sampler what its own loop does for single agents: all agents of all
environments that map to one policy act in one call. The rows of a policy are one agent's
trajectory after the other; 'cuts' is 1 where a trajectory goes on in the next fragment. An agent
that has acted and not been asked again (it waits for its turn) has its row finished, with all the
rewards it got meanwhile, when it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from skate.rllib import _engine, _metrics, _spaces
from skate.rllib._errors import EnvAnswerError, EnvError
from skate.rllib._metrics import DEFAULT_POLICY
from skate.rllib.utils.exploration import make_exploration

ALL = "__all__"


def is_multi_agent(env: Any) -> bool:
    """Whether an environment speaks in dictionaries of agents."""
    return bool(getattr(env, "is_multi_agent", False))


def five(answer: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Either API's answer of step() as five dictionaries."""
    if len(answer) == 5:
        return answer
    obs, rewards, dones, infos = answer
    return obs, rewards, dones, {}, infos


def first(env: Any, seed: int | None = None) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """reset() under either API: (observations, infos)."""
    if seed is None:
        answer = env.reset()
    else:
        try:
            answer = env.reset(seed=seed)
        except TypeError:
            answer = env.reset()
    if isinstance(answer, tuple) and len(answer) == 2:
        return answer[0], answer[1]
    return answer, {}


def agent_spaces(env: Any) -> dict[str, Any]:
    """{'agents': {agent: (obs, action)}, 'shared': (obs, action) or None}, described."""
    ids: list[Any] = []
    if hasattr(env, "get_agent_ids"):
        ids = sorted(env.get_agent_ids(), key=str)
    of: dict[Any, tuple[Any, Any]] = {}
    for agent in ids:
        pair = []
        for kind in ("observation", "action"):
            space = (getattr(env, f"{kind}_spaces", None) or {}).get(agent)
            if space is None:
                space = getattr(env, f"{kind}_space", None)
                inner = getattr(space, "spaces", None)
                if isinstance(inner, dict) and set(inner) == set(ids):
                    space = inner[agent]
            pair.append(space)
        if pair[0] is not None and pair[1] is not None:
            of[agent] = (_spaces.describe(pair[0]), _spaces.describe_actions(pair[1]))
    shared = None
    if env.observation_space is not None and env.action_space is not None and not of:
        shared = (_spaces.describe(env.observation_space),
                  _spaces.describe_actions(env.action_space))
    if not of and shared is None:
        raise EnvError("a multi-agent environment needs observation_space(s) and action_space(s)")
    return {"agents": of, "shared": shared}


def mapping_call(function: Callable[..., Any] | None) -> Callable[[Any, Any, Any], str]:
    """policy_mapping_fn under any era's signature, as f(agent, episode, worker)."""
    if function is None:
        return lambda agent, episode, worker: DEFAULT_POLICY
    parameters = list(inspect.signature(function).parameters.values())
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    names = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    given = len(plain)

    def call(agent: Any, episode: Any, worker: Any) -> str:
        extra = {name: value for name, value in (("episode", episode), ("worker", worker))
                 if name in names or (takes_any and (given < 2 or name == "worker" and given < 3))}
        return function(*(agent, episode, worker)[:max(1, given)], **extra)  # type: ignore

    return call


class _Agent:
    """One agent's trajectory in one episode."""

    def __init__(self, policy: str, number: int, state_size: int) -> None:
        import numpy as np

        self.policy, self.number = policy, number
        self.rows: dict[str, list[Any]] = {}
        self.waiting: dict[str, Any] | None = None      # acted, not asked again yet
        self.owed = 0.0                                 # rewards since it acted
        self.total = 0.0
        self.t = 0
        self.last: Any = None
        self.state = np.zeros(state_size, np.float32)

    def act(self, row: dict[str, Any]) -> None:
        """It was asked and answered."""
        self.waiting, self.owed = row, 0.0

    def reward(self, amount: float) -> None:
        """Rewards before the first action are nobody's."""
        self.owed += amount
        self.total += amount

    def finish(self, new_obs: Any, terminated: bool, truncated: bool) -> None:
        """The row of its last action is known now."""
        if self.waiting is None:
            return
        row, self.waiting = self.waiting, None
        row.update(new_obs=new_obs, rewards=self.owed, terminateds=float(terminated),
                   truncateds=float(truncated and not terminated), cuts=0.0, t=self.t,
                   eps_id=self.number)
        self.owed = 0.0
        self.t += 1
        for name, value in row.items():
            self.rows.setdefault(name, []).append(value)


class _Place:
    """One environment's episode."""

    def __init__(self) -> None:
        self.agents: dict[Any, _Agent] = {}
        self.ready: dict[Any, Any] = {}     # agent -> the row of its observation
        self.steps = 0


class MultiPart:
    """The multi-agent loop of one Sampler."""

    def __init__(self, sampler: Any, job: dict[str, Any], engines: dict[str, Any] | None) -> None:
        self._sampler = sampler
        self._job = job
        spec = sampler._spec
        stream = spec["index"] * 4096 + spec["generation"]
        self._seed = spec["seed"] * 1_000_003 + stream
        self._shared = engines
        self._engines: dict[str, Any] = {}
        self._explorers: dict[str, Any] = {}
        self._rows: dict[str, Any] = {}
        self._decoders: dict[str, Any] = {}
        self._mapping = mapping_call(job["mapping"])
        for name, one in job["policies"].items():
            self._open_policy(name, one)
        self._numbers = (spec["index"] << 44) + (spec["generation"] << 32)
        self._done: list[_Agent] = []
        self._ended = _metrics.Episodes()
        self._places = [_Place() for _ in range(spec["num_envs"])]
        for i in range(len(self._places)):
            self.restart(i, (self._seed * 64 + i) & 0x7FFFFFFF)

    def _open_policy(self, name: str, one: dict[str, Any]) -> None:
        spec, obs, action = self._sampler._spec, one["obs_space"], one["action_space"]
        seed = (self._seed + 7919 * (1 + list(self._job["policies"]).index(name)))
        self._engines[name] = (self._shared[name] if self._shared is not None else
                               _engine.make(one["engine"], one["options"], obs, action,
                                            seed & 0x7FFFFFFFFFFFFFFF))
        self._explorers[name] = make_exploration(
            one["exploration"], action, spec["index"], spec["num_workers"], seed,
            one["normalize_actions"])
        self._rows[name] = _spaces.flattener(obs)
        self._decoders[name] = _spaces.decoder(action, one["normalize_actions"],
                                               one["clip_actions"])

    def set_weights(self, weights: dict[str, Any], version: int) -> None:
        """Those of every policy."""
        for name, flat in weights.items():
            self._engines[name].set_weights(flat, version)

    def keep(self) -> dict[str, Any]:
        """For a checkpoint: the episodes under way, the random streams of exploration."""
        return {"numbers": self._numbers, "done": self._done, "places": self._places,
                "explorers": {name: vars(one) for name, one in self._explorers.items()},
                "engines": {name: one.state() for name, one in self._engines.items()}
                if self._shared is None else {}}

    def go_on(self, state: dict[str, Any]) -> None:
        """What keep() gave."""
        self._numbers, self._done, self._places = state["numbers"], state["done"], state["places"]
        for name, fields in state["explorers"].items():
            vars(self._explorers[name]).update(fields)
        for name, block in state["engines"].items():
            self._engines[name].set_state(block)

    # ---- episodes ---------------------------------------------------------------------------

    def restart(self, i: int, seed: int | None = None) -> None:
        """Start an episode in environment i."""
        sampler = self._sampler
        place = self._places[i] = _Place()
        self._numbers += 1
        sampler.new_episode(i, self._numbers)
        obs, _infos = first(sampler._envs[i], seed)
        for agent, value in obs.items():
            self._meet(place, i, agent, value)
        sampler.hook("on_episode_start", i)

    def _meet(self, place: _Place, i: int, agent: Any, value: Any) -> _Agent:
        """An agent's first observation in an episode."""
        sampler = self._sampler
        name = self._mapping(agent, sampler._live[i], sampler)
        if name not in self._engines:
            raise EnvError(f"policy_mapping_fn maps agent {agent!r} to {name!r}, which is none of "
                           f"the policies {', '.join(repr(n) for n in self._engines)}")
        self._numbers += 1
        made = place.agents[agent] = _Agent(name, self._numbers,
                                            int(self._engines[name].state_size))
        place.ready[agent] = made.last = self._rows[name](value)
        if sampler._hooks is not None:
            sampler._live[i].begin(agent, value, name)
        return made

    def _over(self, i: int, truncated: bool) -> None:
        """The episode of environment i has ended."""
        sampler, place = self._sampler, self._places[i]
        for agent in place.agents.values():
            agent.finish(agent.last, not truncated, truncated)
            self._done.append(agent)
            self._ended.policy_rewards.setdefault(agent.policy, []).append(agent.total)
        self._ended.rewards.append(sum(a.total for a in place.agents.values()))
        self._ended.lengths.append(place.steps)
        if sampler._hooks is not None:
            sampler._live[i].is_done = True
            sampler.hook("on_episode_end", i)
            self._ended.note(sampler._live[i].custom_metrics, sampler._live[i].hist_data)
        self.restart(i)

    # ---- steps ------------------------------------------------------------------------------

    def collect(self, steps: int, timestep: int, explore: bool
                ) -> tuple[dict[str, dict[str, Any]], _metrics.Episodes]:
        """`steps` steps of every environment: ({policy: columns}, episodes that ended)."""
        self._ended = _metrics.Episodes()
        sampler = self._sampler
        together = len(self._places) * max(1, sampler._spec["num_workers"])
        try:
            for t in range(steps):
                actions = self._act(timestep + t * together, explore)
                for i in range(len(self._places)):
                    self._step(i, actions[i])
        except BaseException:
            self._done = []
            for i in range(len(self._places)):
                self.restart(i)
            raise
        return self._columns(), self._ended

    def _act(self, timestep: int, explore: bool) -> list[dict[Any, Any]]:
        """The actions of all agents that are asked, by environment."""
        import numpy as np

        asked: dict[str, list[tuple[int, Any]]] = {}
        for i, place in enumerate(self._places):
            for agent in place.ready:
                asked.setdefault(place.agents[agent].policy, []).append((i, agent))
        actions: list[dict[Any, Any]] = [{} for _ in self._places]
        for name, who in asked.items():
            one, engine, n = self._job["policies"][name], self._engines[name], len(who)
            agents = [self._places[i].agents[agent] for i, agent in who]
            columns: dict[str, Any] = {
                "obs": np.stack([self._places[i].ready[agent] for i, agent in who]),
                "actions": _spaces.action_rows(one["action_space"], n)}
            for kind in one["columns"]:
                columns[kind] = np.zeros((n, int(engine.n_inputs)) if kind == "inputs" else n,
                                         np.float32)
            states = np.stack([a.state for a in agents])
            if states.shape[1]:
                columns["state"] = states.copy()
            try:
                self._explorers[name].act(engine, n, columns, explore, timestep)
            except ValueError as error:
                if np.isfinite(columns["obs"]).all():
                    raise
                raise self._bad("observation", who[0][0]) from error
            for k, (i, agent) in enumerate(who):
                row = {kind: columns[kind][k] for kind in ("obs", "actions", *one["columns"])}
                if states.shape[1]:
                    row["state_in"] = states[k]
                    agents[k].state = columns["state"][k]
                agents[k].act(row)
                actions[i][agent] = self._decoders[name](columns["actions"][k])
        return actions

    def _bad(self, field: str, i: int) -> EnvAnswerError:
        step = self._places[i].steps
        return EnvAnswerError(
            f"{field} of env {self._sampler._spec['env']!r}, environment {i} of worker "
            f"{self._sampler._index}, is not finite at step {step} of its episode: observations "
            "and rewards must be finite", field, i, step)

    def _step(self, i: int, actions: dict[Any, Any]) -> None:
        place, sampler = self._places[i], self._sampler
        obs, rewards, terminateds, truncateds, infos = five(sampler._envs[i].step(actions))
        place.ready = {}
        place.steps += 1
        for agent, amount in rewards.items():
            amount = float(amount)
            if amount - amount != 0.0:
                raise self._bad("reward", i)
            if agent in place.agents:
                place.agents[agent].reward(amount)
        limit = sampler._spec["horizon"]
        ended = bool(terminateds.get(ALL))
        cut = bool(truncateds.get(ALL)) or (limit is not None and place.steps >= limit)
        for agent, value in obs.items():
            if agent not in place.agents:
                self._meet(place, i, agent, value)
                continue
            made = place.agents[agent]
            made.last = self._rows[made.policy](value)
            over = (ended or bool(terminateds.get(agent)), cut or bool(truncateds.get(agent)))
            made.finish(made.last, *over)
            if not any(over):
                place.ready[agent] = made.last
        for agent, made in place.agents.items():        # done without a last observation
            if agent not in obs and (terminateds.get(agent) or truncateds.get(agent)):
                made.finish(made.last, bool(terminateds.get(agent)),
                            bool(truncateds.get(agent)))
        if sampler._hooks is not None:
            self._tell(i, actions, (obs, rewards, infos))
        if ended or cut:
            self._over(i, not ended)

    def _tell(self, i: int, actions: dict[Any, Any], answer: tuple[Any, Any, Any]) -> None:
        obs, rewards, infos = answer
        episode = self._sampler._live[i]
        for agent, action in actions.items():
            episode.step(agent, action, float(rewards.get(agent, 0.0)),
                         obs.get(agent), (infos or {}).get(agent, {}))
        episode.length += 1
        self._sampler.hook("on_episode_step", i)

    # ---- columns ----------------------------------------------------------------------------

    def _columns(self) -> dict[str, dict[str, Any]]:
        """What the agents did, by policy; trajectories that go on are cut."""
        import numpy as np

        going = [agent for place in self._places for agent in place.agents.values()]
        parts: dict[str, list[_Agent]] = {}
        for agent in self._done + going:
            if agent.rows:
                parts.setdefault(agent.policy, []).append(agent)
                if not agent.rows["terminateds"][-1] and not agent.rows["truncateds"][-1]:
                    agent.rows["cuts"][-1] = 1.0
        found: dict[str, dict[str, Any]] = {}
        for name, agents in parts.items():
            columns = {}
            for kind in agents[0].rows:
                joined = np.array([value for agent in agents for value in agent.rows[kind]])
                columns[kind] = joined.astype(
                    np.int64 if kind == "eps_id" else np.int32 if kind == "t" or (
                        kind == "actions" and joined.dtype.kind == "i") else np.float32)
            found[name] = columns
        for agent in going:
            agent.rows = {}
        self._done = []
        for name, columns in found.items():
            clip = self._job["policies"][name]["clip_rewards"]
            if clip:
                wanted = np.sign(columns["rewards"]) if clip is True else columns["rewards"]
                columns["rewards"] = np.clip(wanted, -float(clip), float(clip)).astype(np.float32)
        return found
