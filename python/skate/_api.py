"""init, shutdown, get, put, wait and what a program asks about its cluster."""

from __future__ import annotations

import itertools
import os
import sys

from skate import _core, _wire
from skate._generator import ObjectRefGenerator
from skate.exceptions import ActorHandleNotFoundError, GetTimeoutError, RaySystemError

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

SCRIPT_MODE, WORKER_MODE, LOCAL_MODE = 0, 1, 2
_CALL_TIMEOUT_S = 30.0

# Accepted and without a meaning here; a value that asks for something we lack is refused.
_IGNORED = frozenset(
    ("local_mode", "include_dashboard", "dashboard_host", "dashboard_port",
     "enable_resource_isolation", "cgroup_path", "system_reserved_cpu", "system_reserved_memory",
     "proxy_server_url", "_system_config", "_redis_password", "_redis_username",
     "_plasma_directory", "object_spilling_directory", "_metrics_export_port",
     "_enable_object_reconstruction", "_driver_object_store_memory", "_tracing_startup_hook",
     "_skip_env_hook", "_redis_max_memory", "redis_password", "_object_spilling_config")
)  # fmt: skip


class _Session:
    """What this process knows of the session it is in."""

    def __init__(self) -> None:
        self.node: Any = None  # the daemons, when this process started them
        self.printer: Any = None
        self.namespace = ""
        self.info: dict[str, Any] = {}
        self.pid = 0
        self.context: RayContext | None = None
        self.actor: bytes | None = None  # worker: the id of the actor it is
        self.lifetime = ""  # of actors that do not say


_session = _Session()
_kills = itertools.count(1)  # each has a number, should it come twice


class RayContext:
    """What init() returns: a mapping of the session's addresses, and a context manager."""

    def __init__(self, address_info: dict[str, Any]) -> None:
        self.address_info = address_info
        self.dashboard_url = ""
        self.python_version = ".".join(map(str, sys.version_info[:3]))
        self.ray_version = _core.version
        self.ray_commit = "skate"

    def __getitem__(self, key: str) -> Any:
        return self.address_info[key]

    def __iter__(self) -> Any:
        return iter(self.address_info)

    def __len__(self) -> int:
        return len(self.address_info)

    def get(self, key: str, default: Any = None) -> Any:
        """As of a dict."""
        return self.address_info.get(key, default)

    def keys(self) -> Any:
        """As of a dict."""
        return self.address_info.keys()

    def items(self) -> Any:
        """As of a dict."""
        return self.address_info.items()

    def values(self) -> Any:
        """As of a dict."""
        return self.address_info.values()

    def disconnect(self) -> None:
        """End the session."""
        shutdown()

    def __enter__(self) -> RayContext:
        return self

    def __exit__(self, *exc: object) -> None:
        shutdown()

    def __repr__(self) -> str:
        return f"RayContext(ray_version={self.ray_version!r}, address_info={self.address_info})"


# ------------------------------------------------------------------------------ init and shutdown


