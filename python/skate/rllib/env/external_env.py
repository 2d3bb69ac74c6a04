"""ExternalEnv: an environment that runs by itself and asks for actions (a simulator, a service).

    class MyService(ExternalEnv):
        def run(self):
            while True:
                episode = self.start_episode()
                obs = ...
                while not done:
                    action = self.get_action(episode, obs)
                    obs, reward, done = ...
                    self.log_returns(episode, reward)
                self.end_episode(episode, obs)
"""

from __future__ import annotations

from typing import Any

from skate.rllib._errors import EnvError


class ExternalEnv:
    """Subclass it, override run(), and name the class as config['env'].

    run() is called in a thread of its own; an exception there is raised by train(). The methods
    below may be called from more threads. When the trainer stops they raise ExternalClosedError.
    """

    def __init__(self, action_space: Any, observation_space: Any, max_concurrent: Any = None
                 ) -> None:
        self.action_space = action_space
        self.observation_space = observation_space
        self._recorder: Any = None

    def run(self) -> None:
        """Start episodes, one after the other or side by side, for ever."""
        raise NotImplementedError("an ExternalEnv must have run()")

    def drive(self, recorder: Any) -> None:
        """Called by the trainer: run() with where its episodes go."""
        self._recorder = recorder
        self.run()

    def _there(self) -> Any:
        if self._recorder is None:
            raise EnvError("an ExternalEnv is driven by a trainer: it is none's yet")
        return self._recorder

    def start_episode(self, episode_id: str | None = None, training_enabled: bool = True) -> str:
        """The name of a new episode. Without training_enabled it is acted for, not learned from."""
        name: str = self._there().start_episode(episode_id, training_enabled)
        return name

    def get_action(self, episode_id: str, observation: Any) -> Any:
        """The policy's action; the reward of the one before must have been logged."""
        return self._there().get_action(episode_id, observation)

    def log_action(self, episode_id: str, observation: Any, action: Any) -> None:
        """An action that somebody else chose."""
        self._there().log_action(episode_id, observation, action)

    def log_returns(self, episode_id: str, reward: float, info: Any = None,
                    multiagent_done_dict: Any = None) -> None:
        """A reward; several for one action add up."""
        self._there().log_returns(episode_id, reward)

    def end_episode(self, episode_id: str, observation: Any) -> None:
        """The episode is over."""
        self._there().end_episode(episode_id, observation)
