"""VectorEnv, curricula, noise on parameters."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from skate.rllib import EnvError, _registry
from skate.rllib.env.apis.task_settable_env import TaskSettableEnv
from skate.rllib.env.vector_env import VectorEnv

SMALL = {"num_workers": 0, "seed": 5, "model": {"fcnet_hiddens": [8]}, "min_iter_time_s": 0}


@pytest.fixture(autouse=True)
def results_here(tmp_path, monkeypatch):
    """Results of trainers go to the test's folder."""
    monkeypatch.setenv("TUNE_RESULT_DIR", str(tmp_path))


class Three(VectorEnv):
    """Lane i's episodes take i + 2 steps; observations are (lane, step)."""

    def __init__(self, config):
        super().__init__(gymnasium.spaces.Box(0, 9, (2,), np.float32),
                         gymnasium.spaces.Discrete(2), 3)
        self.t = [0, 0, 0]
        self.old = config.get("old")

    def reset_at(self, index=None, **_seed):
        self.t[index] = 0
        obs = np.array([index, 0], np.float32)
        return obs if self.old else (obs, {})

    def vector_step(self, actions):
        assert len(actions) == 3 and set(actions) <= {0, 1}
        self.t = [t + 1 for t in self.t]
        obs = [np.array([i, t], np.float32) for i, t in enumerate(self.t)]
        over = [t == i + 2 for i, t in enumerate(self.t)]
        if self.old:
            return obs, [1.0] * 3, over, [{}] * 3
        return obs, [1.0] * 3, over, [False] * 3, [{}] * 3


@pytest.mark.parametrize("old", [False, True])
def test_vector_env(old):
    config = {**SMALL, "env_config": {"old": old}, "num_envs_per_worker": 3,
              "train_batch_size": 36, "rollout_fragment_length": 12, "sgd_minibatch_size": 36}
    t = _registry.trainer_class("PPO")(env=Three, config=config)
    columns, _fragment, ended = t.plan.sample_batch()
    lane, now = columns["obs"][:, 0], columns["t"]
    assert (columns["obs"][:, 1] == now).all() and (columns["new_obs"][:, 1] == now + 1).all()
    assert ((columns["terminateds"] == 1) == (now + 1 == lane + 2)).all()
    assert sorted(ended.lengths) == [2] * 6 + [3] * 4 + [4] * 3
    t.train()
    assert t.evaluate()["evaluation"]["episode_len_mean"] >= 2
    t.stop()
    with pytest.raises(EnvError, match="num_envs_per_worker"):
        _registry.trainer_class("PPO")(env=Three, config={**config, "num_envs_per_worker": 2})


def test_vectorize_gym_envs():
    made = VectorEnv.vectorize_gym_envs(lambda i: gymnasium.make("CartPole-v1"), num_envs=2)
    obs, infos = made.vector_reset(seeds=[1, 2])
    assert len(obs) == len(infos) == 2 and (obs[0] != obs[1]).any()
    assert [len(part) for part in made.vector_step([0, 1])] == [2] * 5
    assert len(made.get_sub_environments()) == 2


