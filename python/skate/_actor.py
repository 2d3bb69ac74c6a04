"""Actor classes, handles and methods."""

from __future__ import annotations

from skate import _core, _generator, _options, _place, _remote, _runtime_env, _signature
from skate._wire import pack_resources
from skate.exceptions import ActorClassInheritanceException, ActorHandleNotFoundError

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

GROUP_SHIFT = 8  # enum core_task_flag
ANY = "*"  # in the place of a method's name: the worker knows which there are

_SPECIAL = {
    "__ray_ready__": _signature.Arity(star=False, stars=False),
    "__ray_terminate__": _signature.Arity(star=False, stars=False),
    "__ray_call__": _signature.Arity(("fn",)),
}


class ActorExit(SystemExit):
    """Raised by exit_actor(); ends the worker gracefully."""


class Terminate(ActorExit):
    """Raised by __ray_terminate__: ends the worker when the calls before it are done."""


class MethodSpec:
    """What a handle knows about a method."""

    __slots__ = ("arity", "options", "limits")

    def __init__(self, arity: _signature.Arity, options: dict[str, Any]) -> None:
        self.arity = arity
        self.options = options
        self.limits = arity.limits()


class ActorMeta:
    """What a handle knows about its class, in plain values when it travels."""

    def __init__(
        self,
        name: str,
        module: str,
        methods: dict[str, MethodSpec],
        retries: int,
        unordered: bool = False,
        max_pending: int = 0,
        groups: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.module = module
        self.methods = methods
        self.retries = retries
        self.unordered = unordered  # calls may overtake those whose arguments are missing
        self.max_pending = max_pending  # 0: no limit
        self.groups = groups  # of concurrency, besides the default one

    def variant(self, retries: int, unordered: bool, max_pending: int) -> ActorMeta:
        """The same class with an actor's options."""
        if (retries, unordered, max_pending) == (self.retries, self.unordered, self.max_pending):
            return self
        return ActorMeta(
            self.name, self.module, self.methods, retries, unordered, max_pending, self.groups
        )

    def tell_core(self, ref: _core.ActorID) -> None:
        """What the core must know of calls of the actor."""
        if self.unordered or self.max_pending:
            _core.actor_calls(ref, self.unordered, self.max_pending)

    def group(self, name: str | None) -> int:
        """The number of a concurrency group, 0 for the default one. ValueError: no such group."""
        if name is None:
            return 0
        if name not in self.groups:
            raise ValueError(
                f"the actor class {self.name} has no concurrency group {name!r}; it has: "
                f"{', '.join(self.groups) or 'none'}"
            )
        return 1 + self.groups.index(name)

    def pack(self) -> tuple[Any, ...]:
        """Plain values."""
        methods = tuple(
            (name, spec.arity.fields(), tuple(spec.options.items()))
            for name, spec in self.methods.items()
        )
        calls = (self.unordered, self.max_pending, self.groups)
        return self.name, self.module, methods, self.retries, calls

    @staticmethod
    def unpack(plain: tuple[Any, ...]) -> ActorMeta:
        """The other way."""
        name, module, methods, retries, (unordered, max_pending, groups) = plain
        specs = {
            method: MethodSpec(_signature.Arity(*fields), dict(options))
            for method, fields, options in methods
        }
        return ActorMeta(name, module, specs, retries, unordered, max_pending, tuple(groups))


def _methods_of(cls: type) -> dict[str, MethodSpec]:
    """Everything callable that a handle offers."""
    out: dict[str, MethodSpec] = {}
    for name in dir(cls):
        if name in ("__class__", "__new__", "__init_subclass__", "__subclasshook__"):
            continue
        raw = _raw_attribute(cls, name)
        if raw is None or isinstance(raw, (property, type)):
            continue
        owner_is_object = name.startswith("__") and hasattr(object, name)
        if owner_is_object and getattr(object, name) is getattr(cls, name):
            continue
        if isinstance(raw, staticmethod):
            function, skip = raw.__func__, 0
        elif isinstance(raw, classmethod):
            function, skip = raw.__func__, 1
        else:
            function, skip = raw, 1
        if not callable(function):
            continue
        options = getattr(function, "__skate_method_options__", {})
        if _generator.is_generator(function):
            options = {**options, "_generator": True}
        out[name] = MethodSpec(_signature.arity(function, skip), options)
    return out


def _raw_attribute(cls: type, name: str) -> Any:
    for base in cls.__mro__:
        if base is object:
            continue
        if name in base.__dict__:
            return base.__dict__[name]
    return None


class ActorMethod(_core.Call):
    """A method of a handle. `.remote()` is in C: python/ext/py_call.c."""

    def __init__(
        self, ref: _core.ActorID, meta: ActorMeta, name: str, options: dict[str, Any] | None = None
    ) -> None:
        spec = meta.methods.get(name) or meta.methods[ANY]
        self._ref = ref
        self._meta = meta
        self._method_name = name
        self._spec = spec
        self._options = {**spec.options, **(options or {})}
        self._prepare(first=True)

    def _prepare(self, first: bool = False) -> None:
        options = self._options
        retries = options.get("max_task_retries")
        if retries is None:
            retries = self._meta.retries
        if not first or not _core.epoch():
            raise ActorHandleNotFoundError(
                f"the handle of the actor {self._meta.name} belongs to a session that has ended"
            )
        what = f"{self._meta.name}.{self._method_name}"
        returns, flags = _generator.returns_of(what, bool(options.get("_generator")), options)
        flags |= _remote.RETRY_EXCEPTIONS if options.get("retry_exceptions") else 0
        flags |= self._meta.group(options.get("concurrency_group")) << GROUP_SHIFT
        least, most = self._spec.limits
        label = options.get("name") or what
        kinds = options.get("retry_exceptions")
        key = _retry_key(tuple(kinds)) if isinstance(kinds, (list, tuple)) and kinds else 0
        self._set(
            key, 0, returns, retries, flags, label.encode(),
            self._method_name.encode(), self._ref, least, most, bool(options.get("_plain")),
        )  # fmt: skip

    def _refuse(self, error: TypeError) -> None:
        _remote.refuse_argument(f"{self._meta.name}.{self._method_name}()", error)

    def _convert(self, args: Any, kwargs: Any) -> Any:
        """Called from C: arguments that another language is to read and that are not plain."""
        from skate import _cross

        return _cross.convert(f"{self._meta.name}.{self._method_name}()", args, kwargs)

    def _check(self, count: int, keywords: tuple[str, ...]) -> None:
        what = f"{self._meta.name}.{self._method_name}()"
        self._spec.arity.check(what, count, keywords)

    def options(self, **options: Any) -> ActorMethod:
        """The same method with other options."""
        _options.check(_options.METHOD, "an actor method", options)
        return ActorMethod(self._ref, self._meta, self._method_name, {**self._options, **options})

    def _remote(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        target = self.options(**options) if options else self
        return target._call(args or (), kwargs or {})

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        """The call as a node of a graph that runs later: docs/dag.md."""
        from skate.dag.class_node import ClassMethodNode

        handle = ActorHandle(self._ref, self._meta)
        node = ClassMethodNode(handle, self._method_name, args, kwargs, self._options)
        return node._outputs(self._options.get("num_returns"))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self._method_name
        raise TypeError(
            f"an actor's method cannot be called directly: use handle.{name}.remote() instead of "
            f"handle.{name}()"
        )

    def __repr__(self) -> str:
        return f"ActorMethod({self._meta.name}.{self._method_name})"


_retry_keys: dict[tuple[int, tuple[type, ...]], int] = {}


def _retry_key(kinds: tuple[type, ...]) -> int:
    """What makes the actor know after which exceptions a call runs again."""
    if len(_retry_keys) > 1000:
        _retry_keys.clear()
    where = _core.epoch(), kinds
    if where not in _retry_keys:
        _retry_keys[where] = _core.define("retry_exceptions", kinds)
    return _retry_keys[where]


class ActorHandle:
    """A reference to an actor. Its methods are attributes with `.remote()`."""

    def __init__(self, ref: _core.ActorID, meta: ActorMeta) -> None:
        self.__dict__["_actor_id"] = ref
        self.__dict__["_meta"] = meta

    @property
    def _ray_actor_id(self) -> _core.ActorID:
        return self._actor_id

    @property
    def _actor_class_name(self) -> str:
        return self._meta.name

    def __getattr__(self, name: str) -> ActorMethod:
        meta = self.__dict__.get("_meta")
        if meta is None or name not in meta.methods:
            if meta is not None and name in _SPECIAL:
                meta.methods[name] = MethodSpec(_SPECIAL[name], {})
            elif meta is None or ANY not in meta.methods or name.startswith("__"):
                kind = meta.name if meta else "?"
                raise AttributeError(f"the actor class {kind} has no method {name!r}")
        ref = self.__dict__["_actor_id"]
        if ref._is_carried():  # of a UDF's closure, say
            from skate import _api

            _api.auto_init()
            ref._check()
            meta.tell_core(ref)
        method = ActorMethod(ref, meta, name)
        self.__dict__[name] = method
        return method

    def __dir__(self) -> list[str]:
        return [*object.__dir__(self), *(name for name in self._meta.methods if name != ANY)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and self._actor_id == other._actor_id

    def __hash__(self) -> int:
        return hash(self._actor_id)

    def __repr__(self) -> str:
        return f"Actor({self._meta.name}, {self._actor_id.hex()})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_handle, (self._actor_id, self._meta.pack())


_metas: dict[tuple[Any, ...], ActorMeta] = {}


def _rebuild_handle(ref: _core.ActorID, plain: tuple[Any, ...]) -> ActorHandle:
    try:
        meta = _metas.get(plain)
        if meta is None:
            if len(_metas) > 256:
                _metas.clear()
            meta = _metas[plain] = ActorMeta.unpack(plain)
    except TypeError:  # an option that cannot be hashed
        meta = ActorMeta.unpack(plain)
    if _core.epoch():
        meta.tell_core(ref)
    return ActorHandle(ref, meta)


class ActorClass:
    """What `@remote` makes of a class."""

    _plain = False  # another language reads the arguments: skate.cross_language

    def __init__(self, cls: Any, options: Any = None, *rest: Any) -> None:
        self._cls = cls
        self._default_options = dict(options or {})
        self._meta: ActorMeta | None = None
        self._defined: tuple[int, int] = (0, 0)
        self._arity: _signature.Arity | None = None
        self._base: ActorClass = self
        for name in ("__name__", "__qualname__", "__module__", "__doc__"):
            value = getattr(cls, name, None)
            if value is not None:
                setattr(self, name, value)

    @property
    def __ray_actor_class__(self) -> type:
        return self._cls

    @property
    def __ray_metadata__(self) -> Any:
        return self._base._get_meta()

    def __mro_entries__(self, bases: Any) -> Any:
        raise ActorClassInheritanceException(
            f"the actor class {self._cls.__name__} cannot be subclassed: subclass the plain class "
            "and make that one an actor class with remote()"
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self._cls.__name__
        raise TypeError(
            f"an actor class cannot be called directly: use {name}.remote() instead of {name}()"
        )

    def __repr__(self) -> str:
        return f"ActorClass({self._cls.__name__})"

    def __reduce__(self) -> tuple[Any, ...]:
        return ActorClass, (self._cls, self._default_options)

    def options(self, **options: Any) -> ActorClass:
        """The same class with other options; this one stays as it is."""
        what = f"the actor class {self._cls.__name__}"
        for name in ("concurrency_groups",):
            if name in options:
                raise ValueError(f"{name} can be given to @remote only, not to options()")
        _options.check(_options.ACTOR, what, {**self._default_options, **options})
        other = ActorClass(self._cls, {**self._default_options, **options})
        other._base = self._base
        return other

    def remote(self, *args: Any, **kwargs: Any) -> ActorHandle:
        """Make an actor: a process with an instance of the class. Returns its handle at once."""
        return self._remote(args, kwargs)

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        """An actor that each execution of a graph makes anew: docs/dag.md."""
        from skate.dag.class_node import ClassNode

        return ClassNode(self, args, kwargs)

    def _get_meta(self) -> ActorMeta:
        if self._meta is None:
            cls = self._cls
            methods = _methods_of(cls)
            groups = tuple(self._groups())
            self._meta = ActorMeta(cls.__name__, cls.__module__, methods, 0, groups=groups)
            for spec in methods.values():
                self._meta.group(spec.options.get("concurrency_group"))
            self._arity = _signature.constructor_arity(cls)
        return self._meta

    def _groups(self) -> dict[str, int]:
        return dict(self._default_options.get("concurrency_groups") or {})

    def _key(self) -> int:
        epoch = _core.epoch()
        if self._defined[0] != epoch:
            kind, groups = self._cls, self._groups()
            if groups:
                from skate import _async

                kind = _async.Grouped(kind, groups)
            try:
                self._defined = (epoch, _core.define(self._cls.__name__, kind))
            except TypeError as error:
                from skate.util import check_serialize

                raise check_serialize.refusal(
                    f"the actor class {self._cls.__name__}", self._cls, error
                ) from check_serialize.cause(error)
        return self._defined[1]

    def _remote(self, args: Any = None, kwargs: Any = None, **options: Any) -> ActorHandle:
        """`options(**options).remote(*args, **kwargs)`, Ray's older spelling."""
        from skate import _api

        if options:
            return self.options(**options)._remote(args, kwargs)
        args, kwargs, chosen = args or (), kwargs or {}, self._default_options
        base = self._base
        meta = base._get_meta()
        assert base._arity is not None
        base._arity.check(f"{meta.name}.__init__()", len(args), tuple(kwargs))
        concurrency, unordered = base._concurrency(chosen)
        _api.auto_init()
        key = base._key()
        retries = chosen.get("max_task_retries") or 0
        meta = meta.variant(retries, unordered, max(0, chosen.get("max_pending_calls") or 0))
        ref = self._create(key, meta, args, kwargs, concurrency)
        meta.tell_core(ref)
        handle = ActorHandle(ref, meta)
        if chosen.get("name"):
            _api.publish_meta(ref, meta)
        return handle

    def _concurrency(self, chosen: dict[str, Any]) -> tuple[int, bool]:
        """How many calls run at once in the default group, and whether calls keep their order."""
        from skate import _async

        is_async = _async.is_async_class(self._cls)
        given = chosen.get("max_concurrency")
        limit = given if given is not None else _async.DEFAULT_ASYNC if is_async else 1
        several = is_async or limit > 1 or bool(self._groups())
        wanted = chosen.get("allow_out_of_order_execution")
        if wanted is False and several:
            raise ValueError(
                "allow_out_of_order_execution=False is for actors that run one call at a time: "
                f"{self._cls.__name__} is async or has several threads"
            )
        return limit, several if wanted is None else bool(wanted)

    def _create(
        self, key: int, meta: ActorMeta, args: Any, kwargs: Any, concurrency: int
    ) -> _core.ActorID:
        from skate import _api

        chosen = self._default_options
        given = ("num_cpus", "num_gpus", "resources", "memory", "accelerator_type")
        is_given = any(chosen.get(name) is not None for name in given)
        wanted = _options.amounts(chosen, 1)
        placing = pack_resources(wanted)
        held = placing if is_given else b""
        place = _place.resolve(chosen, wanted, meta.name)
        name = chosen.get("name") or ""
        space = chosen.get("namespace") or _api.namespace()
        detached = (chosen.get("lifetime") or _api._session.lifetime) == "detached"
        try:
            return _core.create_actor(
                key, chosen.get("max_restarts") or 0, chosen.get("max_task_retries") or 0,
                detached, bool(chosen.get("get_if_exists")), concurrency,
                place.strategy, place.node, name, space, meta.name, held, placing,
                self._environment(), tuple(args), dict(kwargs),
                place.group, place.bundle, place.capture, self._plain, place.labels,
            )  # fmt: skip
        except TypeError as error:
            _remote.refuse_argument(f"the actor {meta.name}", error)
            raise

    def _environment(self) -> bytes:
        return _runtime_env.for_call(self._default_options.get("runtime_env"))


def method(*args: Any, **options: Any) -> Any:
    """Options of an actor's method: `@method(num_returns=2)`."""
    if len(args) == 1 and callable(args[0]) and not options:
        return args[0]
    if args:
        raise AssertionError("@method takes keyword options only")
    for name in options:
        if name not in _options.METHOD:
            raise AssertionError(f"@method has no option {name!r}")
    _options.check(_options.METHOD, "@method", options)

    def decorate(function: Any) -> Any:
        function.__skate_method_options__ = dict(options)
        return function

    return decorate


def leave() -> None:
    """Raise what ends a plain actor. Called from C after a method that called exit_actor()."""
    raise ActorExit(0)


def exit_actor() -> None:
    """End the actor that runs this, for good; called in one of its methods."""
    now = _core.current()
    if now is None or now[0] == 0:
        raise TypeError("exit_actor() can be called in a method of an actor only")
    from skate import _async

    _async.leave_after_this()
    _core.leave()
    raise ActorExit(0)
