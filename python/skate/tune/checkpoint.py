"""Checkpoint: a folder that holds a trial's state.

It is a string, its folder's path, because that is what the elder API returned and what restore()
takes; the newer API's methods stand on it as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Checkpoint(str):
    """The path of a checkpoint folder, with the methods that users call on checkpoints."""

    __slots__ = ()

    def __new__(cls, path: Any, filesystem: Any = None) -> Checkpoint:
        """Name a folder; it need not exist yet. Remote file systems are not supported here."""
        if filesystem is not None:
            raise ValueError("Checkpoint: only local folders are supported")
        return super().__new__(cls, os.fspath(path))

    @classmethod
    def from_directory(cls, path: Any) -> Checkpoint:
        """The checkpoint in the folder `path`."""
        return cls(path)

    @property
    def path(self) -> str:
        """The folder."""
        return str(self)

    def to_directory(self, path: Any = None) -> str:
        """Copy the folder to `path` (a new temporary folder by default) and return it."""
        import shutil
        import tempfile

        target = os.fspath(path) if path is not None else tempfile.mkdtemp(prefix="checkpoint_")
        shutil.copytree(self.path, target, dirs_exist_ok=True)
        return target

    @contextmanager
    def as_directory(self) -> Iterator[str]:
        """The folder itself, for reading."""
        yield self.path

    def __fspath__(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return f"Checkpoint(path={str(self)!r})"
