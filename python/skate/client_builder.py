"""ray.client(address).env(...).namespace(...).connect(): the older spelling of init().

There is no proxy server between: a client is a driver like any other.
"""

from __future__ import annotations

from skate import _api

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any


class ClientContext:
    """A connection; disconnect() or the end of `with` closes it."""

    def __init__(self, context: _api.RayContext) -> None:
        self._context = context
        self.dashboard_url = context.dashboard_url
        self.python_version = context.python_version
        self.ray_version = context.ray_version
        self.ray_commit = context.ray_commit
        self.protocol_version = None

    def disconnect(self) -> None:
        """End the session."""
        _api.shutdown()

    def __enter__(self) -> ClientContext:
        return self

    def __exit__(self, *exc: object) -> None:
        self.disconnect()


class ClientBuilder:
    """Settings of a connection, one method each; connect() makes it."""

    def __init__(self, address: str | None) -> None:
        self.address = address
        self._options: dict[str, Any] = {}

    def env(self, env: dict[str, Any]) -> ClientBuilder:
        """The job's runtime environment."""
        self._options["runtime_env"] = env
        return self

    def namespace(self, namespace: str) -> ClientBuilder:
        """The namespace of its named actors."""
        self._options["namespace"] = namespace
        return self

    def connect(self) -> ClientContext:
        """Connect. RuntimeError when this process has a session already."""
        return ClientContext(_api.init(self.address, **self._options))


def client(address: str | None = None) -> ClientBuilder:
    """A builder of a connection: to an address ("ray://host:port" or "host:port"), "local", or what
    init() finds."""
    return ClientBuilder(address)


__all__ = ["ClientBuilder", "ClientContext", "client"]
