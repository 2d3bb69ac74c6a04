"""Several results of one graph."""

from __future__ import annotations

from skate.dag.dag_node import DAGNode, Execution

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any


class MultiOutputNode(DAGNode):
    """Gives the list of what its nodes give."""

    def __init__(self, args: list[Any] | tuple[Any, ...]) -> None:
        if not isinstance(args, (list, tuple)):
            raise ValueError(f"MultiOutputNode takes a list or tuple of nodes, not {args!r}")
        super().__init__(tuple(args), {}, {})

    def _run(self, execution: Execution) -> Any:
        return list(execution.call_args(self)[0])
