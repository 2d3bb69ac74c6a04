"""Games with rules of our own: pixels, grids, boards, bandits. The rules hold, seeds repeat."""

from __future__ import annotations

import numpy as np
import pytest

from skate.rllib.env.native import NativeEnv, NativeVectorEnv
from skate.rllib.utils.error import EnvError

OWN = ["PixelPong-v0", "PixelBreakout-v0", "GridEmpty-v0", "GridFourRooms-v0", "GridDoorKey-v0",
       "TicTacToe-v0", "Connect4-v0", "LinearBandit-v0", "WheelBandit-v0"]


def play(env, seed, steps=400):
    """What an agent sees that moves at random."""
    rng = np.random.default_rng(seed)
    seen = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        obs, reward, terminated, truncated, _ = env.step(int(rng.integers(env.action_space.n)))
        seen += [obs, np.float64(reward)]
        if terminated or truncated:
            seen.append(env.reset()[0])
    return seen


@pytest.mark.parametrize("name", OWN)
def test_seeds_repeat(name):
    first, second, other = (play(NativeEnv(name), seed) for seed in (4, 4, 5))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert len(first) != len(other) or any((a != b).any() for a, b in zip(first, other))
    space = NativeEnv(name).observation_space
    assert all(space.contains(obs) for obs in first if obs.shape)


@pytest.mark.parametrize("name", OWN)
def test_a_vector_is_its_lanes(name):
    envs = NativeVectorEnv(name, 5, autoreset_mode="SameStep")
    rows = [NativeEnv(name) for _ in range(5)]
    obs, _ = envs.reset(seed=10)
    assert all((env.reset(seed=10 + i)[0] == obs[i]).all() for i, env in enumerate(rows))
    rng = np.random.default_rng(1)
    for _ in range(100):
        actions = rng.integers(envs.single_action_space.n, size=5)
        obs, reward, terminated, truncated, _ = envs.step(actions)
        for i, env in enumerate(rows):
            own, *rest = env.step(int(actions[i]))
            assert rest[:3] == [reward[i], terminated[i], truncated[i]]
            own = env.reset()[0] if rest[1] or rest[2] else own
            assert (own == obs[i]).all()


def pong_follow(obs):
    ball, ours = obs[1], obs[4]
    return 1 if ball + 0.01 < ours + 6 / 84 - 0.03 else 2 if ball > ours + 6 / 84 + 0.02 else 0


def test_pong_is_won_by_following():
    env = NativeEnv("PixelPong-v0", mode="ram", points=3)
    obs, _ = env.reset(seed=1)
    total, over = 0.0, False
    while not over:
        obs, reward, over, cut, _ = env.step(pong_follow(obs))
        assert not cut and reward in (-1.0, 0.0, 1.0)
        total += reward
    assert total > 0
    env.reset(seed=1)
    lost, over = 0.0, False
    while not over:
        _, reward, over, _, _ = env.step(1)     # the paddle stays at the top
        lost += reward
    assert lost < 0


def test_pixels_show_the_last_four_pictures():
    env = NativeEnv("PixelPong-v0")
    obs, _ = env.reset(seed=2)
    assert obs.shape == (84, 84, 4) and obs.dtype == np.uint8
    assert all((obs[:, :, 0] == obs[:, :, k]).all() for k in range(4))
    assert sorted(set(obs.reshape(-1).tolist())) == [0, 140, 200, 255]
    before = obs
    for _ in range(5):
        obs = env.step(1)[0]
        assert (obs[:, :, :3] == before[:, :, 1:]).all()
        assert (obs[:, :, 3] != obs[:, :, 2]).any()
        before = obs


