"""Environments in C under the trainer: the same bytes as stepping them in Python, when they are
used and when not, and answers that no net can use."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import traceback
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import skate
from skate.rllib import EnvError, _config, _engine, _registry
from skate.rllib._errors import EnvAnswerError, UnsupportedConfigError
from skate.rllib._native import LaneEnv, open_env
from skate.rllib._specs import Spec
from skate.rllib._worker import RolloutWorker
from skate.rllib._worker_set import WorkerSet
from skate.rllib.agents.ppo import DEFAULT_CONFIG, PPOTrainer
from skate.rllib.env.native import NativeEnv
from skate.tune import register_env
from skate.tune.registry import ENV_CREATOR, _global_registry

INCLUDE = Path(skate.__file__).parent / "include"

# Four numbers of float64, actions from 3 on; NaN at step "break_at".
ODD = r"""
#include <math.h>
#include <skate/env_config.h>
#include <skate/env_scalar.h>

struct odd { int at; double break_at, break_reward; };

static int odd_make(struct odd *s, const struct skate_env_make *m, struct skate_env_info *info) {
    int e = skate_env_known(m, "break_at break_reward");

    s->break_at = s->break_reward = -1;
    if (e == 0) e = skate_env_number(m, "break_at", &s->break_at);
    if (e == 0) e = skate_env_number(m, "break_reward", &s->break_reward);
    info->obs = (struct skate_env_space){ .kind = SKATE_SPACE_BOX, .dtype = SKATE_F64, .ndim = 2,
                                          .shape = { 2, 2 }, .low = -9, .high = 9 };
    info->action = (struct skate_env_space){ .kind = SKATE_SPACE_DISCRETE, .n = 4, .start = 3 };
    info->max_steps = 9;
    return e;
}

static void odd_put(struct odd *s, struct skate_rng *rng, double *obs) {
    for (int i = 0; i < 4; i++) obs[i] = skate_rng_double(rng);
    if (s->at == (int)s->break_at) obs[2] = NAN;
}

static void odd_reset(struct odd *s, struct skate_rng *rng, void *obs) {
    s->at = 0;
    odd_put(s, rng, obs);
}

