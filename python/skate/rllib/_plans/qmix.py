"""QMIX: replay of whole episodes of a team.

The environment is one agent to the workers: a MultiAgentEnv whose agents are all in one group
(with_agent_groups), or any environment whose observation is a Tuple of the agents' ones and whose
action is a Tuple or MultiDiscrete, one part an agent. An agent's observation may be a Dict {"obs",
"action_mask", "state"}: what it sees, which actions it may take, and the state that the mixer is
given (the first agent's; without it the mixer is given all that the agents see).
"""

from __future__ import annotations

from typing import Any

from skate.rllib import _env, _multi, _spaces
from skate.rllib._errors import EnvAnswerError, EnvError, UnsupportedConfigError
from skate.rllib._plans._batch import Batch
from skate.rllib._plans.sequences import SequencePlan
from skate.rllib._sampler import Sampler

HOW = ("QMIX needs all agents in one group: env.with_agent_groups({'team': [agents]}, "
       "obs_space=Tuple([...]), act_space=Tuple([...]))")


class OneGroup:
    """A MultiAgentEnv with a single group, as an environment of one agent."""

    def __init__(self, env: Any, name: Any) -> None:
        groups = getattr(env, "groups", None)
        agents = list(getattr(env, "possible_agents", []))
        if not groups or len(groups) != 1 or agents != list(groups):
            raise EnvError(f"{HOW}; env {name!r} has {agents!r}")
        self.env, self.group = env, agents[0]
        self.observation_space, self.action_space = env.observation_space, env.action_space
        for what, space in (("obs_space", self.observation_space),
                            ("act_space", self.action_space)):
            if type(space).__name__ != "Tuple":
                raise EnvError(f"{HOW}; the {what} of env {name!r} is {space!r}")
        self._obs: Any = None

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """The group's observations."""
        obs, _infos = _multi.first(self.env, seed)
        self._obs = obs[self.group]
        return self._obs, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """The group's answer; the reward is the sum of its members'."""
        obs, rewards, over, cut, _infos = _multi.five(self.env.step({self.group: action}))
        self._obs = obs.get(self.group, self._obs)
        terminated = over.get(self.group, False) or over.get("__all__", False)
        truncated = cut.get(self.group, False) or cut.get("__all__", False)
        return (self._obs, float(rewards.get(self.group, 0.0)), bool(terminated),
                bool(truncated) and not terminated, {})

    def close(self) -> None:
        """Close the environment inside."""
        self.env.close()


class TeamSampler(Sampler):
    """A Sampler whose environments are teams."""

    def _open(self) -> None:
        super()._open()
        if self.agents is None and self.action_space["kind"] == "multi":
            self.obs_space = _spaces.team(self.obs_space, self.action_space)

    def _act(self, columns: dict[str, Any], explorer: Any, explore: bool, timestep: int) -> None:
        """As Sampler's; an action that the exploration drew against a mask is drawn again."""
        import numpy as np

        try:
            super()._act(columns, explorer, explore, timestep)
        except ValueError as error:
            if "action_mask" not in str(error):
                raise
            raise EnvAnswerError(f"env {self._spec['env']!r}: {error}", "observation") from None
        if not self.obs_space.get("masks"):
            return
        seen, actions = self.obs_space["seen"], columns["actions"]
        masks = columns["obs"][:, seen:seen + self.obs_space["masks"]]
        masks = masks.reshape(*actions.shape, -1)
        taken = np.take_along_axis(masks, actions[..., None].astype(np.int64), 2)[..., 0]
        for at in zip(*np.nonzero(taken == 0)):
            actions[at] = explorer._random.choice(np.flatnonzero(masks[at]))

    def _make(self, number: int, native: bool = True) -> Any:
        made = super()._make(number, native)
        if not getattr(made, "is_multi_agent", False):
            return made
        horizon = self._spec["horizon"]
        one = OneGroup(made, self._spec["env"])
        return one if horizon is None else _env.Horizon(one, horizon)


class QMixPlan(SequencePlan):
    """Draws episodes until they have train_batch_size steps, cut to the longest of them."""

    worker = evaluation_worker = "_plans.qmix:TeamSampler"

    def build(self, about: dict[str, Any], workers: Any) -> None:
        """As SequencePlan."""
        if about["obs_space"].get("masks") and self.config["observation_filter"] not in (
                None, "NoFilter"):
            raise UnsupportedConfigError("observation_filter is not offered with action masks: it "
                                         "would change them")
        super().build(about, workers)
        self.counters.update(stored_steps=0, stored_rows=0)

    def store(self, worker: int, columns: dict[str, Any], ragged: bool = False) -> None:
        """Count what a sequence holds on the average."""
        before = 0 if self._replay is None else int(self._replay.added)
        super().store(worker, columns, ragged)
        if self._replay is not None:
            self.counters["stored_steps"] += len(columns["rewards"])
            self.counters["stored_rows"] += int(self._replay.added) - before

    def draw(self) -> Batch:
        """Episodes out of the buffer."""
        import numpy as np

        wanted = int(self.config["train_batch_size"])
        rows = max(1, round(wanted * self.counters["stored_rows"]
                            / max(1, self.counters["stored_steps"])))
        if rows != len(self._rows):
            self._arrays(rows * self._length)
        super().draw()
        steps = int(np.flatnonzero(self._batch["mask"].any(axis=0))[-1]) + 1
        columns = {name: array if name == "state_in" else
                   np.ascontiguousarray(array[:, :steps]).reshape(rows * steps, *array.shape[2:])
                   for name, array in self._batch.items()}
        return Batch(columns, rows * steps, steps)


__all__ = ["OneGroup", "QMixPlan", "TeamSampler"]
