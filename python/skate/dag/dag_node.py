"""What all nodes of a graph have in common, and one execution of a graph."""

from __future__ import annotations

import abc
import os
from collections.abc import Iterator

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

    from skate.dag.compiled_dag_node import CompiledDAG


class DAGNode(abc.ABC):
    """A call that has not been made. Its arguments may be nodes, also inside of containers."""

    def __init__(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]
    ) -> None:
        self._bound_args = tuple(args)
        self._bound_kwargs = dict(kwargs)
        self._bound_options = dict(options)
        self._stable_uuid = os.urandom(16).hex()

    def get_args(self) -> tuple[Any, ...]:
        """The positional arguments."""
        return self._bound_args

    def get_kwargs(self) -> dict[str, Any]:
        """The keyword arguments."""
        return dict(self._bound_kwargs)

    def get_options(self) -> dict[str, Any]:
        """What was given to options() before bind()."""
        return dict(self._bound_options)

    def get_other_args_to_resolve(self) -> dict[str, Any]:
        """Nodes that come before this one without being arguments, by what they are to it."""
        return {}

    def get_stable_uuid(self) -> str:
        """A name of this node, the same in all processes that it is sent to."""
        return self._stable_uuid

    def execute(self, *args: Any, _ray_cache_refs: bool = False, **kwargs: Any) -> Any:
        """Run all that this node needs, each node once: the node's ref (or handle, or list).

        args, kwargs: what InputNode stands for.
        """
        return Execution(args, kwargs).run(self)

    def experimental_compile(
        self,
        _submit_timeout: float | None = None,
        _buffer_size_bytes: int | None = None,
        enable_asyncio: bool = False,
        _max_inflight_executions: int | None = None,
        _max_buffered_results: int | None = None,
        _overlap_gpu_communication: bool | None = None,
        _default_communicator: Any = "create",
    ) -> CompiledDAG:
        """Check the graph once, to run it often: see skate.dag.compiled_dag_node."""
        from skate.dag.compiled_dag_node import CompiledDAG

        return CompiledDAG(self, enable_asyncio, _max_inflight_executions)

    def traverse_and_apply(self, fn: Any) -> Any:
        """fn(node) for this node and all before it, those that come first first; the last result.

        Each node is visited once.
        """
        out = None
        for node in in_order(self):
            out = fn(node)
        return out

    def _before(self) -> Iterator[DAGNode]:
        """The nodes that this one needs."""
        yield from nodes_in(self._bound_args)
        yield from nodes_in(self._bound_kwargs)

    @abc.abstractmethod
    def _run(self, execution: Execution) -> Any:
        """Make the call; what it needs has been run. Each kind of node has its own."""

    def _title(self) -> str:
        """What it calls, for people."""
        return ""

    def __getattr__(self, name: str) -> Any:
        if name == "remote":
            raise AttributeError(
                f"a {type(self).__name__} has no .remote(): .execute() runs the graph up to it"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        shown = [_shown(arg) for arg in self._bound_args]
        shown += [f"{key}={_shown(value)}" for key, value in self._bound_kwargs.items()]
        title = self._title()
        return f"{type(self).__name__}({title}{': ' if title and shown else ''}{', '.join(shown)})"


def _shown(value: Any) -> str:
    """An argument for people: of a node only what it calls, since graphs are deep."""
    if isinstance(value, DAGNode):
        return f"<{value._title() or type(value).__name__}>"
    return repr(value) if next(nodes_in(value), None) is None else f"{type(value).__name__}(...)"


def nodes_in(value: Any) -> Iterator[DAGNode]:
    """The nodes in an argument: itself, or in lists, tuples, sets and dicts to any depth."""
    stack = [value]
    while stack:
        top = stack.pop()
        if isinstance(top, DAGNode):
            yield top
        elif isinstance(top, (list, tuple, set, frozenset)):
            stack.extend(reversed(list(top)))
        elif isinstance(top, dict):
            stack.extend(reversed(list(top.values())))
            stack.extend(key for key in top if isinstance(key, DAGNode))


def in_order(last: DAGNode) -> list[DAGNode]:
    """That node and all before it, each once, those that come first first."""
    done: dict[str, DAGNode] = {}
    stack: list[tuple[DAGNode, Iterator[DAGNode]]] = [(last, last._before())]
    while stack:
        node, before = stack[-1]
        for other in before:
            if other._stable_uuid not in done:
                stack.append((other, other._before()))
                break
        else:
            done[node._stable_uuid] = node
            stack.pop()
    return list(done.values())


class Execution:
    """One run of a graph: what came in, and what each node gave."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.args = args
        self.kwargs = kwargs
        self._made: dict[str, Any] = {}

    def run(self, last: DAGNode, order: list[DAGNode] | None = None) -> Any:
        """All that `last` needs, then itself."""
        for node in order or in_order(last):
            self._made[node._stable_uuid] = node._run(self)
        return self._made[last._stable_uuid]

    def of(self, value: Any) -> Any:
        """An argument with its nodes replaced by what they gave."""
        if isinstance(value, DAGNode):
            return self._made[value._stable_uuid]
        if not isinstance(value, (list, tuple, set, frozenset, dict)):
            return value
        if next(nodes_in(value), None) is None:
            return value
        if isinstance(value, dict):
            return {self.of(key): self.of(part) for key, part in value.items()}
        parts = [self.of(part) for part in value]
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*parts)
        return type(value)(parts)

    def call_args(self, node: DAGNode) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a node's call."""
        kwargs = {key: self.of(value) for key, value in node._bound_kwargs.items()}
        return tuple(self.of(arg) for arg in node._bound_args), kwargs
