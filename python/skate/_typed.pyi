"""What a type checker sees of `remote`, `get`, `put` and `wait`: for mypy and pyright only.

`f.remote(...)` takes the function's own arguments, or positionally refs of them, and gives a ref of
its result. mypy ignores the type of a class decorator; `Counter = ray.remote(Counter)` is known
to both. docs/typing.md; tests/python/test_typing.py.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from skate._core import ActorID, ObjectRef

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
A1 = TypeVar("A1")
A2 = TypeVar("A2")
A3 = TypeVar("A3")
A4 = TypeVar("A4")
A5 = TypeVar("A5")
A6 = TypeVar("A6")
A7 = TypeVar("A7")
A8 = TypeVar("A8")
B1 = TypeVar("B1", contravariant=True)
B2 = TypeVar("B2", contravariant=True)
B3 = TypeVar("B3", contravariant=True)
B4 = TypeVar("B4", contravariant=True)
B5 = TypeVar("B5", contravariant=True)
B6 = TypeVar("B6", contravariant=True)
B7 = TypeVar("B7", contravariant=True)
B8 = TypeVar("B8", contravariant=True)

class Takes1(Protocol[B1, R_co]):
    @property
    def _function(self) -> Callable[[B1], R_co]: ...

class Takes2(Protocol[B1, B2, R_co]):
    @property
    def _function(self) -> Callable[[B1, B2], R_co]: ...

class Takes3(Protocol[B1, B2, B3, R_co]):
    @property
    def _function(self) -> Callable[[B1, B2, B3], R_co]: ...

class Takes4(Protocol[B1, B2, B3, B4, R_co]):
    @property
    def _function(self) -> Callable[[B1, B2, B3, B4], R_co]: ...

class Takes5(Protocol[B1, B2, B3, B4, B5, R_co]):
    @property
    def _function(self) -> Callable[[B1, B2, B3, B4, B5], R_co]: ...

class Takes6(Protocol[B1, B2, B3, B4, B5, B6, R_co]):
    @property
    def _function(self) -> Callable[[B1, B2, B3, B4, B5, B6], R_co]: ...

class Takes7(Protocol[B1, B2, B3, B4, B5, B6, B7, R_co]):
    @property
    def _function(self) -> Callable[[B1, B2, B3, B4, B5, B6, B7], R_co]: ...

class Takes8(Protocol[B1, B2, B3, B4, B5, B6, B7, B8, R_co]):
    @property
    def _function(self) -> Callable[[B1, B2, B3, B4, B5, B6, B7, B8], R_co]: ...

class RemoteFunction(Generic[P, R_co]):
    @property
    def _function(self) -> Callable[P, R_co]: ...
    @overload
    def remote(self, *args: P.args, **kwargs: P.kwargs) -> ObjectRef[R_co]: ...
    @overload
    def remote(
        self: Takes1[A1, R_co],
        a1: A1 | ObjectRef[A1],
        /,
    ) -> ObjectRef[R_co]: ...
    @overload
    def remote(
        self: Takes2[A1, A2, R_co],
        a1: A1 | ObjectRef[A1],
        a2: A2 | ObjectRef[A2],
        /,
    ) -> ObjectRef[R_co]: ...
    @overload
    def remote(
        self: Takes3[A1, A2, A3, R_co],
        a1: A1 | ObjectRef[A1],
        a2: A2 | ObjectRef[A2],
        a3: A3 | ObjectRef[A3],
        /,
    ) -> ObjectRef[R_co]: ...
    @overload
    def remote(
        self: Takes4[A1, A2, A3, A4, R_co],
        a1: A1 | ObjectRef[A1],
        a2: A2 | ObjectRef[A2],
        a3: A3 | ObjectRef[A3],
        a4: A4 | ObjectRef[A4],
        /,
    ) -> ObjectRef[R_co]: ...
    @overload
    def remote(
        self: Takes5[A1, A2, A3, A4, A5, R_co],
        a1: A1 | ObjectRef[A1],
        a2: A2 | ObjectRef[A2],
        a3: A3 | ObjectRef[A3],
        a4: A4 | ObjectRef[A4],
        a5: A5 | ObjectRef[A5],
        /,
    ) -> ObjectRef[R_co]: ...
    @overload
    def remote(
        self: Takes6[A1, A2, A3, A4, A5, A6, R_co],
        a1: A1 | ObjectRef[A1],
        a2: A2 | ObjectRef[A2],
        a3: A3 | ObjectRef[A3],
        a4: A4 | ObjectRef[A4],
        a5: A5 | ObjectRef[A5],
        a6: A6 | ObjectRef[A6],
        /,
    ) -> ObjectRef[R_co]: ...
    @overload
    def remote(
        self: Takes7[A1, A2, A3, A4, A5, A6, A7, R_co],
        a1: A1 | ObjectRef[A1],
        a2: A2 | ObjectRef[A2],
        a3: A3 | ObjectRef[A3],
        a4: A4 | ObjectRef[A4],
        a5: A5 | ObjectRef[A5],
        a6: A6 | ObjectRef[A6],
        a7: A7 | ObjectRef[A7],
        /,
    ) -> ObjectRef[R_co]: ...
    @overload
    def remote(
        self: Takes8[A1, A2, A3, A4, A5, A6, A7, A8, R_co],
        a1: A1 | ObjectRef[A1],
        a2: A2 | ObjectRef[A2],
        a3: A3 | ObjectRef[A3],
        a4: A4 | ObjectRef[A4],
        a5: A5 | ObjectRef[A5],
        a6: A6 | ObjectRef[A6],
        a7: A7 | ObjectRef[A7],
        a8: A8 | ObjectRef[A8],
        /,
    ) -> ObjectRef[R_co]: ...
    def options(self, **options: Any) -> RemoteFunction[P, R_co]: ...
    def bind(self, *args: Any, **kwargs: Any) -> Any: ...

class ObjectRefGenerator(Generic[R_co]):
    def __iter__(self) -> ObjectRefGenerator[R_co]: ...
    def __next__(self) -> ObjectRef[R_co]: ...
    def __aiter__(self) -> ObjectRefGenerator[R_co]: ...
    async def __anext__(self) -> ObjectRef[R_co]: ...
    def completed(self) -> ObjectRef[None]: ...
    def next_ready(self) -> bool: ...
    def is_finished(self) -> bool: ...

class RemoteGenerator(Generic[P, R_co]):
    """What `remote` makes of a generator function; its arguments are not checked."""

    @property
    def _function(self) -> Callable[P, Iterator[R_co]]: ...
    def remote(self, *args: Any, **kwargs: Any) -> ObjectRefGenerator[R_co]: ...
    @overload
    def options(self, *, num_returns: int, **options: Any) -> RemoteFunction[..., Any]: ...
    @overload
    def options(self, **options: Any) -> RemoteGenerator[P, R_co]: ...
    def bind(self, *args: Any, **kwargs: Any) -> Any: ...

class ActorMethod:
    def remote(self, *args: Any, **kwargs: Any) -> ObjectRef[Any]: ...
    def options(self, **options: Any) -> ActorMethod: ...
    def bind(self, *args: Any, **kwargs: Any) -> Any: ...

class ActorHandle(Generic[T]):
    @property
    def _actor_id(self) -> ActorID: ...
    def __getattr__(self, name: str) -> ActorMethod: ...

class ActorClass(Generic[T]):
    def remote(self, *args: Any, **kwargs: Any) -> ActorHandle[T]: ...
    def options(self, **options: Any) -> ActorClass[T]: ...
    def bind(self, *args: Any, **kwargs: Any) -> Any: ...

class Decorator(Protocol):
    @overload
    def __call__(self, thing: type[T], /) -> ActorClass[T]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, thing: Callable[P, Iterator[R]], /
    ) -> RemoteGenerator[P, R]: ...
    @overload
    def __call__(self, thing: Callable[P, R], /) -> RemoteFunction[P, R]: ...

@overload
def remote(thing: type[T], /) -> ActorClass[T]: ...  # type: ignore[overload-overlap]
@overload
def remote(  # type: ignore[overload-overlap]
    thing: Callable[P, Iterator[R]], /
) -> RemoteGenerator[P, R]: ...
@overload
def remote(thing: Callable[P, R], /) -> RemoteFunction[P, R]: ...
@overload
def remote(**options: Any) -> Decorator: ...
@overload
def get(object_refs: ObjectRef[R], *, timeout: float | None = None, copy: bool = False) -> R: ...
@overload
def get(
    object_refs: Sequence[ObjectRef[R]], *, timeout: float | None = None, copy: bool = False
) -> list[R]: ...
def put(value: R, *, _owner: Any = None, _tensor_transport: Any = None) -> ObjectRef[R]: ...
@overload
def wait(
    object_refs: list[ObjectRefGenerator[R]],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[ObjectRefGenerator[R]], list[ObjectRefGenerator[R]]]: ...
@overload
def wait(
    object_refs: list[ObjectRef[R]],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[ObjectRef[R]], list[ObjectRef[R]]]: ...
