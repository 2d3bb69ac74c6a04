"""IMPALA, A3C and DDPPO with rollout actors: a lost worker, the user's own error, equal weights."""

from __future__ import annotations

import os
import signal
from typing import Any

import gymnasium
import pytest

from skate.rllib.agents.registry import get_trainer_class

CONFIG: dict[str, Any] = {
    "num_workers": 2, "num_cpus_per_worker": 0, "num_envs_per_worker": 2, "min_iter_time_s": 0,
    "rollout_fragment_length": 10, "model": {"fcnet_hiddens": [16]}, "seed": 4,
}


@pytest.fixture(scope="module")
def cluster() -> Any:
    """A session of two CPUs."""
    import skate

    if skate.is_initialized():
        skate.shutdown()
    skate.init(num_cpus=2)
    yield skate
    skate.shutdown()


@pytest.fixture(autouse=True)
def results_here(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("TUNE_RESULT_DIR", str(tmp_path))


class Breaks(gymnasium.Env):
    """Fails in its 25th step."""

    def __init__(self, config: Any) -> None:
        self.observation_space = gymnasium.spaces.Box(-1, 1, (2,))
        self.action_space = gymnasium.spaces.Discrete(2)
        self.steps = 0

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        if self.steps == 25:
            raise ZeroDivisionError("of the environment")
        return self.observation_space.sample(), 1.0, self.steps % 5 == 0, False, {}


def weights(trainer: Any) -> bytes:
    return bytes(trainer.get_policy().flat_weights().tobytes())


@pytest.mark.parametrize(("name", "extra"), [("IMPALA", {"train_batch_size": 60}), ("A3C", {})])
def test_a_lost_worker_is_replaced(cluster: Any, name: str, extra: dict[str, Any]) -> None:
    trainer = get_trainer_class(name)(env="CartPole-v1", config={**CONFIG, **extra})
    before = weights(trainer)
    result = trainer.train()
    assert weights(trainer) != before and result["timesteps_total"] >= 40
    pid = cluster.get(trainer.workers.remote[0].describe.remote())["pid"]
    os.kill(pid, signal.SIGKILL)
    for _ in range(200):
        result = trainer.train()
        if result["num_replaced_workers"]:
            break
    assert result["num_replaced_workers"] == 1
    steps = result["timesteps_total"]
    for _ in range(5):
        result = trainer.train()
    assert result["timesteps_total"] > steps and result["num_replaced_workers"] == 1
    trainer.stop()


def test_an_error_of_the_environment_is_raised(cluster: Any) -> None:
    trainer = get_trainer_class("IMPALA")(env=Breaks, config={**CONFIG, "train_batch_size": 40})
    errors, total = 0, 0
    while total < 200:                      # each of the four fails once, and goes on
        try:
            total = trainer.train()["timesteps_total"]
        except ZeroDivisionError as error:
            assert "of the environment" in str(error)
            errors += 1
            assert errors <= 4
    assert errors >= 1
    trainer.stop()


DDPPO: dict[str, Any] = {**CONFIG, "sgd_minibatch_size": 10, "num_sgd_iter": 2, "lr": 1e-3}


def test_ddppo_is_the_same_each_time_and_goes_on_from_a_checkpoint(cluster: Any) -> None:
    runs = []
    for _ in range(2):
        trainer = get_trainer_class("DDPPO")(env="CartPole-v1", config=DDPPO)
        before = weights(trainer)
        for _ in range(3):
            result = trainer.train()
        assert weights(trainer) != before and result["timesteps_total"] == 3 * 40
        runs.append(weights(trainer))
        folder = trainer.save()
        trainer.stop()
    assert runs[0] == runs[1]
    again = get_trainer_class("DDPPO")(env="CartPole-v1", config={**DDPPO, "seed": 9})
    again.restore(folder)
    assert weights(again) == runs[0]
    assert again.train()["timesteps_total"] == 4 * 40
    again.stop()


def test_ddppo_replaces_a_lost_worker(cluster: Any) -> None:
    trainer = get_trainer_class("DDPPO")(env="CartPole-v1", config=DDPPO)
    trainer.train()
    pid = cluster.get(trainer.workers.remote[1].describe.remote())["pid"]
    os.kill(pid, signal.SIGKILL)
    for _ in range(2):
        result = trainer.train()
    assert result["num_replaced_workers"] == 1 and result["timesteps_total"] == 3 * 40
    trainer.stop()


def test_ddppo_raises_what_the_environment_does(cluster: Any) -> None:
    trainer = get_trainer_class("DDPPO")(env=Breaks, config=DDPPO)
    errors, total = 0, 0
    while total < 120:
        try:
            total = trainer.train()["timesteps_total"]
        except ZeroDivisionError as error:
            assert "of the environment" in str(error)
            errors += 1
            assert errors <= 4
    assert errors >= 1
    trainer.stop()
