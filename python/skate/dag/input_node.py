"""What is given to execute(): `with InputNode() as inp`."""

from __future__ import annotations

from collections.abc import Iterator

from skate.dag.dag_node import DAGNode, Execution

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any


class DAGInputData:
    """All arguments of execute(), when there is not just one: data[0], data["key"]."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._args = list(args)
        self._kwargs = kwargs

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, int):
            return self._args[key]
        if isinstance(key, str):
            return self._kwargs[key]
        raise ValueError(f"an input is taken by its number or its name, not by {key!r}")


class InputNode(DAGNode):
    """Stands for the argument of execute(); `inp[0]`, `inp["k"]` and `inp.x` for parts of it."""

    def __init__(self, *args: Any, input_type: Any = None, **kwargs: Any) -> None:
        if args or kwargs:
            raise ValueError("InputNode takes no arguments: they are given to execute()")
        super().__init__((), {}, {})
        self._entered = False

    def __enter__(self) -> InputNode:
        self._entered = True
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def _run(self, execution: Execution) -> Any:
        if not self._entered:
            raise AssertionError("InputNode is used in a block: `with InputNode() as inp:`")
        if len(execution.args) == 1 and not execution.kwargs:
            return execution.args[0]
        return DAGInputData(*execution.args, **execution.kwargs)

    def __getitem__(self, key: int | str) -> InputAttributeNode:
        return InputAttributeNode(self, key, "__getitem__")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return InputAttributeNode(self, name, "__getattr__")


class InputAttributeNode(DAGNode):
    """One argument of execute(), or a part of the only one."""

    def __init__(self, source: InputNode, key: int | str, how: str) -> None:
        super().__init__((source, key, how), {}, {})
        self._source = source
        self._key = key
        self._how = how

    @property
    def key(self) -> int | str:
        """The number or the name."""
        return self._key

    def _before(self) -> Iterator[DAGNode]:
        yield self._source

    def _run(self, execution: Execution) -> Any:
        given = execution.of(self._source)
        if self._how == "__getitem__" or isinstance(given, DAGInputData):
            return given[self._key]
        return getattr(given, str(self._key))

    def __repr__(self) -> str:
        return f"InputAttributeNode({self._key!r})"
