"""Multi-agent: policies, mapping, turns, agents that leave, groups, checkpoints, learning."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from skate.rllib import _config, _engine, _registry
from skate.rllib._errors import EnvError
from skate.rllib._specs import Spec
from skate.rllib.env.multi_agent_env import MultiAgentEnv, make_multi_agent
from skate.rllib.policy.policy import PolicySpec


@pytest.fixture(autouse=True)
def results_here(tmp_path, monkeypatch):
    """Results of trainers go to the test's folder."""
    monkeypatch.setenv("TUNE_RESULT_DIR", str(tmp_path))


def a2c(env, **config):
    defaults = _config.with_common_config({
        "num_workers": 0, "train_batch_size": 40, "rollout_fragment_length": 10, "lr": 1e-2,
        "num_envs_per_worker": 2, "seed": 3})
    defaults["model"] = {**defaults["model"], "fcnet_hiddens": [8]}
    made = _registry._make_trainer(Spec(
        "A2C", defaults, "on_policy:OnPolicyPlan", engine="A2C", offered={"model.use_lstm": None},
        options=lambda c: {**_engine.model_options(c), "lr": c["lr"], "gamma": c["gamma"]}))
    return made(env=env, config=config)


class Turns(MultiAgentEnv):
    """"big" and "small" take turns; who acts pays 1 to the other. "small" leaves at step 6, the
    episode ends at step 8."""

    def __init__(self, config=None):
        self.possible_agents = ["big", "small"]
        self.observation_spaces = {"big": gymnasium.spaces.Box(-9, 9, (3,)),
                                   "small": gymnasium.spaces.Discrete(9)}
        self.action_spaces = {"big": gymnasium.spaces.Box(-1, 1, (1,)),
                              "small": gymnasium.spaces.Discrete(2)}
        super().__init__()
        self.t = 0

    def _obs(self):
        if self.t % 2 and self.t < 6:
            return {"small": self.t}
        return {"big": np.full(3, self.t, np.float32)}

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self._obs(), {}

    def step(self, actions):
        (who, action), = actions.items()
        assert self.action_spaces[who].contains(action)
        assert who == next(iter(self._obs()))
        self.t += 1
        rewards = {"small" if who == "big" else "big": 1.0}
        terminateds = {"__all__": self.t == 8}
        obs = self._obs()
        if self.t == 6:
            obs["small"], terminateds["small"] = 6, True
        return obs, rewards, terminateds, {"__all__": False}, {}


def test_turns_rows_and_rewards():
    t = a2c(Turns, multiagent={"policies": {"b", "s"},
                               "policy_mapping_fn": lambda agent, *a, **kw: agent[0]})
    parts = t.workers.collect(t.plan.acting, 20, 0)
    (columns, ended), = parts
    big, small = columns["b"], columns["s"]
    first = big["eps_id"] == big["eps_id"][0]
    # acts at 0, 2, 4, 6, 7; what "small" pays meanwhile is its own
    assert big["obs"][first, 0].tolist() == [0, 2, 4, 6, 7]
    assert big["new_obs"][first, 0].tolist() == [2, 4, 6, 7, 8]
    assert big["rewards"][first].tolist() == [1, 1, 1, 0, 0]
    assert big["terminateds"][first].tolist() == [0, 0, 0, 0, 1]
    one = small["eps_id"] == small["eps_id"][0]
    assert small["obs"][one].argmax(1).tolist() == [1, 3, 5]
    # "big" pays it before it ever acts (not a row's), and after its 1st and 2nd action
    assert small["rewards"][one].tolist() == [1, 1, 0]
    assert small["terminateds"][one].tolist() == [0, 0, 1]
    assert small["new_obs"][one][-1].argmax() == 6
    assert ended.lengths == [8] * 4 and ended.policy_rewards["b"] == [3.0] * 4
    assert big["cuts"].sum() == 2           # 20 steps: the third episodes of both go on
    assert (big["t"][first] == np.arange(5)).all()
    t.stop()


def test_policies_learn_or_not_and_are_kept(tmp_path):
    t = a2c(Turns, multiagent={
        "policies": {"b": PolicySpec(config={"gamma": 0.5, "lr": 3e-2}),
                     "s": (None, None, None, {})},
        "policy_mapping_fn": lambda agent_id, episode, worker, **kwargs: agent_id[0],
        "policies_to_train": ["b"]})
    assert t.plan.plans["b"].config["gamma"] == 0.5 and t.plan.plans["s"].config["gamma"] == 0.99
    before = t.get_weights()
    r = t.train()
    after = t.get_weights()
    changed = {name: any((before[name][k] != after[name][k]).any() for k in before[name])
               for name in before}
    assert changed == {"b": True, "s": False}
    assert set(r["info"]["learner"]) == {"b"} and set(r["policy_reward_mean"]) == {"b", "s"}
    assert r["timesteps_total"] == 40 and r["agent_timesteps_total"] >= 36
    action = t.compute_single_action(np.zeros(3), policy_id="b", explore=False)
    assert action.shape == (1,)
    assert t.compute_single_action(3, policy_id="s") in (0, 1)
    with pytest.raises(KeyError, match="no policy 'default_policy'"):
        t.compute_single_action(3)
    path = t.save(str(tmp_path / "it"))
    t.train()
    t.restore(path)
    assert (t.compute_single_action(np.zeros(3), policy_id="b", explore=False) == action).all()
    assert t.evaluate()["evaluation"]["episode_len_mean"] == 8
    t.stop()


