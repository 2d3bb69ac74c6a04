"""The body of a node's Spark task: runs one raylet on the executor for as long as the task lives.

Called in a Python worker of an executor, one call for each node. The raylet gets its settings,
the cluster's key among them, as one line on stdin; stdin then stays open and is its lifeline: when
this process is killed (Spark cancels a task so), the pipe ends and the raylet ends with it.

How the task ends says what happened. Returning: the raylet went because the head is gone, which is
how a cluster is stopped, so that Spark has no reason to run the task again. NodeError: the raylet
did not start, or died; Spark runs the task again, up to spark.task.maxFailures times. A raylet that
was told to end (the cluster shrinks, or is shut down) is a task that returns, too.

There is never a second node of one number: the head refuses it while the first lives. A task whose
node is refused so is a second attempt of one that runs (speculation), and waits without a raylet:
if it ended in error, Spark would try again and count it; if it returned, Spark would end the first.
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
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from skate.util.spark import _budget, _gpu, _guards, _orphans
from skate.util.spark._executor import executor_pid
from skate.util.spark._janitor import publish
from skate.util.spark._keep_logs import LogKeeper

START_TIMEOUT_S = 60.0
STDERR_LINES = 100
LOG_BYTES = 4 << 20  # of what a raylet says on stderr, in its file; then that is begun anew
TOLD_TO_END = "ends: it was told to end"  # a raylet's last words when it is retired
SLOT_TAKEN = "ERROR 4 "  # -SKATE_EAGAIN: another node of this number lives
HEAD_PATIENCE_S = 3.0  # so long the control store may take to be there again when it was killed
GCS_WAIT_S = 10  # after so long without it a node ends by itself
TWIN_FIRST_S, TWIN_MOST_S = 0.1, 1.0  # between two looks of an attempt that waits


NUMBER_LABEL = "spark-partition"  # of a node: its number within the cluster


class NodeError(RuntimeError):
    """A node did not start, or ended before the cluster was shut down."""


class SlotTakenError(NodeError):
    """Another attempt of this node's task has a living node."""


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
    attempts_before: int = 0  # of earlier jobs with the same nodes: names are not used again
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    niceness: int = 0
    shared: bool = False  # it may use cores of Spark tasks that wait for it
    executor: _budget.ExecutorShape | None = None
    version: str = ""  # Skate's on the driver
    name: str = "spark"
    port: int = 0
    tls: bool = False


@dataclass(frozen=True)
class Grant:
    """What Spark gave the task: CPU slots and the addresses of its GPUs."""

    partition: int
    attempt: int
    cpus: int
    gpus: tuple[str, ...]


def run_node(settings: NodeSettings, items: Iterator[int]) -> Iterator[tuple[int, int, str]]:
    """Start the node of this task, wait for its end, and say how it ended. items: its number."""
    grant = _grant(next(iter(items)), settings.attempts_before)
    _check_package(settings)
    ending, pause = "", TWIN_FIRST_S
    while not ending:
        again = grant.attempt > 0 or pause > TWIN_FIRST_S
        if again and not _answers(settings.gcs, HEAD_PATIENCE_S):
            ending = "the cluster was stopped"
            break
        directory = make_run_dir(settings, grant)
        try:
            ending = _serve(settings, grant, directory)
        except SlotTakenError as error:
            if pause == TWIN_FIRST_S:
                print(f"skate: this task waits: {error}", file=sys.stderr, flush=True)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        if not ending:
            time.sleep(pause)  # nobody tells when the other one ends
            pause = min(pause * 2, TWIN_MOST_S)
    yield grant.partition, grant.attempt, ending


def _check_package(settings: NodeSettings) -> None:
    from skate import _core

    wrong = _guards.wrong_package(settings.version, _core.version, sys.executable)
    if settings.version and wrong:
        raise NodeError(wrong)