def test_breakout_pays_for_bricks():
    env = NativeEnv("PixelBreakout-v0", mode="ram")
    obs, _ = env.reset(seed=1)
    total, over, bricks, rng, off = 0.0, False, obs[5:].sum(), np.random.default_rng(1), 0.0
    assert bricks == 84
    while not over and bricks > 40:
        if rng.random() < 0.03:                         # off the middle: another angle
            off = rng.uniform(-5 / 84, 5 / 84)
        aim = obs[0] + 1 / 84 - (obs[4] + 6 / 84) + off
        obs, reward, over, cut, _ = env.step(1 if aim < -0.02 else 2 if aim > 0.02 else 0)
        gone, bricks = bricks - obs[5:].sum(), obs[5:].sum()
        assert (reward in (1.0, 4.0, 7.0)) == (gone != 0), (reward, gone)
        total += reward
        over = over or cut
    assert total > 44 and bricks == 40
    env.reset(seed=1)
    misses = 0
    while not env.step(1)[2]:
        misses += 1
    assert misses > 20


def facing_path(view, wanted):
    """The next move to a cell of the view that has `wanted`, by breadth first; None: not seen."""
    start, seen, queue = (6, 3), {(6, 3)}, [((6, 3), [])]
    for (row, column), path in queue:
        if view[row, column, 0] == wanted and (row, column) != start:
            return path
        for dr, dc in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            cell = (row + dr, column + dc)
            if cell in seen or not (0 <= cell[0] < 7 and 0 <= cell[1] < 7):
                continue
            kind = view[cell][0]
            if kind == wanted or kind == 1 or (kind == 3 and not view[cell][1]):
                seen.add(cell)
                queue.append((cell, [*path, (dr, dc)]))
    return None


def walk(env, obs, rng):
    """One move of an explorer who goes to the goal, the key or the door when it sees them."""
    has_key = obs[6, 3, 1]
    for wanted in (5, 3) if has_key else (5, 4):
        path = facing_path(obs, wanted)
        if path:
            if path[0] == (-1, 0):
                front = obs[5, 3]
                return 3 if front[0] == 4 else 4 if front[0] == 3 and front[1] else 2
            return 0 if path[0] == (0, -1) else 1
    return int(rng.choice([0, 1, 2, 2, 2]))


@pytest.mark.parametrize("name", ["GridEmpty-v0", "GridFourRooms-v0", "GridDoorKey-v0"])
def test_grids_can_be_solved(name):
    env, rng, rewards = NativeEnv(name), np.random.default_rng(3), []
    for seed in range(8):
        obs, over = env.reset(seed=seed)[0], False
        while not over:
            obs, reward, ended, cut, _ = env.step(walk(env, obs, rng))
            over = ended or cut
            assert (reward > 0) == ended
        rewards.append(reward)
    assert sum(r > 0.1 for r in rewards) >= 6


def test_a_locked_door_needs_its_key():
    env = NativeEnv("GridDoorKey-v0", size=5)
    rng = np.random.default_rng(1)
    env.reset(seed=1)
    for _ in range(100):                                # all moves but picking up
        _, reward, over, cut, _ = env.step(int(rng.choice([0, 1, 2, 4])))
        assert reward == 0 and not over
        if cut:
            break


