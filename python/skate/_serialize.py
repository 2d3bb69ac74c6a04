"""Values that the C code cannot encode alone, and errors in both directions.

skate._core calls these functions by name (py_mod.c, hook_names). Nothing heavy is imported before
it is needed: cloudpickle only for functions, classes and instances that are not importable.
"""

from __future__ import annotations

import io
import os
import sys
from _pickle import PickleBuffer, Pickler, PicklingError
from _pickle import dumps as _pickle_dumps

from skate import _core, exceptions

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

# Errors of the core: base/err.h.
ENOMEM, EINVAL, EAGAIN, ETIMEOUT, EINTR, EDEAD, EFULL = 1, 2, 4, 5, 6, 7, 8
ENOENT, EEXIST, EAUTH, ETOOBIG, ESHUTDOWN, EFORKED, EVERSION = 9, 10, 11, 13, 14, 15, 17
EBUSY = 18


class _NotSafe(Exception):  # noqa: N818
    """Raised inside a plain pickle when it meets what only cloudpickle does right."""


def _by_reference(kind: type) -> bool:
    """May this class be named in a pickle? Only if every process can import it by that name."""
    module = kind.__module__
    if module == "builtins" or module.startswith(("numpy", "skate.")):
        return True
    return module.partition(".")[0] in _STDLIB and getattr(
        sys.modules.get(module), kind.__qualname__, None
    ) is kind


_STDLIB = sys.stdlib_module_names - {"__main__"}


_custom: dict[type, tuple[Any, Any]] = {}  # util.register_serializer()


def set_custom(cls: type, serializer: Any, deserializer: Any) -> None:
    """Values of exactly this class travel as serializer(value), with the deserializer."""
    _custom[cls] = (serializer, deserializer)
    _core.arrays(not any(kind.__module__ == "numpy" for kind in _custom))


def drop_custom(cls: type) -> None:
    """Forget it, if there is one."""
    _custom.pop(cls, None)
    _core.arrays(not any(kind.__module__ == "numpy" for kind in _custom))


def rebuild_custom(deserializer: Any, state: Any) -> Any:
    """At the receiver."""
    return deserializer(state)


class _PlainPickler(Pickler):
    """The C pickler, for data. Functions, modules and user classes send us to cloudpickle."""

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind in _custom:
            raise _NotSafe
        if kind is type:
            if _by_reference(obj):
                return NotImplemented
        elif issubclass(kind, type):
            if obj.__module__.startswith("numpy"):
                return NotImplemented
        elif kind.__module__ == "builtins":
            if kind.__name__ in _PLAIN_KINDS or isinstance(obj, BaseException):
                return NotImplemented
            if kind.__name__ == "function" and obj.__module__ is not None and (
                obj.__module__.startswith(("numpy", "skate.")) and "<" not in obj.__qualname__
            ):
                return NotImplemented
        elif _is_array(kind):
            return _reduce_array(obj)
        elif _by_reference(kind):
            return NotImplemented
        raise _NotSafe


_PLAIN_KINDS = frozenset(
    ("complex", "bytearray", "set", "frozenset", "range", "slice", "ellipsis", "NoneType",
     "NotImplementedType", "builtin_function_or_method", "PickleBuffer")
)  # fmt: skip


# ------------------------------------------------------------------------------- arrays of numpy


_ARRAYS = frozenset(("ndarray", "memmap", "matrix", "recarray"))
_ORDINARY = frozenset("biufcSU")  # kinds of elements that numpy itself pickles without a copy


def _is_array(kind: type) -> bool:
    return kind.__name__ in _ARRAYS and kind.__module__ in ("numpy", "numpy.rec")


