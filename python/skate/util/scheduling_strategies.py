"""Where a task or actor may run: values of the option scheduling_strategy."""

from __future__ import annotations

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

    from skate.util.placement_group import PlacementGroup


class PlacementGroupSchedulingStrategy:
    """In a bundle of a placement group: the one with that index, or (-1) any.

    placement_group_capture_child_tasks: its children run in the group, too, unless they say
    otherwise; None: as the task or actor that submits it.
    """

    def __init__(
        self,
        placement_group: PlacementGroup | None,
        placement_group_bundle_index: int = -1,
        placement_group_capture_child_tasks: bool | None = None,
    ) -> None:
        self.placement_group = placement_group
        self.placement_group_bundle_index = placement_group_bundle_index
        self.placement_group_capture_child_tasks = placement_group_capture_child_tasks

    def __repr__(self) -> str:
        return (
            f"PlacementGroupSchedulingStrategy({self.placement_group!r}, "
            f"placement_group_bundle_index={self.placement_group_bundle_index})"
        )


class NodeAffinitySchedulingStrategy:
    """On the node of that id; with soft, elsewhere when that node is gone or can never hold it.

    _spill_on_unavailable (soft only): elsewhere also when that node is full now.
    _fail_on_unavailable (hard only): an error when that node is full now.
    """

    def __init__(
        self,
        node_id: str,
        soft: bool,
        _spill_on_unavailable: bool = False,
        _fail_on_unavailable: bool = False,
    ) -> None:
        if not isinstance(node_id, str):
            node_id = node_id.hex()
        self._check(node_id)
        if _spill_on_unavailable and not soft:
            raise ValueError("_spill_on_unavailable cannot be set when soft is False")
        if _fail_on_unavailable and soft:
            raise ValueError("_fail_on_unavailable cannot be set when soft is True")
        self.node_id = node_id
        self.soft = bool(soft)
        self._spill_on_unavailable = _spill_on_unavailable
        self._fail_on_unavailable = _fail_on_unavailable

    @staticmethod
    def _check(node_id: str) -> None:
        from skate._ids import NodeID

        try:
            NodeID.from_hex(node_id)
        except ValueError:
            raise ValueError(
                f"Invalid node_id {node_id!r}. It is the hexadecimal id of a node, as nodes() "
                "lists them under NodeID"
            ) from None

    def __repr__(self) -> str:
        return f"NodeAffinitySchedulingStrategy(node_id={self.node_id!r}, soft={self.soft})"


class NodeLabelSchedulingStrategy:
    """Scheduling by labels is not supported yet."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        raise NotImplementedError("scheduling by labels is not supported yet")
