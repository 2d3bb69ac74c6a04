"""The trainer without a cluster (num_workers=0): learning, configs, environments, checkpoints."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from skate.rllib import EnvError, UnsupportedSpaceException
from skate.rllib._config import fragment_steps
from skate.rllib._errors import UnsupportedConfigError
from skate.rllib.agents.ppo import DEFAULT_CONFIG, PPOTrainer
from skate.rllib.agents.registry import get_trainer_class
from skate.rllib.algorithms.ppo import PPOConfig

LOCAL = {"num_workers": 0, "seed": 3}


@pytest.fixture(autouse=True)
def results_here(tmp_path, monkeypatch):
    """Results of trainers go to the test's folder."""
    monkeypatch.setenv("TUNE_RESULT_DIR", str(tmp_path))


def small(**extra):
    return {**LOCAL, "env": "CartPole-v1", "train_batch_size": 400, "num_sgd_iter": 2, **extra}


class Line:
    """An old-API environment: walk right three times; observations are integers."""

    def __init__(self, config):
        import gymnasium

        self.n = config.get("n", 4)
        self.observation_space = gymnasium.spaces.Discrete(self.n)
        self.action_space = gymnasium.spaces.Discrete(2, start=5)
        self.at = 0

    def reset(self):
        self.at = 0
        return self.at

    def step(self, action):
        assert action in (5, 6)
        self.at = min(self.n - 1, max(0, self.at + (1 if action == 6 else -1)))
        return self.at, 1.0 if self.at == self.n - 1 else -0.1, self.at == self.n - 1, {}


class NamedActions(Line):
    """Actions of a kind that no algorithm here takes."""

    def __init__(self, config):
        import gymnasium

        super().__init__(config)
        self.action_space = gymnasium.spaces.Dict({"go": gymnasium.spaces.Discrete(2)})


def test_cartpole_reaches_150_quickly():
    trainer = PPOTrainer(env="CartPole-v0", config={**LOCAL, "lr": 1e-3, "num_cpus_for_driver": 2})
    best = 0.0
    for _ in range(25):
        best = trainer.train()["episode_reward_mean"]
        if best >= 150:
            break
    trainer.stop()
    assert best >= 150


def test_same_seed_same_curve():
    curves = []
    for cpus in (1, 2):
        trainer = PPOTrainer(config=small(num_cpus_for_driver=cpus))
        results = [trainer.train() for _ in range(3)]
        curves.append([(r["episode_reward_mean"], r["episodes_total"],
                        r["info"]["learner"]["default_policy"]["learner_stats"]["total_loss"])
                       for r in results])
        trainer.stop()
    assert curves[0] == curves[1]


def test_result_keys_of_both_eras():
    trainer = PPOTrainer(config=small())
    r = trainer.train()
    trainer.stop()
    for key in ("episode_reward_mean", "episode_reward_max", "episode_reward_min",
                "episode_len_mean", "episodes_this_iter", "episodes_total", "timesteps_total",
                "training_iteration", "time_this_iter_s", "time_total_s", "hist_stats", "timers",
                "info", "sampler_perf", "perf", "date", "pid", "hostname", "node_ip", "config",
                "custom_metrics", "policy_reward_mean", "num_healthy_workers", "trial_id",
                "experiment_id"):
        assert key in r, key
    assert r["timesteps_total"] == 400
    assert r["env_runners"]["episode_return_mean"] == r["episode_reward_mean"]
    assert r["num_env_steps_sampled_lifetime"] == 400
    assert r["hist_stats"]["episode_reward"]
    stats = r["info"]["learner"]["default_policy"]["learner_stats"]
    assert set(stats) == {"cur_kl_coeff", "cur_lr", "total_loss", "policy_loss", "vf_loss",
                          "vf_explained_var", "kl", "entropy", "entropy_coeff"}
    assert r["learners"]["default_policy"]["mean_kl_loss"] == stats["kl"]


def test_episode_mean_is_padded_from_history():
    from skate.rllib._metrics import EpisodeHistory

    history = EpisodeHistory(100)
    assert np.isnan(history.add([], [])["episode_reward_mean"])
    history.add([0.0] * 90, [1] * 90)
    r = history.add([10.0] * 20, [1] * 20)
    assert r["episode_reward_mean"] == pytest.approx((80 * 0.0 + 20 * 10.0) / 100)
    assert r["episodes_this_iter"] == 20
    r = history.add([1.0] * 150, [1] * 150)     # more than the window: all of this iteration
    assert r["episode_reward_mean"] == 1.0
    assert len(r["hist_stats"]["episode_reward"]) == 150
    assert history.total == 260


