"""PolicyServerInput: a port where simulators elsewhere ask for actions and tell rewards.

    config = {"env": None, "observation_space": ..., "action_space": ..., "num_workers": 0,
              "input": lambda ioctx: PolicyServerInput(ioctx, "127.0.0.1", 9900), ...}
"""

from __future__ import annotations

import ipaddress
import os
from typing import Any

from skate.rllib._external.server import Server


class PolicyServerInput:
    """What a callable config['input'] returns; clients are PolicyClient.

    Arguments: `ioctx`, which the callable gets; address and port to listen at (port 0: any free
    one, see .port); `token`, a secret that clients must know (or SKATE_POLICY_TOKEN). An address
    that others can reach needs one: ValueError without.
    """

    def __init__(self, ioctx: Any, address: str, port: int, idle_timeout: float = 3.0,
                 max_sample_queue_size: int = 20, token: str | None = None) -> None:
        token = token or os.environ.get("SKATE_POLICY_TOKEN") or None
        if token is None and not _loopback(address):
            raise ValueError(f"a policy server at {address!r} can be reached from other machines: "
                             "give it token=..., or set SKATE_POLICY_TOKEN (also at the clients)")
        self._server = Server(address, port, token)
        self.port = self._server.port

    def start(self, recorder: Any) -> None:
        """Called by the trainer."""
        self._server.start(recorder)

    def publish(self, flat: Any, version: int) -> None:
        """Called by the trainer: the newest weights."""
        self._server.publish(flat, version)

    def stop(self) -> None:
        """Close the port."""
        self._server.stop()


def _loopback(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