def init(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    resources: dict[str, float] | None = None,
    labels: dict[str, str] | None = None,
    object_store_memory: int | None = None,
    ignore_reinit_error: bool = False,
    log_to_driver: bool = True,
    namespace: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    job_config: Any = None,
    configure_logging: bool = True,
    logging_level: Any = None,
    logging_format: str | None = None,
    logging_config: Any = None,
    _temp_dir: str | None = None,
    _node_ip_address: str | None = None,
    _memory: float | None = None,
    _node_name: str | None = None,
    **kwargs: Any,
) -> RayContext:
    """Start a session: join a cluster, or start one on this machine that ends with this process.

    address: None joins what SKATE_ADDRESS or RAY_ADDRESS names, else the cluster that
    `skate start --head` left here, else starts a local one; "auto" must find one; "local" always
    starts one; "host:port" joins that one. job_config: a JobConfig; what init() is told itself
    stands over it. logging_config: a LoggingConfig for the root logger of driver and workers;
    logging_level and logging_format are for the loggers "ray" and "skate" only.
    """
    for name in kwargs:
        if name not in _IGNORED:
            from skate import _options

            known = [*(init.__kwdefaults__ or ()), *_IGNORED]
            hint = _options.suggestion(name, known)
            raise RuntimeError(f"init() got an unknown keyword argument: {name}{hint}")
    if kwargs.get("local_mode"):
        raise RuntimeError(
            "local_mode is not supported: tasks run in processes of their own; for a debugger, "
            "call the plain function, f._function(...)"
        )
    if _core.epoch():
        if ignore_reinit_error and _session.context is not None:
            return _session.context
        if ignore_reinit_error:
            return RayContext({})
        raise RuntimeError(
            "init() was called twice in this process; call shutdown() first, or give "
            "ignore_reinit_error=True"
        )
    if namespace is not None and not isinstance(namespace, str):
        raise TypeError(f"namespace must be a str, not {namespace!r}")
    if namespace == "":
        raise ValueError("the namespace must not be empty; None is a new one of this program's own")
    if labels is not None:
        from skate import _labels

        _labels.check_node_labels(labels)
    if resources is not None and not isinstance(resources, dict):
        raise TypeError(f"resources must be a dict of names and amounts, not {resources!r}")
    from skate import _init_config, _node, _store_config

    config = _program_config(job_config, runtime_env, namespace)
    config |= _system_settings(kwargs.get("_system_config"))
    if configure_logging:
        config["logging"] = _init_config.logging_of(logging_config, logging_level, logging_format)
    log_to_driver = bool(log_to_driver) and _init_config.switch("LOG_TO_DRIVER", True)

    amounts = (num_cpus, num_gpus, resources, labels, object_store_memory)
    base = _node.base_dir(_temp_dir)
    found = _choose_address(address, base, all(a is None for a in amounts))
    node: Any = None
    try:
        if found is None:
            store = _store_bytes(object_store_memory)
            ip = _node_ip_address or "127.0.0.1"
            offered = _node.node_resources(ip, True, num_cpus, num_gpus, _memory, store, resources)
            more = _store_config.settings(
                kwargs.get("object_spilling_directory"), kwargs.get("_system_config")
            )
            node = _node.Node(_node.new_session_dir(_temp_dir, False), _node.new_key())
            node.start_gcs(ip)
            node.start_raylet(ip, offered, store, labels, _node_name or "", more=more)
            _warm_up()
            _node.sweep_dead(base)
            node.raylet.wait_ready()
            socket_path = node.socket_path
        else:
            socket_path, node = _joined(base, found, amounts, _temp_dir, kwargs)
        return _join(node, socket_path, config, log_to_driver)
    except BaseException:
        if _core.epoch():
            _core.close()
        if node is not None:
            node.stop()
        raise


def _joined(
    base: str, found: str, amounts: tuple[Any, ...], temp: str | None, more: dict[str, Any]
) -> tuple[str, Any]:
    """The socket of the raylet to join, and that raylet's daemon when it is this program's own
    (_remote_driver.py). ValueError for what only the starter of a node may say."""
    from skate import _remote_driver, _store_config

    if any(a is not None for a in amounts):
        raise ValueError(
            "num_cpus, num_gpus, resources, labels and object_store_memory are the "
            "node's business: they cannot be given when joining a cluster"
        )
    useless = _store_config.of_node(more.get("_system_config"))
    if useless:
        raise ValueError(
            "how a node spills objects and protects its memory is the node's business: when "
            f"joining a cluster, leave out of _system_config: {', '.join(useless)}"
        )
    return _remote_driver.socket_of(base, found, more.get("_redis_password"), temp)


def _warm_up() -> None:
    """Work that the driver needs anyway, while the raylet starts."""
    import threading

    import cloudpickle

    from skate import _actor, _logs, _serialize

    del threading, cloudpickle, _actor, _logs, _serialize


def _store_bytes(wanted: int | None) -> int:
    from skate import _node

    if wanted is None:
        return _node.default_store_bytes()
    if isinstance(wanted, bool) or not isinstance(wanted, (int, float)):
        raise TypeError(f"object_store_memory must be a number of bytes, not {wanted!r}")
    if wanted < 1 << 20:
        raise ValueError(f"object_store_memory must be at least 1 MiB, it is {wanted!r}")
    _node.check_store(wanted)
    return int(wanted) & ~4095


def _choose_address(address: str | None, base: str, free: bool) -> str | None:
    """The address to join, or None to start a cluster."""
    from skate import _node

    if address is not None and not isinstance(address, str):
        raise TypeError(f"address must be a str, not {address!r}")
    if address is None:
        address = os.environ.get("SKATE_ADDRESS") or os.environ.get("RAY_ADDRESS") or None
    if address == "local":
        return None
    if address in (None, "auto") and "pyspark" in sys.modules:  # in a Python worker of Spark?
        from skate.util.spark._executor import cluster_here

        address = cluster_here(base) or address
    if address is None:
        return _node.current_cluster(base) if free else None
    if address == "auto":
        found = _node.current_cluster(base)
        if found is None:
            raise ConnectionError(
                "no Skate cluster runs on this machine: start one with `skate start --head`, or "
                "call init() without an address"
            )
        return found
    from skate import _remote_driver

    return _remote_driver.plain_address(address)


