"""Saying a thing once."""

from __future__ import annotations

import time

_PERIOD_S = 60.0
_MOST = 100_000  # keys; beyond, nothing is said any more

_said: set[str] = set()
_disabled = False
_periodic = False
_last_reset = 0.0


def log_once(key: str) -> bool:
    """True for the first call with that key in this process, then False."""
    global _last_reset
    if _disabled:
        return False
    if key not in _said:
        if len(_said) >= _MOST:
            return False
        _said.add(key)
        return True
    if _periodic and time.monotonic() - _last_reset > _PERIOD_S:
        _said.clear()
        _last_reset = time.monotonic()
    return False


def disable_log_once_globally() -> None:
    """log_once() is False from now on."""
    global _disabled
    _disabled = True


def enable_periodic_logging() -> None:
    """What was said once may be said again after a minute; a disabled log_once() stays so."""
    global _periodic, _last_reset
    _periodic = True
    _last_reset = time.monotonic()
