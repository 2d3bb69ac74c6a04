"""The errors of Skate, under Ray's names and in Ray's hierarchy."""

from __future__ import annotations

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any



class RayError(Exception):
    """Base of all errors that come from the runtime."""


class CrossLanguageError(RayError):
    """An error of a worker in another language."""


class RayTaskError(RayError):
    """A task or actor method raised. `cause` is the exception, the text its remote traceback.

    What `get` raises is also an instance of the cause's own class: see as_instanceof_cause().
    """

    def __init__(
        self,
        function_name: str = "",
        traceback_str: str = "",
        cause: BaseException | None = None,
        proctitle: str | None = None,
        pid: int | None = None,
        ip: str | None = None,
        actor_repr: str | None = None,
        actor_id: str | None = None,
    ) -> None:
        Exception.__init__(self, function_name, traceback_str, cause)
        self.function_name = function_name
        self.traceback_str = traceback_str
        self.cause = cause
        self.proctitle = proctitle
        self.pid = pid
        self.ip = ip
        self.actor_repr = actor_repr
        self.actor_id = actor_id

    def as_instanceof_cause(self) -> RayTaskError:
        """This error as an instance of both RayTaskError and its cause's class."""
        cause = self.cause
        if cause is None or isinstance(self, type(cause)) or isinstance(cause, RayTaskError):
            return self
        dual = _dual_class(type(cause))
        if dual is None:
            return self
        try:
            error = dual.__new__(dual, *_new_args(cause))
        except Exception:
            try:
                error = Exception.__new__(dual)
            except TypeError:
                return self
        error._take(self)
        return error

    def __str__(self) -> str:
        where = [f"pid={self.pid}", f"ip={self.ip}"]
        if self.actor_id:
            where.append(f"actor_id={self.actor_id}")
        if self.actor_repr:
            where.append(f"repr={self.actor_repr}")
        head = f"ray::{self.function_name}() ({', '.join(where)})"
        return f"{head}\n{self.traceback_str.rstrip()}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.cause!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (
            self.function_name, self.traceback_str, self.cause, self.proctitle, self.pid,
            self.ip, self.actor_repr, self.actor_id,
        )  # fmt: skip
        return _rebuild_task_error, (fields, type(self) is not RayTaskError)


def _rebuild_cause(kind: Any, args: tuple[Any, ...], state: Any) -> BaseException:
    """The exception a task raised. One whose __init__ takes other arguments than its args (it
    gave super().__init__() a text, say) is made without calling it."""
    try:
        error: BaseException = kind(*args)
    except Exception:
        error = kind.__new__(kind, *args)
        error.args = args
    if isinstance(state, dict):
        error.__dict__.update(state)
    elif state is not None:
        error.__setstate__(state)  # type: ignore[attr-defined]
    return error


def _new_args(cause: BaseException) -> tuple[Any, ...]:
    """What the class's __new__ wants beside the class: groups refuse to be made from nothing."""
    if isinstance(cause, BaseExceptionGroup):
        return cause.message, cause.exceptions
    return ()


def _rebuild_task_error(fields: tuple[Any, ...], dual: bool) -> RayTaskError:
    error = RayTaskError(*fields)
    return error.as_instanceof_cause() if dual else error


class _DualMixin:
    """What a class that is both RayTaskError and the cause's class does differently."""

    def _take(self, error: RayTaskError) -> None:
        state = dict(error.__dict__)
        cause = error.cause
        self.__dict__.update(getattr(cause, "__dict__", {}))
        self.__dict__.update(state)
        self.args = getattr(cause, "args", ())

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "cause" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.__dict__["cause"], name)

    def __str__(self) -> str:
        return RayTaskError.__str__(self)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return RayTaskError.__repr__(self)  # type: ignore[arg-type]

    def __reduce__(self) -> tuple[Any, ...]:
        return RayTaskError.__reduce__(self)  # type: ignore[arg-type]

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return RayTaskError.__reduce__(self)  # type: ignore[arg-type]


_duals: dict[type, type | None] = {}


