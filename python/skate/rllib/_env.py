"""Environments: from what a config names to something with reset() and step().

A name is looked up in Tune's registry first, then in Gymnasium; CartPole-v0 is registered there if
it is missing. "c:game.so" is an environment in C, "skate/NAME" a built-in one of those. A class or
function is called with an EnvContext. Both APIs work: Gymnasium's (reset -> obs, info; step -> 5
values) and old Gym's (reset -> obs; step -> 4 values). Atari's names are ale-py's (_pictures);
"envpool:NAME" is a pool of EnvPool (_pool).
"""

from __future__ import annotations

import difflib
import importlib
import warnings
from collections.abc import Callable
from typing import Any

from skate.rllib import _native, _pictures, _pool
from skate.rllib._errors import EnvError


class EnvContext(dict):
    """The env_config that a creator gets, and which of the environments it is making.

    num_envs: how many the worker has, for one that makes them all; seed: for one that can be
    seeded only when it is made.
    """

    def __init__(self, env_config: dict[str, Any], worker_index: int = 0, vector_index: int = 0,
                 num_workers: int = 0, num_envs: int = 1, seed: int = 0) -> None:
        super().__init__(env_config)
        self.worker_index = worker_index
        self.vector_index = vector_index
        self.num_workers = num_workers
        self.num_envs = num_envs
        self.seed = seed
        self.remote = False


def register_cartpole() -> None:
    """Make sure that Gymnasium knows CartPole-v0 (200 steps, solved at 195)."""
    import gymnasium

    if "CartPole-v0" not in gymnasium.registry:
        gymnasium.register(
            id="CartPole-v0",
            entry_point="gymnasium.envs.classic_control.cartpole:CartPoleEnv",
            max_episode_steps=200, reward_threshold=195.0)


def check_env(env: Any) -> None:
    """Raise EnvError at once if `env` names nothing; makes no environment."""
    if env is None:
        raise EnvError("the config has no 'env': give a name that Gymnasium knows, a name "
                       "registered by tune.register_env, or a class")
    if callable(env):
        return
    if not isinstance(env, str):
        raise EnvError(f"'env' must be a name or a class, got {type(env).__name__}: {env!r}")
    if _registered(env) is not None or _native.is_native(env):
        return
    if _pool.is_name(env):
        _pool.check_name(env)
        return
    try:
        import gymnasium
    except ImportError:
        raise EnvError(f"env {env!r}: Gymnasium is not installed, and nothing is registered "
                       "under this name by tune.register_env") from None
    register_cartpole()
    if env.startswith("skate/"):
        import skate.rllib.env.native  # noqa: F401  registers them
    _pictures.register(env)
    if env in gymnasium.registry or _by_module(env) in gymnasium.registry:
        return
    if ":" in env or "/" in env or "." in env:
        try:
            if _from_path(env) is not None:
                return
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                gymnasium.spec(env)
            return
        except Exception as error:
            raise EnvError(_unknown(env, gymnasium.registry)) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gymnasium.spec(env)
    except Exception as error:
        raise EnvError(_unknown(env, gymnasium.registry)) from error


def _by_module(env: str) -> str:
    """The name behind Gymnasium's "module:name" once the module, which registers it, is imported;
    other names as they are."""
    module, colon, name = env.partition(":")
    if colon and module.isidentifier():
        try:
            importlib.import_module(module)
            return name
        except ImportError:
            pass
    return env


def _unknown(env: str, known: Any) -> str:
    near = difflib.get_close_matches(env, list(known), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return (f"The env string {env!r} is neither known to Gymnasium nor registered by "
            f"tune.register_env.{hint}")


def _registered(name: str) -> Callable[[Any], Any] | None:
    from skate.tune.registry import get_env_creator

    return get_env_creator(name)


def _from_path(name: str) -> Any:
    """The class that 'package.module.Class' names, or None if it is not such a path."""
    module, _, attribute = name.rpartition(".")
    if not module or not attribute.isidentifier() or ":" in name or "/" in name:
        return None
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        return None


def make_env(env: Any, context: EnvContext, horizon: int | None = None, native: Any = False,
             pictures: dict[str, Any] | None = None) -> Any:
    """Build one environment; whatever goes wrong is an EnvError with its cause.

    native: the config's "native_env"; but for False, one in C where it gives the same. pictures:
    of _pictures.options(), for Atari environments.
    """
    if native is not False:
        lane = _native.open_env(env, dict(context), horizon)
        if lane is not None:
            return lane
    check_env(env)
    try:
        made = _pool.as_vector(_pictures.prepare(_make(env, context), pictures))
    except EnvError:
        raise
    except Exception as error:
        raise EnvError(f"env {env!r} cannot be made with env_config "
                       f"{dict(context)!r}: {type(error).__name__}: {error}") from error
    if hasattr(made, "vector_step") and horizon is not None:
        raise EnvError(f"env {env!r} is a VectorEnv, whose episodes cannot be cut: horizon must "
                       "be None")
    if hasattr(made, "vector_step"):
        return made
    if not hasattr(made, "step") or not hasattr(made, "reset"):
        raise EnvError(f"env {env!r} made a {type(made).__name__} without step() and reset()")
    if getattr(made, "is_multi_agent", False):
        return made                 # the multi-agent sampler counts its steps
    for space in ("observation_space", "action_space"):
        if getattr(made, space, None) is None:
            raise EnvError(f"env {env!r} has no {space}")
    return made if horizon is None else Horizon(made, horizon)


def _make(env: Any, context: EnvContext) -> Any:
    if callable(env):
        return env(context)
    if env.startswith(("c:", "skate/")):
        from skate.rllib.env.native import NativeEnv

        return NativeEnv(env, **context)
    if _pool.is_name(env) and _registered(env) is None:
        return _pool.make(env, context)
    creator = _registered(env) or _from_path(env)
    if creator is not None:
        return creator(context)
    import gymnasium

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # CartPole-v0 is old, and that is the point
        return gymnasium.make(env, disable_env_checker=True, **context)


class Horizon:
    """Ends episodes as truncated after a number of steps."""

    def __init__(self, env: Any, horizon: int) -> None:
        self.env = env
        self.observation_space = env.observation_space
        self.action_space = env.action_space
        self._horizon = horizon
        self._steps = 0

    def reset(self, **kwargs: Any) -> Any:
        """Start an episode."""
        self._steps = 0
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> Any:
        """One step, truncated at the horizon."""
        obs, reward, terminated, truncated, info = five(self.env.step(action))
        self._steps += 1
        return obs, reward, terminated, truncated or self._steps >= self._horizon, info

    def close(self) -> None:
        """Close the environment inside."""
        close_env(self.env)


def five(answer: Any) -> tuple[Any, Any, bool, bool, Any]:
    """Either API's answer of step() as (obs, reward, terminated, truncated, info)."""
    if len(answer) == 5:
        return answer
    obs, reward, done, info = answer
    cut = bool(done) and isinstance(info, dict) and bool(info.get("TimeLimit.truncated", False))
    return obs, reward, bool(done) and not cut, cut, info


def first_obs(env: Any, seed: int | None = None) -> Any:
    """reset() under either API, seeded if the environment can be."""
    if seed is None:
        answer = env.reset()
    else:
        try:
            answer = env.reset(seed=seed)
        except TypeError:
            if hasattr(env, "seed"):
                env.seed(seed)
            answer = env.reset()
    if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], dict):
        return answer[0]
    return answer


def close_env(env: Any) -> None:
    """Close it if it can be closed."""
    close = getattr(env, "close", None)
    if close is not None:
        close()
