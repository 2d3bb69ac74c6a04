"""PettingZoo's environments as MultiAgentEnv: agents in turn (AEC), and all at once (parallel).

    tune.register_env("game", lambda config: PettingZooEnv(game_v1.env()))

Nothing of PettingZoo is imported here.
"""

from __future__ import annotations

from typing import Any

from skate.rllib.env.multi_agent_env import MultiAgentEnv


class _Spaces(MultiAgentEnv):
    """What both have: spaces by agent."""

    def __init__(self, env: Any) -> None:
        self.env = env
        self.possible_agents = list(env.possible_agents)
        self.observation_spaces = {a: env.observation_space(a) for a in self.possible_agents}
        self.action_spaces = {a: env.action_space(a) for a in self.possible_agents}
        if len({str(space) for space in self.observation_spaces.values()}) == 1:
            self.observation_space = self.observation_spaces[self.possible_agents[0]]
        if len({str(space) for space in self.action_spaces.values()}) == 1:
            self.action_space = self.action_spaces[self.possible_agents[0]]
        super().__init__()

    def render(self) -> Any:
        """What the environment shows."""
        return self.env.render()

    def close(self) -> None:
        """Close it."""
        self.env.close()


class PettingZooEnv(_Spaces):
    """An AEC environment: one agent acts at a time; it gets all it was rewarded since it last
    acted. An agent whose game is over is told so and leaves."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start an episode: the first agent's observation."""
        self.env.reset(seed=seed, options=options)
        agent = self.env.agent_selection
        return {agent: self.env.observe(agent)}, {}

    def step(self, action_dict: dict[Any, Any]) -> Any:
        """The selected agent's action, then whoever is next."""
        self.env.step(action_dict[self.env.agent_selection])
        obs: dict[Any, Any] = {}
        rewards: dict[Any, float] = {}
        terminateds: dict[Any, bool] = {}
        truncateds: dict[Any, bool] = {}
        infos: dict[Any, Any] = {}
        while self.env.agents:
            seen, reward, terminated, truncated, info = self.env.last()
            agent = self.env.agent_selection
            obs[agent], rewards[agent], infos[agent] = seen, float(reward), info
            terminateds[agent], truncateds[agent] = bool(terminated), bool(truncated)
            if not terminated and not truncated:
                break
            self.env.step(None)
        over = not self.env.agents
        cut = over and any(truncateds.values()) and not any(terminateds.values())
        terminateds["__all__"], truncateds["__all__"] = over and not cut, cut
        return obs, rewards, terminateds, truncateds, infos


class ParallelPettingZooEnv(_Spaces):
    """A parallel environment: all agents act in each step."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Start an episode: everybody's observation."""
        obs, infos = self.env.reset(seed=seed, options=options)
        return obs, infos

    def step(self, action_dict: dict[Any, Any]) -> Any:
        """Everybody's action."""
        obs, rewards, terminateds, truncateds, infos = self.env.step(action_dict)
        over = not self.env.agents
        cut = over and not all(terminateds.values())
        return (obs, rewards, {**terminateds, "__all__": over and not cut},
                {**truncateds, "__all__": cut}, infos)
