"""Atari's pictures and episodes as agents are trained on them (Mnih et al. 2015, Machado et al.
2018): under RLlib's names, with Gymnasium's API.

    env = wrap_deepmind(gymnasium.make("ALE/Pong-v5"))      # uint8 [84][84][4]

A trainer does that by itself to an Atari environment whose pictures nobody has changed yet, as
config["preprocessor_pref"] and config["model"] say (skate.rllib._pictures).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np

from skate import _rl
from skate.rllib import _env

TIME_LIMIT = 108_000        # steps: half an hour of play at 60 frames a second


class _Newer(gymnasium.Env):
    """An Atari environment of old Gym under Gymnasium's API."""

    def __init__(self, old: Any) -> None:
        space = old.observation_space
        self.observation_space = gymnasium.spaces.Box(0, 255, space.shape, space.dtype)
        self.action_space = gymnasium.spaces.Discrete(old.action_space.n)
        self.old, self.ale = old, old.unwrapped.ale
        self._frameskip = getattr(old.unwrapped, "frameskip", getattr(old, "_frameskip", 1))
        self.get_action_meanings = old.unwrapped.get_action_meanings

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """A new game."""
        super().reset(seed=seed)
        return _env.first_obs(self.old, seed), {}

    def step(self, action: Any) -> Any:
        """One step."""
        return _env.five(self.old.step(action))

    def close(self) -> None:
        """Close it."""
        _env.close_env(self.old)


def as_gymnasium(env: Any) -> Any:
    """The environment, or one of old Gym as Gymnasium has them."""
    return env if isinstance(env, gymnasium.Env) else _Newer(env)


def is_atari(env: Any) -> bool:
    """Whether it is one of ale-py's with pictures for observations."""
    shape = getattr(env.observation_space, "shape", None)
    return (shape is None or len(shape) > 2) and hasattr(getattr(env, "unwrapped", None), "ale")


def get_wrapper_by_cls(env: Any, cls: type) -> Any:
    """The outermost wrapper of that class around or in `env`, or None."""
    while not isinstance(env, cls):
        if not isinstance(env, gymnasium.Wrapper):
            return None
        env = env.env
    return env


def skips_frames(env: Any) -> bool:
    """Whether the environment itself repeats an action."""
    skip = getattr(env.unwrapped, "_frameskip", None)
    if skip is None:
        skip = (env.spec.kwargs if env.spec is not None else {}).get("frameskip", 1)
    return skip != 1


class MonitorEnv(gymnasium.Wrapper):
    """Counts whole games: rewards as they are, steps as the environment inside counts them."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self._total, self._steps, self._all_steps = 0.0, 0, 0
        self._rewards: list[float] = []
        self._lengths: list[int] = []
        self._told = 0

    def reset(self, **kwargs: Any) -> Any:
        """A new game; one that was not played to its end is not counted."""
        self._total, self._steps = 0.0, 0
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> Any:
        """One step of the game."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._total += float(reward)
        self._steps += 1
        self._all_steps += 1
        if terminated or truncated:
            self._rewards.append(self._total)
            self._lengths.append(self._steps)
            self._total, self._steps = 0.0, 0
        return obs, reward, terminated, truncated, info

    def get_episode_rewards(self) -> list[float]:
        """Of all games."""
        return self._rewards

    def get_episode_lengths(self) -> list[int]:
        """Of all games, in steps."""
        return self._lengths

    def get_total_steps(self) -> int:
        """Steps since it was made."""
        return self._all_steps

    def next_episode_results(self) -> Iterator[tuple[float, int]]:
        """(reward, length) of each game that ended since the last call."""
        first, self._told = self._told, len(self._rewards)
        yield from zip(self._rewards[first:], self._lengths[first:])


