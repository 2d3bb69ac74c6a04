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


class In:
    """The label is there and is one of these values. ValueError for none, or what is no str."""

    def __init__(self, *values: str) -> None:
        self.values = _check_values("In", values)


class NotIn:
    """The label is not there, or is none of these values. ValueError as for In."""

    def __init__(self, *values: str) -> None:
        self.values = _check_values("NotIn", values)


class Exists:
    """The node has the label, whatever its value."""


class DoesNotExist:
    """The node does not have the label."""


def _check_values(name: str, values: tuple[str, ...]) -> list[str]:
    if not values:
        raise ValueError(f"{name} needs at least one value, as {name}('a', 'b')")
    for value in values:
        if not isinstance(value, str):
            raise ValueError(f"the values of {name} are str, not {value!r}")
    return list(values)


class _Condition:
    def __init__(self, key: str, operator: In | NotIn | Exists | DoesNotExist) -> None:
        self.key = key
        self.operator = operator


def _conditions(given: Any, name: str) -> list[_Condition]:
    if given is None:
        return []
    if not isinstance(given, dict):
        raise ValueError(f"{name} must be a dict, as {{'zone': In('north')}}, not {given!r}")
    for key, operator in given.items():
        if not isinstance(key, str):
            raise ValueError(f"{name}: the name of a label must be a str, not {key!r}")
        if not isinstance(operator, (In, NotIn, Exists, DoesNotExist)):
            raise ValueError(
                f"{name}[{key!r}] must be In, NotIn, Exists or DoesNotExist, not {operator!r}"
            )
    return [_Condition(key, operator) for key, operator in given.items()]


class NodeLabelSchedulingStrategy:
    """On a node with such labels: `hard` must hold, `soft` is preferred.

    Both are dicts from a label's name to In, NotIn, Exists or DoesNotExist; together they must not
    be empty. When no node has the labels that `hard` wants, the task or actor waits for one.
    """

    def __init__(
        self,
        hard: dict[str, In | NotIn | Exists | DoesNotExist] | None,
        *,
        soft: dict[str, In | NotIn | Exists | DoesNotExist] | None = None,
    ) -> None:
        self.hard = _conditions(hard, "hard")
        self.soft = _conditions(soft, "soft")
        if not (self.hard or self.soft):
            raise ValueError("hard and soft must not both be empty")

    def __repr__(self) -> str:
        hard = {one.key: type(one.operator).__name__ for one in self.hard}
        return f"NodeLabelSchedulingStrategy(hard={hard!r})"
