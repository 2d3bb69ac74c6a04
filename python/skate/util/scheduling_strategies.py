"""Where a task or actor may run: values of the option scheduling_strategy."""

from __future__ import annotations

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any


class NodeAffinitySchedulingStrategy:
    """On the node of that id; with soft, elsewhere when that node is gone."""

    def __init__(self, node_id: str, soft: bool) -> None:
        if not isinstance(node_id, str):
            node_id = node_id.hex()
        self.node_id = node_id
        self.soft = bool(soft)

    def __repr__(self) -> str:
        return f"NodeAffinitySchedulingStrategy(node_id={self.node_id!r}, soft={self.soft})"


class PlacementGroupSchedulingStrategy:
    """Placement groups are not supported yet."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        raise NotImplementedError("placement groups are not supported yet")


class NodeLabelSchedulingStrategy:
    """Scheduling by labels is not supported yet."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        raise NotImplementedError("scheduling by labels is not supported yet")
