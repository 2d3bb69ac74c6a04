"""The built-in environments in C give, bit for bit, what Gymnasium's give.

SKATE_RL_ENV_STEPS=1000000 compares that many steps of each instead of a few thousand.
"""

from __future__ import annotations

import os

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from skate.rllib.env.native import NativeEnv, NativeVectorEnv

STEPS = int(os.environ.get("SKATE_RL_ENV_STEPS", "3000"))
pytestmark = pytest.mark.timeout(60 + STEPS // 1000)



def discrete(n):
    return lambda obs, rng: int(rng.integers(n))


def pumped(speed):
    def choose(obs, rng):
        sign = 1 if obs[speed] > 0 else -1
        return 1 + (sign if rng.random() < 0.9 else int(rng.integers(-1, 2)))
    return choose


def pushed(obs, rng):
    """Mostly along the speed, at times anything, beyond the bounds included."""
    if rng.random() < 0.7:
        return np.array([rng.uniform(0.5, 1.0) * np.sign(obs[1])], np.float32)
    return rng.uniform(-1.4, 1.4, 1).astype(np.float32)


def torque(obs, rng):
    return rng.uniform(-2.6, 2.6, 1).astype(np.float32)


MAP = ["SFFFHF", "FHFFFF", "SFFFHF", "FFHFFG"]
CASES = [
    ("CartPole-v0", {}, discrete(2)),
    ("CartPole-v1", {}, discrete(2)),
    ("CartPole-v1", {"sutton_barto_reward": True}, discrete(2)),
    ("MountainCar-v0", {}, pumped(1)),
    ("MountainCar-v0", {"goal_velocity": 0.01}, pumped(1)),
    ("MountainCarContinuous-v0", {}, pushed),
    ("MountainCarContinuous-v0", {"goal_velocity": 0.02}, pushed),
    ("Pendulum-v1", {}, torque),
    ("Pendulum-v1", {"g": 9.81}, torque),
    ("Acrobot-v1", {}, pumped(4)),
    ("FrozenLake-v1", {}, discrete(4)),
    ("FrozenLake-v1", {"is_slippery": False}, discrete(4)),
    ("FrozenLake-v1", {"map_name": "8x8", "success_rate": 0.7}, discrete(4)),
    ("FrozenLake-v1", {"desc": MAP, "reward_schedule": (2, -1.5, 0.25)}, discrete(4)),
    ("FrozenLake8x8-v1", {}, discrete(4)),
    ("FrozenLake8x8-v1", {"is_slippery": False}, discrete(4)),
    ("Taxi-v4", {}, discrete(6)),
    ("Taxi-v4", {"is_rainy": True}, discrete(6)),
    ("Taxi-v4", {"fickle_passenger": True, "fickle_probability": 0.9}, discrete(6)),
    ("Taxi-v4", {"is_rainy": True, "rainy_probability": 0.6, "fickle_passenger": True},
     discrete(6)),
    ("CliffWalking-v1", {}, discrete(4)),
    ("CliffWalkingSlippery-v1", {}, discrete(4)),
    ("Blackjack-v1", {}, discrete(2)),
    ("Blackjack-v1", {"natural": True, "sab": False}, discrete(2)),
]


def same(ours, theirs):
    """Equal values of the same types, to the last bit."""
    if isinstance(theirs, np.ndarray):
        return ours.dtype == theirs.dtype and ours.tobytes() == theirs.tobytes()
    if isinstance(theirs, tuple):
        return len(ours) == len(theirs) and all(same(a, b) for a, b in zip(ours, theirs))
    return ours == theirs


@pytest.mark.parametrize(("name", "config", "choose"), CASES,
                         ids=[f"{n}-{'-'.join(c)}" for n, c, _ in CASES])
def test_equal(name, config, choose):
    theirs = gymnasium.make(name, disable_env_checker=True, **config)
    config = {k: list(v) if isinstance(v, tuple) else v for k, v in config.items()}
    ours = NativeEnv(name, **config)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    rng = np.random.default_rng(5)
    seed, episodes = 123, 0
    a, b = ours.reset(seed=seed)[0], theirs.reset(seed=seed)[0]
    assert same(a, b)
    for step in range(STEPS):
        action = choose(b, rng)
        a, ours_reward, *ours_ends, _ = ours.step(action)
        b, their_reward, *their_ends, info = theirs.step(action)
        assert same(a, b), (step, a, b)
        assert ours_reward == their_reward, (step, ours_reward, their_reward)
        assert ours_ends == their_ends, step
        if "action_mask" in info:
            assert same(ours.action_mask(), info["action_mask"]), step
        if any(their_ends):
            episodes += 1
            seed = int(rng.integers(2**62)) if episodes % 7 == 0 else None
            a, b = ours.reset(seed=seed)[0], theirs.reset(seed=seed)[0]
            assert same(a, b), (step, a, b)
    assert episodes > 0 or name == "CliffWalking-v1" or name == "CliffWalkingSlippery-v1"


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 - 1, 2**32, 2**40 + 7, 2**63, 2**64 - 1])
def test_seeds(seed):
    ours, theirs = NativeEnv("CartPole-v1"), gymnasium.make("CartPole-v1")
    assert same(ours.reset(seed=seed)[0], theirs.reset(seed=seed)[0])


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("name", ["CartPole-v0", "MountainCarContinuous-v0", "FrozenLake-v1",
                                  "Blackjack-v1", "Acrobot-v1"])
def test_vector_equal(name, mode):
    lanes = 37
    theirs = SyncVectorEnv([lambda: gymnasium.make(name, disable_env_checker=True)] * lanes,
                           autoreset_mode=mode)
    ours = NativeVectorEnv(name, lanes, autoreset_mode=mode)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    theirs.action_space.seed(3)
    assert same(ours.reset(seed=9)[0], theirs.reset(seed=9)[0])
    ended = 0
    for _ in range(max(60, STEPS // lanes)):
        actions = theirs.action_space.sample()
        a, b = ours.step(actions), theirs.step(actions)
        assert all(same(x, y) for x, y in zip(a[:4], b[:4]))
        if mode is AutoresetMode.SAME_STEP and "final_obs" in b[4]:
            ended += 1
            assert same(a[4]["_final_obs"], b[4]["_final_obs"])
            for i in np.flatnonzero(b[4]["_final_obs"]):
                last = a[4]["final_obs"]
                row = tuple(int(part[i]) for part in last) if isinstance(last, tuple) else last[i]
                assert same(row, b[4]["final_obs"][i])
    assert ended > 0 or mode is AutoresetMode.NEXT_STEP or name not in ("CartPole-v0",
                                                                       "Blackjack-v1")