def _serve(settings: NodeSettings, grant: Grant, directory: str) -> str:
    from skate import _node

    command = settings.command or (_node.binary("skate-raylet"),)
    owner = _orphans.me(settings.session, executor_pid())
    most = _orphans.executor_cores(owner.executor) // max(1, grant.cpus)
    env = _environment(settings, grant) | {_orphans.VARIABLE: owner.text()}
    try:
        with _orphans.room(owner, most, os.path.dirname(directory)):
            daemon = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                start_new_session=True, env=env,
            )  # fmt: skip
    except _orphans.NoRoomError as error:
        raise NodeError(str(error)) from None
    except OSError as error:
        raise NodeError(f"cannot start {command[0]} on {socket.gethostname()}: {error}") from None
    assert daemon.stderr is not None and daemon.stdout is not None
    log = os.path.join(directory, "logs", "raylet.err")
    last_words = _LastLines(daemon.stderr, log)
    try:
        ready = _start(daemon, settings_line(settings, grant, directory))
        if ready.startswith(SLOT_TAKEN):
            daemon.wait()
            raise SlotTakenError(ready.removeprefix(SLOT_TAKEN))
        if not ready.startswith("READY "):
            raise NodeError(_story(ready, daemon, last_words))
        name = _name(settings, grant)
        print(f"skate: node {name} of cluster {settings.session}: {ready}; its logs are in "
              f"{directory}/logs{_kept_in(settings, name)}", file=sys.stderr,
              flush=True)  # fmt: skip
        facts = dict(word.split("=", 1) for word in ready.split(" ") if "=" in word)
        keeper = LogKeeper(directory) if settings.logs_to else None
        janitor = publish(
            settings.gcs, facts["socket"], daemon.pid, directory, executor_pid(), settings.shared
        )
        try:
            daemon.stdout.read()  # one line was all it says; this is the wait for its end
            daemon.wait()
            if keeper:
                keeper.finish(log_folder(settings.logs_to or "", settings.session, name))
        finally:
            janitor.dismiss()  # the slot is Spark's again the sooner
    except BaseException:
        daemon.kill()
        daemon.wait()
        raise
    if daemon.returncode == 0 and last_words.text().endswith(TOLD_TO_END):
        return "it was told to end"
    # One that ended in order was without a head for long; one that was killed may have been so when
    # the head's control store was, which is there again soon.
    if not _answers(settings.gcs, 0.0 if daemon.returncode == 0 else HEAD_PATIENCE_S):
        return "the cluster was stopped"
    raise NodeError(_story("", daemon, last_words))


def _start(daemon: subprocess.Popen[bytes], line: str) -> str:
    """Give the daemon its settings; its first line, or "" when it ended without one."""
    overdue = threading.Timer(START_TIMEOUT_S, daemon.kill)
    overdue.daemon = True
    overdue.start()
    assert daemon.stdin is not None and daemon.stdout is not None
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


def log_folder(root: str, session: str, name: str) -> str:
    """Where the logs of a node, or of the head, are kept when the cluster is over."""
    return os.path.join(root, f"skate-{session}", name)


def _kept_in(settings: NodeSettings, name: str) -> str:
    if not settings.logs_to:
        return ""
    return f", and will be in {log_folder(settings.logs_to, settings.session, name)}"


class _LastLines:
    """Keeps the last lines of a stream, read by a thread until its end, and all in a file.

    The file is begun anew at LOG_BYTES; the one before it is kept as <file>.1.
    """

    def __init__(self, stream: IO[bytes], path: str) -> None:
        self._lines: collections.deque[bytes] = collections.deque(maxlen=STDERR_LINES)
        self._thread = threading.Thread(target=self._read, args=(stream, path), daemon=True)
        self._thread.start()

    def _read(self, stream: IO[bytes], path: str) -> None:
        out = -1
        written = 0
        for line in stream:
            self._lines.append(line[:4096])
            try:  # a full disk, or a folder that is removed: the node does not care
                if out >= 0 and written > LOG_BYTES:
                    os.close(out)
                    out = -1
                    os.replace(path, path + ".1")
                if out < 0:
                    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
                    out, written = os.open(path, flags, 0o600), 0
                written += os.write(out, line)
            except OSError:
                continue
        if out >= 0:
            os.close(out)

    def text(self) -> str:
        self._thread.join(timeout=2)
        return b"".join(self._lines).decode(errors="replace").rstrip()


