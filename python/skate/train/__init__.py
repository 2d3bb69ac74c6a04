"""`skate.train`: the names that Tune programs of Ray 2.7 and later import from there, all Tune's.

Training of torch or TensorFlow models by worker groups is not here.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

_NAMES = (
    "Checkpoint", "CheckpointConfig", "FailureConfig", "Result", "RunConfig", "SyncConfig",
    "get_checkpoint", "get_context", "report",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        if name.startswith("_"):
            raise AttributeError(f"module 'skate.train' has no attribute {name!r}")
        from skate import _absent

        raise _absent.name_error("train", f"train.{name}")
    from skate import tune

    return getattr(tune, name)


def __dir__() -> list[str]:
    return list(_NAMES)