static struct skate_env_answer odd_step(struct odd *s, struct skate_rng *rng, const void *action,
                                        void *obs) {
    struct skate_env_answer a = { .reward = *(const int32_t *)action, .terminated = 0 };

    s->at++;
    odd_put(s, rng, obs);
    if (s->at == (int)s->break_reward) a.reward = INFINITY;
    a.terminated = skate_rng_double(rng) < 0.1;
    return a;
}
SKATE_ENV_SCALAR(skate_env_v1, "Odd-v0", struct odd, odd, 0)
"""


@pytest.fixture(autouse=True)
def results_here(tmp_path, monkeypatch):
    monkeypatch.setenv("SKATE_RESULTS_DIR", str(tmp_path))


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("odd")
    (folder / "odd.c").write_text(ODD)
    subprocess.run(["cc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", folder / "odd.so",
                    folder / "odd.c", f"-I{INCLUDE}"], check=True)
    return f"c:{folder / 'odd.so'}"


def small(**extra):
    return {"num_workers": 0, "seed": 3, "train_batch_size": 600, "num_sgd_iter": 2,
            "num_envs_per_worker": 3, "model": {"fcnet_hiddens": [16]}, **extra}


def make_worker(env, **extra):
    """A worker, as the trainer makes its own."""
    config = {**DEFAULT_CONFIG, **small(), "env": env, **extra}
    config["model"] = {**DEFAULT_CONFIG["model"], "fcnet_hiddens": [16]}
    workers = WorkerSet({**config, "seed": 7}, 7)
    worker = workers.local
    assert isinstance(worker, RolloutWorker)
    worker.describe()
    return worker


def is_native(env, **extra):
    worker = make_worker(env, **extra)
    native = worker._native is not None
    worker.stop()
    return native


def weights(worker):
    from skate import _rl

    about = worker.describe()
    policy = _rl.Policy(about["obs_space"]["size"], about["action_space"]["size"], [16], "tanh",
                        seed=1)
    flat = np.zeros(policy.n_weights, np.float32)
    policy.get_weights(flat)
    return flat * 20        # far from even odds


@pytest.mark.parametrize(("env", "extra"), [
    ("CartPole-v1", {}), ("CartPole-v0", {"num_envs_per_worker": 1}), ("Acrobot-v1", {}),
    ("MountainCar-v0", {"num_envs_per_worker": 40}), ("FrozenLake-v1", {}), ("Taxi-v4", {}),
    ("FrozenLake-v1", {"env_config": {"is_slippery": False, "map_name": "8x8"}}),
    ("CliffWalking-v1", {"horizon": 11}), ("CliffWalkingSlippery-v1", {"horizon": 30}),
    ("FrozenLake8x8-v1", {}), ("Blackjack-v1", {}), ("CartPole-v1", {"horizon": 13}),
    ("CartPole-v1", {"env_config": {"sutton_barto_reward": True}}),
    ("skate/MinAtar-Breakout-v1", {"num_envs_per_worker": 8}), ("skate/GridEmpty-v0", {}),
])
def test_the_same_fragments_as_in_python(env, extra):
    fragments, spaces = [], []
    for native_env in ("auto", False):
        worker = make_worker(env, native_env=native_env, **extra)
        assert (worker._native is not None) == (native_env == "auto")
        spaces.append({**worker.describe(), "pid": 0})
        flat = weights(worker)
        fragments.append([worker.sample(flat, i).tobytes() for i in range(3)])
        worker.stop()
    assert spaces[0] == spaces[1]
    assert fragments[0] == fragments[1]
    assert fragments[0][0] != fragments[0][1]


def test_the_same_fragments_of_a_shared_object(odd):
    fragments = []
    for native_env in ("auto", False):
        worker = make_worker(odd, native_env=native_env, num_envs_per_worker=5)
        assert (worker._native is not None) == (native_env == "auto")
        assert worker.action_space == {"kind": "discrete", "size": 4, "start": 3}
        flat = weights(worker)
        fragments.append([worker.sample(flat, i).tobytes() for i in range(3)])
        worker.stop()
    assert fragments[0] == fragments[1]


def test_the_same_training():
    runs = []
    for native_env in ("auto", False):
        trainer = PPOTrainer(config=small(env="CartPole-v1", native_env=native_env))
        results = [trainer.train() for _ in range(3)]
        assert trainer.observation_space.shape == (4,)
        runs.append((trainer.get_policy().flat_weights().tobytes(),
                     [(r["episode_reward_mean"], r["episode_len_mean"], r["episodes_total"])
                      for r in results]))
        trainer.stop()
    assert runs[0] == runs[1]


def a2c():
    """A trainer of columns, with little."""
    defaults = _config.with_common_config({
        "num_workers": 0, "train_batch_size": 300, "rollout_fragment_length": 50, "lr": 1e-3,
        "num_envs_per_worker": 2, "seed": 3})
    defaults["model"] = {**defaults["model"], "fcnet_hiddens": [8]}
    return _registry._make_trainer(Spec(
        "A2C", defaults, "on_policy:OnPolicyPlan", engine="A2C",
        options=lambda c: {**_engine.model_options(c), "lr": c["lr"], "gamma": c["gamma"]}))


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1", "MountainCarContinuous-v0",
                                 "Taxi-v4", "Blackjack-v1"])
def test_the_same_training_of_other_algorithms(env):
    runs = []
    for native_env in ("auto", False):
        trainer = a2c()(env=env, config={"native_env": native_env, "horizon": 40})
        for _ in range(3):
            result = trainer.train()
        envs = trainer.workers.local._envs
        assert len(envs) == 2
        assert all(isinstance(e, LaneEnv) == (native_env == "auto") for e in envs)
        evaluated = trainer.evaluate()["evaluation"]["episode_reward_mean"]
        assert isinstance(trainer.action_space, gymnasium.Space)
        runs.append((trainer.get_policy().flat_weights().tobytes(), evaluated,
                     result["episode_reward_mean"], result["episodes_total"]))
        trainer.stop()
    assert runs[0] == runs[1]


def test_lanes_as_environments(odd):
    env = open_env("skate/MinAtar-Breakout-v1", {}, None)
    theirs = NativeEnv("MinAtar-Breakout-v1")
    for seed in (3, None):
        obs, _ = env.reset(seed=seed)
        assert (obs == theirs.reset(seed=seed)[0]).all() and obs.dtype == bool
    for action in (0, 1, 2, 1):
        ours, again = env.step(action), theirs.step(action)
        assert (ours[0] == again[0]).all() and ours[1:] == again[1:]
    env = open_env(odd, {}, 4)
    env.reset(seed=1)
    assert env.step(3)[0].shape == (2, 2)
    with pytest.raises(EnvError, match="action 9"):
        env.step(9)
    assert open_env("CartPole-v1", {"no_such_key": 1}, None) is None
    assert open_env(Own, {}, None) is None


def test_gymnasium_is_not_imported():
    program = """
import sys
from skate.rllib.agents.ppo import PPOTrainer
trainer = PPOTrainer(config={"env": "CartPole-v1", "num_workers": 0, "train_batch_size": 200,
                             "num_sgd_iter": 1, "sgd_minibatch_size": 64})
