"""The body of a node's Spark task: runs one raylet on the executor for as long as the task lives.

Called in a Python worker of an executor, one call for each node. The raylet gets its settings,
the cluster's key among them, as one line on stdin; stdin then stays open and is its lifeline: when
this process is killed (Spark cancels a task so), the pipe ends and the raylet ends with it.

How the task ends says what happened. Returning: the raylet went because the head is gone, which is
how a cluster is stopped, so that Spark has no reason to run the task again. NodeError: the raylet
did not start, or died; Spark runs the task again, up to spark.task.maxFailures times.
"""

from __future__ import annotations

import collections
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from skate.util.spark._janitor import publish
from skate.util.spark._keep_logs import LogKeeper

START_TIMEOUT_S = 60.0
STDERR_LINES = 100


class NodeError(RuntimeError):
    """A node did not start, or ended before the cluster was shut down."""


@dataclass(frozen=True)
class NodeSettings:
    """What the driver sends along in the task's closure. The key must show nowhere."""

    key: str = field(repr=False)
    gcs: str
    session: str
    cpus: int | None
    gpus: int | None
    memory: int | None
    object_store_memory: int | None
    resources: dict[str, float]
    labels: dict[str, str]
    temp_root: str | None
    logs_to: str | None
    session_dir: str
    python_path: tuple[str, ...]
    spills_to: str | None = None
    system: dict[str, Any] | None = None
    command: tuple[str, ...] | None = None  # the daemon; None: the installed skate-raylet


@dataclass(frozen=True)
class Grant:
    """What Spark gave the task: CPU slots and the addresses of its GPUs."""

    partition: int
    attempt: int
    cpus: int
    gpus: tuple[str, ...]


def run_node(settings: NodeSettings, _items: Iterator[Any]) -> Iterator[tuple[int, int, str]]:
    """Start the node of this task, wait for its end, and say how it ended."""
    grant = _grant()
    directory = make_run_dir(settings, grant)
    try:
        ending = _serve(settings, grant, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    yield grant.partition, grant.attempt, ending


def _serve(settings: NodeSettings, grant: Grant, directory: str) -> str:
    from skate import _node

    command = settings.command or (_node.binary("skate-raylet"),)
    try:
        daemon = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=_environment(grant),
        )
    except OSError as error:
        raise NodeError(f"cannot start {command[0]} on {socket.gethostname()}: {error}") from None
    last_words = _LastLines(daemon.stderr)
    try:
        ready = _start(daemon, settings_line(settings, grant, directory))
        if not ready.startswith("READY "):
            raise NodeError(_story(ready, daemon, last_words))
        print(f"skate: node {_name(grant)} of cluster {settings.session}: {ready}", file=sys.stderr)
        facts = dict(word.split("=", 1) for word in ready.split(" ") if "=" in word)
        keeper = LogKeeper(directory) if settings.logs_to else None
        janitor = publish(settings.gcs, facts["socket"], daemon.pid, directory, executor_pid())
        try:
            daemon.stdout.read()  # one line was all it says; this is the wait for its end
            daemon.wait()
            if keeper:
                name = f"skate-{settings.session}"
                keeper.finish(os.path.join(settings.logs_to or "", name, _name(grant)))
        finally:
            janitor.clean()
    except BaseException:
        daemon.kill()
        daemon.wait()
        raise
    if not _answers(settings.gcs):
        return "the cluster was stopped"
    raise NodeError(_story("", daemon, last_words))


def _start(daemon: subprocess.Popen[bytes], line: str) -> str:
    """Give the daemon its settings; its first line, or "" when it ended without one."""
    overdue = threading.Timer(START_TIMEOUT_S, daemon.kill)
    overdue.daemon = True
    overdue.start()
    try:
        with contextlib.suppress(BrokenPipeError):
            daemon.stdin.write(line.encode())
            daemon.stdin.flush()
        return daemon.stdout.readline().decode(errors="replace").strip()
    finally:
        overdue.cancel()


def _story(said: str, daemon: subprocess.Popen[bytes], last_words: _LastLines) -> str:
    """One text for the driver: where, how it ended, and what it said last."""
    try:
        code = daemon.wait(timeout=5)
    except subprocess.TimeoutExpired:
        daemon.kill()
        code = daemon.wait()
    if code < 0:
        how = f"was killed by signal {-code} ({_signal_name(-code)})"
    else:
        how = f"exited with code {code}"
    parts = [f"the raylet (pid {daemon.pid}) on {socket.gethostname()} {how}"]
    if said:
        parts.append(f"it said: {said}")
    tail = last_words.text()
    parts.append(f"its last lines on stderr:\n{tail}" if tail else "it wrote nothing on stderr")
    return "; ".join(parts)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


