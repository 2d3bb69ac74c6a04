"""A graph of methods of living actors that is checked once and run often.

Each execution submits its calls like any other: results go from actor to actor, in shared memory
when they are large, and the calls of one actor run in the order of the executions. There is nothing
to build, so that compiling costs nothing, and the actors take other calls meanwhile.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from skate import _absent, _api
from skate.dag.class_node import ClassMethodNode, ClassNode
from skate.dag.dag_node import DAGNode, Execution, in_order
from skate.dag.input_node import InputAttributeNode, InputNode
from skate.dag.output_node import MultiOutputNode
from skate.exceptions import GetTimeoutError, RayCgraphCapacityExceeded, RayChannelError
from skate.exceptions import RayChannelTimeoutError as ChannelTimeout

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

_MOST_IN_FLIGHT = 10
_api.own_get = sys.modules[__name__]


class _InFlight:
    """One execution whose results were not all taken."""

    def __init__(self, dag: CompiledDAG, outputs: int) -> None:
        self._dag = dag
        self._left = outputs

    def one_less(self) -> None:
        """A result was taken, or nobody can take it any more."""
        with self._dag._lock:
            self._left -= 1
            if self._left == 0:
                self._dag._in_flight -= 1


class CompiledDAGRef:
    """A result of an execution: get it once, with get() of the package or its own."""

    def __init__(self, ref: Any, flight: _InFlight) -> None:
        self._ref = ref
        self._flight: _InFlight | None = flight

    def get(self, timeout: float | None = None) -> Any:
        """The value; raises the error of the call that failed.

        ValueError the second time; RayChannelTimeoutError when the time is over: then it can be
        asked again.
        """
        return self._take(timeout, False)

    def _take(self, timeout: float | None, copy: bool) -> Any:
        import skate

        if self._flight is None:
            raise ValueError("the result of an execution can be taken once, and it was")
        if timeout is not None and timeout < 0:
            timeout = None
        late = False
        try:
            return skate.get(self._ref, timeout=timeout, copy=copy)
        except GetTimeoutError as error:
            late = True
            raise ChannelTimeout(f"the result is not there after {timeout} s") from error
        finally:
            if not late:
                self._taken()

    def _taken(self) -> None:
        flight, self._flight = self._flight, None
        if flight is not None:
            flight.one_less()

    def __del__(self) -> None:
        if getattr(self, "_flight", None) is not None:
            self._taken()

    def __reduce__(self) -> Any:
        raise ValueError("the result of an execution cannot be sent: get() it and send the value")

    def __copy__(self) -> Any:
        raise ValueError("the result of an execution can be taken once: it cannot be copied")

    __deepcopy__ = __reduce__


def concerns(what: Any) -> bool:
    """Is get() asked for results of compiled graphs?"""
    if type(what) is list and what:
        return type(what[0]) is CompiledDAGRef
    return type(what) is CompiledDAGRef


def take(what: Any, timeout: float | None, copy: bool) -> Any:
    """get() of one, or of a list of them."""
    if type(what) is not list:
        return what._take(timeout, copy)
    for ref in what:
        if type(ref) is not CompiledDAGRef:
            raise TypeError(f"a list with results of a compiled graph holds {ref!r}, too")
    deadline = None if timeout is None or timeout < 0 else time.monotonic() + timeout
    return [
        ref._take(None if deadline is None else max(0.0, deadline - time.monotonic()), copy)
        for ref in what
    ]


class CompiledDAGFuture:
    """A result of execute_async(): await it once."""

    def __init__(self, ref: Any, flight: _InFlight) -> None:
        self._ref = ref
        self._flight: _InFlight | None = flight

    def __await__(self) -> Generator[Any, None, Any]:
        if self._flight is None:
            raise ValueError("the result of an execution can be awaited once, and it was")
        flight, self._flight = self._flight, None
        try:
            return (yield from self._ref.__await__())
        finally:
            flight.one_less()

    def __del__(self) -> None:
        flight = getattr(self, "_flight", None)
        if flight is not None:
            flight.one_less()

    def __reduce__(self) -> Any:
        raise ValueError("the result of an execution cannot be sent: await it and send the value")


class CompiledDAG:
    """What experimental_compile() makes of a graph."""

    def __init__(self, last: DAGNode, enable_asyncio: bool, most_in_flight: int | None) -> None:
        self._last = last
        self._asyncio = enable_asyncio
        self._most = _MOST_IN_FLIGHT if most_in_flight is None else most_in_flight
        self._order = in_order(last)
        self._id = os.urandom(16).hex()
        self._in_flight = 0
        self._lock = threading.RLock()  # a garbage collection may drop a result inside of it
        self._over = False
        self._positions, self._names = _inputs(self._order)
        _check(last, self._order)

    def get_id(self) -> str:
        """A name of its own."""
        return self._id

    @property
    def is_teardown(self) -> bool:
        """Was teardown() called?"""
        return self._over

    @property
    def actor_refs(self) -> set[Any]:
        """The handles of its actors."""
        return {n._actor for n in self._order if isinstance(n, ClassMethodNode)}

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Run it: a CompiledDAGRef, or a list of them for a MultiOutputNode.

        RayCgraphCapacityExceeded when too many executions have results that nobody took;
        RayChannelError after teardown().
        """
        if self._asyncio:
            raise ValueError("it was compiled with enable_asyncio=True: use execute_async()")
        return self._start(CompiledDAGRef, args, kwargs)

    async def execute_async(self, *args: Any, **kwargs: Any) -> Any:
        """Run it: a CompiledDAGFuture to await, or a list of them for a MultiOutputNode."""
        if not self._asyncio:
            raise ValueError("compile it with enable_asyncio=True for execute_async()")
        return self._start(CompiledDAGFuture, args, kwargs)

    def _start(self, kind: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._over:
            raise RayChannelError("the graph was torn down")
        if len(args) != self._positions:
            raise ValueError(
                f"this graph takes {self._positions} positional arguments, not {len(args)}"
            )
        missing = self._names - kwargs.keys()
        if missing:
            raise ValueError(f"this graph needs the arguments {', '.join(sorted(missing))}")
        several = isinstance(self._last, MultiOutputNode)
        with self._lock:
            if self._in_flight >= self._most:
                raise RayCgraphCapacityExceeded(
                    f"{self._in_flight} executions have results that were not taken: get() some, "
                    "or give experimental_compile(_max_inflight_executions=...)"
                )
            self._in_flight += 1
            try:
                made = Execution(args, kwargs).run(self._last, self._order)
            except BaseException:
                self._in_flight -= 1
                raise
        refs = made if several else [made]
        flight = _InFlight(self, len(refs))
        results = [kind(ref, flight) for ref in refs]
        return results if several else results[0]

    def teardown(self, kill_actors: bool = False) -> None:
        """Take no more executions. kill_actors: end the actors, too."""
        import skate

        self._over = True
        if kill_actors:
            for actor in self.actor_refs:
                skate.kill(actor)

    def visualize(
        self, filename: str = "compiled_graph", format: str = "ascii", view: bool = False,
        channel_details: bool = False,
    ) -> str:  # fmt: skip
        """The graph as text, a line for each node, those that run first first."""
        numbers = {node._stable_uuid: i for i, node in enumerate(self._order)}
        lines = []
        for node in self._order:
            before = ", ".join(str(numbers[b._stable_uuid]) for b in node._before())
            who = f" of {node._actor!r}" if isinstance(node, ClassMethodNode) else ""
            title = f"{type(node).__name__} {node._title()}".rstrip()
            lines.append(f"{numbers[node._stable_uuid]}: {title}{who}"
                         + (f" <- {before}" if before else ""))  # fmt: skip
        text = "\n".join(lines)
        if view:
            print(text)
        return text


def _inputs(order: list[DAGNode]) -> tuple[int, set[str]]:
    """How many positional arguments, and which names, the graph takes."""
    numbers, names, whole = 0, set(), False
    for node in order:
        if isinstance(node, InputAttributeNode):
            if isinstance(node.key, int):
                numbers = max(numbers, node.key + 1)
            else:
                names.add(str(node.key))
        elif isinstance(node, InputNode):
            continue
        whole = whole or any(isinstance(arg, InputNode) for arg in node._before()) and not (
            isinstance(node, InputAttributeNode)
        )
    return (max(numbers, 1) if whole else numbers), names


def _check(last: DAGNode, order: list[DAGNode]) -> None:
    if isinstance(last, (InputNode, InputAttributeNode)):
        raise AssertionError("a graph that is compiled ends in a method of an actor")
    if not any(isinstance(node, InputNode) for node in order):
        raise ValueError("a graph that is compiled has an InputNode: nothing comes in here")
    for node in order:
        if isinstance(node, ClassNode):
            raise ValueError(
                f"a graph that is compiled has living actors only: make one with "
                f"{node._title()}.remote() and bind its methods"
            )
        fine = (InputNode, InputAttributeNode, MultiOutputNode, ClassMethodNode)
        if not isinstance(node, fine):
            _absent.refuse(f"a compiled graph with {node!r}, which is no method of an actor",
                           "execute() runs any graph")  # fmt: skip
