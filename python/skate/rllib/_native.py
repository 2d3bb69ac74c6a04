"""Environments in C under rollout workers: which configs are served by lanes of the engine.

A worker whose environment is "skate/NAME", "c:game.so" or one of Gymnasium's own that has a twin
here (equal to the last bit) steps it in C, policy and fragment included; nothing of Gymnasium is
imported then. The config key "native_env" is "auto" or False.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import secrets
import sys
from typing import Any

from skate.rllib._errors import EnvError

# Keyword arguments that are not the environment's own but Gymnasium's or NativeEnv's.
_NOT_OURS = frozenset({"max_episode_steps", "render_mode", "seed", "disable_env_checker",
                       "additional_wrappers", "order_enforce", "autoreset", "id", "name"})
_CONTROL = "gymnasium.envs.classic_control."
_TOY = "gymnasium.envs.toy_text."
# Gymnasium's id -> (entry point, keyword arguments, time limit) of the one that ours equals.
_TWINS: dict[str, tuple[str, dict[str, Any], int | None]] = {
    "CartPole-v0": (f"{_CONTROL}cartpole:CartPoleEnv", {}, 200),
    "CartPole-v1": (f"{_CONTROL}cartpole:CartPoleEnv", {}, 500),
    "MountainCar-v0": (f"{_CONTROL}mountain_car:MountainCarEnv", {}, 200),
    "Acrobot-v1": (f"{_CONTROL}acrobot:AcrobotEnv", {}, 500),
    "FrozenLake-v1": (f"{_TOY}frozen_lake:FrozenLakeEnv", {"map_name": "4x4"}, 100),
    "FrozenLake8x8-v1": (f"{_TOY}frozen_lake:FrozenLakeEnv", {"map_name": "8x8"}, 200),
    "Taxi-v4": (f"{_TOY}taxi:TaxiEnv", {}, 200),
    "CliffWalking-v1": (f"{_TOY}cliffwalking:CliffWalkingEnv", {}, None),
    "CliffWalkingSlippery-v1": (f"{_TOY}cliffwalking:CliffWalkingEnv", {"is_slippery": True},
                                None),
    "Pendulum-v1": (f"{_CONTROL}pendulum:PendulumEnv", {}, 200),
    "MountainCarContinuous-v0": (f"{_CONTROL}continuous_mountain_car:Continuous_MountainCarEnv",
                                 {}, 999),
    "Blackjack-v1": (f"{_TOY}blackjack:BlackjackEnv", {"sab": True, "natural": False}, None),
}
_EQUAL_FROM = (1, 3)        # of Gymnasium, up to the next major version


class Box:
    """Stands in for Gymnasium's space of this name where Gymnasium is not imported."""

    def __init__(self, info: dict[str, Any]) -> None:
        import numpy as np

        self.dtype = np.dtype(info["dtype"])
        self.shape = tuple(info["shape"])
        low = info["low"] if info["lows"] is None else np.reshape(info["lows"], self.shape)
        high = info["high"] if info["highs"] is None else np.reshape(info["highs"], self.shape)
        self.low = np.full(self.shape, low, self.dtype)
        self.high = np.full(self.shape, high, self.dtype)


class Discrete:
    """The same."""

    def __init__(self, n: int, start: int = 0) -> None:
        self.n = n
        self.start = start


class MultiDiscrete:
    """The same."""

    def __init__(self, sizes: list[int]) -> None:
        import numpy as np

        self.nvec = np.array(sizes, np.int64)
        self.shape = self.nvec.shape


class Tuple:
    """The same."""

    def __init__(self, spaces: list[Discrete]) -> None:
        self.spaces = spaces


def _space(info: dict[str, Any]) -> Any:
    if info["kind"] == "box":
        return Box(info)
    if info["kind"] == "discrete":
        return Discrete(info["n"], info["start"])
    if info["kind"] == "multi":
        return MultiDiscrete(info["sizes"])
    return Tuple([Discrete(n) for n in info["sizes"]])