def _program_config(job_config: Any, runtime_env: Any, namespace: str | None) -> dict[str, Any]:
    """What the GCS and the workers are told of this program."""
    from skate import _init_config

    settings = _init_config.merge(job_config, runtime_env, namespace)
    return {**_job_config(settings.pop("runtime_env")), **settings}


def _job_config(runtime_env: dict[str, Any] | None) -> dict[str, Any]:
    """What the job's workers take on, in plain values."""
    from skate import _alias

    cwd = os.getcwd()
    path = [os.path.abspath(p) if p else cwd for p in sys.path]
    env = _job_env(runtime_env)
    if env.get("working_dir"):  # what was left out of it is not to be found beside the script
        beside = {cwd, os.path.dirname(os.path.abspath(sys.argv[0] or "."))}
        path = [p for p in path if p not in beside]
    main = sys.modules.get("__main__")
    script = getattr(main, "__file__", None) or ""
    return {
        "cwd": cwd,
        "sys_path": path,
        "prefixes": [sys.base_prefix, sys.prefix],
        "runtime_env": env,
        "alias": _alias.is_installed(),
        "script": os.path.splitext(os.path.basename(script))[0] or "__main__",
    }


def _job_env(runtime_env: dict[str, Any] | None) -> dict[str, Any]:
    """The job's runtime environment, checked and plain."""
    if runtime_env is None:
        return {}
    from skate import _env_check, _env_packages, _runtime_env

    if not isinstance(runtime_env, dict):
        raise TypeError(f"runtime_env must be a dict or a RuntimeEnv, not {runtime_env!r}")
    _runtime_env.warn_unknown(runtime_env)
    env = _env_check.check(runtime_env)
    _env_packages.check_paths(env)
    return _runtime_env.plain(env)


def _system_settings(given: Any) -> dict[str, int]:
    """What we know of _system_config (or RAY_<name> in the environment), for the job's workers."""
    from skate import _memory_config

    name = "max_lineage_bytes"
    out = _memory_config.retries(given)
    value = (given or {}).get(name, os.environ.get(f"RAY_{name}"))
    if value is None:
        return out
    try:
        if int(value) >= 0:
            return {**out, name: int(value)}
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{name} must be a number of bytes, 0 or more, not {value!r}")


def _join(
    node: Any, socket_path: str, config: dict[str, Any], show: bool
) -> RayContext:
    from skate import _away, _logs, _memory_config, _runtime_env

    if not _core.epoch():
        _core.connect(socket_path, _CALL_TIMEOUT_S)
    if "max_lineage_bytes" in config:
        _core.lineage_max(config["max_lineage_bytes"])
    _memory_config.take_on(config)
    info = _core.info()
    if config["runtime_env"]:
        from skate import _env_packages

        _env_packages.take(config["runtime_env"], node is None or node.is_outpost)
    config["namespace"] = config["namespace"] or _random_name()
    with _away.Warned(node is None or node.is_outpost):
        name, started = _call(
            _wire.GCS, "job_start", driver=info["proc"], pid=os.getpid(),
            namespace=config["namespace"], entrypoint=" ".join(sys.argv),
            config=_core.pack(config),
        )  # fmt: skip
    if name != "job_started" or started["status"] < 0:
        raise ConnectionError(f"the cluster refused this program: {started.get('reason', name)}")
    _core.set_job(started["job"])
    session = _session
    session.node = node
    session.info = _core.info()
    session.namespace = config["namespace"]
    _runtime_env.be_driver(config["runtime_env"])
    session.pid = os.getpid()
    session.actor = None
    session.lifetime = config["actor_lifetime"]
    session.printer = _logs.Printer(info["node_ip"], show)
    session.context = RayContext(_address_info(session.info, socket_path))
    _at_exit()
    if "pyspark" in sys.modules:
        from skate import _member

        _member.tell_spark(session.info)
    return session.context


def _random_name() -> str:
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _address_info(info: dict[str, Any], socket_path: str) -> dict[str, Any]:
    return {
        "address": info["gcs_address"],
        "gcs_address": info["gcs_address"],
        "redis_address": None,
        "node_ip_address": info["node_ip"],
        "node_id": (info["node_id"] + bytes(12)).hex(),
        "session_dir": info["session_dir"],
        "webui_url": "",
        "object_store_address": socket_path,
        "raylet_socket_name": socket_path,
        "metrics_export_port": 0,
        "dashboard_agent_listen_port": 0,
    }


