"""Graphs of calls that are written down first and run later, once or many times.

`f.bind(...)`, `Cls.bind(...)`, `node.method.bind(...)` and `handle.method.bind(...)` make nodes;
`node.execute(...)` runs all that it needs. See docs/dag.md.
"""

from __future__ import annotations

from skate.dag.class_node import ClassMethodNode, ClassNode
from skate.dag.dag_node import DAGNode
from skate.dag.function_node import FunctionNode
from skate.dag.input_node import DAGInputData, InputAttributeNode, InputNode
from skate.dag.output_node import MultiOutputNode

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any


def __getattr__(name: str) -> Any:
    if name == "CompiledDAG":
        from skate.dag.compiled_dag_node import CompiledDAG

        return CompiledDAG
    raise AttributeError(f"module 'skate.dag' has no attribute {name!r}")


__all__ = [
    "ClassMethodNode", "ClassNode", "DAGInputData", "DAGNode", "FunctionNode", "InputAttributeNode",
    "InputNode", "MultiOutputNode",
]  # fmt: skip
