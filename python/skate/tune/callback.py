"""Hooks into the run of an experiment, all called on the driver."""

from __future__ import annotations

from typing import Any


class Callback:
    """Override what is wanted; `trials` is the list of all trials so far."""

    def setup(self, stop: Any = None, num_samples: int | None = None,
              total_num_samples: int | None = None, **info: Any) -> None:
        """Before anything else."""

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Before the runner handles an event."""

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """After it did."""

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial's actor is ready."""

    def on_trial_restore(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial took on a checkpoint."""

    def on_trial_save(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial wrote a checkpoint."""

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any,
                        result: dict[str, Any], **info: Any) -> None:
        """A trial gave a result."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any,
                          **info: Any) -> None:
        """A trial ended well."""

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any,
                         **info: Any) -> None:
        """A trial failed and will be started again."""

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial failed for good."""

    def on_checkpoint(self, iteration: int, trials: list[Any], trial: Any, checkpoint: Any,
                      **info: Any) -> None:
        """A trial's checkpoint is on disk."""

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """After everything else."""
