"""An actor that each execution makes anew (`Cls.bind(...)`), and calls of methods."""

from __future__ import annotations

from collections.abc import Iterator

from skate.dag.dag_node import DAGNode, Execution, in_order

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any


class ClassNode(DAGNode):
    """Gives the handle of a new actor. Its attributes are the methods, with bind()."""

    def __init__(self, cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        from skate.dag.input_node import InputAttributeNode, InputNode

        super().__init__(args, kwargs, cls._default_options)
        self._cls = cls
        self._last_call: ClassMethodNode | None = None
        if any(isinstance(node, (InputNode, InputAttributeNode)) for node in in_order(self)):
            raise ValueError(
                "InputNode cannot be an argument of an actor's constructor: give it to a method"
            )

    def _run(self, execution: Execution) -> Any:
        return self._cls._remote(*execution.call_args(self))

    def _title(self) -> str:
        return str(self._cls._cls.__name__)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_cls", "_bound_args"):  # pickle asks before it fills
            raise AttributeError(name)
        plain = self._cls._cls
        if not callable(getattr(plain, name, None)):
            raise AttributeError(f"type object {plain.__name__!r} has no attribute {name!r}")
        return _UnboundClassMethodNode(self, name, {})


class _UnboundClassMethodNode:
    """A method of an actor that is not made yet."""

    def __init__(self, actor: ClassNode, name: str, options: dict[str, Any]) -> None:
        self._actor = actor
        self._name = name
        self._options = options

    def options(self, **options: Any) -> _UnboundClassMethodNode:
        """The same method with other options."""
        return _UnboundClassMethodNode(self._actor, self._name, {**self._options, **options})

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        """A call of it; after those of the same actor that were bound before."""
        raw = getattr(self._actor._cls._cls, self._name)
        declared = getattr(raw, "__skate_method_options__", {})
        returns = self._options.get("num_returns", declared.get("num_returns"))
        call = ClassMethodNode(self._actor, self._name, args, kwargs, self._options)
        call._previous, self._actor._last_call = self._actor._last_call, call
        return call._outputs(returns)

    def __getattr__(self, name: str) -> Any:
        if name == "remote":
            raise AttributeError(
                "the actor is not made yet: use .bind() here, and .execute() to run the graph"
            )
        raise AttributeError(name)


class ClassMethodNode(DAGNode):
    """Gives the ref of a method's result. actor: a ClassNode, or the handle of a living actor."""

    def __init__(
        self,
        actor: Any,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: dict[str, Any],
    ) -> None:
        super().__init__(args, kwargs, options)
        self._actor = actor
        self._method_name = name
        self._previous: ClassMethodNode | None = None
        self._source: ClassMethodNode | None = None  # of one result of several
        self._index = 0

    def _outputs(self, returns: Any) -> Any:
        """Itself, or a tuple of nodes when the method gives several results."""
        if not isinstance(returns, int) or returns <= 1:
            return self
        outputs = []
        for index in range(returns):
            node = ClassMethodNode(self._actor, self._method_name, (), {}, self._bound_options)
            node._source, node._index = self, index
            outputs.append(node)
        return tuple(outputs)

    def get_method_name(self) -> str:
        """The name of the method."""
        return self._method_name

    @property
    def is_class_method_call(self) -> bool:
        """Is it a call, not one of the results of a call?"""
        return self._source is None

    @property
    def is_class_method_output(self) -> bool:
        """Is it one of several results of a call?"""
        return self._source is not None

    @property
    def class_method_call(self) -> ClassMethodNode | None:
        """The call whose result it is."""
        return self._source

    @property
    def output_idx(self) -> int | None:
        """Which of the results."""
        return self._index if self._source is not None else None

    def get_other_args_to_resolve(self) -> dict[str, Any]:
        """The actor, and the call before this one of an actor that is made by the graph."""
        return {"parent_class_node": self._actor, "prev_class_method_call": self._previous}

    def _before(self) -> Iterator[DAGNode]:
        if self._source is not None:
            yield self._source
            return
        if isinstance(self._actor, DAGNode):
            yield self._actor
        if self._previous is not None:
            yield self._previous
        yield from super()._before()

    def _run(self, execution: Execution) -> Any:
        if self._source is not None:
            return execution.of(self._source)[self._index]
        handle = execution.of(self._actor)
        method = getattr(handle, self._method_name)
        return method._remote(*execution.call_args(self), **self._bound_options)

    def _title(self) -> str:
        where = f"[{self._index}]" if self._source is not None else ""
        return self._method_name + where