def test_policies_come_and_go():
    env = make_multi_agent("CartPole-v1")
    t = a2c(env, env_config={"num_agents": 2}, multiagent={
        "policies": ["p0"], "policy_mapping_fn": lambda agent_id, episode, **kw: "p0"})
    t.train()
    t.add_policy("p1", policy_mapping_fn=lambda agent_id, episode, **kw: f"p{agent_id}")
    r = t.train()
    assert set(r["info"]["learner"]) == {"p0", "p1"}
    t.remove_policy("p0", policy_mapping_fn=lambda agent_id, episode, **kw: "p1")
    assert set(t.train()["info"]["learner"]) == {"p1"}
    t.stop()
    t = a2c(env, env_config={"num_agents": 2}, multiagent={
        "policies": ["p0"], "policy_mapping_fn": lambda agent: "p7"})
    with pytest.raises(EnvError, match="'p7'.*'p0'"):
        t.train()
    t.stop()


def test_without_policies_all_agents_share_one_and_lstm_states_are_theirs():
    t = a2c(make_multi_agent("CartPole-v1"), env_config={"num_agents": 3},
            model={"use_lstm": True, "lstm_cell_size": 4, "max_seq_len": 6})
    r = t.train()
    assert set(r["info"]["learner"]) == {"default_policy"} and r["agent_timesteps_total"] >= 40
    (columns, _), = t.workers.collect(t.plan.acting, 10, 0)
    part = columns["default_policy"]
    assert (part["state_in"][part["t"] == 0] == 0).all() and (part["state_in"] != 0).any()
    t.stop()


def test_groups_act_as_one():
    env = make_multi_agent("CartPole-v1")({"num_agents": 2}).with_agent_groups({"both": [0, 1]})
    obs, _ = env.reset(seed=1)
    assert len(obs["both"]) == 2
    obs, rewards, terminateds, truncateds, infos = env.step({"both": [0, 1]})
    assert rewards == {"both": 2.0} and infos["both"]["_group_rewards"] == [1.0, 1.0]
    assert not terminateds["__all__"] and not truncateds["both"]
    env.close()


def test_old_api_and_horizon():
    class Old(MultiAgentEnv):
        def __init__(self, config=None):
            self.observation_space = gymnasium.spaces.Box(-1, 1, (2,))
            self.action_space = gymnasium.spaces.Discrete(2)
            super().__init__()

        def reset(self):
            return {7: np.zeros(2), "x": np.zeros(2)}

        def step(self, actions):
            return ({a: np.ones(2) for a in actions}, {a: 1.0 for a in actions},
                    {"__all__": False}, {})

    t = a2c(Old, horizon=5)
    r = t.train()
    assert r["episode_len_mean"] == 5 and r["episode_reward_mean"] == 10
    t.stop()


class Agree(MultiAgentEnv):
    """Both see the same bit; 1 for each agent that says it."""

    def __init__(self, config=None):
        self.possible_agents = ["a", "b"]
        self.observation_space = gymnasium.spaces.Discrete(2)
        self.action_space = gymnasium.spaces.Discrete(2)
        super().__init__()
        self.random = np.random.default_rng(0)

    def _obs(self):
        self.bit = int(self.random.integers(2))
        return {"a": self.bit, "b": self.bit}

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self._obs(), {}

    def step(self, actions):
        self.t += 1
        rewards = {a: float(action == self.bit) for a, action in actions.items()}
        return self._obs(), rewards, {"__all__": self.t == 10}, {"__all__": False}, {}


def test_two_policies_learn():
    t = a2c(Agree, train_batch_size=200, multiagent={
        "policies": {"a", "b"}, "policy_mapping_fn": lambda agent_id, *rest, **kw: agent_id})
    best = 0.0
    for _ in range(150):        # some 35 are enough
        best = t.train()["policy_reward_mean"]["a"]
        if best > 9:
            break
    assert best > 9
    t.stop()


@pytest.mark.parametrize("name", ["PPO", "IMPALA", "DQN"])
def test_by_name(name):
    t = _registry.trainer_class(name)(env=Agree, config={
        "num_workers": 0, "seed": 1, "train_batch_size": 40, "rollout_fragment_length": 10,
        "min_iter_time_s": 0,
        **({"learning_starts": 40, "n_step": 2, "timesteps_per_iteration": 80}
           if name == "DQN" else {}), **({"sgd_minibatch_size": 20} if name == "PPO" else {}),
        "model": {"fcnet_hiddens": [8]}, "multiagent": {
            "policies": ["a", "b"], "policy_mapping_fn": lambda agent_id, **kwargs: agent_id}})
    before = t.get_weights()
    r = t.train()
    assert set(r["info"]["learner"]) == {"a", "b"}
    for policy, named in t.get_weights().items():
        assert any((named[k] != before[policy][k]).any() for k in named)
    t.stop()