def _reduce_array(array: Any) -> Any:
    """How to pickle an array that numpy would copy into the pickle: of dates, records, and types
    of other packages, of numpy's subclasses, or with gaps. NotImplemented: numpy does it well."""
    kind, dtype, flags = type(array), array.dtype, array.flags
    gaps = not (flags.c_contiguous or flags.f_contiguous)
    own = kind.__name__ == "ndarray"
    if not gaps and own and dtype.kind in _ORDINARY and dtype.isbuiltin != 2:
        return NotImplemented
    if dtype.hasobject or not array.nbytes:
        return NotImplemented
    if gaps:
        array = array.copy()
    import numpy

    try:
        bare = array.view(numpy.ndarray)
        turned = not bare.flags.c_contiguous
        flat = (bare.T if turned else bare).reshape(-1).view(numpy.uint8)
        shape = bare.T.shape if turned else bare.shape
    except (TypeError, ValueError):
        return NotImplemented
    return rebuild_array, (PickleBuffer(flat), dtype, shape, turned, None if own else kind)


def rebuild_array(data: Any, dtype: Any, shape: Any, turned: bool, kind: Any) -> Any:
    """At the receiver: an array where the bytes lie."""
    import numpy

    made = numpy.frombuffer(data, numpy.uint8).view(dtype).reshape(shape)
    if turned:
        made = made.T
    return made if kind is None else made.view(kind)


class _Reduced:
    """Pickled as what it was made of says."""

    def __init__(self, made: Any) -> None:
        self._made = made

    def __reduce__(self) -> Any:
        return self._made


# --------------------------------------------------------------------------------------- pickles


_TABLES = frozenset(("pyarrow.lib", "polars.dataframe.frame"))
_COLUMNS = frozenset((*_TABLES, "polars.series.series"))


def dumps(obj: Any, buffers: list[Any]) -> Any:
    """Pickle, protocol 5; large buffers are appended to `buffers` instead. A table: _plain.Laid."""
    kind = type(obj)
    if kind.__module__ in _TABLES and kind not in _custom:
        laid = _lay_out_table(obj)
        if laid is not None:
            return laid
    if kind.__module__ == "numpy" and kind.__name__ == "ndarray" and not (
        obj.dtype.hasobject or kind in _custom
    ):
        made = _reduce_array(obj)
        if made is not NotImplemented:
            obj = _Reduced(made)
        return _pickle_dumps(obj, protocol=5, buffer_callback=buffers.append)
    out = io.BytesIO()
    try:
        _PlainPickler(out, protocol=5, buffer_callback=buffers.append).dump(obj)
        return out.getvalue()
    except (_NotSafe, PicklingError, TypeError, AttributeError, RecursionError):
        del buffers[:]
        _core.forget_refs()  # those met so far come again
    return _cloud_dumps(obj, buffers)


def _lay_out_table(obj: Any) -> Any:
    try:
        from skate import _arrow
    except ImportError:  # polars without pyarrow
        return None
    return _arrow.lay_out(obj)


_slots_pickler: Any = None


def _cloud_pickler() -> Any:
    """cloudpickle's, which gives a class sent by value its __slots__ too late to have effect."""
    global _slots_pickler
    if _slots_pickler is None:
        import cloudpickle

        class SlotsPickler(cloudpickle.Pickler):
            def reducer_override(self, obj: Any) -> Any:
                if type(obj) in _custom:
                    serializer, deserializer = _custom[type(obj)]
                    return rebuild_custom, (deserializer, serializer(obj))
                if type(obj).__module__ in ("torch", "torch.storage"):
                    from skate import _torch

                    made = _torch.reduce(obj)
                    if made is not None:
                        return made
                if _is_array(type(obj)):
                    return _reduce_array(obj)
                if type(obj).__module__ in _COLUMNS:
                    made = _reduce_columns(obj)
                    if made is not None:
                        return made
                made = super().reducer_override(obj)
                if isinstance(obj, type) and type(made) is tuple and obj.__dict__.get("__slots__"):
                    args = made[1]
                    if len(args) == 6 and type(args[3]) is dict:
                        args[3]["__slots__"] = obj.__dict__["__slots__"]
                return made

        _slots_pickler = SlotsPickler
    return _slots_pickler


