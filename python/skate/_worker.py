"""A worker: what a forked process becomes. The loop itself is in C (python/ext/py_worker.c)."""

from __future__ import annotations

import _signal
import faulthandler
import os
import sys
from _thread import get_ident

from skate import _actor, _api, _core, _env_exec, _generator, _runtime_env, _serialize, _wire
from skate._remote import Limited, Retryable
from skate._stacks import offer as offer_stacks
from skate.exceptions import AsyncioActorExit

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

EXIT_ACTOR, EXIT_SYSTEM = 1, 2
_INTERRUPT = _signal.SIGRTMAX - 3  # cancel() interrupts a task by it; programs rarely use those


class _Worker:
    """The one worker of this process."""

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self.cls: type | None = None
        self.instance: Any = None
        self.actor_id: bytes | None = None
        self.groups: dict[str, int] = {}  # of concurrency
        self.several = False  # does it run several calls at once?
        self.actor_name = ""
        self.handle: Any = None
        self.first_incarnation = 0
        self.log_name = ""
        self.setup_error: BaseException | None = None  # its runtime environment failed
        self.to_install: dict[str, Any] | None = None  # what waits for the first task


_worker = _Worker()


# ------------------------------------------------------------------------------- called from C


def load_function(key: int, value: Any) -> Any:
    """The callable for what the owner defined under a key."""
    if _worker.to_install is not None:
        _install_now()
    if _worker.setup_error is not None:
        return _refuse_task
    if isinstance(value, list):
        from skate import _by_path

        return _by_path.load(value)
    if isinstance(value, Limited):
        return _limited(value)
    if isinstance(value, Retryable):
        return _retryable(value)
    if isinstance(value, _generator.Flat):
        return _named_like(_generator.flat(value.function, value.count), value.function)
    return value


def _limited(value: Limited) -> Any:
    function, left = load_function(0, value.function), value.max_calls

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        _core.limited(left <= 0)
        return function(*args, **kwargs)

    return _named_like(call, function)


def _retryable(value: Retryable) -> Any:
    function, kinds = load_function(0, value.function), value.kinds

    def mark(error: BaseException) -> None:
        if not isinstance(error, kinds):
            error.__skate_no_retry__ = True  # type: ignore[attr-defined]

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            mark(error)
            raise

    def stream(*args: Any, **kwargs: Any) -> Any:
        try:
            yield from function(*args, **kwargs)
        except BaseException as error:
            mark(error)
            raise

    return _named_like(stream if _generator.is_generator(function) else call, function)


def _named_like(call: Any, function: Any) -> Any:
    call.__name__ = getattr(function, "__name__", "call")
    call.__qualname__ = getattr(function, "__qualname__", "call")
    call.__module__ = getattr(function, "__module__", None) or "__main__"
    return call


def _refuse_task(*_args: Any, **_kwargs: Any) -> None:
    assert _worker.setup_error is not None
    _core.limited(True)  # the next task that asks for this environment gets a new attempt
    raise _worker.setup_error


def _install_now() -> None:
    from skate import _env_apply

    spec, _worker.to_install = _worker.to_install, None
    assert spec is not None
    _set_up(_env_apply.install, spec)


def setup_error() -> BaseException | None:
    """Why the runtime environment of this worker could not be made."""
    return _worker.setup_error