class NoopResetEnv(gymnasium.Wrapper):
    """A game starts with 1 .. noop_max steps of doing nothing, drawn from its own seed."""

    def __init__(self, env: Any, noop_max: int = 30) -> None:
        super().__init__(env)
        self.noop_max = noop_max
        self.noop_action = 0
        self.override_num_noops: int | None = None      # this many instead
        if env.unwrapped.get_action_meanings()[0] != "NOOP":
            raise ValueError(f"action 0 of {env} is not NOOP")

    def reset(self, **kwargs: Any) -> Any:
        """A new game, some steps in."""
        obs, info = self.env.reset(**kwargs)
        wait = self.override_num_noops
        if wait is None:
            wait = int(self.unwrapped.np_random.integers(1, self.noop_max + 1))
        for _ in range(wait):
            obs, _reward, terminated, truncated, info = self.env.step(self.noop_action)
            if terminated or truncated:
                obs, info = self.env.reset()
        return obs, info


class MaxAndSkipEnv(gymnasium.Wrapper):
    """Each action `skip` times; the observation is the brighter of the last two pictures, pixel
    by pixel (sprites that flicker are in one of them), the reward the sum."""

    def __init__(self, env: Any, skip: int = 4) -> None:
        super().__init__(env)
        self._skip = skip

    def step(self, action: Any) -> Any:
        """`skip` steps, fewer where the game ends."""
        total, before = 0.0, None
        for i in range(self._skip):
            obs, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated or i == self._skip - 1:
                break
            before = obs
        if before is not None:
            obs = np.maximum(obs, before)
        return obs, total, terminated, truncated, info


class EpisodicLifeEnv(gymnasium.Wrapper):
    """A lost life ends the episode; the game goes on in the next one."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.lives = 0
        self.was_real_done = True       # whether reset() starts a new game

    def _left(self) -> int:
        return int(self.unwrapped.ale.lives())

    def step(self, action: Any) -> Any:
        """One step."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.was_real_done = bool(terminated or truncated)
        left = self._left()
        # Some games show 0 lives for some frames before they say that they are over.
        lost = 0 < left < self.lives
        self.lives = left
        return obs, reward, bool(terminated or lost), truncated, info

    def reset(self, **kwargs: Any) -> Any:
        """The next life, or the next game if there is none left or a seed is given."""
        over = self.was_real_done or kwargs.get("seed") is not None
        if not over:
            obs, _reward, terminated, truncated, info = self.env.step(0)
            over = terminated or truncated
        if over:
            obs, info = self.env.reset(**kwargs)
        self.was_real_done = False
        self.lives = self._left()
        return obs, info


class FireResetEnv(gymnasium.Wrapper):
    """Presses FIRE (action 1), then action 2, where a game waits for that."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        meanings = env.unwrapped.get_action_meanings()
        if len(meanings) < 3 or meanings[1] != "FIRE":
            raise ValueError(f"action 1 of {env} is not FIRE")

    def reset(self, **kwargs: Any) -> Any:
        """A new episode, under way."""
        obs, info = self.env.reset(**kwargs)
        for action in (1, 2):
            obs, _reward, terminated, truncated, info = self.env.step(action)
            if terminated or truncated:
                obs, info = self.env.reset()
        return obs, info


class ClipRewardEnv(gymnasium.RewardWrapper):
    """Rewards by their sign: -1, 0, 1."""

    def reward(self, reward: Any) -> float:
        """The sign."""
        return float(np.sign(reward))


class WarpFrame(gymnasium.ObservationWrapper):
    """Pictures of dim x dim, by area means: uint8 [dim][dim][1] in grey, or with all channels."""

    def __init__(self, env: Any, dim: int = 84, grayscale: bool = True) -> None:
        super().__init__(env)
        shape = env.observation_space.shape
        self._from = (*shape, 1) if len(shape) == 2 else tuple(shape)
        self._grey = grayscale and self._from[2] == 3
        self._shape = (dim, dim, 1 if self._grey else self._from[2])
        self.observation_space = gymnasium.spaces.Box(0, 255, self._shape, np.uint8)

    def observation(self, observation: Any) -> Any:
        """The smaller picture."""
        out = np.empty(self._shape, np.uint8)
        _rl.resize(np.ascontiguousarray(observation), self._from, out, self._shape[:2], self._grey)
        return out


GrayScaleAndResize = WarpFrame


class FrameStack(gymnasium.Wrapper):
    """The last k pictures, the newest last: [h][w][k * channels]. An episode starts with k times
    its first."""

    def __init__(self, env: Any, k: int) -> None:
        super().__init__(env)
        space = env.observation_space
        *sides, self._channels = space.shape
        self.k = k
        self._stack: Any = None
        self.observation_space = gymnasium.spaces.Box(
            np.repeat(space.low, k, axis=-1), np.repeat(space.high, k, axis=-1),
            (*sides, k * self._channels), space.dtype)

    def reset(self, **kwargs: Any) -> Any:
        """The first picture k times."""
        obs, info = self.env.reset(**kwargs)
        self._stack = np.concatenate([obs] * self.k, axis=-1)
        return self._stack, info

    def step(self, action: Any) -> Any:
        """One picture more."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._stack = np.concatenate([self._stack[..., self._channels:], obs], axis=-1)
        return self._stack, reward, terminated, truncated, info


