"""What a cluster has, by the names of Ray's inside."""

from __future__ import annotations

from skate._api import available_resources, cluster_resources, nodes, timeline

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any


class GlobalState:
    """The same as functions of one object."""

    def cluster_resources(self) -> dict[str, float]:
        """What all living nodes have together."""
        return cluster_resources()

    def available_resources(self) -> dict[str, float]:
        """What is free of it."""
        return available_resources()

    def node_table(self) -> list[dict[str, Any]]:
        """A dict for each node."""
        return nodes()


state = GlobalState()

__all__ = ["available_resources", "cluster_resources", "nodes", "state", "timeline"]