print(trainer.train()["timesteps_total"], "gymnasium" in sys.modules)
"""
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                         timeout=60, check=True).stdout
    assert out.split() == ["200", "False"]


class Own(gymnasium.Env):
    """An environment with nothing in it."""

    observation_space = gymnasium.spaces.Box(-1, 1, (4,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, config=None):
        self.config = config

    def reset(self, *, seed=None, options=None):
        return np.zeros(4, np.float32), {}

    def step(self, action):
        return np.zeros(4, np.float32), 1.0, False, False, {}


def test_whatever_the_user_put_in_its_place_is_used(monkeypatch):
    assert is_native("CartPole-v1")
    assert not is_native("CartPole-v1", native_env=False)
    assert not is_native("CartPole-v1", render_env=True)
    assert not is_native("CartPole-v1", env_config={"max_episode_steps": 5})
    with pytest.raises(EnvError, match="kernel"):
        make_worker("CartPole-v1", env_config={"kernel": "scalar"})
    with monkeypatch.context() as patch:
        patch.setattr(gymnasium, "make", lambda name, **more: Own())
        assert not is_native("CartPole-v1")
    assert not is_native(Own)
    register_env("CartPole-v1", lambda config: Own())
    try:
        assert not is_native("CartPole-v1")
    finally:
        _global_registry.unregister(ENV_CREATOR, "CartPole-v1")
    assert is_native("CartPole-v1")
    spec = gymnasium.spec("CartPole-v1")
    for field, value in (("entry_point", Own), ("kwargs", {"sutton_barto_reward": True}),
                         ("max_episode_steps", 7)):
        with monkeypatch.context() as patch:
            patch.setattr(spec, field, value)
            assert not is_native("CartPole-v1")
    from gymnasium.envs.classic_control.cartpole import CartPoleEnv

    with monkeypatch.context() as patch:
        patch.setattr(CartPoleEnv, "step", Own.step)
        assert not is_native("CartPole-v1")
    monkeypatch.setattr(gymnasium, "__version__", "1.0.0")
    assert not is_native("CartPole-v1")


def test_errors_of_config_are_those_of_gymnasium():
    with pytest.raises(EnvError, match="cannot be made with env_config.*no_such_key"):
        PPOTrainer(config=small(env="CartPole-v1", env_config={"no_such_key": 1}))
    with pytest.raises(UnsupportedConfigError, match="native_env"):
        PPOTrainer(config=small(env="CartPole-v1", native_env="always"))
    with pytest.raises(EnvError, match="CartPole-v9"):
        PPOTrainer(config=small(env="skate/CartPole-v9"))


@pytest.mark.parametrize("native_env", ["auto", False])
def test_numbers_that_are_not_finite_in_c(odd, native_env):
    worker = make_worker(odd, native_env=native_env, env_config={"break_at": 4})
    assert (worker._native is not None) == (native_env == "auto")
    with pytest.raises(EnvAnswerError, match=r"observation \(number 2\).*is nan at step 4") as e:
        worker.sample(weights(worker), 0)
    assert (e.value.field, e.value.step) == ("observation", 4)
    again = pickle.loads(pickle.dumps(e.value))
    assert (str(again), again.field, again.env, again.step) == (
        str(e.value), e.value.field, e.value.env, e.value.step)
    worker.stop()
    worker = make_worker(odd, native_env=native_env, env_config={"break_reward": 2})
    for _ in range(2):      # the worker can go on after each
        with pytest.raises(EnvAnswerError, match="reward of env .* is inf at step 2") as e:
            worker.sample(weights(worker), 0)
        assert e.value.field == "reward"
    worker.stop()
    worker = make_worker(odd, native_env=native_env, env_config={"break_at": 0})
    for _ in range(2):
        with pytest.raises(EnvAnswerError, match="at step 0 of its episode"):
            worker.sample(weights(worker), 0)
    worker.stop()


class Leaky(Own):
    """NaN or an exception at step 5."""

    def __init__(self, config):
        super().__init__(config)
        self.at = 0

    def step(self, action):
        self.at += 1
        obs, reward, terminated, truncated, info = super().step(action)
        if self.at == 5 and self.config["what"] == "observation":
            obs = np.array([0, 1, np.inf, 3], np.float32)
        if self.at == 5 and self.config["what"] == "reward":
            reward = float("nan")
        if self.at == 5 and self.config["what"] == "error":
            raise ZeroDivisionError("a wheel came off")
        return obs, reward, terminated, truncated, info


@pytest.mark.parametrize("envs", [1, 2])
def test_numbers_that_are_not_finite_in_python(envs):
    for field in ("observation", "reward"):
        trainer = PPOTrainer(env=Leaky, config=small(env_config={"what": field},
                                                     num_envs_per_worker=envs))
        with pytest.raises(EnvAnswerError, match=f"{field}.*environment 0 of worker 0.*at step 5"):
            trainer.train()
        trainer.stop()
    trainer = PPOTrainer(env=Leaky, config=small(env_config={"what": "error"}))
    with pytest.raises(ZeroDivisionError) as error:
        trainer.train()
    lines = "".join(traceback.format_exception(error.value))
    assert 'raise ZeroDivisionError("a wheel came off")' in lines
    trainer.stop()
