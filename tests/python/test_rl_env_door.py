"""Environments in C as Python sees them: Gymnasium's door, vectors, own shared objects, errors."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import skate
from skate import _rl
from skate.rllib.env.native import NAMES, NativeEnv, NativeVectorEnv
from skate.rllib.utils.error import EnvError

ROOT = Path(__file__).resolve().parents[2]
INCLUDE = Path(skate.__file__).parent / "include"
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@pytest.fixture(scope="module")
def catch(tmp_path_factory):
    return build(tmp_path_factory.mktemp("env"), (ROOT / "examples/c/catch_env.c").read_text())


def build(folder, text, name="env"):
    source, library = folder / f"{name}.c", folder / f"{name}.so"
    source.write_text(text)
    subprocess.run(["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library,
                    source, f"-I{INCLUDE}"], check=True)
    return str(library)


@pytest.mark.parametrize("name", NAMES)
def test_made_by_gymnasium(name):
    made = gymnasium.make(f"skate/{name}")
    check_env(made.unwrapped, skip_render_check=True)
    ours = NativeEnv(name)
    limit = ours.engine.info()["max_steps"]
    assert (made.spec.max_episode_steps or 0) == limit
    if name in gymnasium.registry:
        spec = gymnasium.spec(name)
        assert made.spec.max_episode_steps == spec.max_episode_steps
        assert made.spec.reward_threshold == spec.reward_threshold


def test_time_limit_of_ones_own():
    made = gymnasium.make("skate/Pendulum-v1", max_episode_steps=7)
    made.reset(seed=1)
    cut = [made.step(np.zeros(1, np.float32))[3] for _ in range(7)]
    assert cut == [False] * 6 + [True]
    never = NativeEnv("Pendulum-v1", max_episode_steps=0)
    never.reset(seed=1)
    assert not any(never.step(np.zeros(1, np.float32))[3] for _ in range(300))


def test_made_as_a_vector():
    envs = gymnasium.make_vec("skate/CartPole-v1", num_envs=300)
    assert isinstance(envs.unwrapped, NativeVectorEnv)
    obs, _ = envs.reset(seed=4)
    assert obs.shape == (300, 4) and obs.dtype == np.float32
    for _ in range(30):
        obs, reward, terminated, truncated, infos = envs.step(np.ones(300, np.int64))
    assert reward.dtype == np.float64 and terminated.dtype == np.bool_ and infos == {}
    assert set(reward) == {0.0, 1.0}        # some lanes are just being reset


def test_reset_mask():
    envs = NativeVectorEnv("CartPole-v1", 8, autoreset_mode="Disabled")
    first, _ = envs.reset(seed=1)
    second = envs.step(np.zeros(8, np.int64))[0]
    third, _ = envs.reset(options={"reset_mask": np.arange(8) < 3})
    assert (third[3:] == second[3:]).all()
    assert (third[:3] != second[:3]).all() and (abs(third[:3]) <= 0.05).all()
    assert (first != second).all()


def test_without_copies():
    envs = NativeVectorEnv("CartPole-v1", 8, copy=False)
    obs, _ = envs.reset(seed=1)
    before = obs.copy()
    again = envs.step(np.zeros(8, np.int64))[0]
    assert again is obs or np.shares_memory(again, obs)
    assert (obs != before).all()


def test_arrays_outlive_their_environment():
    envs = NativeVectorEnv("CartPole-v1", 8, copy=False)
    obs, _ = envs.reset(seed=1)
    values = obs.copy()
    del envs
    assert (obs == values).all()


def test_wrong_use():
    env = NativeEnv("CartPole-v1")
    with pytest.raises(EnvError, match="reset before step"):
        env.step(0)
    env.reset(seed=1)
    with pytest.raises(EnvError, match=r"action 2 of lane 0 is not in 0 \.\. 1"):
        env.step(2)
    with pytest.raises(TypeError):
        env.step(0.5)
    with pytest.raises(EnvError, match="low"):
        env.reset(options={"low": 0.1})
    with pytest.raises(EnvError, match="goal_velocty.*goal_velocity"):
        NativeEnv("MountainCar-v0", goal_velocty=1)
    with pytest.raises(EnvError, match="CartPole-v7"):
        NativeEnv("CartPole-v7")
    with pytest.raises(EnvError, match="render_mode"):
        NativeEnv("CartPole-v1", render_mode="human")
    envs = NativeVectorEnv("CartPole-v1", 3)
    envs.reset(seed=1)
    with pytest.raises(TypeError):
        envs.step(np.zeros(3))
    with pytest.raises(ValueError):
        envs.step(np.zeros(4, np.int64))


def test_save_and_load():
    env = NativeEnv("Taxi-v4", is_rainy=True)
    env.reset(seed=3)
    for _ in range(20):
        env.step(0)
    state = env.save()
    ahead = [env.step(a % 4) for a in range(50)]
    env.load(state)
    assert [env.step(a % 4) for a in range(50)] == ahead
    with pytest.raises(ValueError):
        NativeEnv("CartPole-v1").engine.load(0, state)


def test_a_second_thread_is_refused():
    engine = _rl.Env("CartPole-v1", 4096)
    engine.reset()
    enough = threading.Event()

    def work():
        while not enough.is_set():
            engine.random(200, 1)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        with pytest.raises(RuntimeError, match="another thread"):
            while thread.is_alive():
                engine.info()
    finally:
        enough.set()
        thread.join()
    engine.info()


@needs_cc
def test_own_environment(catch):
    env = NativeEnv(f"c:{catch}", rows=6)
    check_env(env, skip_render_check=True)
    obs, _ = env.reset(seed=2)
    total = 0.0
    for _ in range(5):
        aim = int(np.sign(round((obs[1] - obs[2]) * 4))) + 1
        obs, reward, terminated, truncated, _ = env.step(aim)
        total += reward
    assert terminated and not truncated and total == 1.0
    with pytest.raises(EnvError, match="from 2 to 32"):
        NativeEnv(f"c:{catch}", rows=99)
    envs = NativeVectorEnv(f"c:{catch}", 64, rows=6)
    assert envs.reset(seed=2)[0].shape == (64, 3)
    steps, episodes, _ = envs.engine.random(600)
    assert steps == 600 * 64 and episodes == 64 * 100   # five steps, and one for the new start
    with pytest.raises(EnvError, match="no symbol other"):
        NativeEnv(f"c:{catch}:other")


BROKEN = """
#include <skate/env.h>
#include <string.h>
static int make(const struct skate_env_make *m, struct skate_env_info *info, void **env) {
    static int it;
    info->obs = (struct skate_env_space){ .kind = 1, .dtype = SKATE_F32, .ndim = 1, .shape = {2} };
    info->action = (struct skate_env_space){ .kind = 2, .n = 2 };
    *env = &it;
    if (strstr(m->config, "sick")) {
        strcpy(m->error, "the scenery is missing");
        return -SKATE_EIO;
    }
    return 0;
}
static void close_it(void *env) { (void)env; }
static int reset(void *env, const struct skate_env_rows *rows, const uint32_t *lanes, uint32_t n,
                 const uint64_t *seeds) {
    (void)env; (void)rows; (void)lanes; (void)n; (void)seeds;
    return 0;
}
static int step(void *env, const struct skate_env_rows *rows, uint32_t lo, uint32_t hi) {
    (void)env; (void)lo; (void)hi;
    strcpy(rows->error, "the physics blew up");
    return -SKATE_EIO;
}
#define TABLE(version) { .abi = version, .bytes = sizeof(struct skate_env_api), .id = "Broken", \\
                         .make = make, .close = close_it, .reset = reset, .step = step }
