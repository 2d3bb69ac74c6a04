"""What is said while the cluster's control store is away."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    import threading

TEXT = (
    "the cluster's control store does not answer: it starts again by itself unless its keeper or "
    "its machine is gone, too; then `skate start --head` there goes on"
)
_SLOW_S = 3.0


class Warned:
    """Around a question to the control store: who waits for long is told why, on stderr.

    on: without it nothing is said, and nothing is spent.
    """

    def __init__(self, on: bool) -> None:
        self._on = on
        self._timer: threading.Timer | None = None

    def __enter__(self) -> None:
        if self._on:
            import threading

            told = f"[skate] warning: {TEXT}; waiting\n"
            self._timer = threading.Timer(_SLOW_S, sys.stderr.write, [told])
            self._timer.daemon = True
            self._timer.start()

    def __exit__(self, *exc: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