def test_checkpoint_gives_the_same_actions_and_goes_on_alike(tmp_path):
    a = PPOTrainer(config=small())
    a.train()
    path = a.save(str(tmp_path / "here"))
    obs = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    want = a.compute_actions(obs, explore=False)
    assert len(set(want.tolist())) == 2
    b = PPOTrainer(config=small(seed=99))
    assert (b.compute_actions(obs, explore=False) != want).any()
    b.restore(path)
    assert (b.compute_actions(obs, explore=False) == want).all()
    assert [b.compute_single_action(o, explore=False) for o in obs[:9]] == want[:9].tolist()
    assert b.train()["training_iteration"] == 2
    assert b.train()["timesteps_total"] == 1200
    c = PPOTrainer.from_checkpoint(path)
    assert (c.compute_actions(obs, explore=False) == want).all()
    d = PPOTrainer(config=small(model={"fcnet_hiddens": [8]}))
    with pytest.raises(ValueError, match="other nets"):
        d.restore(path)
    for t in (a, b, c, d):
        t.stop()


def test_damaged_checkpoints_raise(tmp_path):
    a = PPOTrainer(config=small())
    path = a.save(str(tmp_path / "here"))
    state = os.path.join(path, "algorithm_state.json")
    with open(state) as source:
        text = source.read()
    with open(state, "w") as out:
        out.write(text[:50])
    with pytest.raises(ValueError, match="damaged"):
        a.restore(path)
    with open(state, "w") as out:
        json.dump({**json.loads(text), "version": 99}, out)
    with pytest.raises(ValueError, match="version"):
        a.restore(path)
    with open(state, "w") as out:
        out.write(text)
    with open(os.path.join(path, "weights.f32"), "wb") as out:
        out.write(b"1234")
    with pytest.raises(ValueError):
        a.restore(path)
    with pytest.raises(ValueError):
        a.restore(str(tmp_path))
    a.stop()


@pytest.mark.parametrize(("bad", "error", "text"), [
    ({"num_wrkers": 3}, KeyError, "num_workers"),
    ({"model": {"fcnet_hidden": [3]}}, KeyError, "fcnet_hiddens"),
    ({"env": "CartPoll-v0"}, EnvError, "CartPole-v0"),
    ({"env": None}, EnvError, "no 'env'"),
    ({"env": 17}, EnvError, "int"),
    ({"env": "no.such.module.Env"}, EnvError, "no.such.module"),
    ({"env": NamedActions}, UnsupportedSpaceException, "Dict"),
    ({"lr": -1.0}, ValueError, "lr"),
    ({"lr": "fast"}, ValueError, "lr"),
    ({"gamma": 1.5}, ValueError, "gamma"),
    ({"num_workers": -1}, ValueError, "num_workers"),
    ({"num_workers": 1.5}, ValueError, "num_workers"),
    ({"sgd_minibatch_size": 5000}, ValueError, "train_batch_size"),
    ({"seed": "a"}, ValueError, "seed"),
    ({"lr_schedule": [[5, 1], [3, 1]]}, ValueError, "lr_schedule"),
    ({"model": {"use_attention": True}}, UnsupportedConfigError, "use_attention"),
    ({"batch_mode": "whole_episodes"}, UnsupportedConfigError, "batch_mode"),
    ({"framework": "jax"}, UnsupportedConfigError, "framework"),
])
def test_bad_configs_raise_at_once(bad, error, text):
    with pytest.raises(error, match=text):
        PPOTrainer(config={**small(), **bad})
    if error is not UnsupportedSpaceException:      # that one needs the environment itself
        with pytest.raises(error, match=text):
            PPOTrainer.validate_trial_config({**small(), **bad})


def test_old_api_discrete_observations_and_action_start():
    trainer = PPOTrainer(env=Line, config={
        **LOCAL, "env_config": {"n": 4}, "train_batch_size": 600, "num_envs_per_worker": 3,
        "lr": 1e-2, "gamma": 0.9, "num_sgd_iter": 10})
    for _ in range(12):
        r = trainer.train()
    assert r["episode_len_mean"] < 4.5
    assert trainer.compute_single_action(2, explore=False) == 6
    assert trainer.evaluate()["evaluation"]["episode_len_mean"] < 6
    assert trainer.observation_space.n == 4
    trainer.stop()


def test_registered_env_and_horizon():
    from skate.tune.registry import register_env

    register_env("line-of-mine", lambda config: Line(config))
    trainer = PPOTrainer(env="line-of-mine", config={
        **LOCAL, "env_config": {"n": 1000}, "horizon": 7, "train_batch_size": 70,
        "sgd_minibatch_size": 70})
    r = trainer.train()
    assert r["episode_len_mean"] == 7
    assert r["episodes_total"] == 10
    trainer.stop()


def test_env_that_fails_raises_its_own_error_and_recovers():
    class Moody(Line):
        def step(self, action):
            if os.environ.get("MOODY"):
                raise ArithmeticError("not today")
            return super().step(action)

    trainer = PPOTrainer(env=Moody, config={**LOCAL, "train_batch_size": 200,
                                            "sgd_minibatch_size": 64})
    trainer.train()
    os.environ["MOODY"] = "1"
    try:
        with pytest.raises(ArithmeticError, match="not today"):
            trainer.train()
    finally:
        del os.environ["MOODY"]
    assert trainer.train()["timesteps_total"] == 400
    trainer.stop()

    def broken(config):
        raise RuntimeError("no screen")

    with pytest.raises(EnvError, match="no screen"):
        PPOTrainer(env=broken, config=LOCAL)


