"""`skate start --address` may come before the head: machines start in any order."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable

from skate import _node

WAIT_S = 120.0  # for a head on another machine, unless --wait says otherwise
STRANGER_S = 5.0  # so long something that accepts and says nothing may be a head that starts
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0


def find(
    base: str, address: str, seconds: float | None, say: Callable[[str], None]
) -> tuple[str, str]:
    """The address as a number, and who listens there (as _node.probe() says), once anybody does.

    seconds: how long to ask again; None: WAIT_S, or not at all for this machine's own loopback
    address. ConnectionError: nobody came, or there is no such host. ValueError: not an address.
    """
    _node.split_address(address)
    wait = _default_wait(address) if seconds is None else seconds
    began = time.monotonic()
    pause, told = FIRST_PAUSE_S, False
    while True:
        try:
            found = _node.resolve_here(base, address)
            kind = _node.probe(found)
            if kind != "unknown" or time.monotonic() - began >= min(wait, STRANGER_S):
                return found, kind
        except ConnectionError as error:
            left = began + wait - time.monotonic()
            if left <= 0:
                after = f" (asked for {wait:g} s)" if wait else ""
                raise ConnectionError(f"{error}{after}") from None
            if not told:
                told = True
                reason = str(error).partition(". Does")[0]
                say(f"skate: {reason}; asking again for {wait:g} s (--wait=SECONDS)")
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)


def _default_wait(address: str) -> float:
    host = _node.split_address(address)[0]
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost"
    return 0.0 if here else WAIT_S
