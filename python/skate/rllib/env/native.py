"""Environments in C as gymnasium.Env and gymnasium.vector.VectorEnv.

Importing this module registers each built-in one with Gymnasium as "skate/NAME", so that
gymnasium.make("skate/CartPole-v1") and gymnasium.make_vec("skate/CartPole-v1", 4096) find them.
A shared object of one's own (skate/env.h) is NativeEnv("c:game.so") or NativeVectorEnv(...).
"""

from __future__ import annotations

import json
import operator
import secrets
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from skate import _rl
from skate.rllib._errors import EnvError

__all__ = ["NAMES", "NativeEnv", "NativeVectorEnv", "register"]

NAMES: tuple[str, ...] = tuple(_rl.env_names())
_MODES = {AutoresetMode.NEXT_STEP: 0, AutoresetMode.SAME_STEP: 1, AutoresetMode.DISABLED: 2}


def _space(info: dict[str, Any]) -> spaces.Space[Any]:
    kind = info["kind"]
    if kind == "discrete":
        return spaces.Discrete(info["n"], start=info["start"])
    if kind == "multi":
        return spaces.MultiDiscrete(info["sizes"])
    if kind == "tuple":
        return spaces.Tuple([spaces.Discrete(n) for n in info["sizes"]])
    dtype, shape = np.dtype(info["dtype"]), tuple(info["shape"])
    if info["lows"] is None:
        return spaces.Box(info["low"], info["high"], shape, dtype.type)
    low = np.array(info["lows"], dtype).reshape(shape)
    high = np.array(info["highs"], dtype).reshape(shape)
    return spaces.Box(low, high, shape, dtype.type)