class _LastLines:
    """Keeps the last lines of a stream, read by a thread until its end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._lines: collections.deque[bytes] = collections.deque(maxlen=STDERR_LINES)
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._lines.append(line[:4096])

    def text(self) -> str:
        self._thread.join(timeout=2)
        return b"".join(self._lines).decode(errors="replace").rstrip()


def _grant() -> Grant:
    from pyspark import TaskContext

    context = TaskContext.get()
    if context is None:
        raise NodeError("a node's task must run inside a Spark task")
    gpu = context.resources().get("gpu")
    return Grant(
        partition=context.partitionId(),
        attempt=context.attemptNumber(),
        cpus=context.cpus(),
        gpus=tuple(gpu.addresses) if gpu else (),
    )


def executor_pid() -> int:
    """The process id of the executor that this Python worker belongs to; 0 when there is none.

    A worker is a child of pyspark.daemon, or of the executor itself; the first ancestor that is
    not Python is the executor's JVM.
    """
    pid = os.getppid()
    for _ in range(4):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
                text = stat.read()
        except OSError:
            return 0
        if text[text.index("(") + 1 : text.rindex(")")] == "java":
            return pid
        pid = int(text[text.rindex(")") + 2 :].split()[1])
    return 0


def make_run_dir(settings: NodeSettings, grant: Grant) -> str:
    """A private directory for the node; its name tells cluster, executor, node and attempt."""
    from skate import _node

    name = f"spark_{settings.session}_{executor_pid()}_{grant.partition}.{grant.attempt}"
    try:
        directory = os.path.join(_node.base_dir(settings.temp_root), name)
        if len(os.path.join(directory, "raylet.sock")) > _node.MAX_SOCKET_PATH:
            raise NodeError(
                f"the path of the node's socket, {directory}/raylet.sock, is longer than "
                f"{_node.MAX_SOCKET_PATH} bytes: set ray_temp_root_dir to a shorter one"
            )
        os.makedirs(os.path.join(directory, "logs"), mode=0o700, exist_ok=True)
    except OSError as error:
        raise NodeError(f"cannot make the node's directory: {error}") from None
    return directory


def settings_line(settings: NodeSettings, grant: Grant, directory: str) -> str:
    """The daemon's line of settings: key=value pairs divided by tabs."""
    from skate import _node, _store_config

    ip = own_ip(settings.gcs)
    cpus = settings.cpus or grant.cpus
    store = settings.object_store_memory or default_store_bytes(cpus)
    memory = settings.memory or store * 7 // 3
    gpus = len(grant.gpus)
    amounts = _node.node_resources(ip, False, cpus, gpus, memory, store, settings.resources)
    labels = {**settings.labels, "spark-partition": str(grant.partition)}
    pairs = {
        "cluster_key": settings.key,
        "gcs": settings.gcs,
        "node_ip": ip,
        "listen_port": "0",
        "session_dir": settings.session_dir,
        "run_dir": directory,
        "python": sys.executable,
        "python_path": ":".join(_python_path(settings)),
        "resources": ",".join(f"{name}:{amount:.4f}" for name, amount in amounts.items()),
        "labels": ",".join(f"{name}={value}" for name, value in labels.items()),
        "arena_bytes": str(max(store & ~4095, 4096)),
        "node_name": _name(grant),
        "is_head": "0",
        "lifeline_pid": str(os.getpid()),
        "local_session": "0",
        **dict(_store_config.settings(settings.spills_to, settings.system)),
    }
    return "\t".join(f"{key}={value}" for key, value in pairs.items()) + "\n"


def _python_path(settings: NodeSettings) -> list[str]:
    """This worker's own path first: what Spark shipped to it (--py-files) is on it."""
    here = [entry for entry in sys.path if entry and "\t" not in entry and ":" not in entry]
    return list(dict.fromkeys([*here, *(p for p in settings.python_path if os.path.isdir(p))]))


def _name(grant: Grant) -> str:
    return f"spark-{grant.partition}.{grant.attempt}"


def _environment(grant: Grant) -> dict[str, str]:
    """The executor's environment without what only its Python worker may know."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON_WORKER_FACTORY", "PYSPARK_DRIVER", "_PYSPARK"))
    }
    if grant.gpus:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(grant.gpus)
    return env


def own_ip(gcs: str) -> str:
    """The address of this host that the head can be reached from. Sends nothing."""
    host, _, port = gcs.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, int(port)))
        return str(probe.getsockname()[0])


def _answers(gcs: str) -> bool:
    """Does anybody still listen at the head's port?"""
    host, _, port = gcs.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return True
    except OSError:
        return False


def default_store_bytes(cpus: int) -> int:
    """30 % of this node's share of the machine's memory, the share being that of its CPUs."""
    from skate import _node

    slots = max(1, (os.cpu_count() or 1) // max(1, cpus))
    share = _node.machine_memory() * 8 // 10 // slots
    return max(75 << 20, share * 3 // 10) & ~4095
