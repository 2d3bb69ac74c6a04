"""PettingZoo's two kinds of environment under a trainer."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

pytest.importorskip("pettingzoo")

from pettingzoo import AECEnv, ParallelEnv  # noqa: E402
from pettingzoo.utils import AgentSelector  # noqa: E402

from skate import tune  # noqa: E402
from skate.rllib.agents.ppo import PPOTrainer  # noqa: E402
from skate.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv, PettingZooEnv  # noqa: E402

STEPS = 8


class Echo(ParallelEnv):
    """Each agent earns 1 for the sign of its observation; the episode is cut after STEPS."""

    metadata = {"name": "echo"}
    possible_agents = ["a", "b"]

    def observation_space(self, agent):
        return spaces.Box(-1.0, 1.0, (2,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        self.rng = np.random.default_rng(seed)
        self.agents, self.count = list(self.possible_agents), 0
        return self._look(), {a: {} for a in self.agents}

    def _look(self):
        self.sides = {a: int(self.rng.integers(2)) for a in self.agents}
        return {a: np.array([2.0 * s - 1.0, 1.0], np.float32) for a, s in self.sides.items()}

    def step(self, actions):
        self.count += 1
        rewards = {a: float(actions[a] == self.sides[a]) for a in self.agents}
        cut = self.count == STEPS
        told = (self._look(), rewards, {a: False for a in self.agents},
                {a: cut for a in self.agents}, {a: {} for a in self.agents})
        if cut:
            self.agents = []
        return told


class Turns(AECEnv):
    """The same in turns; it ends after STEPS moves each, and "a" gets 3 more at the end."""

    metadata = {"name": "turns", "is_parallelizable": True}

    def __init__(self):
        super().__init__()
        self.possible_agents = ["a", "b"]

    def observation_space(self, agent):
        return spaces.Box(-1.0, 1.0, (2,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        self.rng = np.random.default_rng(seed)
        self.agents = list(self.possible_agents)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {a: {} for a in self.agents}
        self.sides = {a: int(self.rng.integers(2)) for a in self.agents}
        self.moves = 0
        self._selector = AgentSelector(self.agents)
        self.agent_selection = self._selector.reset()

    def observe(self, agent):
        return np.array([2.0 * self.sides[agent] - 1.0, 1.0], np.float32)

    def step(self, action):
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        self.rewards[agent] = float(action == self.sides[agent])
        self.sides[agent] = int(self.rng.integers(2))
        self.moves += 1
        if self.moves == 2 * STEPS:
            self.rewards["a"] += 3.0
            self.terminations = dict.fromkeys(self.agents, True)
        self.agent_selection = self._selector.next()
        self._accumulate_rewards()

    def close(self):
        pass


@pytest.mark.parametrize(("make", "best"), [
    (lambda config: ParallelPettingZooEnv(Echo()), 2.0 * STEPS),
    (lambda config: PettingZooEnv(Turns()), 2.0 * STEPS + 3.0)])
def test_agents_learn(make, best):
    tune.register_env("zoo", make)
    trainer = PPOTrainer(config={
        "env": "zoo", "num_workers": 0, "train_batch_size": 256, "rollout_fragment_length": 256,
        "lr": 1e-2, "sgd_minibatch_size": 64, "num_sgd_iter": 6, "seed": 1,
        "model": {"fcnet_hiddens": [16]},
        "multiagent": {"policies": {"one", "other"},
                       "policy_mapping_fn": lambda agent, *_a, **_k: (
                           "one" if agent == "a" else "other")}})
    top = 0.0
    for _ in range(25):
        result = trainer.train()
        top = max(top, result["episode_reward_mean"])
        if top >= 0.9 * best:
            break
    trainer.stop()
    assert 0.9 * best <= top <= best
    assert set(result["policy_reward_mean"]) == {"one", "other"}


def test_rewards_go_to_whom_they_belong():
    env = PettingZooEnv(Turns())
    obs, _ = env.reset(seed=3)
    totals = {"a": 0.0, "b": 0.0}
    agents = []
    while True:
        agent = next(a for a in obs if a == env.env.agent_selection)
        agents.append(agent)
        obs, rewards, terminateds, truncateds, _infos = env.step({agent: env.env.sides[agent]})
        for name, reward in rewards.items():
            totals[name] += reward
        if terminateds["__all__"]:
            break
    assert agents == ["a", "b"] * STEPS and not truncateds["__all__"]
    assert totals == {"a": STEPS + 3.0, "b": float(STEPS)}
