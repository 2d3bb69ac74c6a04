"""What the lease of this worker is: its placement group, and the GPUs that are its own.

The core tells changed() before the first task of a lease with a group or GPUs, and once more when
a later lease has neither.
"""

from __future__ import annotations

import os

from skate import _core

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

_NO_GROUP = bytes(16)
_captured = False
_prepared: Any = None  # functions whose place was taken from the lease: a WeakSet


def changed() -> None:
    """Called from C: the lease says something else. Its GPUs go into the environment."""
    global _captured
    lease = _core.lease()
    if lease is None:
        return
    group, _, capture, gpus = lease
    if gpus and os.environ.get("RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES") != "1":
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    captured = bool(capture) and group != _NO_GROUP
    if (captured or _captured) and _prepared:
        for function in list(_prepared):
            function._prepare()
    _captured = captured


def remember(function: Any) -> None:
    """The place of this function's tasks is the lease's business: see changed()."""
    global _prepared
    if _core.info()["is_driver"]:
        return
    if _prepared is None:
        import weakref

        _prepared = weakref.WeakSet()
    _prepared.add(function)


def group() -> bytes | None:
    """The id of the placement group that this runs in, or None."""
    lease = _core.lease()
    return lease[0] if lease is not None and lease[0] != _NO_GROUP else None


def captures() -> bool:
    """Do the children of this task or actor run in its placement group, unless they say not?"""
    lease = _core.lease()
    return lease is not None and lease[0] != _NO_GROUP and bool(lease[2])


def gpus() -> list[str]:
    """The GPUs of this task or actor."""
    lease = _core.lease()
    return lease[3].split(",") if lease is not None and lease[3] else []