def _reduce_columns(obj: Any) -> Any:
    try:
        from skate import _arrow
    except ImportError:
        return None
    return _arrow.reduce(obj)


def _cloud_dumps(obj: Any, buffers: list[Any]) -> bytes:
    out = io.BytesIO()
    try:
        _cloud_pickler()(out, protocol=5, buffer_callback=buffers.append).dump(obj)
        return out.getvalue()
    except (PicklingError, AttributeError, ValueError) as error:
        raise TypeError(f"cannot pickle {_short(obj)}: {error}") from error
    except RecursionError as error:
        raise TypeError(f"cannot pickle {_short(obj)}: it is nested too deeply") from error


def _short(obj: Any) -> str:
    kind = type(obj)
    return f"an object of type {kind.__module__}.{kind.__qualname__}"


# ---------------------------------------------------------------------------- errors of user code


def error_payload(error: BaseException) -> dict[str, Any]:
    """What travels of an exception: its text, and the exception itself if it can be pickled."""
    from skate import _core, _ids, _worker

    where = _worker.where()
    if error is _worker.setup_error():
        return {"setup": str(error.error_message)}  # type: ignore[attr-defined]
    if isinstance(error, TypeError) and _is_of_result(error):
        error = _result_error(error, where["function"])
    cause: BaseException = error
    if isinstance(error, KeyboardInterrupt):
        now = _core.current()
        task = _ids.TaskID(now[1]) if now is not None else None
        cause = exceptions.TaskCancelledError(task, "it was interrupted while it ran")
    if isinstance(error, exceptions.RayTaskError) and error.__traceback__ is None:
        text = str(error)
    else:
        text = traceback_text(error)
    inner = cause
    if isinstance(cause, exceptions.RayTaskError) and cause.cause is not None:
        inner = cause.cause
    return {**where, "traceback": text, "type": type(inner).__name__, "cause": _pickle_cause(inner)}


def _is_of_result(error: BaseException) -> bool:
    """Did dumps() raise it, called by the worker's loop, not by code of the task?"""
    trace = error.__traceback__
    return trace is not None and trace.tb_frame.f_code is dumps.__code__


def _result_error(error: TypeError, function: str) -> TypeError:
    hint = "; return a list" if "generator" in str(error) else ""
    return TypeError(f"the result of {function}() cannot be sent: {error}{hint}")


class _Cause:
    """An exception on its way: rebuilt even if its class wants other arguments than its args."""

    def __init__(self, cause: BaseException) -> None:
        state = cause.__reduce_ex__(5)
        self.parts = (*state[:2], state[2] if len(state) > 2 else None)

    def __reduce__(self) -> tuple[Any, ...]:
        return exceptions._rebuild_cause, self.parts


def _pickle_cause(cause: BaseException) -> bytes:
    import cloudpickle

    try:
        kind = type(cause)
        if kind.__reduce__ is BaseException.__reduce__ and kind.__module__ != "builtins":
            return cloudpickle.dumps(_Cause(cause), protocol=5)
        return cloudpickle.dumps(cause, protocol=5)
    except Exception:
        return b""


def traceback_text(error: BaseException) -> str:
    """The traceback as text, without the frames of the runtime, never raising."""
    try:
        import traceback

        trace, own = error.__traceback__, os.path.dirname(__file__) + os.sep
        while trace and trace.tb_next and trace.tb_frame.f_code.co_filename.startswith(own):
            trace = trace.tb_next  # who called the code of the task
        lines = traceback.format_exception(type(error), error, trace)
        if lines and lines[0].startswith("Traceback"):
            lines = lines[1:] if error.__cause__ is None and error.__context__ is None else lines
        return "".join(lines)
    except Exception:
        return f"{type(error).__name__}: (its text could not be made)\n"


