"""Remote functions, and the decorator `remote`."""

from __future__ import annotations

from types import FunctionType

from skate import _core, _generator, _lease, _options, _place, _runtime_env, _signature
from skate._wire import pack_resources

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

_COROUTINE, GENERATOR, _ASYNC_GENERATOR = 0x80, 0x20, 0x200
RETRY_EXCEPTIONS = 1


def code_flags(function: Any) -> int:
    """The flags of a function's code; 0 for what has none."""
    code = getattr(function, "__code__", None)
    return code.co_flags if code is not None else 0


class Retryable:
    """A function with the exception classes after which it may run again."""

    def __init__(self, function: Any, kinds: tuple[type, ...]) -> None:
        self.function = function
        self.kinds = kinds

    def __reduce__(self) -> tuple[Any, ...]:
        return Retryable, (self.function, self.kinds)


class Limited:
    """A function after so many runs of which a worker ends."""

    def __init__(self, function: Any, max_calls: int) -> None:
        self.function = function
        self.max_calls = max_calls

    def __reduce__(self) -> tuple[Any, ...]:
        return Limited, (self.function, self.max_calls)


class RemoteFunction(_core.Call):
    """What `@remote` makes of a function. `.remote()` is in C: python/ext/py_call.c."""

    _plain = False  # another language reads the arguments: skate.cross_language

    def __init__(
        self, function: Any, options: dict[str, Any], base: RemoteFunction | None = None
    ) -> None:
        self._function = function
        self._default_options = options
        self._base = base or self
        self._defined: tuple[int, int] = (0, 0)
        self._arity = base._arity if base else _signature.arity(function)
        self._fits: set[Any] = set()
        self._function_name = getattr(function, "__name__", type(function).__name__)
        for name in ("__name__", "__qualname__", "__module__", "__doc__"):
            value = getattr(function, name, None)
            if value is not None:
                setattr(self, name, value)
        self.__wrapped__ = function

    def options(self, **options: Any) -> RemoteFunction:
        """The same function with other options; this one stays as it is."""
        _options.check(_options.TASK, "a remote function", options)
        if options.get("max_calls") is not None:
            raise ValueError("max_calls can be given to @remote only, not to options()")
        if "_num_objects_per_yield" in options and options["_num_objects_per_yield"] != (
            self._default_options.get("_num_objects_per_yield") or 1
        ):
            raise ValueError("_num_objects_per_yield goes to @remote only, not to options()")
        generator = _generator.is_generator(self._function)
        _generator.check(self._function_name, generator, options)
        return RemoteFunction(self._function, {**self._default_options, **options}, self._base)

    def _remote(
        self, args: Any = None, kwargs: Any = None, **options: Any
    ) -> Any:
        """`options(**options).remote(*args, **kwargs)`, Ray's older spelling."""
        target = self.options(**options) if options else self
        return target._call(args or (), kwargs or {})

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        """The call as a node of a graph that runs later: docs/dag.md."""
        from skate.dag.function_node import FunctionNode

        return FunctionNode(self, args, kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self._function_name
        raise TypeError(
            f"a remote function cannot be called directly: use {name}.remote() instead of "
            f"{name}(); the plain function is {name}._function"
        )

    def __repr__(self) -> str:
        return f"RemoteFunction({self._function_name})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._function, self._default_options)

    def _key(self, retry: Any) -> int:
        """The key of the function in this session: pickled once, at its first call."""
        most = _options.max_calls(self._default_options)
        function = self._function
        per_yield = self._default_options.get("_num_objects_per_yield") or 1
        if per_yield > 1 and _generator.is_generator(function):
            function = _generator.Flat(function, per_yield)
        if isinstance(retry, (list, tuple)):
            kind = Retryable(function, tuple(retry))
            return self._define(Limited(kind, most) if most else kind)
        if most:
            return self._define(Limited(function, most))
        base = self._base
        epoch = _core.epoch()
        if base._defined[0] != epoch:
            base._defined = (epoch, self._define(function))
        return base._defined[1]

    def _define(self, value: Any) -> int:
        try:
            return _core.define(self._function_name, value)
        except TypeError as error:
            from skate.util import check_serialize

            raise check_serialize.refusal(
                f"the function {self._function_name}", self._function, error
            ) from check_serialize.cause(error)

    def _refuse(self, error: TypeError) -> None:
        """Called from C when an argument cannot be pickled."""
        refuse_argument(f"the remote function {self._function_name}", error)

    def _prepare(self) -> None:
        """Called from C at the first call of a session."""
        function, options = self._function, self._default_options
        generator = _generator.is_generator(function)
        returns, streams = _generator.returns_of(self._function_name, generator, options)
        wanted = _options.amounts(options, 1)
        packed = pack_resources(wanted)
        name = options.get("name") or self._function_name
        place = _place.resolve(options, wanted, name)
        if place.from_lease:
            _lease.remember(self)
        retry = options.get("retry_exceptions")
        retries = options.get("max_retries")
        if retries is None:
            retries = _options.default_retries()
        key = self._key(retry)
        env = self._environment()
        cls = _core.scheduling_class(
            packed, place.strategy, place.node, name, env, place.group, place.bundle,
            place.capture, place.labels,
        )
        # What a task holds travels in the method's place when it is not the usual CPU.
        held = None if wanted == {"CPU": 1.0} else _resource_text(wanted)
        flags = (RETRY_EXCEPTIONS if retry else 0) | streams
        least, most = self._arity.limits()
        self._set(key, cls, returns, retries, flags, name.encode(), held, None, least, most,
                  self._plain)  # fmt: skip

    def _environment(self) -> bytes:
        return _runtime_env.for_call(self._default_options.get("runtime_env"))

    def _check(self, count: int, keywords: tuple[str, ...]) -> None:
        """Called from C when the fast check is not enough."""
        case = (count, keywords)
        if case not in self._fits:
            self._arity.check(f"{self._function_name}()", count, keywords)
            if len(self._fits) < 64:
                self._fits.add(case)


def refuse_argument(what: str, error: TypeError) -> None:
    """Say to whom the argument was that cannot be pickled."""
    hint = ""
    if "generator" in str(error):
        hint = ". A generator cannot be sent: give list(...) of it"
    raise TypeError(f"Could not serialize an argument of {what}: {error}{hint}") from error


def _resource_text(wanted: dict[str, float]) -> bytes:
    text = "\x1f".join(f"{name}={amount!r}" for name, amount in wanted.items())
    return text.encode() or b"\x1f"  # nothing at all is not the same as nothing said


def _rebuild(function: Any, options: dict[str, Any]) -> RemoteFunction:
    return RemoteFunction(function, options)


def make(target: Any, options: dict[str, Any]) -> Any:
    """What the decorator makes of a function or class."""
    if isinstance(target, type):
        from skate._actor import ActorClass

        _options.check(_options.ACTOR, f"the actor class {target.__name__}", options)
        return ActorClass(target, options)
    if isinstance(target, RemoteFunction) or not callable(target):
        raise TypeError(f"@remote takes a function or a class, not {target!r}")
    if not isinstance(target, FunctionType) and not hasattr(target, "__name__"):
        raise TypeError(f"@remote takes a function or a class, not {target!r}")
    if code_flags(target) & (_COROUTINE | _ASYNC_GENERATOR):
        raise ValueError(
            "a remote function cannot be async: call asyncio.run() in it, or use an actor"
        )
    _options.check(_options.TASK, "a remote function", options)
    name = getattr(target, "__name__", "it")
    _generator.check(name, _generator.is_generator(target), options)
    return RemoteFunction(target, options)


def remote(*args: Any, **options: Any) -> Any:
    """Make a function a remote function, or a class an actor class.

    `@remote`, `@remote(num_cpus=2)` or `remote(f)`. The result's `.remote(...)` runs it in another
    process and returns at once.
    """
    if len(args) == 1 and not options:
        from skate._actor import ActorClass

        if isinstance(args[0], ActorClass):
            raise TypeError(f"{args[0]!r} is an actor class already")
        return make(args[0], {})
    if args or not options:
        raise AssertionError(
            "@remote takes either nothing but a function or class, or keyword options only"
        )
    bad = {**_options.TASK, **_options.ACTOR}
    for name, value in options.items():
        if name not in bad:
            _options.check(_options.TASK, "@remote", {name: value})

    def decorate(target: Any) -> Any:
        return make(target, options)

    return decorate
