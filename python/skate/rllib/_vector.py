"""VectorEnvs in a sampler: each of its environments as a lane that looks like a single one."""

from __future__ import annotations

from typing import Any

from skate.rllib import _env
from skate.rllib._errors import EnvError


def is_vector(env: Any) -> bool:
    """Whether an environment steps several together (RLlib's VectorEnv)."""
    return hasattr(env, "vector_step") and hasattr(env, "reset_at")


class VectorLane:
    """Environment number `index` of a VectorEnv; lane 0 steps them all."""

    def __init__(self, whole: Any, index: int) -> None:
        self.whole = whole
        self.index = index
        self.observation_space = whole.observation_space
        self.action_space = whole.action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """reset_at() under either API."""
        try:
            return self.whole.reset_at(self.index, seed=seed)
        except TypeError:
            return self.whole.reset_at(self.index)

    def step(self, action: Any) -> Any:
        """Not alone."""
        raise EnvError("an environment of a VectorEnv is not stepped alone")

    def close(self) -> None:
        """The last lane closes it."""
        if self.index == 0:
            _env.close_env(self.whole)


def lanes(env: Any, wanted: int) -> list[VectorLane]:
    """All lanes of a VectorEnv. EnvError: not as many as the config says."""
    if env.num_envs != wanted:
        raise EnvError(f"the VectorEnv has {env.num_envs} environments: set num_envs_per_worker "
                       f"to that, it is {wanted}")
    return [VectorLane(env, i) for i in range(wanted)]


def step(envs: list[VectorLane], actions: list[Any]) -> list[Any]:
    """One step of all: their answers, each as five values."""
    answer = envs[0].whole.vector_step(actions)
    if len(answer) == 4:
        return [_env.five(one) for one in zip(*answer)]
    return list(zip(*answer))
