"""The results of compiled graphs, where Ray has them."""

from __future__ import annotations

from skate.dag.compiled_dag_node import CompiledDAGFuture, CompiledDAGRef

__all__ = ["CompiledDAGFuture", "CompiledDAGRef"]
