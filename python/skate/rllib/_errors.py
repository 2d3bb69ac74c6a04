"""The typed errors of rllib."""

from __future__ import annotations

from typing import Any


class EnvError(ValueError):
    """The environment named in a config does not exist or cannot be made."""


class EnvAnswerError(EnvError):
    """An environment answered with a number that is not finite.

    field: "observation" or "reward"; env: which of the worker's environments; step: of its
    episode, 0 is the observation of reset().
    """

    def __init__(self, text: str, field: str = "", env: int = 0, step: int = 0) -> None:
        super().__init__(text)
        self.field = field
        self.env = env
        self.step = step

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.field, self.env, self.step)


class UnsupportedSpaceException(ValueError):
    """The engine has no network or distribution for this space."""


class UnsupportedConfigError(ValueError):
    """A known config key has a value that this engine does not offer."""


class WorkerFailedError(RuntimeError):
    """A rollout worker was lost again and again; the last loss is the cause."""


class OfflineDataError(ValueError):
    """Offline data that cannot be used; `path`, `line` (from 1) and `column` say where."""

    def __init__(self, why: str, path: str = "", line: int = 0, column: str = "") -> None:
        self.why, self.path, self.line, self.column = why, path, line, column
        where = f"{path}:{line}: " if line else f"{path}: " if path else ""
        super().__init__(where + (f"column {column!r}: " if column else "") + why)

    def __reduce__(self) -> tuple[type, tuple[str, str, int, str]]:
        return type(self), (self.why, self.path, self.line, self.column)


class CheckpointError(ValueError):
    """A checkpoint is not there, is damaged, or is of another algorithm or other nets."""
