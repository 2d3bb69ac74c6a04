"""Every algorithm by name: built from the newer era's config, trained, saved, restored."""

from __future__ import annotations

import math

import pytest

from skate.rllib import _registry, _specs
from skate.rllib.agents.registry import get_trainer_class

CONTINUOUS = {"DDPG", "TD3", "APEX_DDPG", "SAC", "RNNSAC", "TQC", "CQL", "IQL"}
SPECIAL = {"QMIX", "contrib/MADDPG"}        # need multi-agent environments: their own tests
SMALL = {"num_workers": 0, "seed": 1, "min_iter_time_s": 0, "train_batch_size": 64,
         "sgd_minibatch_size": 32, "learning_starts": 64, "timesteps_per_iteration": 100,
         "rollout_fragment_length": 16, "num_rollouts": 2, "episodes_per_batch": 4,
         "noise_size": 100_000}


@pytest.fixture(autouse=True)
def results_here(tmp_path, monkeypatch):
    """Results of trainers go to the test's folder."""
    monkeypatch.setenv("TUNE_RESULT_DIR", str(tmp_path))


def small(config, name):
    """Little of everything that the algorithm has a key for."""
    for key, value in SMALL.items():
        if key in config and not (name == "DDPPO" and key == "train_batch_size"):
            config[key] = value
    return config.training(model={"fcnet_hiddens": [8]})


@pytest.mark.parametrize("name", sorted(set(_specs.names()) - SPECIAL))
def test_trains_saves_and_restores(name, tmp_path):
    config = small(_registry.config_class(name)(), name)
    config.environment("Pendulum-v1" if name in CONTINUOUS else "CartPole-v1")
    algo = config.build_algo()
    assert isinstance(algo, get_trainer_class(name))
    result = algo.train()
    assert result["timesteps_total"] == result["num_env_steps_sampled_lifetime"] > 0
    assert set(result["learners"]) == set(result["info"]["learner"])
    path = algo.save(str(tmp_path / "it"))
    algo.restore(path)
    again = algo.train()
    assert again["timesteps_total"] > result["timesteps_total"]
    for numbers in again["learners"].values():
        assert not any(math.isnan(v) for v in numbers.values() if isinstance(v, float)), numbers
    algo.stop()
