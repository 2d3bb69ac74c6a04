"""MADDPG: replay of the steps of all agents together.

To the workers a multi-agent environment is one agent here: its observation is all agents' ones and
then the reward of each for the step before, its action is all agents' ones, in [-1, 1] where an
agent has a Box and one-hot where it has Discrete actions. All agents must be there at every step.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from skate.rllib import _env, _multi, _spaces
from skate.rllib._errors import EnvError, UnsupportedSpaceException
from skate.rllib._plans.replay import ReplayPlan
from skate.rllib._sampler import Sampler


class Together:
    """A MultiAgentEnv as an environment of one agent; `layout` is what the engine must know."""

    def __init__(self, env: Any, name: Any) -> None:
        import gymnasium
        import numpy as np

        if not _multi.is_multi_agent(env):
            raise EnvError(f"MADDPG needs a MultiAgentEnv; env {name!r} is {env!r}")
        self.env = env
        self.ids = sorted(env.get_agent_ids(), key=str)
        obs = [env.get_observation_space(agent) for agent in self.ids]
        self._spaces = [env.get_action_space(agent) for agent in self.ids]
        for agent, seen, done in zip(self.ids, obs, self._spaces, strict=True):
            if seen is None or done is None:
                raise EnvError(f"env {name!r} has no space of agent {agent!r}: MADDPG must know "
                               "observation_spaces and action_spaces before it starts")
        kinds = [_spaces.describe_actions(space) for space in self._spaces]
        for agent, kind in zip(self.ids, kinds, strict=True):
            if kind["kind"] not in ("box", "discrete") or (kind["kind"] == "box"
                                                           and not _spaces.bounded(kind)):
                raise UnsupportedSpaceException(
                    "MADDPG has Discrete and bounded Box actions; the action_space of agent "
                    f"{agent!r} is {kind}")
        self._sizes = [kind["size"] for kind in kinds]
        self._discrete = [kind["kind"] == "discrete" for kind in kinds]
        self.observation_space = gymnasium.spaces.Tuple(
            (*obs, gymnasium.spaces.Box(-np.inf, np.inf, (len(self.ids),), np.float32)))
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (sum(self._sizes),), np.float32)
        self.layout = {
            "obs_sizes": [float(_spaces.describe(space)["size"]) for space in obs],
            "action_sizes": [float(size) for size in self._sizes],
            "discrete": [float(flag) for flag in self._discrete]}
        self._last: dict[Any, Any] = {}

    def _joint(self, obs: dict[Any, Any], rewards: list[float]) -> tuple[Any, ...]:
        import numpy as np

        self._last.update(obs)
        missing = [agent for agent in self.ids if agent not in self._last]
        if missing:
            raise EnvError(f"MADDPG needs all agents at every step; {missing!r} gave no "
                           "observation at the reset")
        return (*(self._last[agent] for agent in self.ids), np.array(rewards, np.float32))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """All agents' first observations; no rewards yet."""
        self._last = {}
        obs, _infos = _multi.first(self.env, seed)
        return self._joint(obs, [0.0] * len(self.ids)), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step of all; the reward is the sum of theirs."""
        import numpy as np

        actions, at = {}, 0
        for agent, space, size, discrete in zip(self.ids, self._spaces, self._sizes,
                                                self._discrete, strict=True):
            part = action[at:at + size]
            at += size
            if discrete:
                actions[agent] = int(np.argmax(part)) + int(getattr(space, "start", 0))
            else:
                unit = np.clip(part.reshape(space.shape), -1.0, 1.0)
                actions[agent] = (space.low + (unit + 1.0) / 2.0 * (space.high - space.low)).astype(
                    space.dtype)
        obs, rewards, over, cut, _infos = _multi.five(self.env.step(actions))
        each = [float(rewards.get(agent, 0.0)) for agent in self.ids]
        terminated = bool(over.get("__all__", False))
        return (self._joint(obs, each), sum(each), terminated,
                bool(cut.get("__all__", False)) and not terminated, {})

    def close(self) -> None:
        """Close the environment inside."""
        _env.close_env(self.env)


class TogetherSampler(Sampler):
    """A Sampler whose environments are Together."""

    def _make(self, number: int, native: bool = True) -> Any:
        spec = self._spec
        context = _env.EnvContext(spec["env_config"], self._index, number, spec["num_workers"])
        made = Together(_env.make_env(spec["env"], context, None, False), spec["env"])
        return made if spec["horizon"] is None else _env.Horizon(made, spec["horizon"])


class MADDPGPlan(ReplayPlan):
    """ReplayPlan over the joint rows; the engine learns the agents' sizes from the environment."""

    worker = evaluation_worker = "_plans.maddpg:TogetherSampler"
    handles_agents = True

    def describe(self, workers: Any) -> dict[str, Any]:
        """The joint spaces."""
        about = super().describe(workers)
        context = _env.EnvContext(self.config["env_config"], 0, 0, self.config["num_workers"])
        env = Together(_env.make_env(self.config["env"], context, None, False),
                       self.config["env"])
        layout, inner = env.layout, self.spec.options
        env.close()
        self.spec = dataclasses.replace(
            self.spec, options=lambda config: {**inner(config), **layout})
        return {**about, "agents": None}


__all__ = ["MADDPGPlan", "Together", "TogetherSampler"]