def task_error(payload: dict[str, Any]) -> BaseException:
    """The exception that get() raises for an error value of user code."""
    from _pickle import loads

    text = payload.get("traceback", "")
    if "setup" in payload:
        return exceptions.RuntimeEnvSetupError(payload["setup"])
    cause: BaseException
    if payload.get("cause"):
        try:
            cause = loads(payload["cause"])
        except Exception as error:
            return exceptions.UnserializableException(
                f"The task raised {payload.get('type')}, which cannot be rebuilt here "
                f"({type(error).__name__}: {error}). Its own words:\n{text}"
            )
    elif "cause" not in payload:
        cause = _foreign_cause(str(payload.get("type")), payload.get("message") or text)
    else:
        cause = exceptions.RayError(
            f"The original cause of the RayTaskError ({payload.get('type')}) cannot be pickled. "
            f"Its own words:\n{text}"
        )
    if payload.get("init_failed"):
        return _init_failed(payload, text)
    error = exceptions.RayTaskError(
        payload.get("function", ""), text, cause, payload.get("proctitle"), payload.get("pid"),
        payload.get("ip"), payload.get("repr"), payload.get("actor"),
    )  # fmt: skip
    return error.as_instanceof_cause() if isinstance(cause, BaseException) else error


def _foreign_cause(kind: str, text: str) -> BaseException:
    """What a task in another language failed with: Python's exception of that name, if any."""
    import builtins

    words = text.strip().removeprefix(f"{kind}: ")
    found = getattr(builtins, kind, None)
    if isinstance(found, type) and issubclass(found, Exception):
        try:
            return found(words)
        except TypeError:  # one that takes more than a text
            pass
    return exceptions.CrossLanguageError(f"{kind}: {words}")


def _init_failed(payload: dict[str, Any], text: str) -> BaseException:
    return exceptions.ActorDiedError(
        f"The actor died because its constructor failed: ray::{payload.get('function')}() "
        f"(pid={payload.get('pid')}, ip={payload.get('ip')})\n{text}",
        payload.get("actor"),
        True,
    )


# ----------------------------------------------------------------------------- errors of the core


_ACTOR_ENDS: dict[str, type[exceptions.RayActorError]] = {
    "actor_died": exceptions.ActorDiedError,
    "actor_unavailable": exceptions.ActorUnavailableError,
    "actor_oom": exceptions.ActorOutOfMemoryError,
    "actor_oom_again": exceptions.ActorRestartsOutOfMemoryError,
}


def system_error(value: bytes, ref: bytes) -> BaseException:
    """The exception for an error value that the core made: RAW bytes "kind\\ntext"."""
    head, _, text = bytes(value).decode("utf-8", "replace").partition("\n")
    kind, _, more = head.partition(" ")
    if kind in _ACTOR_ENDS:
        words = more.split()
        actor = words[0] if words else None
        failed = len(words) > 1 and words[1] == "1"
        if not text.startswith("The actor"):
            state = "is dead" if kind in ("actor_died", "actor_oom") else "cannot be reached"
            text = f"The actor {state}: {text}"
        return _ACTOR_ENDS[kind](text, actor, failed)
    if kind == "task_cancelled":
        from skate import _ids

        return exceptions.TaskCancelledError(_ids.TaskID(_task_bytes(more)), text)
    if kind == "not_rebuilt":
        return exceptions.ObjectReconstructionFailedError(
            _ref_hex(ref), f"OBJECT_UNRECONSTRUCTABLE_{more}", text
        )
    if kind in ("owner_died", "object_lost", "out_of_scope"):
        lost = {
            "owner_died": exceptions.OwnerDiedError,
            "out_of_scope": exceptions.ReferenceCountingAssertionError,
        }.get(kind, exceptions.ObjectLostError)
        name = _ref_hex(ref)
        return lost(name, None, "", f"Failed to retrieve object {name}: {text}")
    simple = {
        "worker_crashed": exceptions.WorkerCrashedError,
        "out_of_memory": exceptions.OutOfMemoryError,
        "node_died": exceptions.NodeDiedError,
        "raylet_died": exceptions.LocalRayletDiedError,
        "store_full": exceptions.ObjectStoreFullError,
        "replay_inconsistent": exceptions.StreamingGeneratorReplayInconsistentError,
        "stream_end": exceptions.ObjectRefStreamEndOfStreamError,
        "pg_removed": exceptions.TaskPlacementGroupRemoved,
        "unschedulable": exceptions.TaskUnschedulableError,
        "actor_pg_removed": exceptions.ActorOfRemovedGroup,
        "actor_unschedulable": exceptions.ActorUnschedulableError,
    }.get(kind)
    return simple(text) if simple else exceptions.RaySystemError(text or head)