def _grant(number: int, attempts_before: int) -> Grant:
    from pyspark import TaskContext

    context = TaskContext.get()
    if context is None:
        raise NodeError("a node's task must run inside a Spark task")
    gpu = context.resources().get("gpu")
    return Grant(
        partition=number,
        attempt=context.attemptNumber() + attempts_before,
        cpus=context.cpus(),
        gpus=tuple(gpu.addresses) if gpu else (),
    )


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
    from skate import _node, _store_config, _tls

    ip = own_ip(settings.gcs)
    cpus = settings.cpus or grant.cpus
    machine = _budget.measure(os.environ)
    budget = _budget.plan(
        machine, cpus, settings.executor, settings.memory, settings.object_store_memory
    )
    try:
        gpus = _gpu.names(grant.gpus, os.environ)[: settings.gpus]
    except ValueError as error:
        raise NodeError(str(error)) from None
    if budget.note:
        print(f"skate: {budget.note}", file=sys.stderr, flush=True)
    store = budget.store
    amounts = _node.node_resources(
        ip, False, cpus, len(gpus), budget.memory, store, settings.resources
    )
    labels = {**settings.labels, NUMBER_LABEL: str(grant.partition)}
    pairs = {
        "cluster_key": settings.key,
        "gcs": settings.gcs,
        "node_ip": ip,
        "listen_port": str(settings.port),
        "session_dir": settings.session_dir,
        "run_dir": directory,
        "python": sys.executable,
        "python_path": ":".join(_python_path(settings)),
        "resources": ",".join(f"{name}:{amount:.4f}" for name, amount in amounts.items()),
        "labels": ",".join(f"{name}={value}" for name, value in labels.items()),
        "arena_bytes": str(max(store & ~4095, 4096)),
        "gpu_names": ",".join(gpus),
        **_shares(settings, grant, cpus),
        "node_name": _name(settings, grant),
        "slot": f"{NUMBER_LABEL}-{grant.partition}",
        "gcs_wait_s": str(GCS_WAIT_S),
        "is_head": "0",
        "report_log": "1",
        # This process holds its stdin, which is one lifeline. The executor is another: when it is
        # killed after pyspark.daemon was, nobody ends this process.
        "lifeline_pid": str(executor_pid() or os.getpid()),
        "local_session": "0",
        **dict(_tls.settings()),
        **({"tls": "1"} if settings.tls else {}),
        **dict(_store_config.settings(settings.spills_to, settings.system)),
    }
    return "\t".join(f"{key}={value}" for key, value in pairs.items()) + "\n"


def _shares(settings: NodeSettings, grant: Grant, cpus: int) -> dict[str, str]:
    """In mode shared: the task's own cores, and those that waiting Spark tasks lend."""
    if not settings.shared:
        return {}
    return {"shared_cpus": str(max(0, cpus - grant.cpus)), "lend_cpus": str(grant.cpus)}


def _python_path(settings: NodeSettings) -> list[str]:
    """This worker's own path first: what Spark shipped to it (--py-files) is on it."""
    here = [entry for entry in sys.path if entry and "\t" not in entry and ":" not in entry]
    return list(dict.fromkeys([*here, *(p for p in settings.python_path if os.path.isdir(p))]))


def _name(settings: NodeSettings, grant: Grant) -> str:
    return f"{settings.name}-{grant.partition}.{grant.attempt}"


def plain_environment() -> dict[str, str]:
    """The executor's environment without what only its Python worker may know."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON_WORKER_FACTORY", "PYSPARK_DRIVER", "_PYSPARK"))
    }


def _environment(settings: NodeSettings, grant: Grant) -> dict[str, str]:
    env = plain_environment() | settings.environment
    if grant.gpus:
        own = _gpu.names(grant.gpus, os.environ)[: settings.gpus]
        env["CUDA_VISIBLE_DEVICES"] = ",".join(own)
    if settings.niceness:
        env["SKATE_WORKER_NICENESS"] = str(settings.niceness)
    return env


def own_ip(gcs: str) -> str:
    """The address of this host that the head can be reached from. Sends nothing."""
    host, _, port = gcs.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, int(port)))
        return str(probe.getsockname()[0])


def _answers(gcs: str, patience_s: float = 0.0) -> bool:
    """Does anybody listen at the head's port, now or within that time?"""
    host, _, port = gcs.rpartition(":")
    deadline = time.monotonic() + patience_s
    while True:
        try:
            with socket.create_connection((host, int(port)), timeout=2):
                return True
        except OSError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
