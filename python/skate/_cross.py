"""Functions and actor classes of C as remote ones: what skate.cross_language offers."""

from __future__ import annotations

from skate import _core, _options, _plain
from skate._actor import ANY, ActorClass, ActorHandle, ActorMeta, MethodSpec
from skate._remote import RemoteFunction
from skate._signature import Arity

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

NATIVE = b"skate-native"  # the runtime environment of workers without Python
_PLACING = (
    "num_cpus", "num_gpus", "resources", "memory", "accelerator_type", "name",
    "scheduling_strategy", "placement_group", "placement_group_bundle_index",
    "placement_group_capture_child_tasks",
)  # fmt: skip
_KEPT = ("namespace", "lifetime", "get_if_exists", "max_restarts", "max_task_retries",
         "max_pending_calls")  # fmt: skip


def _returns(name: str, value: Any) -> None:
    if isinstance(value, str):
        raise ValueError(f"{name} must be an int: a function of C is no generator")
    check: Any = _options.TASK["num_returns"]
    check(name, value)


FUNCTION = {
    **{name: _options.TASK[name] for name in (*_PLACING, "max_retries")},
    "num_returns": _returns,
}
ACTOR = {name: _options.ACTOR[name] for name in (*_PLACING, *_KEPT)}


def convert(what: str, args: Any, kwargs: Any) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call as the other language reads them: plain ones as they are, arrays and
    tables as refs of stored ones. TypeError that names the argument which is neither, by its number
    from 0, as C counts them."""
    return (
        [_argument(value, f"argument {i} of {what}") for i, value in enumerate(args)],
        {name: _argument(value, f"argument {name!r} of {what}") for name, value in kwargs.items()},
    )


def _argument(value: Any, where: str) -> Any:
    made = value if isinstance(value, _plain.Laid) else _plain.form(value)
    return _plain.simple(value, where) if made is None else _core.put(made)


def put(value: Any) -> _core.ObjectRef[Any]:
    """See skate.cross_language.put."""
    if isinstance(value, _core.ObjectRef):
        return _core.put(value)  # refuses
    return _core.put(plain(value))


def plain(value: Any) -> Any:
    """See skate.cross_language.plain."""
    made = value if isinstance(value, _plain.Laid) else _plain.form(value)
    return _plain.simple(value, "the value") if made is None else made


def meta_of(definition: list[Any], name: str) -> ActorMeta:
    """What a handle knows about an actor of another language: its worker knows the methods."""
    module = str(definition[1]) if len(definition) > 2 else ""
    return ActorMeta(name, module, {ANY: MethodSpec(Arity(), {"_plain": True})}, 0)


def handle(ref: _core.ActorID, index: int) -> ActorHandle | Spawned:
    """Called from C: an actor that another language names."""
    made = ActorHandle(ref, meta_of([], "actor"))
    return made if index == 0 else Spawned(made, index)


class Spawned:
    """An actor of C that shares its process with others: skate_spawn() of skate/actor.h."""

    def __init__(self, process: ActorHandle, index: int) -> None:
        self._process: Any = process
        self._index = index

    def __getattr__(self, name: str) -> SpawnedMethod:
        if name.startswith("_"):
            raise AttributeError(name)
        return SpawnedMethod(getattr(self._process, "\x01call"), self._index, name)

    def __repr__(self) -> str:
        return f"Actor({self._process._actor_id.hex()}, number {self._index})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spawned) and (self._process, self._index) == (
            other._process,
            other._index,
        )

    def __hash__(self) -> int:
        return hash((self._process, self._index))


class SpawnedMethod:
    """A method of such an actor."""

    def __init__(self, call: Any, index: int, name: str) -> None:
        self._call = call
        self._index = index
        self._name = name

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Call it elsewhere; returns at once with the ref of the result."""
        number = self._index - (self._index >> 63 << 64)  # a value of C is signed
        return self._call.remote(number, self._name, *args, **kwargs)

    def options(self, **options: Any) -> SpawnedMethod:
        """The same method with other options."""
        return SpawnedMethod(self._call.options(**options), self._index, self._name)


