"""Atari: pictures, lives and games by rules, on a game of our own; ale-py's games by name."""

from __future__ import annotations

import sys

import gymnasium
import numpy as np
import pytest

from skate import tune
from skate.rllib import EnvError, _pictures, _registry
from skate.rllib.algorithms.ppo import PPOConfig
from skate.rllib.env.wrappers import atari_wrappers as wrappers

HEIGHT, WIDTH = 210, 160
SMALL = {"num_workers": 0, "seed": 5, "min_iter_time_s": 0}


class Ale:
    """What an emulator says."""

    def __init__(self):
        self.left = 0

    def lives(self):
        return self.left


class Game(gymnasium.Env):
    """Three lives of 8 frames each, a reward of 3 a frame. Frame t is as bright as t, but on even
    ones the lower half is dark. Actions are counted."""

    observation_space = gymnasium.spaces.Box(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(4)

    def __init__(self, frameskip=1, fire=True, frames=8):
        self._frameskip = frameskip
        self.fire, self.frames = fire, frames
        self.ale = Ale()
        self.games = self.t = 0
        self.actions: list[int] = []

    def get_action_meanings(self):
        return ["NOOP", "FIRE", "RIGHT", "LEFT"] if self.fire else ["NOOP", "UP", "DOWN", "LEFT"]

    def _look(self):
        picture = np.full((HEIGHT, WIDTH, 3), min(self.t, 255), np.uint8)
        if self.t % 2 == 0:
            picture[HEIGHT // 2:] = 0
        return picture

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.games += 1
        self.t, self.ale.left = 0, 3
        return self._look(), {}

    def step(self, action):
        self.actions.append(int(action))
        self.t += 1
        if self.t % self.frames == 0:
            self.ale.left -= 1
        return self._look(), 3.0, self.ale.left == 0, False, {}


def over(env, action=3):
    """Steps until an episode ends: (steps, sum of rewards)."""
    steps = total = 0
    while True:
        _obs, reward, terminated, truncated, _info = env.step(action)
        steps, total = steps + 1, total + reward
        if terminated or truncated:
            return steps, total


def test_a_game_starts_after_some_steps_of_nothing():
    env = wrappers.NoopResetEnv(Game(), noop_max=5)
    waits = []
    for seed in range(40):
        env.unwrapped.actions.clear()
        env.reset(seed=seed)
        waits.append(len(env.unwrapped.actions))
        assert set(env.unwrapped.actions) == {0}
    assert set(waits) == {1, 2, 3, 4, 5}
    env.unwrapped.actions.clear()
    env.reset(seed=7)
    assert len(env.unwrapped.actions) == waits[7]
    env.override_num_noops = 8 * 3 + 2                  # over the end of a game
    env.reset()
    assert env.unwrapped.t == 2
    with pytest.raises(ValueError, match="NOOP"):
        game = Game()
        game.get_action_meanings = lambda: ["LEFT"]
        wrappers.NoopResetEnv(game)


def test_frames_are_skipped_and_the_brighter_pixel_stays():
    env = wrappers.MaxAndSkipEnv(Game())
    env.reset()
    obs, reward, *_ = env.step(2)
    assert reward == 12.0 and env.unwrapped.actions == [2] * 4
    assert (obs[0] == 4).all() and (obs[-1] == 3).all()         # of frames 3 and 4
    env = wrappers.MaxAndSkipEnv(Game(frames=1))
    env.reset()
    obs, reward, terminated, *_ = env.step(2)
    assert terminated and reward == 9.0 and env.unwrapped.t == 3    # and no step beyond the end
    assert (obs == 3).all()


def test_a_life_is_an_episode_and_the_game_goes_on():
    env = wrappers.EpisodicLifeEnv(Game())
    env.reset()
    assert over(env) == (8, 24.0)
    env.reset()
    assert env.unwrapped.games == 1 and env.unwrapped.t == 9    # one step of nothing
    assert over(env)[0] == 7
    env.reset()
    over(env)
    env.reset()
    assert env.unwrapped.games == 2 and env.unwrapped.t == 0
    over(env)
    env.reset(seed=1)                                   # a seed means a new game
    assert env.unwrapped.games == 3 and env.unwrapped.t == 0


def test_fire_is_pressed():
    env = wrappers.FireResetEnv(Game())
    env.reset()
    assert env.unwrapped.actions == [1, 2]
    env = wrappers.FireResetEnv(wrappers.EpisodicLifeEnv(Game(frames=2)))
    env.reset()                         # the second press costs a life: the next one is played
    assert env.unwrapped.games == 1 and env.unwrapped.t == 3 and env.unwrapped.ale.left == 2
    with pytest.raises(ValueError, match="FIRE"):
        wrappers.FireResetEnv(Game(fire=False))


def test_pictures_are_grey_small_and_stacked():
    env = wrappers.FrameStack(wrappers.WarpFrame(Game(), 42), 3)
    assert env.observation_space == gymnasium.spaces.Box(0, 255, (42, 42, 3), np.uint8)
    obs, _ = env.reset()
    assert obs.dtype == np.uint8 and (obs == 0).all()
    for t in (1, 2, 3, 4):
        obs, *_ = env.step(0)
        assert env.observation_space.contains(obs)
        assert obs[0, 0].tolist() == [max(0, t - 2), t - 1, t]          # the newest last
    assert obs[-1, 0].tolist() == [0, 3, 0]
    colours = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    colours[..., 0], colours[:, :80, 1] = 100, 200
    small = wrappers.WarpFrame(Game(), 84).observation(colours)[..., 0]
    assert (small[:, :42] == round(0.299 * 100 + 0.587 * 200)).all() and (small[:, 42:] == 30).all()
    kept = wrappers.WarpFrame(Game(), 84, grayscale=False).observation(colours)
    assert kept.shape == (84, 84, 3) and (kept[0, 0] == (100, 200, 0)).all()


def test_scaled_pictures():
    scaled, centred = wrappers.ScaledFloatFrame(Game()), wrappers.NormalizedImageEnv(Game())
    white = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    assert scaled.observation(white).max() == 1.0 and scaled.observation(0 * white).min() == 0.0
    assert centred.observation(0 * white).min() == -1.0 and centred.observation(white).max() > 0.99
    for env in (scaled, centred):
        assert env.observation_space.contains(env.reset()[0])
    assert [wrappers.ClipRewardEnv(Game()).reward(r) for r in (-7, 0, 0.5)] == [-1.0, 0.0, 1.0]


def test_wrap_deepmind():
    env = wrappers.wrap_deepmind(Game(frames=200))
    assert env.observation_space.shape == (84, 84, 4)
    skips, fires, lives, monitor = (wrappers.get_wrapper_by_cls(env, cls) for cls in (
        wrappers.MaxAndSkipEnv, wrappers.FireResetEnv, wrappers.EpisodicLifeEnv,
        wrappers.MonitorEnv))
    assert skips and fires and lives and monitor and wrappers.is_atari(env)
    env.reset(seed=1)
    for _ in range(3):                  # lives
        over(env)
        env.reset()
    assert list(monitor.next_episode_results()) == [(3.0 * 600, 600)]
    assert list(monitor.next_episode_results()) == [] and monitor.get_episode_lengths() == [600]
    env = wrappers.wrap_deepmind(Game(frameskip=4, fire=False), dim=42, framestack=False)
    assert env.observation_space.shape == (42, 42, 1)
    for cls in (wrappers.MaxAndSkipEnv, wrappers.FireResetEnv, wrappers.FrameStack):
        assert wrappers.get_wrapper_by_cls(env, cls) is None
    env = wrappers.wrap_atari_for_new_api_stack(Game(), framestack=2)
    obs, _ = env.reset(seed=3)
    assert obs.shape == (64, 64, 2) and obs.dtype == np.float32 and obs.min() >= -1.0
    assert env.observation_space.contains(obs)


def trainer(name, env=lambda config: Game(), **config):
    tune.register_env("a game", env)
    return _registry.trainer_class(name)(env="a game", config={
        **SMALL, "train_batch_size": 60, "rollout_fragment_length": 60, **config})


def test_a_trainer_makes_pictures_ready_and_counts_games():
    t = trainer("PPO", lambda config: Game(frames=20), sgd_minibatch_size=60, num_sgd_iter=1)
    assert t.observation_space.shape == (84, 84, 4)
    columns, _fragment, ended = t.plan.sample_batch()
    assert set(columns["rewards"]) == {1.0}             # clipped: they are 3 a frame
    assert columns["terminateds"].sum() > len(ended.rewards) >= 2       # lives and games
    assert all(reward == 3.0 * length for reward, length in zip(ended.rewards, ended.lengths))
    assert set(ended.lengths) == {3 * 20}               # frames, as the game counts them
    assert (np.diff(columns["t"])[columns["terminateds"][:-1] == 0] == 1).all()
    t.train()
    assert set(t.evaluate()["evaluation"]["hist_stats"]["episode_reward"]) == {180.0}
    t.stop()


def test_an_atari_environment_of_old_gym():
    class Old:
        observation_space, action_space = Game.observation_space, Game.action_space

        def __init__(self):
            self.unwrapped = self
            self.game = Game(frames=20)
            self.ale, self.get_action_meanings = self.game.ale, self.game.get_action_meanings

        def reset(self):
            return self.game.reset()[0]

        def step(self, action):
            obs, reward, done, _cut, info = self.game.step(action)
            return obs, reward, done, info

    t = trainer("PG", lambda config: Old())
    assert t.observation_space.shape == (84, 84, 4)
    columns, _fragment, ended = t.plan.sample_batch()
    assert set(columns["rewards"]) == {1.0} and set(ended.rewards) == {180.0}
    t.stop()


@pytest.mark.parametrize(("config", "shape", "low", "high"), [
    ({"model": {"framestack": False}}, (84, 84, 1), 0, 255),
    ({"model": {"num_framestacks": 2, "dim": 42}}, (42, 42, 2), 0, 255),
    ({"model": {"num_framestacks": 0}}, (84, 84, 1), 0, 255),
    ({"preprocessor_pref": "rllib"}, (84, 84, 3), -1, 1),
    ({"preprocessor_pref": "rllib", "model": {"grayscale": True, "zero_mean": False, "dim": 42}},
     (42, 42, 1), 0, 1),
    ({"preprocessor_pref": None, "model": {"conv_filters": [[4, 8, 8], [8, 20, 1]]}},
     (HEIGHT, WIDTH, 3), 0, 255)])
def test_what_a_config_says_of_pictures(config, shape, low, high):
    t = trainer("PG", **config)
    space = t.observation_space
    assert space.shape == shape and (space.low == low).all() and (space.high == high).all()
    columns, _fragment, _ended = t.plan.sample_batch()
    clipped = config.get("preprocessor_pref", "deepmind") == "deepmind"
    assert set(columns["rewards"]) == {1.0 if clipped else 3.0}
    t.stop()


def test_offline_data_is_of_the_same_pictures(tmp_path):
    t = trainer("PG", output=str(tmp_path), model={"dim": 10})
    t.train()
    t.stop()
    t = trainer("BC", input=str(tmp_path), input_evaluation=[], model={"dim": 10})
    assert t.observation_space.shape == (10, 10, 4)
    assert t.train()["timesteps_total"] > 0
    t.stop()


def test_rewards_are_left_if_the_config_says_so():
    t = trainer("PG", clip_rewards=False)
    columns, _fragment, _ended = t.plan.sample_batch()
    assert set(columns["rewards"]) <= {3.0, 6.0, 9.0, 12.0} and columns["rewards"].max() == 12.0
    t.stop()


def test_pictures_that_somebody_made_are_left():
    t = trainer("PG", lambda config: wrappers.wrap_atari_for_new_api_stack(Game()))
    assert t.observation_space.shape == (64, 64, 1)
    columns, _fragment, _ended = t.plan.sample_batch()
    assert columns["rewards"].max() > 1.0
    t.stop()
    config = PPOConfig().environment("a game", is_atari=False)
    assert config["preprocessor_pref"] is None


def test_the_memory_of_a_game_becomes_numbers():
    class Ram(Game):
        observation_space = gymnasium.spaces.Box(0, 255, (128,), np.uint8)

        def _look(self):
            return np.full(128, 64 if self.t % 2 else 255, np.uint8)

    t = trainer("PG", lambda config: Ram())
    columns, _fragment, _ended = t.plan.sample_batch()
    assert set(np.unique(columns["obs"])) == {-0.5, 127 / 128}
    t.stop()


@pytest.mark.parametrize("model", [{"dim": 0}, {"dim": "84"}, {"num_framestacks": -1}])
def test_sizes_that_cannot_be(model):
    with pytest.raises(ValueError, match=next(iter(model))):
        trainer("PPO", model=model)


def test_without_ale_py(monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    for name in ("ALE/NoSuchGame-v5", "NoSuchGameNoFrameskip-v4", "ale_py:ALE/NoSuchGame-v5"):
        with pytest.raises(EnvError, match=r"pip install 'gymnasium\[atari\]'"):
            _registry.trainer_class("PPO")(env=name, config=SMALL)


@pytest.fixture
def ale():
    """ale-py, or no test."""
    return pytest.importorskip("ale_py", reason="ale-py is not installed")


@pytest.mark.parametrize(("algorithm", "env", "config"), [
    ("PPO", "ALE/Pong-v5", {"train_batch_size": 80, "rollout_fragment_length": 40,
                            "num_envs_per_worker": 2, "sgd_minibatch_size": 40,
                            "num_sgd_iter": 2}),
    ("DQN", "PongNoFrameskip-v4", {"learning_starts": 20, "timesteps_per_iteration": 60,
                                   "train_batch_size": 16, "buffer_size": 200}),
    ("PG", "ale_py:ALE/Breakout-v5", {"train_batch_size": 60, "model": {"dim": 42}})])
def test_ales_games_train(ale, algorithm, env, config):
    t = _registry.trainer_class(algorithm)(env=env, config={**SMALL, **config})
    assert t.observation_space.shape[2] == 4 and t.observation_space.dtype == np.uint8
    before = t.get_policy().flat_weights().copy()
    for _ in range(2):
        result = t.train()
    assert result["timesteps_total"] >= 120
    after = t.get_policy().flat_weights()
    assert np.isfinite(after).all() and not np.array_equal(before, after)
    assert t.compute_single_action(t.observation_space.sample()) in range(t.action_space.n)
    t.stop()


def test_a_worker_process_knows_ales_games(ale):
    t = _registry.trainer_class("PG")(env="ALE/Pong-v5", config={
        **SMALL, "num_workers": 1, "train_batch_size": 40, "model": {"dim": 42}})
    assert t.train()["timesteps_total"] == 40
    t.stop()


def test_the_same_seed_plays_the_same_game(ale):
    def rows():
        t = _registry.trainer_class("PG")(env="ALE/Pong-v5", config={
            **SMALL, "train_batch_size": 40, "model": {"dim": 42}})
        columns, _fragment, _ended = t.plan.sample_batch()
        t.stop()
        return columns["obs"]

    first = rows()
    assert np.array_equal(first, rows()) and first.max() > 50


def test_a_checkpoint_starts_new_games(ale, tmp_path):
    """An emulator's pickle has no state: a restored trainer must not believe otherwise."""
    t = _registry.trainer_class("PG")(env="ALE/Pong-v5", config={
        **SMALL, "train_batch_size": 40, "model": {"dim": 42}})
    t.train()
    folder = t.save(str(tmp_path))
    again = _registry.trainer_class("PG")(env="ALE/Pong-v5", config={
        **SMALL, "train_batch_size": 40, "model": {"dim": 42}})
    again.restore(folder)
    columns, _fragment, _ended = again.plan.sample_batch()
    assert columns["t"][0] == 0
    for one in (t, again):
        one.stop()


def test_names():
    atari = ["ALE/Pong-v5", "PongNoFrameskip-v4", "Pong-ramNoFrameskip-v4", "PongDeterministic-v0",
             "Pong-ram-v0", "ale_py:ALE/Tetris-v5"]
    assert all(_pictures.NAMED.fullmatch(name) for name in atari)
    assert not any(_pictures.NAMED.fullmatch(name) for name in (
        "CartPole-v1", "Pong-v4", "MyFrameskip-v0", "skate/Pong-v4", "Hopper-v5"))