_registered = False


def _at_exit() -> None:
    global _registered
    if not _registered:
        import atexit

        atexit.register(_exit_handler)
        _end_in_order()
        os.register_at_fork(after_in_child=_core.forked)
        _registered = True


def _end_in_order() -> None:
    """SIGTERM ends the program by SystemExit, so that its exit handlers run; a handler of the
    program's own stays."""
    import _signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        return
    if _signal.getsignal(_signal.SIGTERM) == _signal.SIG_DFL:
        _signal.signal(_signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, _frame: Any) -> None:
    import threading

    # A forked child, or a program that is ending already: as it would have been without us.
    if os.getpid() != _session.pid or not threading.main_thread().is_alive():
        import signal

        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    sys.exit(number)


def _exit_handler() -> None:
    if os.getpid() == _session.pid:
        shutdown()


def is_initialized() -> bool:
    """Is there a session in this process?"""
    return bool(_core.epoch())


def auto_init() -> None:
    """Start a session when there is none, as Ray does at the first call that needs one."""
    if _core.epoch():
        return
    for name in ("SKATE_ENABLE_AUTO_CONNECT", "RAY_ENABLE_AUTO_CONNECT"):
        if os.environ.get(name) == "0":
            raise RaySystemError("Skate has not been started: call init() first")
    if _session.pid and _session.pid != os.getpid():
        _refuse_forked()
    if _core.carried() or "pyspark" in sys.modules:
        from skate import _member

        if _member.attached():
            return
    init()


def _refuse_forked() -> None:
    from skate import _serialize

    raise _serialize.core_error(_serialize.EFORKED, "")


def shutdown(*, wait_for_processes: bool = False, _exiting_interpreter: bool = False) -> None:
    """End the session: its workers, and the cluster when this process started it."""
    session = _session
    if not _core.epoch():
        if session.node is not None and session.pid == os.getpid():
            session.node.stop()
            session.node = None
        return
    if not session.info.get("is_driver"):
        return  # a worker's session is the job's
    raylet = session.info["proc"] & ~0xFFFFFFFF
    if session.info["driver"] != session.info["proc"]:
        _core.leave_job()  # another program's, which goes on
    try:
        if _core.alive() is None:
            _core.call(raylet, _wire.build("bye"), 5.0)
    except Exception as error:
        print(f"[skate] warning: the session did not end in order: {error}", file=sys.stderr)
    if session.printer is not None:
        session.printer.stop()
        session.printer = None
    _core.close()
    node, session.node = session.node, None
    session.info = {}
    session.context = None
    if node is not None:
        node.stop()


# ----------------------------------------------------------------------------------- get, put, wait


def get(object_refs: Any, *, timeout: float | None = None, copy: bool = False) -> Any:
    """The value of a ref, or the list of values of a list of refs; raises a task's error.

    copy: arrays in the values may be written to; what is written is this process's own. It costs
    a copy of the pages that are written to, and no other.
    """
    if timeout is not None and not hasattr(timeout, "__float__"):
        raise TypeError(f"the timeout of get() is a number of seconds, not {timeout!r}")
    if own_get is not None and own_get.concerns(object_refs):
        return own_get.take(object_refs, timeout, copy)
    if copy:
        return _core.get_writable(object_refs, timeout)
    return _core.get(object_refs, timeout)


own_get: Any = None  # skate.dag.compiled_dag_node, once it was imported: its results are no refs


def put(value: Any, *, _owner: Any = None, _tensor_transport: Any = None) -> _core.ObjectRef:
    """Store a value; its ref can be given to any task."""
    if _owner is not None:
        raise ValueError("put(_owner=...) is not supported")
    try:
        return _core.put(value)
    except TypeError as error:
        if type(value) is _core.ObjectRef:
            raise
        from skate.util import check_serialize

        raise check_serialize.refusal(
            f"the put value {_shown(value)}", value, error
        ) from check_serialize.cause(error)


def _shown(value: Any) -> str:
    return f"of type {type(value).__module__}.{type(value).__qualname__}"


