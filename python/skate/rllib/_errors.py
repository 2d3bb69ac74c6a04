"""The typed errors of rllib."""

from __future__ import annotations


class EnvError(ValueError):
    """The environment named in a config does not exist or cannot be made."""


class UnsupportedSpaceException(ValueError):
    """The engine has no network or distribution for this space."""


class UnsupportedConfigError(ValueError):
    """A known config key has a value that this engine does not offer."""


class WorkerFailedError(RuntimeError):
    """A rollout worker was lost again and again; the last loss is the cause."""
