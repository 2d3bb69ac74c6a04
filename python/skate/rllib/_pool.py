"""EnvPool: many environments stepped by its threads, as the lanes of a worker.

    "env": "envpool:CartPole-v1", "num_envs_per_worker": 64       env_config goes to envpool.make()

or a creator that returns envpool.make(..., env_type="gymnasium", num_envs=n). After an episode's
end EnvPool resets at the next step by itself, which then is no step of the agent; here those that
ended are reset at once, together, so that each step is one. Nothing of EnvPool is imported until
one is named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skate.rllib._errors import EnvError

if TYPE_CHECKING:
    from skate.rllib._env import EnvContext

PREFIX = "envpool:"


def is_name(env: Any) -> bool:
    """Whether it names a pool."""
    return isinstance(env, str) and env.startswith(PREFIX)


def check_name(env: str) -> None:
    """EnvError: EnvPool is not installed, or knows no such environment."""
    pool = _module(env)
    name = env.removeprefix(PREFIX)
    if name not in pool.list_all_envs():
        import difflib

        near = difflib.get_close_matches(name, pool.list_all_envs(), n=1)
        hint = f" Did you mean {PREFIX + near[0]!r}?" if near else ""
        raise EnvError(f"env {env!r}: EnvPool knows no {name!r}.{hint}")


def _module(env: str) -> Any:
    try:
        import envpool
    except ImportError as error:
        raise EnvError(f"env {env!r}: pip install envpool ({error})") from None
    return envpool


def make(env: str, context: EnvContext) -> Any:
    """The pool: as many environments as the worker has lanes, seeded by the worker's stream."""
    told = {"num_envs": context.num_envs, "seed": context.seed, **context}
    told.pop("env_type", None)
    return _module(env).make(env.removeprefix(PREFIX), env_type="gymnasium", **told)


def as_vector(env: Any) -> Any:
    """A Pool around what envpool.make() gave; anything else as it is."""
    is_pool = all(hasattr(env, name) for name in ("send", "recv", "all_env_ids", "config"))
    return Pool(env) if is_pool else env


class Pool:
    """A VectorEnv (see env.vector_env) over a pool. EnvError: one that is asynchronous, has
    several players, or speaks dm_env."""

    def __init__(self, pool: Any) -> None:
        config = pool.config
        self.num_envs = int(config["num_envs"])
        if int(config.get("batch_size", self.num_envs)) != self.num_envs:
            raise EnvError("EnvPool's batch_size must be its num_envs: all are stepped together")
        if int(config.get("max_num_players", 1)) != 1:
            raise EnvError("EnvPool's environments for several players are not offered")
        if not hasattr(pool, "observation_space"):
            raise EnvError("EnvPool's env_type must be 'gymnasium'")
        self._pool = pool
        self._first: dict[int, Any] = {}        # of environments that are reset: their observation
        self._axes = _channels_last(pool.observation_space)
        self.observation_space = _turned(pool.observation_space, self._axes)
        self.action_space = pool.action_space
        shape = getattr(self.action_space, "shape", None) or ()
        self._action = (shape, "int32" if type(self.action_space).__name__ == "Discrete"
                        else self.action_space.dtype)

    def reset_at(self, index: int) -> Any:
        """(observation, info) of a new episode."""
        if index not in self._first:
            self._reset([index])
        return self._first.pop(index), {}

    def _reset(self, which: Any) -> None:
        import numpy as np

        answer = self._pool.reset(np.asarray(which, np.int32))
        obs, info = answer if isinstance(answer, tuple) else (answer, {"env_id": which})
        for place, lane in enumerate(info["env_id"]):
            self._first[int(lane)] = self._part(obs, place)

    def vector_step(self, actions: list[Any]) -> Any:
        """All together; those that ended are reset."""
        import numpy as np

        shape, dtype = self._action
        given = np.asarray(actions, dtype).reshape(self.num_envs, *shape)
        self._first.clear()
        answer = self._pool.step(given)
        obs, rewards, *ends, infos = answer
        over = np.flatnonzero(ends[0] if len(ends) == 1 else ends[0] | ends[1])
        order = np.argsort(infos["env_id"])
        ids = np.asarray(infos["env_id"])
        if len(over):
            self._reset(ids[over])
        names = [name for name, value in infos.items() if isinstance(value, np.ndarray)
                 and len(value) == self.num_envs]
        return ([self._part(obs, i) for i in order], rewards[order].tolist(),
                *[end[order].tolist() for end in ends],
                [{name: infos[name][i] for name in names} for i in order])

    def _part(self, obs: Any, place: int) -> Any:
        if isinstance(obs, dict):
            return {name: self._part(one, place) for name, one in obs.items()}
        if isinstance(obs, tuple):
            return tuple(self._part(one, place) for one in obs)
        one = obs[place]
        return one.transpose(self._axes) if self._axes else one

    def get_sub_environments(self) -> list[Any]:
        """None: they are no objects."""
        return []

    def close(self) -> None:
        """Close the pool."""
        self._pool.close()


def _channels_last(space: Any) -> tuple[int, ...] | None:
    """The axes of its pictures, if they are [channels][h][w]: nets here take [h][w][channels]."""
    shape = getattr(space, "shape", None) or ()
    return (1, 2, 0) if len(shape) == 3 and shape[0] < min(shape[1:]) else None


def _turned(space: Any, axes: tuple[int, ...] | None) -> Any:
    if axes is None:
        return space
    return type(space)(space.low.transpose(axes), space.high.transpose(axes), dtype=space.dtype)
