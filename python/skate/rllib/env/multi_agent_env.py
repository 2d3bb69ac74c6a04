"""MultiAgentEnv: several agents in one environment, by dictionaries.

reset() gives {agent: observation} (and {agent: info}); step({agent: action}) gives dictionaries of
observations, rewards, terminateds, truncateds and infos (the old API: dones instead of the two).
An agent acts when it is in the observations; "__all__" ends the episode. Agents may come and go,
and take turns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# The key of the whole state in an agent's observation, where that is a Dict (QMIX).
ENV_STATE = "state"


class MultiAgentEnv:
    """Base class. Set observation_space and action_space (one for all agents, or Dict spaces by
    agent), or observation_spaces and action_spaces by agent; `agents` are the present ones."""

    is_multi_agent = True
    observation_space: Any = None
    action_space: Any = None
    observation_spaces: dict[Any, Any] | None = None
    action_spaces: dict[Any, Any] | None = None
    agents: list[Any] = []
    possible_agents: list[Any] = []
    metadata: dict[str, Any] = {}

    def __init__(self) -> None:
        self.agents = list(self.agents or self.possible_agents)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start an episode: (observations, infos), or observations alone."""
        raise NotImplementedError

    def step(self, action_dict: dict[Any, Any]) -> Any:
        """One step of the agents that were asked."""
        raise NotImplementedError

    def get_agent_ids(self) -> set[Any]:
        """All agents that are known beforehand."""
        return set(self.possible_agents or self.agents)

    def get_observation_space(self, agent_id: Any) -> Any:
        """An agent's observation space."""
        return (self.observation_spaces or {}).get(agent_id, self.observation_space)

    def get_action_space(self, agent_id: Any) -> Any:
        """An agent's action space."""
        return (self.action_spaces or {}).get(agent_id, self.action_space)

    def close(self) -> None:
        """Nothing to close."""

    def render(self) -> Any:
        """Nothing to see."""
        return None

    def with_agent_groups(self, groups: dict[Any, list[Any]], obs_space: Any = None,
                          act_space: Any = None) -> MultiAgentEnv:
        """Agents joined to groups that act as one (see GroupAgentsWrapper)."""
        return GroupAgentsWrapper(self, groups, obs_space, act_space)


class GroupAgentsWrapper(MultiAgentEnv):
    """Each group is one agent: a list of its members' observations and actions, the sum of their
    rewards, with the single rewards in info['_group_rewards'] (QMIX)."""

    def __init__(self, env: MultiAgentEnv, groups: dict[Any, list[Any]], obs_space: Any = None,
                 act_space: Any = None) -> None:
        self.env = env
        self.groups = groups
        self._group_of = {agent: group for group, members in groups.items() for agent in members}
        self.observation_space = obs_space if obs_space is not None else env.observation_space
        self.action_space = act_space if act_space is not None else env.action_space
        self.possible_agents = [*groups, *(a for a in env.get_agent_ids()
                                           if a not in self._group_of)]
        super().__init__()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start an episode."""
        from skate.rllib import _multi

        obs, infos = _multi.first(self.env, seed)
        return self._join(obs), {group: {"_group_infos": {}} for group in self.groups} | {
            a: i for a, i in infos.items() if a not in self._group_of}

    def _join(self, values: dict[Any, Any]) -> dict[Any, Any]:
        joined: dict[Any, Any] = {}
        for agent, value in values.items():
            group = self._group_of.get(agent)
            if group is None:
                joined[agent] = value
            else:
                joined.setdefault(group, {})[agent] = value
        return {name: [value[a] for a in self.groups[name] if a in value]
                if name in self.groups else value for name, value in joined.items()}

    def step(self, action_dict: dict[Any, Any]) -> Any:
        """One step, the group's actions given to its members."""
        from skate.rllib import _multi

        single: dict[Any, Any] = {}
        for name, action in action_dict.items():
            if name in self.groups:
                single.update(zip(self.groups[name], action))
            else:
                single[name] = action
        obs, rewards, terminateds, truncateds, infos = _multi.five(self.env.step(single))
        parts = self._join(rewards)
        told = {name: infos.get(name, {}) for name in parts if name not in self.groups}
        for group in self.groups:
            if group in parts:
                told[group] = {"_group_rewards": parts[group]}
        done = [{name: (all(flags.get(a, False) for a in self.groups[name])
                        if name in self.groups else flags.get(name, False)) for name in parts}
                | {"__all__": flags.get("__all__", False)} for flags in (terminateds, truncateds)]
        return (self._join(obs), {name: sum(v) if name in self.groups else v
                                  for name, v in parts.items()}, done[0], done[1], told)

    def close(self) -> None:
        """Close the environment inside."""
        self.env.close()


def make_multi_agent(env_name_or_creator: Any) -> type[MultiAgentEnv]:
    """A class of MultiAgentEnv with config['num_agents'] copies of a single-agent one."""

    class MultiEnv(MultiAgentEnv):
        """Independent copies; agents are 0, 1, ..."""

        def __init__(self, config: Any = None) -> None:
            from skate.rllib import _env

            config = dict(config or {})
            count = config.pop("num_agents", 1)
            make: Callable[[Any], Any] = (
                env_name_or_creator if callable(env_name_or_creator) else
                lambda c: _env.make_env(env_name_or_creator, _env.EnvContext(c)))
            self.envs = [make(config) for _ in range(count)]
            self.observation_space = self.envs[0].observation_space
            self.action_space = self.envs[0].action_space
            self.possible_agents = list(range(count))
            self._over: set[int] = set()
            super().__init__()

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            """All copies."""
            from skate.rllib import _env

            self._over = set()
            return {i: _env.first_obs(env, None if seed is None else seed + i)
                    for i, env in enumerate(self.envs)}, {}

        def step(self, action_dict: dict[Any, Any]) -> Any:
            """Those that are asked."""
            from skate.rllib import _env

            obs, rewards, terminateds, truncateds, infos = {}, {}, {}, {}, {}
            for i, action in action_dict.items():
                answer = _env.five(self.envs[i].step(action))
                obs[i], rewards[i], terminateds[i], truncateds[i], infos[i] = answer
                if terminateds[i] or truncateds[i]:
                    self._over.add(i)
            every = len(self._over) == len(self.envs)
            terminateds["__all__"], truncateds["__all__"] = every, False
            return obs, rewards, terminateds, truncateds, infos

        def close(self) -> None:
            """All copies."""
            from skate.rllib import _env

            for env in self.envs:
                _env.close_env(env)

    return MultiEnv


__all__ = ["GroupAgentsWrapper", "MultiAgentEnv", "make_multi_agent"]