const struct skate_env_api skate_env_v1 = TABLE(SKATE_ENV_ABI), future = TABLE(99);
"""


@needs_cc
def test_broken_environment(tmp_path):
    library = build(tmp_path, BROKEN, "broken")
    with pytest.raises(EnvError, match="version 99"):
        NativeEnv(f"c:{library}:future")
    with pytest.raises(EnvError, match="the scenery is missing"):
        NativeEnv(f"c:{library}", feels="sick")
    env = NativeEnv(f"c:{library}")
    env.reset()
    with pytest.raises(EnvError, match="the physics blew up"):
        env.step(0)
    with pytest.raises(EnvError, match="reset before step"):
        env.step(0)
    with pytest.raises(EnvError, match="gone.so"):
        NativeEnv(f"c:{tmp_path}/gone.so")


@needs_cc
def test_ppo_on_it(catch):
    from skate.rllib.agents.ppo import PPOTrainer

    trainer = PPOTrainer(config={"env": f"c:{catch}", "env_config": {"rows": 6},
                                 "num_workers": 0, "train_batch_size": 500, "seed": 1, "lr": 0.003,
                                 "num_sgd_iter": 10, "model": {"fcnet_hiddens": [32]}})
    try:
        means = [trainer.train()["episode_reward_mean"] for _ in range(12)]
    finally:
        trainer.stop()
    assert max(means) > means[0] + 0.5