class Lanes:
    """An engine object that resets its lanes itself, with its spaces."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.info: dict[str, Any] = engine.info()
        self.observation_space = _space(self.info["obs"])
        self.action_space = _space(self.info["action"])


class LaneEnv:
    """One lane as an environment: Gymnasium's reset() and step(), without Gymnasium."""

    def __init__(self, engine: Any) -> None:
        import numpy as np

        info = engine.info()
        self.observation_space = _space(info["obs"])
        self.action_space = _space(info["action"])
        self._engine = engine
        self._step = engine.step
        self._kind = info["obs"]["kind"]
        shape = info["obs"]["shape"] if self._kind == "box" else -1
        dtype = info["obs"]["dtype"] if self._kind == "box" else "int64"
        self._obs = np.frombuffer(engine.rows("obs"), dtype).reshape(shape)
        dtype = info["action"]["dtype"] if info["action"]["kind"] == "box" else "int32"
        self._action = np.frombuffer(engine.rows("action"), dtype)
        if info["action"]["kind"] == "box":
            self._action = self._action.reshape(info["action"]["shape"])
        self._reward = memoryview(engine.rows("reward")).cast("d")
        self._terminated = memoryview(engine.rows("terminated"))
        self._truncated = memoryview(engine.rows("truncated"))

    def _observation(self) -> Any:
        if self._kind == "discrete":
            return int(self._obs[0])
        return tuple(self._obs.tolist()) if self._kind == "tuple" else self._obs.copy()

    def reset(self, *, seed: int | None = None,
              options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; without a seed the random stream goes on."""
        self._engine.reset(None, None if seed is None else seed.to_bytes(8, sys.byteorder))
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step. Raises EnvError where the environment fails."""
        self._action[...] = action
        try:
            self._step()
        except ValueError as error:
            raise EnvError(str(error)) from None
        return (self._observation(), self._reward[0], self._terminated[0] != 0,
                self._truncated[0] != 0, {})

    def set_task(self, task: dict[str, Any]) -> None:
        """Another task from the next reset on. Raises EnvError where there is none such."""
        try:
            self._engine.set_task(json.dumps(task))
        except ValueError as error:
            raise EnvError(str(error)) from None

    def close(self) -> None:
        """Nothing is open: the engine object goes with this one."""


def is_native(env: Any) -> bool:
    """Whether the name `env` is served in C: no import of Gymnasium is needed to know it."""
    return isinstance(env, str) and _engine_name(env) is not None


def open_lanes(spec: dict[str, Any]) -> Lanes | None:
    """The lanes for a worker's spec, or None: its environments are stepped by Python."""
    if spec.get("native_env", "auto") is False:
        return None
    engine = _open(spec["env"], spec["env_config"], spec["horizon"],
                   (spec["num_envs"], spec["seed"] + spec["index"], 1))
    if engine is None or engine.info()["action"]["kind"] != "discrete":
        return None
    return Lanes(engine)


def open_env(env: Any, config: dict[str, Any], horizon: int | None) -> LaneEnv | None:
    """One environment, or None: it is Python's."""
    engine = _open(env, config, horizon, (1, secrets.randbits(63), 2))
    return None if engine is None else LaneEnv(engine)


def _open(env: Any, config: dict[str, Any], horizon: int | None,
          how: tuple[int, int, int]) -> Any:
    """An engine object (lanes, seed, mode), or None: the Python path makes it or says what is
    wrong."""
    from skate import _rl

    name = _engine_name(env) if isinstance(env, str) else None
    if name is None or not _is_plain(config) or (env in _TWINS and "kernel" in config):
        return None             # "kernel" is known here alone
    text = json.dumps(config) if config else None
    try:
        lanes, seed, mode = how
        engine = _rl.Env(name, lanes, seed, text, -1, mode)
        own = engine.info()["max_steps"]
        if horizon is not None and (own == 0 or horizon < own):
            engine = _rl.Env(name, lanes, seed, text, horizon, mode)
    except ValueError:
        return None
    return engine


def _is_plain(config: dict[str, Any]) -> bool:
    """Whether the engine gets the config as the environment in Python would."""
    def plain(value: Any) -> bool:
        if isinstance(value, (list, tuple)):
            return all(plain(v) for v in value)
        return type(value) in (bool, int, float, str)

    return all(isinstance(key, str) and key not in _NOT_OURS and plain(value)
               for key, value in config.items())


def _engine_name(env: str) -> str | None:
    """What the engine calls the environment of this name, or None."""
    if env.startswith("c:"):
        return env
    if env.startswith("skate/"):
        from skate import _rl

        name = env.removeprefix("skate/")
        return name if name in _rl.env_names() else None
    if env not in _TWINS:
        return None
    from skate.tune.registry import get_env_creator

    return env if get_env_creator(env) is None and _is_gymnasiums_own(env) else None


def _is_gymnasiums_own(env: str) -> bool:
    """Whether Gymnasium would make what ours is the twin of; as long as nobody has imported it in
    this process, nobody has changed its registry."""
    if not _version_fits():
        return False
    gymnasium = sys.modules.get("gymnasium")
    if gymnasium is None:
        return True
    if getattr(gymnasium.make, "__module__", None) != "gymnasium.envs.registration":
        return False
    entry, kwargs, limit = _TWINS[env]
    found = gymnasium.registry.get(env)
    if found is None:
        return env == "CartPole-v0"         # Skate registers it
    return (found.entry_point == entry and found.kwargs == kwargs
            and found.max_episode_steps == limit and not found.additional_wrappers
            and _is_untouched(entry))


def _is_untouched(entry: str) -> bool:
    """Whether the class still has the methods that its own file defines."""
    name, _, cls = entry.partition(":")
    module = sys.modules.get(name)
    if module is None:
        return True
    own = getattr(module, cls, None)
    return own is not None and own.__module__ == name and all(
        getattr(getattr(own, method, None), "__module__", None) == name
        for method in ("__init__", "reset", "step"))


def _version_fits() -> bool:
    """Whether the installed Gymnasium (if any) is one that ours were compared with."""
    module = sys.modules.get("gymnasium")
    text = getattr(module, "__version__", None)
    if text is None:
        try:
            found = importlib.util.find_spec("gymnasium")
        except (ImportError, ValueError):
            return False
        if found is None or found.origin is None:
            return found is None
        try:
            with open(os.fspath(found.origin), encoding="utf-8") as source:
                match = re.search(r"^__version__\s*=\s*['\"]([^'\"]+)", source.read(), re.M)
        except OSError:
            return False
        text = match.group(1) if match else ""
    numbers = re.match(r"(\d+)\.(\d+)", text)
    if numbers is None:
        return False
    version = (int(numbers.group(1)), int(numbers.group(2)))
    return _EQUAL_FROM <= version < (_EQUAL_FROM[0] + 1, 0)
