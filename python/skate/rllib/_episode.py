"""Episode: what callbacks see of an episode; made only where a hook is overridden."""

from __future__ import annotations

from typing import Any

from skate.rllib._metrics import DEFAULT_POLICY

AGENT = "agent0"        # the only agent of an environment that is not multi-agent


class Episode:
    """One episode of one environment, both eras' names.

    user_data is the callbacks' own; custom_metrics (name -> number) and hist_data (name -> list)
    go into the result when it ends.
    """

    def __init__(self, number: int, env_index: int) -> None:
        self.episode_id = self.id_ = number
        self.env_id = self.env_index = env_index
        self.user_data: dict[str, Any] = {}
        self.custom_data = self.user_data
        self.custom_metrics: dict[str, float] = {}
        self.hist_data: dict[str, list[float]] = {}
        self.media: dict[str, Any] = {}
        self.total_reward = 0.0
        self.length = 0
        self.is_done = self.is_terminated = self.is_truncated = False
        self.agent_rewards: dict[tuple[Any, str], float] = {}
        self._agents: dict[Any, dict[str, list[Any]]] = {}
        self.policies: dict[Any, str] = {}

    def begin(self, agent: Any, obs: Any, policy: str = DEFAULT_POLICY) -> None:
        """An agent's first observation."""
        self._agents[agent] = {"obs": [obs], "actions": [], "rewards": [], "infos": [{}]}
        self.policies[agent] = policy
        self.agent_rewards.setdefault((agent, policy), 0.0)

    def step(self, agent: Any, action: Any, reward: float, obs: Any, info: Any) -> None:
        """An agent's step."""
        said = self._agents[agent]
        said["actions"].append(action)
        said["rewards"].append(reward)
        said["obs"].append(obs)
        said["infos"].append(info)
        self.total_reward += reward
        self.agent_rewards[agent, self.policies[agent]] += reward

    def get_agents(self) -> list[Any]:
        """The agents seen so far."""
        return list(self._agents)

    def policy_for(self, agent_id: Any = AGENT) -> str:
        """The policy that acts for an agent."""
        return self.policies.get(agent_id, DEFAULT_POLICY)

    def _last(self, agent_id: Any, what: str) -> Any:
        said = self._agents.get(agent_id)
        return said[what][-1] if said and said[what] else None

    def last_observation_for(self, agent_id: Any = AGENT) -> Any:
        """Its last observation, as the environment gave it."""
        return self._last(agent_id, "obs")

    last_raw_obs_for = last_observation_for

    def last_info_for(self, agent_id: Any = AGENT) -> Any:
        """Its last info."""
        return self._last(agent_id, "infos")

    def last_action_for(self, agent_id: Any = AGENT) -> Any:
        """Its last action, as the environment got it."""
        return self._last(agent_id, "actions")

    def last_reward_for(self, agent_id: Any = AGENT) -> float:
        """Its last reward, 0 before the first step."""
        return float(self._last(agent_id, "rewards") or 0.0)

    def get_return(self) -> float:
        """The sum of rewards so far."""
        return self.total_reward

    def env_steps(self) -> int:
        """Steps so far."""
        return self.length

    def __len__(self) -> int:
        return self.length

    def _get(self, what: str, index: Any, agent: Any) -> Any:
        agent = next(iter(self._agents), AGENT) if agent is None else agent
        values = self._agents.get(agent, {}).get(what, [])
        return list(values) if index is None else values[index]

    def get_observations(self, indices: Any = None, agent_id: Any = None) -> Any:
        """All observations of an agent, or that of an index."""
        return self._get("obs", indices, agent_id)

    def get_actions(self, indices: Any = None, agent_id: Any = None) -> Any:
        """All actions of an agent, or that of an index."""
        return self._get("actions", indices, agent_id)

    def get_rewards(self, indices: Any = None, agent_id: Any = None) -> Any:
        """All rewards of an agent, or that of an index."""
        return self._get("rewards", indices, agent_id)

    def get_infos(self, indices: Any = None, agent_id: Any = None) -> Any:
        """All infos of an agent, or that of an index."""
        return self._get("infos", indices, agent_id)