def _check_names(what: str, library: Any, name: Any) -> None:
    for kind, value in (("the library", library), (what, name)):
        if not isinstance(value, str):
            raise TypeError(f"{kind} is named by a str, not {value!r}")
        if not value or "\0" in value:
            raise ValueError(f"the name of {kind} must not be empty, nor hold a zero byte")


class CFunction(RemoteFunction):
    """A function of a shared library; `.remote()` runs it in a native worker."""

    _plain = True

    def __init__(
        self,
        definition: list[str],
        options: dict[str, Any],
        environment: bytes = NATIVE,
        base: CFunction | None = None,
    ) -> None:
        self._function = None
        self._definition = definition
        self._native = environment
        self._default_options = options
        self._base = base or self
        self._defined = (0, 0)
        self._arity = Arity()
        self._fits = set()
        self._function_name = self.__name__ = self.__qualname__ = definition[-1]
        self.__module__ = definition[1] if len(definition) > 2 else ""

    def options(self, **options: Any) -> CFunction:
        """The same function with other options; this one stays as it is. ValueError: no such
        option, or not that value."""
        _options.check(FUNCTION, f"the function {self._function_name} of C", options)
        merged = {**self._default_options, **options}
        return CFunction(self._definition, merged, self._native, self._base)  # type: ignore[arg-type]

    def _environment(self) -> bytes:
        return self._native

    def _key(self, retry: Any) -> int:
        base, epoch = self._base, _core.epoch()
        if base._defined[0] != epoch:
            base._defined = (epoch, _core.define(self._function_name, self._definition))
        return base._defined[1]

    def _convert(self, args: Any, kwargs: Any) -> Any:
        """Called from C: arguments that are not plain."""
        return convert(f"{self._function_name}()", args, kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self._function_name
        raise TypeError(f"a function of C is called with {name}.remote(), not with {name}()")

    def __repr__(self) -> str:
        return f"CFunction({', '.join(map(repr, self._definition[1:]))})"

    def __reduce__(self) -> tuple[Any, ...]:
        return CFunction, (self._definition, self._default_options, self._native)


class CActorClass(ActorClass):
    """An actor class of a shared library; `.remote()` makes an actor in a native worker."""

    _plain = True

    def __init__(
        self, definition: list[str], options: dict[str, Any], environment: bytes = NATIVE
    ) -> None:
        self._definition = definition
        self._native = environment
        kind = type(definition[-1].rpartition(".")[2], (), {"__doc__": None})
        super().__init__(kind, options)
        self.__module__ = definition[1] if len(definition) > 2 else ""

    def options(self, **options: Any) -> CActorClass:
        """The same class with other options; this one stays as it is. ValueError: no such option,
        or not that value."""
        merged = {**self._default_options, **options}
        _options.check(ACTOR, f"the actor class {self._cls.__name__} of C", merged)
        if merged.get("get_if_exists") and not merged.get("name"):
            raise ValueError("get_if_exists needs the option name")
        other = CActorClass(self._definition, merged, self._native)
        other._base = self._base
        return other

    def _remote(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        what = f"the constructor of {self._cls.__name__}"
        args, kwargs = convert(what, args or (), kwargs or {})
        return super()._remote(args, kwargs, **options)

    def _get_meta(self) -> ActorMeta:
        if self._meta is None:
            self._meta = meta_of(self._definition, self._cls.__name__)
            self._arity = Arity()
        return self._meta

    def _concurrency(self, chosen: dict[str, Any]) -> tuple[int, bool]:
        return 1, False

    def _environment(self) -> bytes:
        return self._native

    def _key(self) -> int:
        epoch = _core.epoch()
        if self._defined[0] != epoch:
            self._defined = (epoch, _core.define(self._cls.__name__, self._definition))
        return self._defined[1]

    def __repr__(self) -> str:
        return f"CActorClass({', '.join(map(repr, self._definition[1:]))})"

    def __reduce__(self) -> tuple[Any, ...]:
        return CActorClass, (self._definition, self._default_options, self._native)


def c_function(library: str, name: str) -> CFunction:
    """See skate.cross_language.c_function."""
    _check_names("the function", library, name)
    return CFunction(["c", library, name], {})


def c_actor_class(library: str, name: str) -> CActorClass:
    """See skate.cross_language.c_actor_class."""
    _check_names("the actor class", library, name)
    return CActorClass(["c_actor", library, name], {})