def wait(
    object_refs: list[Any],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[Any], list[Any]]:
    """Wait until num_returns of the refs are ready, or the time is over: (ready, the rest)."""
    if not isinstance(object_refs, list):
        raise TypeError(f"wait() takes a list of ObjectRef, not {type(object_refs)}")
    if timeout is not None and not hasattr(timeout, "__float__"):
        raise TypeError(f"the timeout of wait() is a number of seconds, not {timeout!r}")
    if timeout is not None and timeout < 0:
        raise ValueError(f"the timeout of wait() must not be negative, it is {timeout}")
    if not object_refs:
        return [], []
    if num_returns <= 0:
        raise ValueError(f"num_returns of wait() must be positive, it is {num_returns}")
    if num_returns > len(object_refs):
        raise ValueError(
            f"num_returns of wait() is {num_returns}, but there are {len(object_refs)} refs"
        )
    try:
        return _core.wait(object_refs, num_returns, timeout, fetch_local)
    except TypeError:
        from skate import _generator

        if not any(type(one) is _generator.ObjectRefGenerator for one in object_refs):
            raise
        return _generator.wait(object_refs, num_returns, timeout, fetch_local)


def cancel(ref: Any, *, force: bool = False, recursive: bool = True) -> None:
    """Cancel the task or actor call that makes a ref; get() of it raises TaskCancelledError.

    What has not started never runs. A running task gets a KeyboardInterrupt; `force` ends its
    worker instead. A running call of an actor only sees get_runtime_context().is_canceled().
    `recursive` does the same to the tasks it submitted. What has ended keeps its value.
    TypeError: not a ref. ValueError: force for a call of an actor.
    """
    if type(ref) is ObjectRefGenerator:
        ref = ref.completed()
    if type(ref) is not _core.ObjectRef:
        raise TypeError(f"cancel() takes an ObjectRef or a generator of them, not {ref!r}")
    _core.cancel(ref, force, recursive)


# --------------------------------------------------------------------------------- actors by name


def kill(actor: Any, *, no_restart: bool = True) -> None:
    """End an actor at once; with no_restart=False that is a crash it may recover from."""
    from skate._actor import ActorHandle

    if not isinstance(actor, ActorHandle):
        raise ValueError(f"kill() takes the handle of an actor, not {actor!r}")
    auto_init()
    try:
        actor._actor_id._check()
    except ValueError as error:
        raise ActorHandleNotFoundError(str(error)) from None
    frame = _wire.build(
        "actor_kill", actor=actor._actor_id._raw(), no_restart=int(no_restart), mark=next(_kills),
        reason=f"it was killed by ray.kill(), called by {_caller()}",
    )  # fmt: skip
    _core.send(_wire.GCS, frame)


def _caller() -> str:
    """Who calls, for people who read why something ended."""
    session, now = info(), _core.current()
    if now is None:
        who = "the driver" if session["is_driver"] else "a worker"
    else:
        from skate import _worker

        who = f"{_worker.where()['function']}()"
    return f"{who} (process {os.getpid()}, job {session['job']})"


def get_actor(name: str, namespace: str | None = None) -> Any:
    """A weak handle of the living actor of that name. ValueError when there is none."""
    from skate._actor import ActorHandle, ActorMeta

    if not isinstance(name, str):
        raise TypeError(f"the name of an actor is a str, not {name!r}")
    if not name:
        raise ValueError("the name of an actor must not be empty")
    auto_init()
    space = namespace or _session.namespace
    _, state = _call(_wire.GCS, "actor_by_name", name=name, namespace=space)
    if state.get("state", 4) not in (0, 1, 2):
        raise ValueError(
            f"no actor named {name!r} lives in the namespace {space!r}. Another program's are "
            "found in its namespace only: init(namespace=...) in both, or get_actor(name, "
            "namespace=...)"
        )
    raw = state["actor"]
    plain = _read_meta(raw)
    ref = _core._actor_from_bytes(raw, False)
    if plain is None:  # made by a program that could not say it
        from skate import _cross

        meta = _cross.meta_of([], state.get("cls", ""))
    else:
        meta = ActorMeta.unpack(plain)
    meta.tell_core(ref)
    return ActorHandle(ref, meta)


def _meta_key(raw: bytes) -> str:
    return f"actor-meta:{raw.hex()}"


def publish_meta(ref: Any, meta: Any) -> None:
    """Say what the class of a named actor offers, for those who find it by name."""
    _call(
        _wire.GCS, "kv_put", key=_meta_key(ref._raw()), value=_core.pack(meta.pack()), overwrite=0
    )


