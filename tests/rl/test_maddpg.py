"""contrib/MADDPG by its name: agents who need each other, refusals."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from skate.rllib import _registry
from skate.rllib.env.multi_agent_env import MultiAgentEnv


class Meet(MultiAgentEnv):
    """The speaker sees a number and says one of three words; the listener hears it and must go to
    the number. Both get -|place - number|. Four steps an episode."""

    def __init__(self, config: dict[str, Any]) -> None:
        box, discrete = gymnasium.spaces.Box, gymnasium.spaces.Discrete
        self.possible_agents = ["listener", "speaker"]
        self.observation_spaces = {"listener": box(0.0, 1.0, (3,)), "speaker": box(-1.0, 1.0, (1,))}
        self.action_spaces = {"listener": box(-1.0, 1.0, (1,)), "speaker": discrete(3)}
        super().__init__()
        self.random = np.random.default_rng(0)
        self.mute = bool(config.get("mute"))
        self.goal, self.word, self.t = 0.0, 0, 0

    def _obs(self) -> dict[Any, Any]:
        heard = np.zeros(3, np.float32)
        heard[self.word] = 1.0
        spoken = {} if self.mute else {"speaker": np.array([self.goal], np.float32)}
        return {"listener": heard, **spoken}

    def _next(self) -> None:
        self.goal = float(self.random.choice([-0.8, 0.0, 0.8]))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            self.random = np.random.default_rng(seed)
        self.t, self.word = 0, 0
        self._next()
        return self._obs(), {}

    def step(self, action_dict: dict[Any, Any]) -> Any:
        assert self.action_spaces is not None
        for agent, action in action_dict.items():
            assert self.action_spaces[agent].contains(action), action
        self.t += 1
        reward = 0.0
        if self.t % 2:      # the word is said
            self.word = action_dict["speaker"]
        else:               # and heard
            reward = -abs(float(action_dict["listener"][0]) - self.goal)
            self._next()
        over = {"__all__": self.t == 4}
        return self._obs(), {a: reward for a in self.agents}, over, {"__all__": False}, {}


CONFIG = {"env": Meet, "num_workers": 0, "seed": 3, "gamma": 0.7, "actor_hiddens": [32, 32],
          "critic_hiddens": [32, 32], "learning_starts": 200, "train_batch_size": 128,
          "rollout_fragment_length": 4, "training_intensity": 32, "timesteps_per_iteration": 400,
          "buffer_size": 5000, "actor_lr": 3e-3, "critic_lr": 1e-2, "tau": 0.03}


def test_speaker_and_listener_learn_a_language() -> None:
    """Without words the best is -0.53 a word for each of the two: about -2.1 an episode."""
    trainer = _registry.trainer_class("contrib/MADDPG")(config=CONFIG)
    try:
        reward = -99.0
        for _ in range(40):
            trainer.train()
            reward = trainer.evaluate()["evaluation"]["episode_reward_mean"]
            if reward > -1.3:
                break
        assert reward > -1.3
    finally:
        trainer.stop()


def test_refusals_say_what_is_wrong() -> None:
    trainer = _registry.trainer_class("contrib/MADDPG")
    with pytest.raises(Exception, match="MultiAgentEnv"):
        trainer(config={**CONFIG, "env": "CartPole-v1"})
    with pytest.raises(Exception, match="'speaker'"):
        trainer(config={**CONFIG, "env_config": {"mute": True}}).train()
    with pytest.raises(ValueError, match="adv_policy"):
        trainer(config={**CONFIG, "adv_policy": "ddpg"})
