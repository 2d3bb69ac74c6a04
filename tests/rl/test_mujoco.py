"""MuJoCo's environments through Gymnasium: bodies train, and actions keep to their bounds."""

from __future__ import annotations

import sys

import gymnasium
import numpy as np
import pytest

from skate import tune
from skate.rllib import EnvError, _registry

SMALL = {"num_workers": 0, "seed": 5, "min_iter_time_s": 0, "model": {"fcnet_hiddens": [16]}}
CONFIGS = {
    "PPO": {"train_batch_size": 200, "sgd_minibatch_size": 50, "num_sgd_iter": 3, "lr": 1e-3},
    "SAC": {"learning_starts": 100, "timesteps_per_iteration": 150, "train_batch_size": 32,
            "Q_model": {"fcnet_hiddens": [16]}, "policy_model": {"fcnet_hiddens": [16]}},
}


@pytest.fixture
def mujoco(tmp_path, monkeypatch):
    """MuJoCo in an empty folder (it writes its log where it is), or no test."""
    pytest.importorskip("mujoco", reason="mujoco is not installed")
    monkeypatch.chdir(tmp_path)


class Watched(gymnasium.Wrapper):
    """Keeps the actions that came."""

    def __init__(self, env):
        super().__init__(env)
        self.actions: list[np.ndarray] = []

    def step(self, action):
        self.actions.append(np.array(action))
        return self.env.step(action)


@pytest.mark.parametrize("name", ["Hopper-v5", "HalfCheetah-v5"])
@pytest.mark.parametrize("algorithm", list(CONFIGS))
def test_bodies_train(mujoco, algorithm, name):
    made = []

    def make(_config):
        made.append(Watched(gymnasium.make(name)))
        return made[-1]

    tune.register_env("body", make)
    t = _registry.trainer_class(algorithm)(env="body", config={**SMALL, **CONFIGS[algorithm]})
    before = t.get_policy().flat_weights().copy()
    for _ in range(2):
        result = t.train()
    after = t.get_policy().flat_weights()
    assert result["timesteps_total"] >= 300
    assert np.isfinite(after).all() and not np.array_equal(before, after)
    space = made[0].action_space
    actions = np.stack(made[0].actions)
    assert actions.dtype == space.dtype and len(actions) == result["timesteps_total"]
    assert (actions >= space.low).all() and (actions <= space.high).all()
    assert actions.std(axis=0).min() > 0.1
    assert space.contains(t.compute_single_action(t.observation_space.sample()))
    t.stop()


def test_by_name(mujoco):
    t = _registry.trainer_class("PPO")(env="InvertedPendulum-v5", config={
        **SMALL, **CONFIGS["PPO"], "env_config": {"reset_noise_scale": 0.02}})
    assert t.train()["episode_len_mean"] >= 1
    assert (np.abs(t.action_space.high) == 3.0).all()
    t.stop()


def test_without_mujoco(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.mujoco")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(EnvError, match=r"gymnasium\[mujoco\]"):
        _registry.trainer_class("PPO")(env="Hopper-v5", config=SMALL)