def _read_meta(raw: bytes) -> Any:
    """What publish_meta() said; its maker may be about to say it."""
    import time

    deadline = time.monotonic() + 2.0
    while True:
        _, found = _call(_wire.GCS, "kv_get", key=_meta_key(raw))
        if found.get("status", -1) == 0 and found.get("value"):
            return _core.unpack(found["value"])
        if time.monotonic() > deadline:
            return None
        time.sleep(0.005)


# ------------------------------------------------------------------------------- what is there


def _call(destination: int, name: str, /, **fields: Any) -> tuple[str, dict[str, Any]]:
    """Send a control frame and wait for its answer. GetTimeoutError: none came."""
    try:
        answer = _core.call(destination, _wire.build(name, **fields), _CALL_TIMEOUT_S)
    except TimeoutError:
        from skate import _away

        who = _away.TEXT if destination == _wire.GCS else "the process that was asked is silent"
        raise GetTimeoutError(f"{who} (no answer in {_CALL_TIMEOUT_S:.0f} s)") from None
    return _wire.parse(answer)


def info() -> dict[str, Any]:
    """The facts of this session. RaySystemError when there is none."""
    if not _core.epoch():
        raise RaySystemError("Skate has not been started: call init() first")
    if _session.info.get("epoch") != _core.epoch():
        _session.info = _core.info()
    return _session.info


def namespace() -> str:
    """The namespace of the job."""
    info()
    return _session.namespace


def current_actor_raw() -> bytes | None:
    """The id of the actor that this worker is, or None."""
    info()
    return _session.actor


def _node_rows() -> list[dict[str, Any]]:
    info()
    _, answer = _call(_wire.GCS, "list", what=1)
    return [fields for name, fields in _wire.frames(answer["frames"]) if name == "node_info"]


def _labels(data: bytes) -> dict[str, str]:
    pairs = data.decode("utf-8", "replace").split(",")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def nodes() -> list[dict[str, Any]]:
    """A dict for each node, dead ones too. Suspect: why a living one gets nothing new; or ""."""
    out = []
    for row in _node_rows():
        if row["outpost"]:
            continue  # a driver's machine, none of the cluster's (_remote_driver.py)
        alive = row["state"] == 1
        out.append({
            "NodeID": (row["node_id"] + bytes(12)).hex(),
            "Alive": alive,
            "NodeManagerAddress": row["ip"],
            "NodeManagerHostname": row["hostname"],
            "NodeManagerPort": row["port"],
            "ObjectManagerPort": row["port"],
            "ObjectStoreSocketName": row["socket_path"],
            "RayletSocketName": row["socket_path"],
            "MetricsExportPort": 0,
            "MetricsAgentPort": 0,
            "DashboardAgentListenPort": 0,
            "NodeName": row["name"],
            "RuntimeEnvAgentPort": 0,
            "DeathReason": 0 if alive else 1,
            "DeathReasonMessage": "" if alive else row["reason"],
            "Suspect": row["reason"] if alive and row["suspect"] else "",
            "alive": alive,
            "Resources": _wire.unpack_resources(row["total"]) if alive else {},
            "Labels": _labels(row["labels"]),
        })  # fmt: skip
    return out


def raylet_of(node_id: str) -> int | None:
    """The process number of a node's raylet; None when there is no such node."""
    for row in _node_rows():
        if (row["node_id"] + bytes(12)).hex() == node_id:
            return row["node"] << 32
    return None


def _sum_resources(field: str) -> dict[str, float]:
    out: dict[str, float] = {}
    for row in _node_rows():
        if row["state"] == 1:
            for name, amount in _wire.unpack_resources(row[field]).items():
                out[name] = out.get(name, 0.0) + amount
    return {name: amount for name, amount in out.items() if amount > 0}


def cluster_resources() -> dict[str, float]:
    """What all living nodes have together."""
    return _sum_resources("total")


def available_resources() -> dict[str, float]:
    """What is free of it; names without a rest are left out. Lags a little."""
    return _sum_resources("available")


def get_gpu_ids() -> list[Any]:
    """The GPUs of this task or actor: numbers, or names where the machine gives them names."""
    from skate import _lease

    auto_init()
    return [int(name) if name.isdigit() else name for name in _lease.gpus()]


def timeline(filename: str | None = None) -> Any:
    """What ran where and when, as Chrome trace events: a list, or written to a file as JSON.

    Each process remembers its newest 2,048 runs. Load the file in https://ui.perfetto.dev.
    """
    if not _core.epoch():
        raise RuntimeError("Skate has not been started: call init() before timeline()")
    from skate import _timeline

    return _timeline.timeline(filename)