class ScaledFloatFrame(gymnasium.ObservationWrapper):
    """float32 in [0, 1]."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, env.observation_space.shape,
                                                      np.float32)

    def observation(self, observation: Any) -> Any:
        """The picture over 255."""
        return np.asarray(observation, np.float32) / np.float32(255.0)


class NormalizedImageEnv(gymnasium.ObservationWrapper):
    """float32 in [-1, 1]."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, env.observation_space.shape,
                                                      np.float32)

    def observation(self, observation: Any) -> Any:
        """The picture over 128, less 1."""
        return np.asarray(observation, np.float32) / np.float32(128.0) - np.float32(1.0)


def _episodes(env: Any) -> Any:
    """Lives as episodes, fired where the game has that."""
    env = EpisodicLifeEnv(env)
    return FireResetEnv(env) if "FIRE" in env.unwrapped.get_action_meanings() else env


def wrap_deepmind(env: Any, dim: int = 84, framestack: bool | int = True,
                  noframeskip: bool | None = None) -> Any:
    """Mnih et al.'s preprocessing: uint8 [dim][dim][4], or [..][k] with framestack=k, [..][1]
    without. Frames are skipped (4, the brighter of the last two) where the environment does not
    skip itself, or as `noframeskip` says. Rewards are left to config["clip_rewards"]."""
    env = NoopResetEnv(MonitorEnv(as_gymnasium(env)))
    if noframeskip or (noframeskip is None and not skips_frames(env)):
        env = MaxAndSkipEnv(env)
    env = WarpFrame(_episodes(env), dim)
    k = 4 if framestack is True else int(framestack)
    return FrameStack(env, k) if k > 1 else env


def wrap_atari_for_new_api_stack(env: Any, dim: int = 64, frameskip: int = 4,
                                 framestack: int | None = None, grayscale: bool = True) -> Any:
    """The newer era's: float32 [dim][dim][framestack or 1] in [-1, 1], 108,000 steps at most. The
    environment is made with frameskip=1. Pictures are skipped before they are made smaller."""
    env = gymnasium.wrappers.TimeLimit(env, max_episode_steps=TIME_LIMIT)
    if frameskip > 1:
        env = MaxAndSkipEnv(env, frameskip)
    env = NormalizedImageEnv(WarpFrame(_episodes(NoopResetEnv(env)), dim, grayscale))
    return FrameStack(env, framestack) if framestack else env


__all__ = [
    "ClipRewardEnv", "EpisodicLifeEnv", "FireResetEnv", "FrameStack", "GrayScaleAndResize",
    "MaxAndSkipEnv", "MonitorEnv", "NoopResetEnv", "NormalizedImageEnv", "ScaledFloatFrame",
    "WarpFrame", "get_wrapper_by_cls", "is_atari", "wrap_atari_for_new_api_stack", "wrap_deepmind",
]
