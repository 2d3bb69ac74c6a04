"""MinAtar's five games in C give, bit for bit, what the package MinAtar 1.0.15 gives.

The digests were computed from that package: of each step's picture, reward and end. Where it is
installed, both also run side by side; SKATE_RL_ENV_STEPS says how many steps.
"""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest

from skate.rllib.env.native import NativeEnv, NativeVectorEnv

STEPS = int(os.environ.get("SKATE_RL_ENV_STEPS", "3000"))
pytestmark = pytest.mark.timeout(60 + STEPS // 1000)

GAMES = ["asterix", "breakout", "freeway", "seaquest", "space_invaders"]
DIGESTS = {
    "asterix": "e8f1b93b1b1237ce",
    "breakout": "4f7f2e9d13f49bd1",
    "freeway": "da7f12d1824e0868",
    "seaquest": "a42e442846f46272",
    "space_invaders": "c203b9c04341d23e",
}


def named(game):
    return game.title().replace("_", "")


class Ours:
    """Our environment with the interface that the digest is taken through."""

    def __init__(self, game, **config):
        self.env = NativeEnv(f"MinAtar-{named(game)}-v0", **config)

    def seed(self, seed):
        self.picture = self.env.reset(seed=seed)[0]

    def reset(self):
        self.picture = self.env.reset()[0]

    def act(self, action):
        self.picture, reward, over, _, _ = self.env.step(action)
        return reward, over

    def state(self):
        return self.picture


class Theirs:
    """The package's, seeded as its Gymnasium wrapper does."""

    def __init__(self, game, **config):
        minatar = pytest.importorskip("minatar")
        self.env = minatar.Environment(game, **config)
        self.reset, self.act, self.state = self.env.reset, self.env.act, self.env.state

    def seed(self, seed):
        self.env.seed(seed)
        self.env.reset()


def clever(game, picture, rng):
    """Random moves that stay alive for a while, so that all rules come to pass."""
    if rng.random() < 0.3:
        return int(rng.integers(6))
    if game == "freeway":
        return 2
    if game == "breakout":
        ball, paddle = np.argwhere(picture[:, :, 1])[0][1], np.argwhere(picture[:, :, 0])[0][1]
        return 1 if ball < paddle else 3 if ball > paddle else 0
    if game == "space_invaders":
        return int(rng.choice([1, 3, 5, 5]))
    if game == "seaquest":
        low_air = picture[9, :, 7].sum() < 4
        has_diver = picture[9, :, 8].any()
        return 2 if low_air and has_diver else int(rng.choice([1, 3, 4, 5, 5]))
    return int(rng.integers(6))


def play(env, game, steps):
    """Yields what each step showed; a new seed now and then."""
    rng = np.random.default_rng(8)
    env.seed(77)
    episodes = 0
    for _ in range(steps):
        action = clever(game, env.state(), rng)
        reward, over = env.act(action)
        yield np.packbits(env.state()).tobytes() + bytes([int(reward), bool(over)])
        if over:
            episodes += 1
            if episodes % 5 == 0:
                env.seed(int(rng.integers(2**32)))
            else:
                env.reset()
            yield np.packbits(env.state()).tobytes()


def digest(env, game, steps):
    total = hashlib.sha256()
    for shown in play(env, game, steps):
        total.update(shown)
    return total.hexdigest()[:16]


@pytest.mark.parametrize("game", GAMES)
def test_digest(game):
    assert digest(Ours(game), game, 5000) == DIGESTS[game]


@pytest.mark.parametrize("config", [{}, {"sticky_action_prob": 0.0, "difficulty_ramping": False}],
                         ids=["plain", "other"])
@pytest.mark.parametrize("game", GAMES)
def test_side_by_side(game, config):
    theirs = Theirs(game, **config)
    both = zip(play(Ours(game, **config), game, STEPS), play(theirs, game, STEPS))
    for step, (a, b) in enumerate(both):
        assert a == b, step


@pytest.mark.parametrize("game", GAMES)
def test_minimal_actions(game):
    whole, few = Ours(game, sticky_action_prob=0.0), NativeEnv(
        f"MinAtar-{named(game)}-v1", sticky_action_prob=0.0)
    moves = {"asterix": [0, 1, 2, 3, 4], "breakout": [0, 1, 3], "freeway": [0, 2, 4],
             "seaquest": [0, 1, 2, 3, 4, 5], "space_invaders": [0, 1, 3, 5]}[game]
    assert few.action_space.n == len(moves)
    whole.seed(5)
    few.reset(seed=5)
    rng = np.random.default_rng(1)
    for _ in range(40):
        choice = int(rng.integers(len(moves)))
        reward, over = whole.act(moves[choice])
        picture, *rest = few.step(choice)
        assert (picture == whole.state()).all() and rest[:2] == [reward, over]
        if over:
            break


@pytest.mark.parametrize("game", GAMES)
def test_many(game):
    envs = NativeVectorEnv(f"MinAtar-{named(game)}-v1", 64)
    assert envs.single_observation_space.shape[:2] == (10, 10)
    assert envs.reset(seed=1)[0].dtype == np.bool_
    steps, episodes, reward = envs.engine.random(3000)
    assert steps == 64 * 3000 and episodes > 0 and reward > 0
