"""VectorEnv: one object that steps several environments together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class VectorEnv:
    """Base class: num_envs environments with the same spaces; num_envs must be the config's
    num_envs_per_worker. An environment that ended is reset by reset_at()."""

    def __init__(self, observation_space: Any, action_space: Any, num_envs: int) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self.num_envs = num_envs

    def vector_reset(self, *, seeds: list[int] | None = None,
                     options: list[Any] | None = None) -> Any:
        """Reset all: (list of observations, list of infos), or the observations alone."""
        raise NotImplementedError

    def reset_at(self, index: int | None = None, *, seed: int | None = None,
                 options: Any = None) -> Any:
        """Reset one: (observation, info), or the observation alone."""
        raise NotImplementedError

    def vector_step(self, actions: list[Any]) -> Any:
        """One step of all: lists of observations, rewards, terminateds, truncateds, infos (the
        old API: dones instead of the two)."""
        raise NotImplementedError

    def get_sub_environments(self) -> list[Any]:
        """The environments inside, if they are objects."""
        return []

    def close(self) -> None:
        """Nothing to close."""

    @staticmethod
    def vectorize_gym_envs(make_env: Callable[[int], Any] | None = None,
                           existing_envs: list[Any] | None = None, num_envs: int = 1,
                           **_ignored: Any) -> VectorEnv:
        """A VectorEnv over single environments: those that exist, others by make_env(index)."""
        envs = list(existing_envs or [])
        while make_env is not None and len(envs) < num_envs:
            envs.append(make_env(len(envs)))
        return _Several(envs)


class _Several(VectorEnv):
    def __init__(self, envs: list[Any]) -> None:
        super().__init__(envs[0].observation_space, envs[0].action_space, len(envs))
        self._envs = envs

    def vector_reset(self, *, seeds: list[int] | None = None,
                     options: list[Any] | None = None) -> Any:
        """All of them."""
        answers = [self.reset_at(i, seed=seeds[i] if seeds else None)
                   for i in range(self.num_envs)]
        return [obs for obs, _info in answers], [info for _obs, info in answers]

    def reset_at(self, index: int | None = None, *, seed: int | None = None,
                 options: Any = None) -> Any:
        """One of them."""
        from skate.rllib import _env

        return _env.first_obs(self._envs[index or 0], seed), {}

    def vector_step(self, actions: list[Any]) -> Any:
        """All of them."""
        from skate.rllib import _env

        answers = [_env.five(env.step(action)) for env, action in zip(self._envs, actions)]
        return tuple(list(part) for part in zip(*answers))

    def get_sub_environments(self) -> list[Any]:
        """All of them."""
        return list(self._envs)


__all__ = ["VectorEnv"]