def _ref_hex(ref: bytes) -> str:
    """What ObjectRef.hex() says of a ref, from the core's 16 bytes of it."""
    task = _task_bytes((ref[:8] + bytes(2) + ref[10:]).hex())
    return task.hex() + (ref[8:10] + bytes(2)).hex()


def _task_bytes(text: str) -> bytes:
    """Ray's 24 bytes of a task id that the core wrote as hexadecimal text."""
    from skate import _api

    job = _api.info()["job"] if _api.is_initialized() else 0
    return bytes.fromhex(text[:32]) + bytes(4) + job.to_bytes(4, "little")


def _daemons_end() -> str:
    """How the daemons that this process has started ended."""
    from skate import _api

    node = _api._session.node
    text = node.obituary() if node is not None and _api._session.pid == os.getpid() else ""
    return f": {text}" if text else ""


def core_error(code: int, text: str) -> BaseException:
    """The exception for a negative code of the core."""
    if code == EFORKED:
        return RuntimeError(
            "this process was forked from one that uses Skate; a forked child cannot use its "
            "parent's session. Start processes with multiprocessing's 'spawn' method, or use "
            "remote tasks"
        )
    if code == ESHUTDOWN:
        return exceptions.RaySystemError("Skate is not running (shutdown was called, or it ended)")
    if code == EDEAD:
        why = _core.alive() or ""
        if "had joined" in why:
            return exceptions.RaySystemError(f"{why}: attach() joins the driver's next one")
        if not text or text == "the peer is dead":
            text = "the raylet of this node died"
        return exceptions.LocalRayletDiedError(text + _daemons_end())
    if code == EFULL:
        if "object store" in text:
            text += (
                ". Drop refs that are not needed, or give the node a larger object_store_memory: "
                "init(object_store_memory=...), `skate start --object-store-memory`"
            )
        return exceptions.ObjectStoreFullError(text)
    if code == EEXIST:
        return exceptions.ActorAlreadyExistsError(text)
    if code == ENOMEM:
        return exceptions.OutOfMemoryError(text)
    if code == ETIMEOUT:
        return exceptions.GetTimeoutError(text)
    if code == EAUTH:
        return exceptions.AuthenticationError(text)
    if code == EBUSY:
        return exceptions.PendingCallsLimitExceeded(
            "the actor has as many unanswered calls as max_pending_calls allows: get() some of "
            "their results first"
        )
    if code in (EINVAL, ETOOBIG):
        return ValueError(text)
    return exceptions.RaySystemError(text)


def timeout_error(done: int, count: int, seconds: Any, missing: Any) -> BaseException:
    """The exception for a get() whose time is over, with what the missing ref waits for."""
    from skate import _why

    what = "the object is" if count == 1 else f"{count - done} of {count} objects are"
    reason = _why.for_error(missing, float(seconds))
    return exceptions.GetTimeoutError(
        f"Get timed out: {what} not ready after {seconds} s; the tasks go on{reason}"
    )


def own_pid() -> int:
    """The process id, for payloads."""
    return os.getpid()