def _row(info: dict[str, Any], integer: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """dtype and shape of a row."""
    if info["kind"] == "box":
        return np.dtype(info["dtype"]), tuple(info["shape"])
    if info["kind"] == "discrete":
        return np.dtype(integer), ()
    return np.dtype(integer), (len(info["sizes"]),)


class _Lanes:
    """An engine object with its arrays as NumPy arrays that share its memory."""

    def __init__(self, name: str, lanes: int, seed: int | None, config: dict[str, Any],
                 max_steps: int | None, mode: int) -> None:
        text = json.dumps(config) if config else None
        try:
            self.engine = _rl.Env(name.removeprefix("skate/"), lanes,
                                  secrets.randbits(63) if seed is None else seed, text,
                                  -1 if max_steps is None else max_steps, mode)
        except ValueError as error:
            raise EnvError(str(error)) from None
        self.info = self.engine.info()
        self.lanes = lanes
        dtype, shape = _row(self.info["obs"], "int64")
        self.obs = self._array("obs", dtype, shape)
        self.last = self._array("last", dtype, shape)
        dtype, shape = _row(self.info["action"], "int32")
        self.action = self._array("action", dtype, shape)
        self.reward = self._array("reward", np.dtype("float64"), ())
        self.terminated = self._array("terminated", np.dtype("bool"), ())
        self.truncated = self._array("truncated", np.dtype("bool"), ())
        self.turn = self._array("turn", np.dtype("uint8"), ())

    def _array(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
        flat = np.frombuffer(self.engine.rows(name), dtype)
        return flat.reshape((self.lanes, *shape))


def _no_options(options: dict[str, Any] | None) -> None:
    left = sorted(set(options or {}) - {"reset_mask"})
    if left:
        raise EnvError(f"environments in C take no reset options, got {left}; "
                       "use Gymnasium's own environment for that")


def _set_task(engine: Any, task: dict[str, Any]) -> None:
    try:
        engine.set_task(json.dumps(task))
    except ValueError as error:
        raise EnvError(str(error)) from None


class NativeEnv(gymnasium.Env[Any, Any]):
    """One environment in C.

    name: a built-in one ("CartPole-v1"), or "c:game.so", "c:game.so:symbol".
    max_episode_steps: truncate there; None: the environment's own limit; 0: never.
    render_mode: None or "rgb_array".
    config: what the environment in C gets (the keyword arguments of Gymnasium's namesake).
    Raises EnvError when there is no such environment or it refuses the config.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(self, name: str, *, max_episode_steps: int | None = None,
                 render_mode: str | None = None, seed: int | None = None, **config: Any) -> None:
        if render_mode not in (None, "rgb_array"):
            raise EnvError(f"{name}: environments in C draw render_mode='rgb_array' only, got "
                           f"{render_mode!r}")
        self.name = name
        self.render_mode = render_mode
        self._task: dict[str, Any] = {}
        self._lanes = lanes = _Lanes(name, 1, seed, config, max_episode_steps, 2)
        self.engine = lanes.engine
        self.observation_space = _space(lanes.info["obs"])
        self.action_space = _space(lanes.info["action"])
        self._whole = lanes.info["action"]["kind"] == "discrete"
        self._kind = lanes.info["obs"]["kind"]
        self._obs, self._action = lanes.obs[0], lanes.action[0:1]
        self._step = lanes.engine.step

    def _observation(self) -> Any:
        if self._kind == "discrete":
            return int(self._lanes.obs[0])
        if self._kind == "tuple":
            return tuple(self._obs.tolist())
        return self._obs.copy()

    def reset(self, *, seed: int | None = None,
              options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; with a seed, the random stream of Gymnasium's namesake."""
        _no_options(options)
        if seed is None:
            self.engine.reset()
        else:
            super().reset(seed=seed)
            self.engine.reset(None, np.array([seed], np.uint64))
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step. Raises EnvError for an action outside the action space."""
        self._action[0] = operator.index(action) if self._whole else action
        try:
            self._step()
        except ValueError as error:
            raise EnvError(str(error)) from None
        lanes = self._lanes
        return (self._observation(), lanes.reward.item(), lanes.terminated.item(),
                lanes.truncated.item(), {})

    def action_mask(self) -> np.ndarray | None:
        """int8, 1 for each action that is allowed now (action_space.sample(mask)); None where the
        environment does not say."""
        if not self._whole:
            return None
        mask = self.engine.mask(0, self._lanes.info["action"]["n"])
        return None if mask is None else np.frombuffer(mask, np.int8).copy()

    def render(self) -> np.ndarray | None:
        """The picture, uint8 [rows][columns][3]; None without render_mode. Raises EnvError where
        the environment draws none, or before the first reset."""
        if self.render_mode is None:
            return None
        try:
            picture = self.engine.render(0)
        except ValueError as error:
            raise EnvError(str(error)) from None
        if picture is None:
            raise EnvError(f"{self.name} draws no pictures")
        columns, rows, data = picture
        return np.frombuffer(data, np.uint8).reshape(rows, columns, 3).copy()

    def set_task(self, task: dict[str, Any]) -> None:
        """Another task from the next reset on, as the environment knows them. Raises EnvError."""
        _set_task(self.engine, task)
        self._task = dict(task)

    def get_task(self) -> dict[str, Any]:
        """What set_task() got last."""
        return dict(self._task)

    @property
    def turn(self) -> int:
        """Whose move is next, in a game of several agents."""
        return int(self._lanes.turn[0])

    def save(self) -> bytes:
        """The state, its random stream included (for tree search)."""
        state: bytes = self.engine.save(0)
        return state

    def load(self, state: bytes) -> Any:
        """Go on from a state of save(); returns its observation."""
        self.engine.load(0, state)
        return self._observation()


class NativeVectorEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """N environments in C, stepped together.

    copy: False gives arrays that share the engine's memory, changed by the next call.
    autoreset_mode: as Gymnasium's; with SAME_STEP infos["final_obs"][i] is the last observation of
    each lane i of infos["_final_obs"]. Rewards are float64. See NativeEnv for the rest.
    """

    def __init__(self, name: str, num_envs: int = 1, *, max_episode_steps: int | None = None,
                 autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
                 render_mode: str | None = None, seed: int | None = None, copy: bool = True,
                 **config: Any) -> None:
        if render_mode is not None:
            raise EnvError(f"{name}: vectors of environments in C draw no pictures (render_mode)")
        mode = AutoresetMode(autoreset_mode)
        self.name = name
        self.num_envs = num_envs
        self.metadata = {"render_modes": [], "autoreset_mode": mode}
        self._same_step = mode is AutoresetMode.SAME_STEP
        self._lanes = lanes = _Lanes(name, num_envs, seed, config, max_episode_steps,
                                     _MODES[mode])
        self.engine = lanes.engine
        self.single_observation_space = _space(lanes.info["obs"])
        self.single_action_space = _space(lanes.info["action"])
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._tuple = lanes.info["obs"]["kind"] == "tuple"
        self._copy = copy

    def set_task(self, task: dict[str, Any]) -> None:
        """Another task, from each lane's next reset on. Raises EnvError."""
        _set_task(self.engine, task)

    def _observations(self, rows: np.ndarray) -> Any:
        if self._tuple:
            return tuple(np.ascontiguousarray(rows[:, i]) for i in range(rows.shape[1]))
        return rows.copy() if self._copy else rows

    def reset(self, *, seed: int | Sequence[int | None] | None = None,
              options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start episodes: on all lanes, or where options["reset_mask"] is true. Lane i of an
        integer seed gets seed + i."""
        _no_options(options)
        mask = (options or {}).get("reset_mask")
        if mask is not None:
            mask = np.ascontiguousarray(mask, np.uint8)
        seeds = None
        if isinstance(seed, int | np.integer):
            seeds = np.arange(self.num_envs, dtype=np.uint64) + np.uint64(seed)
        elif seed is not None:
            if any(s is None for s in seed):
                raise EnvError("seeds of a list are all given, or none is")
            seeds = np.array(seed, np.uint64)
        self.engine.reset(mask, seeds)
        return self._observations(self._lanes.obs), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One step of every lane. Raises EnvError for an action outside the action space."""
        lanes = self._lanes
        np.copyto(lanes.action, actions, casting="same_kind")
        try:
            self.engine.step()
        except ValueError as error:
            raise EnvError(str(error)) from None
        infos: dict[str, Any] = {}
        if self._same_step:
            ended = lanes.terminated | lanes.truncated
            if ended.any():
                infos = {"final_obs": self._observations(lanes.last), "_final_obs": ended}
        if not self._copy:
            return (self._observations(lanes.obs), lanes.reward, lanes.terminated,
                    lanes.truncated, infos)
        return (self._observations(lanes.obs), lanes.reward.copy(), lanes.terminated.copy(),
                lanes.truncated.copy(), infos)


def _make(name: str, **kwargs: Any) -> NativeEnv:
    return NativeEnv(name, max_episode_steps=0, **kwargs)


def register() -> None:
    """Make Gymnasium know the built-in environments as "skate/NAME"."""
    for name in NAMES:
        if f"skate/{name}" in gymnasium.registry:
            continue
        info = _rl.Env(name).info()
        threshold = info["reward_threshold"]
        gymnasium.register(
            id=f"skate/{name}", entry_point=f"{__name__}:_make",
            vector_entry_point=f"{__name__}:NativeVectorEnv",
            max_episode_steps=info["max_steps"] or None, disable_env_checker=True,
            reward_threshold=None if threshold != threshold else threshold,
            kwargs={"name": name})


register()
