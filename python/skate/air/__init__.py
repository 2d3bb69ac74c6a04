"""`skate.air`: the names that Tune programs of Ray 2.0 to 2.6 import from there; all are Tune's."""

from __future__ import annotations

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

_NAMES = ("Checkpoint", "CheckpointConfig", "FailureConfig", "Result", "RunConfig", "session")


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'skate.air' has no attribute {name!r}: not supported yet")
    if name == "session":
        from skate.tune import session

        return session
    from skate import tune

    return getattr(tune, name)


def __dir__() -> list[str]:
    return list(_NAMES)
