"""A pool of EnvPool as the lanes of a worker: a stand-in that keeps to its protocol, and itself."""

from __future__ import annotations

import sys
import types

import gymnasium
import numpy as np
import pytest

from skate import tune
from skate.rllib import EnvError, _pool, _registry

SMALL = {"num_workers": 0, "seed": 5, "min_iter_time_s": 0, "model": {"fcnet_hiddens": [8]}}


class Threads:
    """EnvPool's protocol: environment i's episodes take i + 2 steps of reward 1 (the odd ones are
    cut), observations are (i, step); the step after an episode's end is the reset, with reward 0.
    Answers come in the reverse order."""

    def __init__(self, num_envs=3, batch_size=None, old=False, picture=False, **config):
        self.config = {"num_envs": num_envs, "batch_size": batch_size or num_envs,
                       "max_num_players": 1, **config}
        self.all_env_ids = np.arange(num_envs, dtype=np.int32)
        shape = (2, 12, 10) if picture else (2,)
        self.observation_space = gymnasium.spaces.Box(
            0, 255, shape, np.uint8 if picture else np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        self.t = np.zeros(num_envs, np.int64)
        self.over = np.ones(num_envs, bool)
        self.old, self.picture = old, picture
        self.wasted = 0
        self.closed = False
        self.seen: list[np.ndarray] = []

    def send(self, action, env_id=None):
        raise NotImplementedError

    recv = send

    def _look(self, ids):
        rows = np.stack([ids, self.t[ids]], axis=1)
        if self.picture:
            return np.broadcast_to(rows[:, :, None, None], (len(ids), 2, 12, 10)).astype(np.uint8)
        return rows.astype(np.float32)

    def reset(self, env_id=None):
        ids = (self.all_env_ids if env_id is None else np.asarray(env_id))[::-1]
        self.t[ids], self.over[ids] = 0, False
        return self._look(ids), {"env_id": ids, "elapsed_step": self.t[ids]}

    def step(self, action, env_id=None):
        assert action.shape == (len(self.t),) and action.dtype == np.int32
        self.seen.append(action)
        again = self.over.copy()
        self.wasted += int(again.sum())
        self.t = np.where(again, 0, self.t + 1)
        self.over = ~again & (self.t == self.all_env_ids + 2)
        cut = self.over & (self.all_env_ids % 2 == 1)
        ids = self.all_env_ids[::-1]
        infos = {"env_id": ids, "elapsed_step": self.t[ids], "players": {"env_id": ids}}
        rewards = np.where(again, 0.0, 1.0).astype(np.float32)[ids]
        ends = (self.over[ids],) if self.old else (self.over[ids] & ~cut[ids], cut[ids])
        return self._look(ids), rewards, *ends, infos

    def close(self):
        self.closed = True


@pytest.mark.parametrize("old", [False, True])
def test_a_pool_is_the_lanes(old):
    made = []

    def make(config):
        made.append(Threads(old=old))
        return made[-1]

    tune.register_env("pool", make)
    t = _registry.trainer_class("PPO")(env="pool", config={
        **SMALL, "num_envs_per_worker": 3, "train_batch_size": 36, "rollout_fragment_length": 12,
        "sgd_minibatch_size": 36})
    for _ in range(2):
        columns, _fragment, ended = t.plan.sample_batch()
        lane, now = columns["obs"][:, 0], columns["t"]
        assert lane.tolist() == [0.0] * 12 + [1.0] * 12 + [2.0] * 12
        assert (columns["obs"][:, 1] == now).all() and (columns["new_obs"][:, 1] == now + 1).all()
        assert (columns["rewards"] == 1.0).all()        # no step was a reset
        over = now + 1 == lane + 2
        cut = over & (lane == 1) & (not old)
        assert ((columns["truncateds"] == 1) == cut).all()
        assert ((columns["terminateds"] == 1) == (over & ~cut)).all()
        assert sorted(ended.lengths) == [2] * 6 + [3] * 4 + [4] * 3
        given = np.stack(made[0].seen[-12:], axis=1).reshape(-1)
        assert (columns["actions"] == given).all()
    assert made[0].wasted == 0
    t.train()
    assert t.evaluate()["evaluation"]["episode_len_mean"] >= 2
    t.stop()
    assert all(pool.closed for pool in made)


def test_pictures_have_their_channels_last():
    pool = _pool.as_vector(Threads(picture=True))
    assert pool.observation_space == gymnasium.spaces.Box(0, 255, (12, 10, 2), np.uint8)
    obs, _ = pool.reset_at(2)
    assert obs.shape == (12, 10, 2) and (obs[..., 0] == 2).all()
    for i in (0, 1):
        pool.reset_at(i)
    obs, rewards, _terminateds, _truncateds, infos = pool.vector_step([0, 1, 1])
    assert (obs[2][..., 0] == 2).all() and (obs[2][..., 1] == 1).all()
    assert rewards == [1.0] * 3 and infos[2] == {"env_id": 2, "elapsed_step": 1}


@pytest.mark.parametrize(("pool", "config", "words"), [
    (lambda: Threads(4, batch_size=2), {"num_envs_per_worker": 4}, "batch_size"),
    (lambda: Threads(max_num_players=2), {"num_envs_per_worker": 3}, "players"),
    (lambda: Threads(4), {"num_envs_per_worker": 3}, "num_envs_per_worker"),
    (lambda: Threads(3), {"num_envs_per_worker": 3, "horizon": 2}, "horizon")])
def test_pools_that_do_not_fit(pool, config, words):
    tune.register_env("pool", lambda _config: pool())
    with pytest.raises(EnvError, match=words):
        _registry.trainer_class("PPO")(env="pool", config={**SMALL, **config})


def test_a_pool_that_speaks_dm_env():
    pool = Threads()
    del pool.observation_space
    with pytest.raises(EnvError, match="gymnasium"):
        _pool.as_vector(pool)


def test_names(monkeypatch):
    told = []

    def make(name, env_type, **kwargs):
        told.append((name, env_type, kwargs))
        return Threads(kwargs["num_envs"])

    envpool = types.SimpleNamespace(list_all_envs=lambda: ["Count-v1"], make=make)
    monkeypatch.setitem(sys.modules, "envpool", envpool)
    t = _registry.trainer_class("PG")(env="envpool:Count-v1", config={
        **SMALL, "num_envs_per_worker": 5, "train_batch_size": 20,
        "env_config": {"num_threads": 2}})
    assert t.train()["timesteps_total"] == 20
    t.stop()
    name, env_type, kwargs = told[0]
    assert (name, env_type, kwargs["num_envs"], kwargs["num_threads"]) == (
        "Count-v1", "gymnasium", 5, 2)
    assert kwargs["seed"] == (5 * 1_000_003) & 0x7FFFFFFF
    with pytest.raises(EnvError, match="Did you mean 'envpool:Count-v1'"):
        _registry.trainer_class("PG")(env="envpool:Cout-v1", config=SMALL)
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(EnvError, match="pip install envpool"):
        _registry.trainer_class("PG")(env="envpool:Count-v1", config=SMALL)


@pytest.fixture
def envpool():
    """EnvPool itself, or no test: its wheels and assets are some 290 MB."""
    return pytest.importorskip("envpool", reason="EnvPool is not installed")


@pytest.mark.parametrize(("algorithm", "env", "config"), [
    ("PPO", "CartPole-v1", {"train_batch_size": 256, "sgd_minibatch_size": 64}),
    ("DQN", "CartPole-v1", {"learning_starts": 64, "timesteps_per_iteration": 128}),
    ("SAC", "Pendulum-v1", {"learning_starts": 64, "timesteps_per_iteration": 128,
                            "train_batch_size": 32})])
def test_envpools_own(envpool, algorithm, env, config):
    t = _registry.trainer_class(algorithm)(env=f"envpool:{env}", config={
        **SMALL, "num_envs_per_worker": 8, **config})
    for _ in range(2):
        result = t.train()
    assert result["timesteps_total"] >= 256
    t.stop()


def test_envpools_steps_follow_each_other(envpool):
    def rows():
        t = _registry.trainer_class("PG")(env="envpool:CartPole-v1", config={
            **SMALL, "num_envs_per_worker": 4, "train_batch_size": 400,
            "rollout_fragment_length": 100})
        columns, _fragment, ended = t.plan.sample_batch()
        t.stop()
        return columns, ended

    columns, ended = rows()
    assert (columns["rewards"] == 1.0).all() and len(ended.lengths) > 4
    goes_on = (columns["terminateds"] + columns["truncateds"] + columns["cuts"] == 0)[:-1]
    assert (columns["obs"][1:][goes_on] == columns["new_obs"][:-1][goes_on]).all()
    assert (np.abs(columns["obs"][columns["t"] == 0]) <= 0.05).all()
    assert (rows()[0]["obs"] == columns["obs"]).all()       # of the same seed
