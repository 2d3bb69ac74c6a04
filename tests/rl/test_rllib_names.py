"""Names of both eras, exploration classes, schedules, damaged checkpoints."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from skate.rllib import _registry, _specs
from skate.rllib._errors import CheckpointError
from skate.rllib.utils import schedules
from skate.rllib.utils.exploration import make_exploration

DISCRETE = {"kind": "discrete", "size": 3, "start": 0}
BOX = {"kind": "box", "size": 2, "low": [-2.0, -1.0], "high": [2.0, 1.0], "shape": [2],
       "dtype": "float32"}


def test_every_name_is_found_or_says_why_not():
    assert set(_registry.PLACES) == set(_specs.FAMILIES) | _specs.LATER
    for name in _specs.names():
        trainer, newer = _registry.trainer_class(name), _registry.newer_class(name)
        assert trainer._name == newer._name == name and issubclass(newer, trainer)
        for cls in (trainer, newer, _registry.config_class(name)):
            assert pickle.loads(pickle.dumps(cls)) is cls       # found again by its module
        merged = trainer._merge({"env": "CartPole-v1"})
        assert set(merged) == set(trainer._default_config)
    for name in _specs.LATER:
        with pytest.raises(ValueError, match="comes later"):
            _specs.find(name)
    with pytest.raises(ValueError, match="did you mean 'PPO'"):
        _specs.find("PPPO")


def test_ppo_has_the_loss_of_its_era():
    from skate.rllib.algorithms.ppo import PPOConfig

    older = _registry.trainer_class("PPO")._default_config
    newer = {**older, **PPOConfig().to_dict()}
    said = ("vf_clip_mode", "kl_update", "wrap_minibatches", "rollout_fragment_length")
    assert [older[k] for k in said] == ["value", "mean", False, 200]
    assert [newer[k] for k in said] == ["loss", "last", True, "auto"]
    same = {"lr": 5e-5, "train_batch_size": 4000, "sgd_minibatch_size": 128, "num_sgd_iter": 30,
            "lambda": 1.0, "kl_coeff": 0.2, "kl_target": 0.01, "vf_loss_coeff": 1.0,
            "entropy_coeff": 0.0, "clip_param": 0.3, "vf_clip_param": 10.0, "grad_clip": None,
            "use_kl_loss": True, "shuffle_sequences": True}
    assert {k: older[k] for k in same} == {k: newer[k] for k in same} == same
    for keys in ({"vf_clip_mode": "both"}, {"kl_update": "first"}):
        with pytest.raises(ValueError, match=next(iter(keys))):
            PPOConfig().environment("CartPole-v1").training(**keys).validate()


def test_ppo_of_the_newer_era_without_the_divergence():
    from skate.rllib.algorithms.ppo import PPOConfig

    def coefficients(**keys):
        algo = (PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=0)
                .training(train_batch_size=128, num_epochs=2, **keys)).build_algo()
        told = [algo.train()["info"]["learner"]["default_policy"]["learner_stats"]["cur_kl_coeff"]
                for _ in range(2)]
        algo.stop()
        return told
    assert coefficients(use_kl_loss=False, shuffle_batch_per_epoch=False) == [0, 0]
    assert coefficients()[0] == pytest.approx(0.2)


def test_modules_of_both_eras():
    import skate.rllib.agents as agents
    from skate.rllib.agents.ppo import DEFAULT_CONFIG, PPOTrainer
    from skate.rllib.agents.ppo.ppo import PPOTrainer as Inner
    from skate.rllib.agents.registry import get_algorithm_class, get_trainer_class
    from skate.rllib.algorithms.ppo import PPO, PPOConfig

    assert agents.ppo.PPOTrainer is PPOTrainer is Inner is get_trainer_class("PPO")
    assert DEFAULT_CONFIG["lr"] == 5e-5 and get_algorithm_class("PPO") is PPO
    assert PPOConfig().algo_class is PPO
    import skate.rllib.algorithms as algorithms
    from skate.rllib.algorithms import DQN, DQNConfig

    assert DQNConfig().algo_class is DQN and algorithms.PPOConfig is PPOConfig
    with pytest.raises(ImportError, match="comes later"):
        from skate.rllib.algorithms import SlateQConfig  # noqa: F401
    with pytest.raises(ImportError, match="comes later"):
        from skate.rllib.agents.slateq import SlateQTrainer  # noqa: F401
    with pytest.raises(ImportError):
        from skate.rllib.agents.ppo import Nothing  # noqa: F401


def test_learners_elsewhere_are_not_promised(caplog):
    from skate.rllib.algorithms.ppo import PPOConfig

    PPOConfig().learners(num_learners=0, num_gpus_per_learner=0)
    assert not caplog.records
    PPOConfig().learners(num_learners=2)
    assert "num_learners=2 changes nothing" in caplog.text


def test_nothing_heavy_is_imported():
    code = ("import sys, skate.rllib.agents, skate.rllib.algorithms.ppo as p; p.PPOConfig();"
            "print([m for m in ('numpy', 'torch', 'tensorflow', 'gymnasium') if m in sys.modules])")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_schedules():
    assert schedules.ConstantSchedule(3.0)(99) == 3.0
    line = schedules.LinearSchedule(schedule_timesteps=100, final_p=0.0, initial_p=2.0)
    assert [line(t) for t in (0, 50, 100, 500)] == [2.0, 1.0, 0.0, 0.0]
    assert schedules.PolynomialSchedule(10, 0.0)(5) == 0.25
    assert schedules.ExponentialSchedule(10, initial_p=2.0, decay_rate=0.5)(20) == 0.5
    pieces = schedules.PiecewiseSchedule([(0, 1.0), (10, 0.0)], outside_value=7.0)
    assert [pieces(t) for t in (0, 5, 10, 99)] == [1.0, 0.5, 7.0, 7.0]
    made = schedules.schedule_of({"type": "ConstantSchedule", "value": 2})
    assert made(1) == 2.0
    with pytest.raises(ValueError, match="growing"):
        schedules.PiecewiseSchedule([(5, 1), (3, 1)])


class Engine:
    """act() as the engine's: notes how it was called."""

    n_inputs = 3
    q = np.array([[0.0, 1.0, 5.0]], np.float32)

    def act(self, n, columns, explore=True, epsilon=0.0, noise=0.0):
        self.called = (explore, round(epsilon, 6), round(noise, 6))
        columns["actions"][:] = 0
        if "inputs" in columns:
            columns["inputs"][:] = self.q


