"""A driver on a machine without a node of the cluster: init("skate://host:port").

It gets a raylet of its own, an outpost: it runs no task, listens nowhere, reaches only the given
port of the head, and ends with the driver. To the program the session is like any other.
"""

from __future__ import annotations

from skate import _cluster_key, _node

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

_SCHEMES = ("skate://", "ray://")
_CLIENT_PORT = 10001  # of Ray's proxy for such drivers


def plain_address(address: str) -> str:
    """host:port without a scheme. ValueError when it is not an address."""
    for scheme in _SCHEMES:
        address = address.removeprefix(scheme)
    _node.split_address(address)
    return address


def socket_of(
    base: str, address: str, password: str | None = None, temp: str | None = None
) -> tuple[str, _node.Node | None]:
    """The Unix socket of a raylet of the cluster at this address (host:port): one of this machine,
    or an outpost that was started for it, which comes with it. ConnectionError with the reason."""
    found = _node.local_raylet(base, _node.resolve_here(base, address))
    if found is not None:
        return found, None
    try:
        node = _start(base, address, password, temp)
    except _node.StartError as error:
        raise ConnectionError(_why_not(address, str(error), password)) from None
    return node.socket_path, node


def _start(base: str, address: str, password: str | None, temp: str | None) -> _node.Node:
    from skate import _store_config

    try:
        _node.must_be_skate(address)
    except ConnectionError as error:
        if address.endswith(f":{_CLIENT_PORT}"):
            raise ConnectionError(
                f"{error} (Skate has no client port of its own: give the cluster's, "
                "6379 unless `skate start --port` said otherwise)"
            ) from None
        raise
    resolved = _node.resolve(address)
    node = _node.Node(_node.new_session_dir(temp, False), _key(base, resolved, address, password))
    node.gcs_address = resolved
    node.is_outpost = True
    ip = _node.own_ip(_node.split_address(resolved)[0])
    more: list[tuple[str, Any]] = [*_store_config.settings(), ("outpost", 1)]
    try:
        node.start_raylet(ip, {}, _node.default_store_bytes(), name="driver", head=False,
                          alone=True, more=more)  # fmt: skip
        assert node.raylet is not None
        node.raylet.wait_ready()
    except BaseException:
        node.stop()
        raise
    return node


def _key(base: str, resolved: str, address: str, password: str | None) -> str:
    if password and password not in _cluster_key.KNOWN_PASSWORDS:
        return _cluster_key.from_password(password, _node.split_address(resolved)[1])
    try:
        key = _cluster_key.from_environment() or _node.read_key(base, resolved)
    except (OSError, ValueError) as error:
        raise ConnectionError(str(error)) from None
    if key is None:
        raise ConnectionError(
            f"{address} is a Skate cluster, but no node of it runs on this machine: run "
            f"`skate start --address={address}` here first, or, to use it from here without a "
            "node, copy the key file that `skate start --head` has named and set "
            f"{_cluster_key.FILE_VARIABLE} to the copy"
        )
    return key


def _why_not(address: str, text: str, password: str | None) -> str:
    if "cluster key" in text and password and password not in _cluster_key.KNOWN_PASSWORDS:
        return (
            f"the cluster {address} refused this program: _redis_password is wrong. It must be the "
            "--redis-password that `skate start --head` was given"
        )
    if "cluster key" in text:
        return (
            f"the cluster {address} refused this program: its key is wrong. It must be a copy of "
            "the file that `skate start --head` named when this cluster was started"
        )
    return f"cannot reach the cluster {address}: {text}"