class Longer(TaskSettableEnv, gymnasium.Env):
    """An episode takes as many steps as the task says."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, config=None):
        self.task, self.t, self.set = 2, 0, 0

    def get_task(self):
        return self.task

    def set_task(self, task):
        self.task = task
        self.set += 1

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.zeros(2, np.float32), 1.0, self.t >= self.task, False, {}


def next_task(result, env, context):
    """One step more after each iteration, 4 at most."""
    assert context.worker_index == 0
    return min(4, env.get_task() + 1)


@pytest.mark.parametrize("name", ["PPO", "A2C"])
def test_curriculum(name):
    t = _registry.trainer_class(name)(env=Longer, config={
        **SMALL, "env_task_fn": next_task, "train_batch_size": 24, "rollout_fragment_length": 24,
        **({"sgd_minibatch_size": 24} if name == "PPO" else {}), "horizon": 100,
        "metrics_smoothing_episodes": 1})
    lengths = [max(t.train()["hist_stats"]["episode_lengths"]) for _ in range(4)]
    assert lengths == [2, 3, 4, 4]
    assert t.workers.local._envs[0].env.set == 2        # the same task is not set again
    t.stop()
    t = _registry.trainer_class(name)(env="CartPole-v1", config={
        **SMALL, "env_task_fn": next_task, "train_batch_size": 24,
        **({"sgd_minibatch_size": 24} if name == "PPO" else {})})
    with pytest.raises(EnvError, match="set_task"):
        t.train()
    t.stop()


def test_noise_on_parameters():
    t = _registry.trainer_class("DQN")(env="CartPole-v1", config={
        **SMALL, "train_batch_size": 16, "learning_starts": 50, "timesteps_per_iteration": 200,
        "exploration_config": {"type": "ParameterNoise", "random_timesteps": 20,
                               "initial_stddev": 0.5}})
    t.train()
    worker = t.workers.local
    assert not worker.shares(t.plan.engine)
    assert worker._explorer.stddev != 0.5
    noisy = np.empty(worker._engine.n_weights, np.float32)
    worker._engine.get_weights(noisy)
    true = worker._explorer._true
    assert np.abs(noisy - true).std() > 0.1
    t.train()
    assert (worker._explorer._true != true).any()       # the trainer's weights arrive
    t.stop()


class Spots(gymnasium.Env):
    """Pictures of 10 x 10 with a spot that moves; 1 for the action of its side."""

    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, config):
        self.dtype = np.dtype(config["dtype"])
        self.observation_space = gymnasium.spaces.Box(0, 255, (10, 10, 1), self.dtype)

    def _look(self):
        self.at = int(self.np_random.integers(100))
        picture = np.zeros(100, self.dtype)
        picture[self.at] = 200 + self.at % 7
        return picture.reshape(10, 10, 1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._look(), {}

    def step(self, action):
        reward = float(action == (self.at >= 50))
        self.t += 1
        return self._look(), reward, self.t == 7, False, {}


LITTLE = {
    "PG": {}, "A2C": {"train_batch_size": 30}, "A3C": {}, "PPO": {"num_sgd_iter": 2},
    "DDPPO": {"num_workers": 1, "num_cpus_per_worker": 0, "num_sgd_iter": 2},
    "DQN": {}, "R2D2": {"model": {"max_seq_len": 5, "lstm_cell_size": 8}, "burn_in": 2}}


@pytest.mark.parametrize("algorithm", list(LITTLE))
def test_bytes_are_sampled_as_bytes(algorithm):
    """A quarter of the memory, and to the bit what is learned from the same numbers as floats."""
    known = _registry.trainer_class(algorithm)._default_config
    steps = {"train_batch_size": 30, "rollout_fragment_length": 15, "learning_starts": 20,
             "sgd_minibatch_size": 10, "timesteps_per_iteration": 45, "buffer_size": 100}

    def weights(dtype):
        t = _registry.trainer_class(algorithm)(env=Spots, config={
            "num_workers": 0, "seed": 5, "min_iter_time_s": 0, "env_config": {"dtype": dtype},
            **{k: v for k, v in steps.items() if k in known
               and (k, algorithm) != ("train_batch_size", "DDPPO")}, **LITTLE[algorithm]})
        before = t.get_policy().flat_weights().copy()
        for _ in range(2):
            t.train()
        assert not np.array_equal(before, t.get_policy().flat_weights())
        kinds = None
        if t.workers.local is not None:
            columns, _ended = t.workers.local.collect(None, 0, 4, 0)
            kinds = {str(columns[name].dtype) for name in ("obs", "new_obs")}
        made = t.get_policy().flat_weights().copy()
        t.stop()
        return kinds, made

    as_bytes, learned = weights("uint8")
    assert as_bytes in (None, {"uint8"})
    as_floats, same = weights("float32")
    assert as_floats in (None, {"float32"}) and np.isfinite(same).all()
    assert np.array_equal(learned, same)