def acted(config, space, timestep, explore=True, n=500, worker=0, workers=0):
    engine = Engine()
    made = make_exploration(config, space, worker, workers, seed=4)
    columns = {"obs": np.zeros((n, 1), np.float32),
               "actions": np.zeros(n, np.int32) if space is DISCRETE
               else np.zeros((n, 2), np.float32)}
    made.act(engine, n, columns, explore, timestep)
    return engine.called, columns["actions"], made


def test_epsilon_greedy_follows_its_schedule():
    config = {"type": "EpsilonGreedy", "initial_epsilon": 1.0, "final_epsilon": 0.1,
              "epsilon_timesteps": 90}
    assert acted(config, DISCRETE, 0)[0] == (True, 1.0, 0.0)
    assert acted(config, DISCRETE, 45)[0] == (True, 0.55, 0.0)
    assert acted(config, DISCRETE, 500)[2].get_state() == {"cur_epsilon": pytest.approx(0.1)}
    assert acted(config, DISCRETE, 0, explore=False)[0] == (False, 0.0, 0.0)
    own = [acted({"type": "PerWorkerEpsilonGreedy"}, DISCRETE, 0, worker=i, workers=3)[0][1]
           for i in (1, 2, 3)]
    assert own == [pytest.approx(0.4 ** (1 + i / 2 * 7), abs=1e-6) for i in (1, 2, 3)]