def test_tic_tac_toe():
    env = NativeEnv("TicTacToe-v0", opponent="self")
    assert env.engine.info()["agents"] == 2
    env.reset(seed=1)
    turns = []
    for move in (0, 3, 1, 4):
        turns.append(env.turn)
        obs, reward, over, _, _ = env.step(move)
        assert (reward, over) == (0.0, False)
    assert turns == [0, 1, 0, 1]
    assert env.action_mask().tolist() == [0, 0, 1, 0, 0, 1, 1, 1, 1]
    assert obs[:, :, 0].tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]   # of the side that moves
    assert obs[:, :, 1].tolist() == [[0, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert env.step(2)[1:3] == (1.0, True)
    env.reset()
    for move in (0, 1, 2, 4, 3, 5, 7, 6):
        assert env.step(move)[1:3] == (0.0, False)
    assert env.step(8)[1:3] == (0.0, True)              # a draw
    env.reset()
    env.step(4)
    assert env.step(4)[1:3] == (-1.0, True)             # taken
    assert env.step(5)[1:3] == (0.0, True)              # nothing more happens


LINES = [
    ([0, 1, 0, 1, 0, 1, 0], "column"),
    ([0, 0, 1, 1, 2, 2, 3], "row"),
    ([0, 1, 1, 2, 2, 3, 2, 3, 3, 6, 3], "diagonal"),
    ([6, 5, 5, 4, 4, 3, 4, 3, 3, 0, 3], "other diagonal"),
]


@pytest.mark.parametrize(("moves", "line"), LINES, ids=[line for _, line in LINES])
def test_connect_four(moves, line):
    env = NativeEnv("Connect4-v0", opponent="self")
    env.reset(seed=1)
    for move in moves[:-1]:
        assert env.step(move)[1:3] == (0.0, False)
    assert env.step(moves[-1])[1:3] == (1.0, True)


def test_a_full_column_is_not_allowed():
    env = NativeEnv("Connect4-v0", opponent="self")
    env.reset(seed=1)
    for _ in range(6):
        env.step(3)
    assert env.action_mask().tolist() == [1, 1, 1, 0, 1, 1, 1]
    assert env.step(3)[1:3] == (-1.0, True)


@pytest.mark.parametrize("name", ["TicTacToe-v0", "Connect4-v0"])
def test_random_opponents(name):
    env, rng = NativeEnv(name), np.random.default_rng(1)
    begun, results = 0, []
    for game in range(60):
        obs, _ = env.reset(seed=game)
        begun += int(obs[:, :, 1].sum())
        over = False
        while not over:
            obs, reward, over, _, _ = env.step(int(rng.choice(np.flatnonzero(env.action_mask()))))
        results.append(reward)
    assert 10 < begun < 50                              # a coin decides who begins
    assert {-1.0, 1.0} <= set(results) <= {-1.0, 0.0, 1.0}


def test_linear_bandit():
    """Its rewards are linear: least squares finds weights that leave only the noise."""
    env = NativeEnv("LinearBandit-v0", arms=3, dims=4, problem=7, noise=0.05)
    rng = np.random.default_rng(1)
    seen = {arm: ([], []) for arm in range(3)}
    for step in range(600):
        context, _ = env.reset(seed=step)
        arm = int(rng.integers(3))
        reward, over = env.step(arm)[1:3]
        assert over
        seen[arm][0].append(context.astype(np.float64))
        seen[arm][1].append(reward)
    for contexts, rewards in seen.values():
        weights, *_ = np.linalg.lstsq(np.array(contexts), np.array(rewards), rcond=None)
        rest = np.array(rewards) - np.array(contexts) @ weights
        assert 0.04 < rest.std() < 0.06 and abs(weights).max() > 0.1
    same = NativeEnv("LinearBandit-v0", arms=3, dims=4, problem=7, noise=0.0)
    other = NativeEnv("LinearBandit-v0", arms=3, dims=4, problem=8, noise=0.0)
    for env in (same, other):
        env.reset(seed=1)
    assert same.step(0)[1] != other.step(0)[1]


def test_wheel_bandit():
    env = NativeEnv("WheelBandit-v0", delta=0.6)
    inside = 0
    for seed in range(200):
        (x, y), _ = env.reset(seed=seed)
        assert x * x + y * y <= 1.0
        far = x * x + y * y > 0.36
        inside += not far
        best = 1 + (x < 0) + 2 * (y < 0)
        assert (env.step(int(best))[1] > 40) == far
        env.reset(seed=seed)
        assert abs(env.step(0)[1] - 1.2) < 0.1
    assert 40 < inside < 110


@pytest.mark.parametrize(("name", "config", "said"), [
    ("PixelPong-v0", {"mode": "sound"}, "pixels"), ("PixelPong-v0", {"points": 0}, "points"),
    ("GridEmpty-v0", {"size": 99}, "size"), ("GridEmpty-v0", {"layout": "maze"}, "layout"),
    ("TicTacToe-v0", {"opponent": "me"}, "opponent"), ("Connect4-v0", {"width": 9}, "width"),
    ("LinearBandit-v0", {"arms": 100, "dims": 60}, "arms"), ("WheelBandit-v0", {"arms": 4}, "arms"),
    ("WheelBandit-v0", {"delta": 2}, "delta"), ("PixelBreakout-v0", {"lives": 9}, "lives"),
])
def test_wrong_configs(name, config, said):
    with pytest.raises(EnvError, match=said):
        NativeEnv(name, **config)
