"""What libraries take from Ray's module of this name: addresses."""

from __future__ import annotations

from skate.util import get_node_ip_address


def find_gcs_addresses() -> set[str]:
    """The addresses of clusters that `skate start` began on this machine."""
    from skate import _node

    found = _node.current_cluster(_node.base_dir())
    return {found} if found else set()


def canonicalize_bootstrap_address(address: str | None, temp_dir: str | None = None) -> str | None:
    """The address of the cluster that init() would join, or None."""
    from skate import _api, _node

    return _api._choose_address(address, _node.base_dir(temp_dir), True)


__all__ = ["canonicalize_bootstrap_address", "find_gcs_addresses", "get_node_ip_address"]
