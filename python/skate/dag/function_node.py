"""A call of a remote function: `f.bind(...)`."""

from __future__ import annotations

from skate.dag.dag_node import DAGNode, Execution

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any


class FunctionNode(DAGNode):
    """Gives the ref of the task's result, or the list of refs for num_returns > 1."""

    def __init__(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__(args, kwargs, function._default_options)
        self._function = function

    def _run(self, execution: Execution) -> Any:
        return self._function._remote(*execution.call_args(self))

    def _title(self) -> str:
        return str(self._function._function_name)