def _dual_class(cause: type) -> Any:
    """The class RayTaskError(X); None when X cannot be extended so."""
    if cause not in _duals:
        name = f"RayTaskError({cause.__name__})"
        try:
            bases = (_DualMixin, RayTaskError, cause)
            dual: type | None = type(name, bases, {"__module__": __name__})
        except TypeError:
            dual = None
        if len(_duals) >= 256:
            _duals.clear()
        _duals[cause] = dual
    return _duals[cause]


class TaskCancelledError(RayError):
    """The task was cancelled before or while it ran."""

    def __init__(self, task_id: Any = None, error_message: str | None = None) -> None:
        super().__init__(task_id, error_message)
        self.task_id = task_id
        self.error_message = error_message

    def __str__(self) -> str:
        which = "The task" if self.task_id is None else f"Task {self.task_id.hex()}"
        return f"{which} was cancelled" + (f": {self.error_message}" if self.error_message else "")


class WorkerCrashedError(RayError):
    """The worker died while it ran the task, and no retry was left."""

    def __init__(self, message: str = "the worker died while it ran this task") -> None:
        super().__init__(message)


class RayActorError(RayError):
    """The actor cannot answer."""

    def __init__(
        self,
        error_msg: str = "The actor died.",
        actor_id: str | None = None,
        actor_init_failed: bool = False,
        preempted: bool = False,
    ) -> None:
        super().__init__(error_msg)
        self.error_msg = error_msg
        self.actor_id = actor_id
        self.actor_init_failed = actor_init_failed
        self.preempted = preempted

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (
            self.error_msg, self.actor_id, self.actor_init_failed, self.preempted,
        )  # fmt: skip


class ActorDiedError(RayActorError):
    """The actor is dead for good."""


class ActorUnavailableError(RayActorError):
    """The actor cannot be reached for now (it restarts)."""


class ActorAlreadyExistsError(ValueError, RayError):
    """The name is taken."""


class ActorHandleNotFoundError(ValueError, RayError):
    """The handle belongs to another session."""


class RaySystemError(RayError):
    """The runtime itself failed, or is not there."""

    def __init__(self, client_exc: Any = "", traceback_str: str | None = None) -> None:
        super().__init__(client_exc)
        self.client_exc = client_exc
        self.traceback_str = traceback_str

    def __str__(self) -> str:
        text = f"System error: {self.client_exc}"
        return f"{text}\n{self.traceback_str}" if self.traceback_str else text


class AuthenticationError(RayError):
    """The peer did not prove that it holds the cluster's key."""


class UserCodeException(RayError):
    """Code of the user failed inside the runtime."""


class UnserializableException(RayError):
    """The exception of the task cannot be rebuilt here; its text is in the message."""


class ObjectStoreFullError(RayError):
    """The object store has no room."""


class OutOfDiskError(RayError):
    """The disk has no room for objects."""


class OutOfMemoryError(RayError):
    """The node has no memory left, or a task used more than it may: its worker was ended."""

    @property
    def message(self) -> str:
        """The text."""
        return str(self)


class ActorOutOfMemoryError(OutOfMemoryError, ActorDiedError):
    """The actor was ended for want of memory, for good: both of the classes above it."""


class ActorRestartsOutOfMemoryError(OutOfMemoryError, ActorUnavailableError):
    """The actor was ended for want of memory during this call, and restarts."""


class NodeDiedError(RayError):
    """The node died."""


class LocalRayletDiedError(RayError):
    """The raylet of this node died."""

    def __init__(self, message: str = "the raylet of this node died") -> None:
        super().__init__(message)


class ObjectLostError(RayError):
    """No copy of the object is left."""

    def __init__(
        self,
        object_ref_hex: str = "",
        owner_address: Any = None,
        call_site: str = "",
        text: str = "",
    ) -> None:
        super().__init__(text or f"the object {object_ref_hex} is lost")
        self.object_ref_hex = object_ref_hex
        self.owner_address = owner_address
        self.call_site = call_site
        self._text = text

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.object_ref_hex, self.owner_address, self.call_site, self._text)


class ObjectFetchTimedOutError(ObjectLostError):
    """The object could not be fetched in time."""


class OwnerDiedError(ObjectLostError):
    """The process that created the ref died."""


