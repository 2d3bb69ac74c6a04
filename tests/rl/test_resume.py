"""A run that is restored goes on exactly as the one that was saved."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from skate import _rl
from skate.rllib import _registry
from skate.rllib.env.multi_agent_env import make_multi_agent

SMALL = {"num_workers": 0, "seed": 5, "model": {"fcnet_hiddens": [8]}, "min_iter_time_s": 0}
PPO = {"train_batch_size": 200, "sgd_minibatch_size": 50, "num_sgd_iter": 2,
       "rollout_fragment_length": 100}
DQN = {"train_batch_size": 16, "learning_starts": 50, "timesteps_per_iteration": 101,
       "target_network_update_freq": 30, "n_step": 3, "rollout_fragment_length": 4}


class Noisy(gymnasium.Env):
    """Long episodes with a random stream of its own."""

    observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, config=None):
        self.t = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.normal(size=2).astype(np.float32), {}

    def step(self, action):
        self.t += 1
        obs = self.np_random.normal(size=2).astype(np.float32)
        return obs, float(obs[action]), False, self.t == 70, {}


@pytest.fixture(autouse=True)
def results_here(tmp_path, monkeypatch):
    """Results of trainers go to the test's folder."""
    monkeypatch.setenv("TUNE_RESULT_DIR", str(tmp_path))


def flat(trainer):
    return [{k: v.tobytes() for k, v in trainer.get_policy(name).get_weights().items()}
            for name in trainer.plan.policies]


@pytest.mark.parametrize(("name", "env", "config"), [
    ("PPO", "CartPole-v1", {**PPO, "num_envs_per_worker": 2}),
    ("PPO", "CartPole-v1", {**PPO, "native_env": False}),
    ("PPO", Noisy, PPO),
    ("PPO", "Pendulum-v1", PPO),
    ("PPO", Noisy, {**PPO, "observation_filter": "MeanStdFilter",
                    "batch_mode": "complete_episodes"}),
    ("A2C", Noisy, {"train_batch_size": 60, "rollout_fragment_length": 20,
                    "model": {"use_lstm": True, "lstm_cell_size": 4, "fcnet_hiddens": [8]}}),
    ("DQN", Noisy, DQN),
    ("DQN", "CartPole-v1", {**DQN, "num_envs_per_worker": 3}),
    ("PPO", make_multi_agent(Noisy), {**PPO, "multiagent": {
        "policies": ["0", "1"], "policy_mapping_fn": lambda agent_id, **kw: str(agent_id)},
        "env_config": {"num_agents": 2}}),
], ids=lambda x: getattr(x, "__name__", x) if not isinstance(x, dict) else "")
def test_resume_equals_an_uninterrupted_run(name, env, config, tmp_path):
    cls = _registry.trainer_class(name)
    a = cls(env=env, config={**SMALL, **config})
    a.train()
    path = a.save(str(tmp_path / "it"))
    want = [a.train() for _ in range(2)]
    b = cls(env=env, config={**SMALL, **config, "seed": 6})
    b.train()
    b.restore(path)
    got = [b.train() for _ in range(2)]
    for key in ("episode_len_mean", "episodes_total", "timesteps_total", "training_iteration"):
        assert [r[key] for r in got] == pytest.approx([r[key] for r in want], nan_ok=True), key
    assert [r["hist_stats"] for r in got] == [r["hist_stats"] for r in want]
    assert flat(a) == flat(b)
    c = cls(env=env, config={**SMALL, **config, "seed": 7})
    c.restore(b.save(str(tmp_path / "again")))      # and once more
    a.train()
    c.train()
    assert flat(a) == flat(c)
    for trainer in (a, b, c):
        trainer.stop()


def test_an_environment_that_cannot_be_pickled_starts_anew(tmp_path):
    class Stuck(Noisy):
        def __reduce__(self):
            raise TypeError("no")

    config = {**SMALL, "train_batch_size": 60, "rollout_fragment_length": 20}
    a = _registry.trainer_class("A2C")(env=Stuck, config=config)
    a.train()
    path = a.save(str(tmp_path / "it"))
    a.restore(path)
    assert a.train()["timesteps_total"] == 120
    a.stop()


def test_state_of_a_rollout_is_checked():
    policy = _rl.Policy(4, 2, [8], "tanh", seed=1)
    rollout = _rl.Rollout(policy, 10, 2)
    state = rollout.state()
    rollout.set_state(state)
    for bad in (b"", state[:-1], state + b"1", state[:32] + b"\xff" * (len(state) - 32)):
        with pytest.raises(ValueError, match="state"):
            rollout.set_state(bad)
    rollout.begin(np.zeros(_rl.frag_bytes(10, 2, 4, 2), np.uint8))
    with pytest.raises(ValueError, match="under way"):
        rollout.set_state(state)