def construct(cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> bool:
    """Make the instance; from now on this worker is that actor. True: it runs several calls."""
    from skate import _async

    if _worker.to_install is not None:
        _install_now()
    if _worker.setup_error is not None:
        raise _worker.setup_error
    groups: dict[str, int] = {}
    if isinstance(cls, _async.Grouped):
        cls, groups = cls.cls, cls.groups
    if not isinstance(cls, type):
        raise TypeError(f"an actor is made of a class, and {cls!r} is none")
    now = _core.current()
    assert now is not None
    worker = _worker
    worker.cls = cls
    worker.actor_id = now[2]
    worker.actor_name = now[8] or ""
    worker.first_incarnation = now[6]
    worker.log_name = cls.__name__
    _api._session.actor = now[2]
    worker.groups = groups
    worker.several = several = _async.construct(
        cls, lambda: _make(cls, args, kwargs or {}), _core.concurrency(), groups
    )
    if cls.__repr__ is not object.__repr__:
        try:
            worker.log_name = repr(worker.instance).replace("\n", " ")[:200]
        except Exception:
            pass
    return several


def _make(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The instance; with an async constructor, a coroutine that completes it."""
    from skate import _async

    if not _async.is_coroutine(cls.__init__):
        _worker.instance = cls(*args, **kwargs)
        return None
    _worker.instance = cls.__new__(cls, *args, **kwargs)
    return _worker.instance.__init__(*args, **kwargs)


def find_method(name: str) -> Any:
    """The bound method of the actor."""
    if name == "__ray_ready__":
        return _ready
    if name == "__ray_terminate__":
        return _terminate
    if name == "__ray_call__":
        return _call
    method = getattr(_worker.instance, name)
    per_yield = getattr(method, "__skate_method_options__", {}).get("_num_objects_per_yield")
    if (per_yield or 1) > 1 and _generator.is_generator(method):
        return _generator.flat(method, per_yield)
    return method


def _ready() -> bool:
    return True


def _terminate() -> None:
    from skate import _async

    _async.terminate()
    raise _actor.ActorExit(0)


def _call(function: Any, *args: Any, **kwargs: Any) -> Any:
    return function(_worker.instance, *args, **kwargs)


# ---------------------------------------------------------------------------- where am I


def where() -> dict[str, Any]:
    """What an error says about its place."""
    now = _core.current()
    out: dict[str, Any] = {"pid": os.getpid(), "ip": _api.info()["node_ip"]}
    if now is None:
        return {**out, "function": "?"}
    kind, _, actor, name, method, _, _, cls, _, _ = now
    if kind == 2:
        out["function"] = f"{cls or (_worker.cls and _worker.cls.__name__)}.__init__"
        out["init_failed"] = True
        out["actor"] = actor.hex()
    else:
        out["function"] = name or method or "?"
        if kind == 1:
            out["actor"] = actor.hex()
            out["repr"] = _worker.log_name
    out["proctitle"] = f"ray::{out['function']}"
    return out


def function_name() -> str | None:
    """The function of the running task with its module, "script.f" for those of the script."""
    now = _core.current()
    if now is None:
        return None
    kind, _, _, name, method, _, _, cls, _, _ = now
    if kind == 0:
        function = _core.current_function()
        module = getattr(function, "__module__", None) or "__main__"
        if module == "__main__":
            module = _worker.config.get("script", "__main__")
        return f"{module}.{getattr(function, '__name__', name)}"
    owner = _worker.cls.__name__ if _worker.cls else cls
    return f"{owner}.__init__" if kind == 2 else f"{owner}.{method}"


def actor_name() -> str:
    """The name of the actor that this worker is; "" for an anonymous one."""
    return _worker.actor_name


def restarted() -> bool:
    """Has the actor been restarted?"""
    if _worker.first_incarnation <= 1:
        return False
    _, state = _api._call(_wire.GCS, "actor_sub", actor=_worker.actor_id)
    return state.get("restarts", 0) > 0


def own_handle() -> Any:
    """A weak handle of the actor that this worker is."""
    worker = _worker
    if worker.handle is None:
        assert worker.cls is not None and worker.actor_id is not None
        made = _actor.ActorClass(worker.cls, {"concurrency_groups": worker.groups})
        meta = made._get_meta().variant(0, worker.several, 0)
        ref = _core._actor_from_bytes(worker.actor_id, False)
        meta.tell_core(ref)
        worker.handle = _actor.ActorHandle(ref, meta)
    return worker.handle


def assigned_resources() -> dict[str, float]:
    """What the running task holds, or the actor."""
    now = _core.current()
    if now is not None and now[0] == 0:
        if not now[4]:
            return {"CPU": 1.0}
        pairs = (pair.rpartition("=") for pair in now[4].split("\x1f"))
        return {name: float(amount) for name, _, amount in pairs if name}
    if _worker.actor_id is None:
        return {}
    _, state = _api._call(_wire.GCS, "actor_sub", actor=_worker.actor_id)
    return _wire.unpack_resources(state["resources"])


# --------------------------------------------------------------------------------- its output


class _Output:
    """Whole lines to a pipe, each marked with the name of the task or actor that printed it.

    Each thread has a line of its own in progress: the pieces of a print() stay together.
    """

    encoding = "utf-8"
    errors = "backslashreplace"
    newlines = None
    closed = False
    line_buffering = True

    def __init__(self, fd: int, name: str) -> None:
        import io

        self._fd = fd
        self._rests: dict[int, str] = {}  # thread: the line that it has begun
        self._begun = False  # flush() has sent the beginning of a line
        self.name = name
        self.mode = "w"
        self.buffer = io.BufferedWriter(io.FileIO(fd, "w", closefd=False), 1)

    def write(self, text: str) -> int:
        """Print whole lines at once; keep the rest."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        me = get_ident()
        whole, newline, rest = (self._rests.pop(me, "") + text).rpartition("\n")
        if rest:
            self._rests[me] = rest
        if not newline:
            return len(text)
        lines = whole.split("\n")
        mark = f"\x01{_current_name()}\x01"
        first = "" if self._begun else mark
        self._begun = False
        self._emit(f"{first}{lines[0]}\n" + "".join(f"{mark}{line}\n" for line in lines[1:]))
        return len(text)

    def _emit(self, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError:
            pass

    def writelines(self, lines: Any) -> None:
        """As of a file."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Whole lines are out already; the beginning of this thread's follows them."""
        self._begin(self._rests.pop(get_ident(), ""))
        self._flush_buffer()

    def _flush_buffer(self) -> None:
        try:
            self.buffer.flush()
        except (OSError, ValueError):
            pass

    def _begin(self, rest: str) -> None:
        if rest:
            first = "" if self._begun else f"\x01{_current_name()}\x01"
            self._begun = True
            self._emit(first + rest)

    def finish(self) -> None:
        """At the end of the process: what any thread has begun, too."""
        for thread in list(self._rests):
            if self._begun:
                self.write("\n")
            self._begin(self._rests.pop(thread, ""))
        if self._begun:
            self.write("\n")
        self._flush_buffer()

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def isatty(self) -> bool:
        """A pipe is none."""
        return False

    def readable(self) -> bool:
        """No."""
        return False

    def writable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """No."""
        return False

    def close(self) -> None:
        """Stays open."""

    def reconfigure(self, **_options: Any) -> None:
        """As of a text file; nothing to change."""


def _current_name() -> str:
    if _worker.log_name:
        return _worker.log_name
    now = _core.current()
    return (now[3] or "") if now is not None else ""


# --------------------------------------------------------------------------------- its life


def _take_on(config: dict[str, Any], trouble: str | None) -> None:
    """Become a worker of the job: its folder, path, environment and import alias. trouble: why the
    environment's interpreter could not be had."""
    _worker.config = config
    _api._session.namespace = config.get("namespace", "")
    _api._session.lifetime = config.get("actor_lifetime", "")
    try:
        os.chdir(config["cwd"])
    except (OSError, KeyError):
        pass  # another machine, perhaps
    paths = _env_exec.own_paths(config)
    sys.path[:] = paths + [p for p in sys.path if p not in paths]
    if config.get("alias"):
        from skate import _alias

        _alias.install()
    os.environ.update(config.get("forwarded") or {})
    if config.get("logging"):
        from skate import _logging_config

        _logging_config.take_on(config["logging"])
    spec = _runtime_env.be_worker(config.get("runtime_env") or {}, _core.info()["env"])
    if spec:
        from skate import _env_apply

        _set_up(_env_apply.prepare, spec, trouble, _env_exec.was_set())
        if (spec.get("config") or {}).get("eager_install", True):
            _set_up(_env_apply.install, spec)
        else:
            _worker.to_install = spec


def _set_up(part: Any, spec: dict[str, Any], *more: Any) -> None:
    """Take on the runtime environment; what fails is told to every task that comes."""
    from skate import _env_apply, exceptions

    if _worker.setup_error is not None:
        return
    try:
        part(spec, *more)
    except _env_apply.SetupError as error:
        _worker.setup_error = exceptions.RuntimeEnvSetupError(str(error))
    except Exception as error:
        text = _serialize.traceback_text(error)
        _worker.setup_error = exceptions.RuntimeEnvSetupError(text)
    if _worker.setup_error is not None:
        _worker.setup_error.__skate_no_retry__ = True  # type: ignore[attr-defined]


def main(fd: int, fresh: bool = False) -> None:
    """Until the session, the actor or the process ends; does not return on SystemExit.

    fresh: this interpreter was started for this worker alone.
    """
    trouble = None if fresh else _env_exec.maybe(fd)
    _core.attach(fd)
    info = _core.info()
    _api._session.info = info
    _api._session.pid = os.getpid()
    out, err = _Output(1, "<stdout>"), _Output(2, "<stderr>")
    sys.stdout = sys.__stdout__ = out  # type: ignore[assignment]
    sys.stderr = sys.__stderr__ = err  # type: ignore[assignment]
    os.register_at_fork(after_in_child=_core.forked)
    config = _core.unpack(info["config"]) if info["config"] else {}
    if "max_lineage_bytes" in config:
        _core.lineage_max(config["max_lineage_bytes"])
    if "task_oom_retries" in config or "task_oom_retry_delay_base_ms" in config:
        from skate import _memory_config

        _memory_config.take_on(config)
    _take_on(config, trouble)
    faulthandler.enable(2)  # a crash in C code leaves the Python lines that led to it
    offer_stacks()
    _signal.signal(_INTERRUPT, _core.on_interrupt)
    _core.interruptible(_INTERRUPT)
    status = _serve()
    _run_exit_handlers()
    out.finish()
    err.finish()
    os._exit(status)


def _serve() -> int:
    """Run tasks; the exit status of the process."""
    try:
        if _core.run() == 1:
            from skate import _async

            _async.serve()
        return 0
    except (_actor.ActorExit, AsyncioActorExit):
        _core.exit_intended(EXIT_ACTOR, "the actor ended itself: exit_actor() was called")
        return 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        if _worker.actor_id is not None:
            _core.exit_intended(EXIT_SYSTEM, f"the actor ended itself: sys.exit({code})")
        return code & 255
    except KeyboardInterrupt:
        return 130
    except BaseException as error:
        sys.stderr.write(_serialize.traceback_text(error))
        return 1


def _run_exit_handlers() -> None:
    import atexit

    try:
        atexit._run_exitfuncs()
    except BaseException as error:
        sys.stderr.write(_serialize.traceback_text(error))
