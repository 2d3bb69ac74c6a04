"""Pictures and tasks of environments in C, built in or in shared objects, of old tables too."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import skate
from skate.rllib._native import open_env
from skate.rllib.env.native import NativeEnv, NativeVectorEnv
from skate.rllib.utils.error import EnvError

INCLUDE = Path(skate.__file__).parent / "include"
DRAWN = {
    "CartPole-v1": (200, 300), "CartPole-v0": (200, 300), "MountainCar-v0": (200, 300),
    "Pendulum-v1": (200, 200), "Acrobot-v1": (200, 200), "PixelPong-v0": (84, 84),
    "PixelBreakout-v0": (84, 84), "MinAtar-Breakout-v1": (80, 80), "MinAtar-Freeway-v1": (80, 80),
    "MinAtar-Asterix-v1": (80, 80), "MinAtar-Seaquest-v1": (80, 80),
    "MinAtar-SpaceInvaders-v1": (80, 80),
}


@pytest.mark.parametrize("name", DRAWN)
def test_pictures_show_the_state(name):
    env = NativeEnv(name, render_mode="rgb_array")
    plain = NativeEnv(name)
    with pytest.raises(EnvError, match="reset first"):
        env.render()
    env.reset(seed=4)
    plain.reset(seed=4)
    first = env.render()
    assert first.shape == (*DRAWN[name], 3) and first.dtype == np.uint8
    assert len(np.unique(first.reshape(-1, 3), axis=0)) >= 2
    env.action_space.seed(1)
    for _ in range(12):
        action = env.action_space.sample()
        ours, theirs = env.step(action), plain.step(action)
        assert (ours[0] == theirs[0]).all() and ours[1:] == theirs[1:]
        env.render()            # changes nothing
    assert (env.render() != first).any()
    assert (env.render() == env.render()).all()
    assert plain.render() is None


def test_through_gymnasium():
    env = gymnasium.make("skate/CartPole-v1", render_mode="rgb_array")
    env.reset(seed=1)
    assert env.render().shape == (200, 300, 3)
    check_env(env.unwrapped, skip_render_check=True)
    with pytest.raises(EnvError, match="rgb_array"):
        NativeEnv("CartPole-v1", render_mode="human")
    taxi = NativeEnv("Taxi-v4", render_mode="rgb_array")
    taxi.reset(seed=1)
    with pytest.raises(EnvError, match="draws no pictures"):
        taxi.render()


def torque_free(env, seed, steps=60):
    env.reset(seed=seed)
    return [env.step(np.zeros(1, np.float32))[1] for _ in range(steps)]


def test_a_task_holds_from_the_next_reset():
    env, light = NativeEnv("Pendulum-v1"), NativeEnv("Pendulum-v1", g=2.0)
    heavy = torque_free(env, 1)
    env.reset(seed=1)
    part = [env.step(np.zeros(1, np.float32))[1] for _ in range(30)]
    env.set_task({"g": 2.0})
    part += [env.step(np.zeros(1, np.float32))[1] for _ in range(30)]
    assert part == heavy                    # the episode ends as it began
    assert torque_free(env, 1) == torque_free(light, 1) != heavy
    assert env.get_task() == {"g": 2.0}
    for task, said in (({"gravity": 1}, "gravity"), ({"g": "much"}, "a number")):
        with pytest.raises(EnvError, match=said):
            env.set_task(task)
    assert torque_free(env, 1) == torque_free(light, 1)
    env.set_task({})
    assert torque_free(env, 1) == heavy
    with pytest.raises(EnvError, match="one task only"):
        NativeEnv("Taxi-v4").set_task({})
    lane = open_env("Pendulum-v1", {}, None)
    lane.set_task({"g": 2.0})
    assert torque_free(lane, 1) == torque_free(light, 1)


def test_a_task_of_all_lanes():
    envs = NativeVectorEnv("MountainCar-v0", 3)
    envs.set_task({"goal_velocity": 9.0})   # cannot be reached
    envs.reset(seed=1)
    ended = np.zeros(3, bool)
    velocity = np.zeros(3)
    for _ in range(199):
        obs, _, terminated, _, _ = envs.step((velocity >= 0) * 2)
        velocity = obs[:, 1]
        ended |= terminated
    assert not ended.any()


OWN = r"""
#include <skate/env_config.h>
#include <skate/env_scalar.h>
struct own { int at; };
static int own_make(struct own *s, const struct skate_env_make *m, struct skate_env_info *info) {
    (void)s; (void)m;
    info->obs = (struct skate_env_space){ .kind = SKATE_SPACE_DISCRETE, .n = 9 };
    info->action = (struct skate_env_space){ .kind = SKATE_SPACE_DISCRETE, .n = 2 };
    return 0;
}
static void own_reset(struct own *s, struct skate_rng *rng, void *obs) {
    (void)rng;
    *(int64_t *)obs = s->at = 3;
}
static struct skate_env_answer own_step(struct own *s, struct skate_rng *rng, const void *action,
                                        void *obs) {
    (void)rng; (void)action;
    *(int64_t *)obs = s->at;
    return (struct skate_env_answer){ 1.0, 0 };
}
static int huge(void *env, uint32_t lane, uint8_t *to, uint32_t size[2]) {
    (void)env; (void)lane; (void)to;
    size[0] = 1 << 20;
    size[1] = 1;
    return 0;
}
static int sad(void *env, uint32_t lane, uint8_t *to, uint32_t size[2]) {
    (void)env; (void)lane; (void)to; (void)size;
    return -SKATE_EIO;
}
static int refuse(void *env, const char *task, char *error) {
    (void)env;
    snprintf(error, SKATE_ENV_ERROR_BYTES, "no task %s today", task);
    return -SKATE_EINVAL;
}
SKATE_ENV_SCALAR_LANES(struct own, own, SKATE_ENV_NO_TURN)
SKATE_ENV_SCALAR_TABLE(skate_env_v1, "Own", own, 0, .render = huge, .set_task = refuse)
SKATE_ENV_SCALAR_TABLE(other, "Own", own, 0, .render = sad)
/* As a header from before pictures made it: nothing lies behind the table. */
_Alignas(8) char old[SKATE_ENV_API_MIN];
__attribute__((constructor)) static void fill(void) {
    struct skate_env_api table = skate_env_v1;
    table.bytes = SKATE_ENV_API_MIN;
    memcpy(old, &table, sizeof old);
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_strange_and_old_tables(tmp_path):
    (tmp_path / "own.c").write_text(OWN)
    library = tmp_path / "own.so"
    subprocess.run(["cc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library,
                    tmp_path / "own.c", f"-I{INCLUDE}"], check=True)
    env = NativeEnv(f"c:{library}", render_mode="rgb_array")
    env.reset(seed=1)
    with pytest.raises(EnvError, match="1048576 x 1"):
        env.render()
    with pytest.raises(EnvError, match='no task {"a": 1} today'):
        env.set_task({"a": 1})
    env = NativeEnv(f"c:{library}:other", render_mode="rgb_array")
    env.reset(seed=1)
    with pytest.raises(EnvError, match="render"):
        env.render()
    env = NativeEnv(f"c:{library}:old", render_mode="rgb_array")
    assert env.reset(seed=1)[0] == 3 and env.step(1)[1] == 1.0
    with pytest.raises(EnvError, match="draws no pictures"):
        env.render()
    with pytest.raises(EnvError, match="one task only"):
        env.set_task({})
