"""What libraries take from Ray's module of this name."""

from __future__ import annotations

from skate.util import get_node_ip_address

__all__ = ["get_node_ip_address"]