def test_weights_travel_as_named_arrays():
    a, b = PPOTrainer(config=small()), PPOTrainer(config=small(seed=4))
    named = a.get_policy().get_weights()
    assert named["policy/0/kernel"].shape == (4, 256)
    assert np.allclose(np.linalg.norm(named["policy/1/kernel"], axis=0), 1.0, atol=1e-5)
    assert np.allclose(np.linalg.norm(named["policy/2/kernel"], axis=0), 0.01, atol=1e-6)
    b.set_weights(a.get_weights())
    assert b.get_policy().flat_weights().tobytes() == a.get_policy().flat_weights().tobytes()
    with pytest.raises(ValueError, match="shape"):
        b.get_policy().set_weights({**named, "value/0/bias": np.zeros(3)})
    with pytest.raises(KeyError):
        a.get_policy("other")
    a.stop()
    b.stop()


def test_newer_names_build_the_same_trainer():
    config = (PPOConfig().environment("CartPole-v1")
              .env_runners(num_env_runners=0, num_envs_per_env_runner=2)
              .training(lr=2e-3, minibatch_size=64, num_epochs=3, train_batch_size=512,
                        lambda_=0.95, model={"fcnet_hiddens": [32]})
              .debugging(seed=1).evaluation(evaluation_interval=2, evaluation_duration=3)
              .api_stack(enable_rl_module_and_learner=True))
    assert config.lr == 2e-3 and config["num_sgd_iter"] == 3 and config["lambda"] == 0.95
    algo = config.build_algo()
    assert algo.config["sgd_minibatch_size"] == 64
    assert "evaluation" not in algo.train()
    r = algo.train()
    assert r["evaluation"]["episodes_this_iter"] == 3
    assert r["env_runners"]["num_env_steps_sampled_lifetime"] == 1024
    algo.stop()
    with pytest.raises(KeyError, match="minibatch_size"):
        PPOConfig().training(minibach_size=3)
    other = config.copy().training(lr=1.0)
    assert config.lr == 2e-3 and other.lr == 1.0
    merged = PPOTrainer(config={**LOCAL, "env": "CartPole-v1", "num_epochs": 4})
    assert merged.config["num_sgd_iter"] == 4
    merged.stop()


def test_schedules_and_callbacks():
    from skate.rllib.agents import DefaultCallbacks

    seen = []

    class Mine(DefaultCallbacks):
        def on_train_result(self, *, result, **kwargs):
            seen.append(result["episodes_this_iter"])
            result["mine"] = 42

    trainer = PPOTrainer(config=small(lr_schedule=[[0, 1e-3], [800, 0.0]], callbacks=Mine))
    rates = []
    for _ in range(3):
        r = trainer.train()
        rates.append(r["info"]["learner"]["default_policy"]["learner_stats"]["cur_lr"])
    trainer.stop()
    assert r["mine"] == 42 and len(seen) == 3
    np.testing.assert_allclose(rates, [1e-3, 5e-4, 0.0], atol=1e-9)


def test_defaults_are_rllibs():
    want = {"num_workers": 2, "rollout_fragment_length": 200, "train_batch_size": 4000,
            "sgd_minibatch_size": 128, "num_sgd_iter": 30, "lr": 5e-5, "lambda": 1.0,
            "gamma": 0.99, "kl_coeff": 0.2, "kl_target": 0.01, "clip_param": 0.3,
            "vf_clip_param": 10.0, "vf_loss_coeff": 1.0, "entropy_coeff": 0.0}
    assert {k: DEFAULT_CONFIG[k] for k in want} == want
    assert DEFAULT_CONFIG["model"]["fcnet_hiddens"] == [256, 256]
    assert get_trainer_class("PPO") is PPOTrainer
    for name in ("SlateQ", "DREAMER", "MAML", "MBMPO"):
        with pytest.raises(ValueError, match="comes later"):
            get_trainer_class(name)
    with pytest.raises(ValueError, match="no algorithm"):
        get_trainer_class("PPPO")


def test_fragments_add_up_to_the_batch():
    base = {**DEFAULT_CONFIG}
    assert fragment_steps({**base, "num_workers": 0}) == (4000, 200)
    assert fragment_steps({**base, "num_workers": 2}) == (2000, 200)
    assert fragment_steps({**base, "num_workers": 3}) == (1334, 1334)
    assert fragment_steps({**base, "rollout_fragment_length": "auto"}) == (2000, 2000)


def test_resources_of_a_trial():
    request = PPOTrainer.default_resource_request({"env": "CartPole-v0", "num_workers": 3})
    assert request.required_resources["CPU"] == 4.0
    assert len(request.bundles) == 4
    assert PPOTrainer.scale_trial_config({}, 2.0) == {"num_cpus_for_driver": 2,
                                                      "num_cpus_per_worker": 0}