class ObjectFreedError(ObjectLostError):
    """The object was freed by hand."""


class ObjectReconstructionFailedError(ObjectLostError):
    """The object is lost and could not be made again.

    Args:
        object_ref_hex: the ref, as ref.hex() says it.
        reason: why, by Ray's name for it: "OBJECT_UNRECONSTRUCTABLE_PUT", ..._RETRIES_DISABLED,
            ..._LINEAGE_EVICTED, ..._MAX_ATTEMPTS_EXCEEDED, ..._REF_NOT_FOUND.
        reason_message: the same in words, with what to do.
    """

    def __init__(
        self,
        object_ref_hex: str = "",
        reason: str | None = None,
        reason_message: str | None = None,
        owner_address: Any = None,
        call_site: str = "",
    ) -> None:
        text = f"Failed to retrieve object {object_ref_hex}: it is lost and cannot be made again"
        if reason_message:
            text += f".\n[{reason or 'UNKNOWN'}] {reason_message}"
        super().__init__(object_ref_hex, owner_address, call_site, text)
        self.reason = reason
        self.reason_message = reason_message

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (
            self.object_ref_hex, self.reason, self.reason_message, self.owner_address,
            self.call_site,
        )  # fmt: skip


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """The object was released too early."""


class GetTimeoutError(RayError, TimeoutError):
    """get() did not get it in time."""


class RuntimeEnvSetupError(RayError):
    """The runtime environment could not be made."""

    def __init__(self, error_message: str | None = None) -> None:
        super().__init__(f"Failed to set up runtime environment.\n{error_message or ''}")
        self.error_message = error_message


class TaskUnschedulableError(RayError):
    """The task can never be placed."""

    def __init__(self, error_message: str = "") -> None:
        super().__init__(f"The task is not schedulable: {error_message}")
        self.error_message = error_message


class ActorUnschedulableError(RayError):
    """The actor can never be placed."""

    def __init__(self, error_message: str = "") -> None:
        super().__init__(f"The actor is not schedulable: {error_message}")
        self.error_message = error_message


class TaskPlacementGroupRemoved(RayError):
    """The placement group of the task was removed."""


class ActorPlacementGroupRemoved(RayError):
    """The placement group of the actor was removed."""


class ActorOfRemovedGroup(ActorPlacementGroupRemoved, ActorUnschedulableError):
    """Its placement group was removed before it ran: Ray says ActorUnschedulableError then, or
    nothing at all, and has the other name for it, too."""


class PendingCallsLimitExceeded(RayError):
    """Too many calls of this handle are waiting."""


class AsyncioActorExit(RayError):
    """An asyncio actor ends by intention."""


class PlasmaObjectNotAvailable(RayError):
    """The object is not in the store."""


class RpcError(RayError):
    """A message between processes failed."""

    def __init__(self, message: str = "", rpc_code: int | None = None) -> None:
        super().__init__(message)
        self.rpc_code = rpc_code


class ObjectRefStreamEndOfStreamError(RayError):
    """The generator has no more items."""


class StreamingGeneratorReplayInconsistentError(RayError):
    """A replayed generator gave another number of items."""


class OufOfBandObjectRefSerializationException(RayError):  # noqa: N818 (Ray's spelling)
    """A ref was pickled where that is not allowed."""


class RayChannelError(RayError):
    """A channel of a compiled graph failed."""


class RayChannelTimeoutError(RayChannelError, TimeoutError):
    """A channel of a compiled graph timed out."""


class RayCgraphCapacityExceeded(RayError):
    """A compiled graph has too many executions in flight."""


class RayDirectTransportError(RayError):
    """A direct transfer failed."""


class ActorClassInheritanceException(TypeError):
    """An actor class was subclassed; subclass the plain class instead."""


RAY_EXCEPTION_TYPES = [
    v for v in list(globals().values()) if isinstance(v, type) and issubclass(v, RayError)
]


class NotSupportedError(RayError, NotImplementedError):
    """A part of Ray that is not in Skate yet. Its text says what to use meanwhile.

    Raised by an import it is an ImportError too, by an attribute an AttributeError.
    """