def test_noise_on_actions():
    config = {"type": "GaussianNoise", "random_timesteps": 10, "stddev": 0.5,
              "initial_scale": 1.0, "final_scale": 0.0, "scale_timesteps": 100}
    assert acted(config, BOX, 60)[0] == (True, 0.0, 0.25)
    _, actions, _ = acted(config, BOX, 3)
    assert actions[:, 0].min() < -1.5 and actions[:, 0].max() > 1.5
    assert np.abs(actions[:, 1]).max() <= 1.0
    config = {"type": "OrnsteinUhlenbeckNoise", "random_timesteps": 0, "ou_base_scale": 1.0}
    called, actions, made = acted(config, BOX, 5)
    assert called == (False, 0.0, 0.0) and 0.5 < actions[:, 0].std() / (0.2 * 4) < 1.5
    assert (np.abs(actions) <= [2.0, 1.0]).all()
    made.on_episode_start(None, 3)
    assert (made._x[3] == 0).all() and (made._x[4] != 0).any()
    assert (acted(config, BOX, 5, explore=False)[1] == 0).all()


def test_soft_q_and_random():
    drawn = acted({"type": "SoftQ", "temperature": 4.0}, DISCRETE, 0, n=4000)[1]
    want = np.exp(Engine.q[0] / 4.0) / np.exp(Engine.q[0] / 4.0).sum()
    assert np.abs(np.bincount(drawn, minlength=3) / 4000 - want).max() < 0.04
    assert set(acted({"type": "Random"}, DISCRETE, 0)[1]) == {0, 1, 2}
    with pytest.raises(ValueError, match="EpsilonGreedy"):
        make_exploration({"type": "EpsilonGreed"}, DISCRETE, 0, 0, 1)
    with pytest.raises(ValueError, match="epsilon_timstep"):
        make_exploration({"type": "EpsilonGreedy", "epsilon_timstep": 3}, DISCRETE, 0, 0, 1)


def test_a_checkpoint_cut_in_half_changes_nothing(tmp_path, monkeypatch):
    from skate.rllib.agents.ppo import PPOTrainer

    monkeypatch.setenv("TUNE_RESULT_DIR", str(tmp_path))
    trainer = PPOTrainer(env="CartPole-v1", config={
        "num_workers": 0, "seed": 1, "train_batch_size": 128, "num_sgd_iter": 1,
        "model": {"fcnet_hiddens": [8]}})
    trainer.train()
    path = trainer.save(str(tmp_path / "it"))
    trainer.train()
    weights = trainer.get_policy().flat_weights().tobytes()
    for name in os.listdir(path):
        if name.startswith("."):
            continue
        with open(os.path.join(path, name), "rb") as source:
            whole = source.read()
        for damaged in (whole[:len(whole) // 2], whole[:-1] + bytes([whole[-1] ^ 1])):
            with open(os.path.join(path, name), "wb") as out:
                out.write(damaged)
            if name == "algorithm_state.json" or not name.endswith((".json", "metadata")):
                with pytest.raises(CheckpointError, match="damaged"):
                    trainer.load_checkpoint(path)
        with open(os.path.join(path, name), "wb") as out:
            out.write(whole)
    assert trainer.get_policy().flat_weights().tobytes() == weights
    trainer.load_checkpoint(path)
    assert trainer.get_policy().flat_weights().tobytes() != weights
    trainer.stop()


def test_state_in_memory_and_a_checkpoint_without_its_class(tmp_path, monkeypatch):
    from skate.rllib.algorithms import DQN, Algorithm, DQNConfig

    monkeypatch.setenv("TUNE_RESULT_DIR", str(tmp_path))
    algo = (DQNConfig().environment("CartPole-v1").env_runners(num_env_runners=0)
            .training(train_batch_size=16).debugging(seed=1)).build_algo()
    algo.train()
    state, path = algo.get_state(), algo.save_to_path(str(tmp_path / "it"))
    want = algo.get_policy().flat_weights().tobytes()
    algo.train()
    algo.set_state(state)
    assert algo.get_policy().flat_weights().tobytes() == want and algo.iteration == 1
    other = Algorithm.from_checkpoint(path)
    assert type(other) is DQN and other.get_policy().flat_weights().tobytes() == want
    assert other.train()["training_iteration"] == 2
    algo.stop()
    other.stop()
