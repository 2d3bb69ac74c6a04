"""TaskSettableEnv: environments for curricula (config['env_task_fn'])."""

from __future__ import annotations

from typing import Any


class TaskSettableEnv:
    """Mix into an environment's class. After each iteration the trainer asks
    env_task_fn(result, environment, env_context) for the task of each environment and sets it."""

    def sample_tasks(self, n_tasks: int) -> list[Any]:
        """Some tasks, for those who draw them."""
        raise NotImplementedError

    def get_task(self) -> Any:
        """The task that is set."""
        raise NotImplementedError

    def set_task(self, task: Any) -> None:
        """Another task; from the next episode on at the latest."""
        raise NotImplementedError


__all__ = ["TaskSettableEnv"]
