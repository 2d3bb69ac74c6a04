"""The option objects of Tuner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class TuneConfig:
    """What to search and how."""

    mode: str | None = None
    metric: str | None = None
    search_alg: Any = None
    scheduler: Any = None
    num_samples: int = 1
    max_concurrent_trials: int | None = None
    time_budget_s: Any = None
    reuse_actors: bool = False
    trial_name_creator: Callable[[Any], str] | None = None
    trial_dirname_creator: Callable[[Any], str] | None = None


@dataclass
class FailureConfig:
    """How often a failed trial is started again."""

    max_failures: int = 0
    fail_fast: bool | str = False

    def __post_init__(self) -> None:
        if not (isinstance(self.fail_fast, bool) or self.fail_fast == "raise"):
            raise ValueError("fail_fast must be one of {bool, 'raise'}. "
                             f"Got {self.fail_fast!r}.")
        if self.fail_fast and self.max_failures != 0:
            raise ValueError("max_failures must be 0 if fail_fast=True.")


@dataclass
class CheckpointConfig:
    """When trials write checkpoints and which are kept."""

    num_to_keep: int | None = None
    checkpoint_score_attribute: str | None = None
    checkpoint_score_order: str | None = "max"
    checkpoint_frequency: int | None = 0
    checkpoint_at_end: bool | None = None

    def __post_init__(self) -> None:
        if self.num_to_keep is not None and self.num_to_keep <= 0:
            raise ValueError(f"Received invalid num_to_keep: {self.num_to_keep}. "
                             "Must be None or an integer >= 1.")
        if self.checkpoint_score_order not in ("max", "min"):
            raise ValueError("checkpoint_score_order must be either 'max' or 'min', "
                             f"got {self.checkpoint_score_order!r}")
        if self.checkpoint_frequency is not None and self.checkpoint_frequency < 0:
            raise ValueError(f"checkpoint_frequency must be >= 0, got {self.checkpoint_frequency}")


@dataclass
class SyncConfig:
    """Accepted and without effect: results are written where the driver runs."""

    syncer: Any = "auto"
    sync_period: int = 300


@dataclass
class RunConfig:
    """Where results go and how the experiment runs."""

    name: str | None = None
    storage_path: str | None = None
    failure_config: FailureConfig | None = None
    checkpoint_config: CheckpointConfig | None = None
    sync_config: SyncConfig | None = None
    verbose: int | None = None
    stop: Any = None
    callbacks: list[Any] | None = None
    progress_reporter: Any = None
    log_to_file: bool | str | tuple[str, str] = False
    local_dir: str | None = None

    def __post_init__(self) -> None:
        if self.local_dir is not None and self.storage_path is None:
            self.storage_path = self.local_dir
