"""Daemons, folders and addresses: what lies outside of the process that calls init().

A session's files are under <tmp>/skate-<uid>/session_<time>_<pid>/, which is also the run
directory of its node. Clusters that outlive a program (`skate start`) have beside it a folder
cluster_<ip>_<port>/ with cluster.json, the key (0600) and one node_<pid>.json for each raylet of
this machine; `current_cluster` names the one that init() without address joins.
"""

from __future__ import annotations

import _signal  # signal itself brings enum and more: too slow before the daemons run
import os
import select
import sys
import time

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 2.0
MAX_SOCKET_PATH = 107
BY_START = "skate start"  # in the records of what `skate stop` may end
SWEPT = ("session_", "cluster_127.")  # folders that sweep_dead() looks at


# ------------------------------------------------------------------------------------- folders


def base_dir(temp: str | None = None) -> str:
    """<tmp>/skate-<uid>, made if need be, private to this user."""
    env = os.environ
    root = temp or env.get("SKATE_TMPDIR") or env.get("RAY_TMPDIR") or env.get("TMPDIR") or "/tmp"
    path = os.path.join(os.path.abspath(root), f"skate-{os.getuid()}")
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        found = os.stat(path)
    except OSError as error:
        raise type(error)(f"cannot make the folder of Skate's sessions: {error}") from None
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(f"{path} belongs to somebody else or is writable by others")
    return path


def new_session_dir(temp: str | None = None, make: bool = True) -> str:
    """A new folder for a session. make=False: only its name; the raylet makes it, and removes it
    however the session ends. (What this process made would stay when it is killed just now.)
    Folders of dead sessions are left to the caller then: sweep_dead(), when there is time."""
    base = base_dir(temp)
    if make:
        sweep_dead(base)
    now = time.time()
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(now))
    path = os.path.join(base, f"session_{stamp}_{int(now * 1e6) % 1000000:06d}_{os.getpid()}")
    if len(path) + len("/raylet.sock") > MAX_SOCKET_PATH:
        raise ValueError(
            f"the folder {base} has too long a path for a Unix socket; set SKATE_TMPDIR (or "
            "_temp_dir) to a shorter one"
        )
    if make:
        os.mkdir(path, mode=0o700)
        os.mkdir(os.path.join(path, "logs"), mode=0o700)
    return path


def sweep_dead(base: str) -> None:
    """Remove the folders of sessions whose processes were all killed at once."""
    if any(name.startswith(SWEPT) for name in os.listdir(base)):
        from skate import _stale

        _stale.sweep(base)


def remove_tree(path: str) -> None:
    """Remove a folder of ours; what is gone already is fine."""
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    remove_tree(entry.path)
                else:
                    try:
                        os.unlink(entry.path)
                    except FileNotFoundError:
                        pass
        os.rmdir(path)
    except OSError:
        pass


def write_private(path: str, text: str) -> None:
    """Write a file that only this user can read, at once or not at all."""
    beside = f"{path}.{os.getpid()}"
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as out:
        out.write(text)
    os.replace(beside, path)


# ------------------------------------------------------------------------------------- machine


def default_cpus() -> int:
    """CPUs that this process may use: affinity, and the quota of its control group."""
    count = float(len(os.sched_getaffinity(0)))
    for folder in control_groups():
        for quota in (_group_words(folder, "cpu.max"),
                      _group_words(folder, "cpu.cfs_quota_us", "cpu.cfs_period_us")):
            if len(quota) == 2 and quota[0].isdigit() and int(quota[1]) > 0:
                count = min(count, int(quota[0]) / int(quota[1]))
    return max(1, int(count))


def default_gpus() -> int:
    """GPUs of this machine that programs may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([v for v in visible.split(",") if v.strip() and v.strip() != "-1"])
    try:
        return len(os.listdir("/proc/driver/nvidia/gpus"))
    except OSError:
        return 0


def control_groups() -> list[str]:
    """Folders of this process's control groups for CPU and memory, innermost first, v2 and v1."""
    folders = []
    try:
        with open("/proc/self/cgroup", encoding="ascii") as file:
            lines = file.read().splitlines()
    except (OSError, ValueError):
        lines = []
    for line in lines:
        _, _, rest = line.partition(":")
        kinds, _, path = rest.partition(":")
        for kind in {"cpu", "memory"} & set(kinds.split(",")) or ({""} if not kinds else set()):
            base = f"/sys/fs/cgroup/{kind}".rstrip("/")
            while path not in ("", "/"):
                folders.append(base + path)
                path = path.rpartition("/")[0]
            folders.append(base)
    return folders


def _group_words(folder: str, *names: str) -> list[str]:
    """The words in files of a control group; none when one is missing."""
    words: list[str] = []
    try:
        for name in names:
            with open(f"{folder}/{name}", encoding="ascii") as file:
                words += file.read().split()
    except (OSError, ValueError):
        return []
    return words


def machine_memory() -> int:
    """Bytes of memory: of the machine, or what its control groups allow."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for folder in control_groups():
        for name in ("memory.max", "memory.limit_in_bytes"):
            words = _group_words(folder, name)  # a number, or "max"
            total = min([total, *(int(w) for w in words if w.isdigit())])
    return total


def node_resources(
    ip: str,
    head: bool,
    cpus: float | None,
    gpus: float | None,
    memory: float | None,
    store: int,
    custom: dict[str, float] | None,
) -> dict[str, float]:
    """What a node offers, checked. TypeError or ValueError."""
    out: dict[str, float] = {}
    wanted = {"num_cpus": cpus, "num_gpus": gpus, "memory": memory}
    wanted |= {f"resources[{name!r}]": amount for name, amount in (custom or {}).items()}
    for name, amount in wanted.items():
        if amount is None:
            continue
        if isinstance(amount, bool) or not isinstance(amount, (int, float)):
            raise TypeError(f"{name} must be a number, not {amount!r}")
        if not 0 <= amount < 1e14:
            raise ValueError(f"{name} must be a number from 0 up, it is {amount!r}")
        if amount != int(amount):
            raise ValueError(
                "Resource quantities must all be whole numbers. Violated by resource "
                f"{name}, which is {amount!r}"
            )
    for name in custom or {}:
        if not isinstance(name, str) or not name or len(name.encode()) > 63:
            raise ValueError(f"the name of a resource is a str of 1 to 63 bytes, not {name!r}")
        if name in ("CPU", "GPU"):
            raise ValueError(f"use num_{name.lower()}s instead of {name!r} in resources")
        if any(c in name for c in ",\t\n"):
            raise ValueError(f"the name of a resource has no comma, tab or newline: {name!r}")
    out["CPU"] = default_cpus() if cpus is None else cpus
    gpu_count = default_gpus() if gpus is None else gpus
    if gpu_count:
        out["GPU"] = gpu_count
    out["memory"] = int(machine_memory() * 0.7) if memory is None else memory
    out["object_store_memory"] = store
    out[f"node:{ip}"] = 1.0
    if head:
        out["node:__internal_head__"] = 1.0
    out.update(custom or {})
    if len(out) > 32:
        raise ValueError(
            f"a node has at most 32 resources, with those that each node has: {', '.join(out)}"
        )
    return out


def default_store_bytes() -> int:
    """Bytes of a node's object store: 30 % of the memory, in whole pages."""
    return int(machine_memory() * 0.3) & ~4095


def check_store(wanted: float) -> None:
    """ValueError for an object store that this machine cannot hold."""
    have = machine_memory()
    if wanted > have:
        raise ValueError(
            f"object_store_memory is {wanted:.4g} bytes, but this machine has {have:.4g}"
        )


# ------------------------------------------------------------------------------------- daemons


class StartError(RuntimeError):
    """A daemon did not start; the text says why."""


def binary(name: str) -> str:
    """Path of one of our daemons."""
    folder = os.environ.get("SKATE_BIN_DIR") or os.path.join(os.path.dirname(__file__), "bin")
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        raise StartError(f"{path} is missing: Skate is not installed completely")
    return path


_PEEK = os.WEXITED | os.WNOHANG | os.WNOWAIT


class Daemon:
    """A running skate-gcs or skate-raylet, started by this process."""

    def __init__(self, name: str, settings: list[tuple[str, Any]], log: str | None,
                 env: dict[str, str] | None = None) -> None:  # fmt: skip
        """log: the file for what it says on stderr; None keeps that in memory only. env: variables
        beside this process's own."""
        self.name = name
        self.ready: dict[str, str] = {}
        if log is None:
            self._log = os.memfd_create(f"{name}.err", os.MFD_CLOEXEC)
        else:
            self._log = os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._buffer = b""
        in_read, self._stdin = os.pipe()
        self._stdout, out_write = os.pipe()
        try:
            self.pid = os.posix_spawn(
                binary(name),
                [binary(name)],
                {k: v for k, v in [*os.environ.items(), *(env or {}).items()]
                 if k != "SKATE_CLUSTER_KEY"},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, in_read, 0),
                    (os.POSIX_SPAWN_DUP2, out_write, 1),
                    (os.POSIX_SPAWN_DUP2, self._log, 2),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=[_signal.SIGINT, _signal.SIGPIPE, _signal.SIGTERM],
            )
        except BaseException:
            for fd in (self._stdin, self._stdout, self._log):
                os.close(fd)
            raise
        finally:
            os.close(in_read)
            os.close(out_write)
        line = "\t".join(f"{key}={value}" for key, value in settings) + "\n"
        data = line.encode()
        try:
            while data:
                data = data[os.write(self._stdin, data) :]
        except BrokenPipeError:
            pass  # its ERROR line says why

    def wait_ready(self) -> dict[str, str]:
        """Its READY line as a dict. StartError when it says something else."""
        deadline = time.monotonic() + START_TIMEOUT_S
        poll = select.poll()
        poll.register(self._stdout, select.POLLIN)
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise StartError(f"{self.name} did not say READY within {START_TIMEOUT_S:.0f} s")
            if not poll.poll(left * 1000):
                continue
            data = os.read(self._stdout, 4096)
            if not data:
                raise StartError(f"{self.name} ended at its start{self._last_words()}")
            self._buffer += data
        words = self._buffer.split(b"\n", 1)[0].decode(errors="replace").split(" ")
        if words[0] != "READY":
            text = " ".join(words[2:]) if words[0] == "ERROR" else " ".join(words)
            raise StartError(f"{self.name} did not start: {text}")
        self.ready = dict(word.split("=", 1) for word in words[1:] if "=" in word)
        return self.ready

    def _last_words(self) -> str:
        size = os.fstat(self._log).st_size
        text = os.pread(self._log, 2000, max(0, size - 2000)).decode(errors="replace").strip()
        return f": {text}" if text else ""

    def obituary(self, seconds: float = 0.2) -> str:
        """How it ended and what it said last; "" while it lives."""
        deadline = time.monotonic() + seconds
        try:
            while not (end := os.waitid(os.P_PID, self.pid, _PEEK)):
                if time.monotonic() > deadline:
                    return ""
                time.sleep(0.005)
        except ChildProcessError:
            return f"{self.name} (process {self.pid}) has ended"
        if end.si_code == os.CLD_EXITED:
            how = f"exited with code {end.si_status}"
        else:
            import signal

            how = f"was killed by signal {end.si_status} ({signal.Signals(end.si_status).name})"
        return f"{self.name} (process {self.pid}) {how}{self._last_words()}"

    def close_lifeline(self) -> None:
        """Tell it to end; see wait_end()."""
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def wait_end(self, seconds: float = STOP_TIMEOUT_S) -> None:
        """Until it is gone; killed when it takes too long."""
        self.close_lifeline()
        if not _wait_pid(self.pid, seconds):
            try:
                os.kill(self.pid, _signal.SIGKILL)
            except ProcessLookupError:
                pass
            _wait_pid(self.pid, 5.0)
        if self._stdout >= 0:
            os.close(self._stdout)
            os.close(self._log)
            self._stdout = -1


def _wait_pid(pid: int, seconds: float) -> bool:
    """Reap a child; False when it still lives after this time."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        fd = -1
    try:
        if fd >= 0:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            if not poll.poll(seconds * 1000):
                return False
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # somebody else has reaped it
    finally:
        if fd >= 0:
            os.close(fd)
    return True


def zygote_path() -> str:
    """sys.path for the zygote: the installation, never the script's folder or the current one."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    script = os.path.dirname(os.path.abspath(sys.argv[0])) if sys.argv and sys.argv[0] else ""
    skip = {"", os.getcwd(), script}
    return ":".join([package, *(p for p in sys.path if p not in skip and p != package)])


class Node:
    """The daemons of this machine that belong to one session or cluster."""

    def __init__(self, session_dir: str, key: str) -> None:
        self.session_dir = session_dir
        self.key = key
        self.gcs: Daemon | None = None
        self.raylet: Daemon | None = None
        self.autoscaler: Any = None  # its process: it ends when nobody holds this any more
        self.gcs_address = ""
        self.is_outpost = False  # _remote_driver.py

    @property
    def socket_path(self) -> str:
        """The raylet's Unix socket."""
        assert self.raylet is not None
        return self.raylet.ready["socket"]

    def start_gcs(
        self, ip: str = "127.0.0.1", port: int = 0, lasting: bool = False, alone: bool = False,
        system: dict[str, Any] | None = None, kept: list[tuple[str, Any]] | None = None,
    ) -> None:  # fmt: skip
        """Start the global control store. alone: nodes come and go without it, and it without
        them. system: the _system_config, of which health_check_timeout_ms is its. kept: settings
        of its log; then a keeper starts it again whenever it ends, and is what `gcs` is."""
        from skate import _memory_config

        settings = [
            ("cluster_key", self.key), ("listen_ip", ip), ("listen_port", port),
            ("session_dir", self.session_dir), ("local_session", int(not lasting and not alone)),
            *self._life(lasting), *_memory_config.health(system), *self._tls(),
            *(kept or ()),
            *([("keep", 1)] if kept else ()),  # the last: what follows is of one start
        ]  # fmt: skip
        self.gcs = Daemon("skate-gcs", settings, self._log_path("gcs", lasting))
        ready = self.gcs.wait_ready()
        self.gcs_address = f"{ip}:{ready['port']}"

    def start_raylet(
        self,
        ip: str,
        resources: dict[str, float],
        store_bytes: int,
        labels: dict[str, str] | None = None,
        name: str = "",
        head: bool = True,
        lasting: bool = False,
        port: int = 0,
        alone: bool = False,
        more: list[tuple[str, Any]] | None = None,
    ) -> None:
        """Start the raylet; wait_ready() of it is for the caller. alone: its end does not end
        the control store, nor the other way round. more: settings beyond the usual ones."""
        settings = [
            ("cluster_key", self.key), ("gcs", self.gcs_address), ("node_ip", ip),
            ("listen_port", port), ("session_dir", self.session_dir),
            ("run_dir", self.session_dir), ("python", sys.executable),
            ("python_path", zygote_path()),
            ("resources", ",".join(f"{k}:{v:.4f}" for k, v in resources.items())),
            ("gpu_names", os.environ.get("CUDA_VISIBLE_DEVICES", "")),
            ("labels", ",".join(f"{k}={v}" for k, v in (labels or {}).items())),
            ("arena_bytes", max(store_bytes & ~4095, 4096)), ("node_name", name or ip),
            ("is_head", int(head)), ("local_session", int(not lasting and not alone)),
            *self._life(lasting), *(more or ()), *self._tls(),
        ]  # fmt: skip
        self.raylet = Daemon("skate-raylet", settings, self._log_path("raylet", lasting))

    def _log_path(self, name: str, lasting: bool) -> str | None:
        # A session that ends with this process leaves no file, however it ends.
        return os.path.join(self.session_dir, "logs", f"{name}.err") if lasting else None

    @staticmethod
    def _tls() -> list[tuple[str, str]]:
        if not any(name.endswith("_USE_TLS") for name in os.environ):
            return []  # the usual: no import
        from skate import _tls

        return _tls.settings()

    @staticmethod
    def _life(lasting: bool) -> list[tuple[str, Any]]:
        return [("lifeline", "none")] if lasting else [("lifeline_pid", os.getpid())]

    def obituary(self) -> str:
        """How its daemons ended, as far as they have; "" while they live."""
        daemons = [d for d in (self.raylet, self.gcs) if d is not None]
        texts = [d.obituary(0.2 if i == 0 else 0.0) for i, d in enumerate(daemons)]
        ended = [text for text in texts if text]
        # One that ended in order did so because of the other.
        return "; ".join([text for text in ended if "exited with code 0" not in text] or ended)

    def stop(self) -> None:
        """End the daemons and remove their folder."""
        daemons = [d for d in (self.raylet, self.gcs) if d is not None]
        for daemon in daemons:
            daemon.close_lifeline()
        for daemon in daemons:
            daemon.wait_end()
        remove_tree(self.session_dir)


def new_key() -> str:
    """A cluster's key: 32 random bytes as hexadecimal text."""
    return os.urandom(32).hex()


# ------------------------------------------------------------------------ clusters of `skate start`


def start_time(pid: int) -> int:
    """When a process started, so that its number means it and no later one; 0: gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return 0 if fields[0] in "ZX" else int(fields[19])
    except (OSError, ValueError, IndexError):
        return 0


def store_pids(session_dir: str) -> list[int]:
    """The processes of the control store of a `skate start` that live, as it has named them there:
    its keeper, then the server."""
    try:
        with open(os.path.join(session_dir, "gcs.pids"), encoding="ascii") as file:
            named = [int(word) for word in file.read().split()]
    except (OSError, ValueError):
        return []
    return [pid for pid in named if _name(pid) in ("skate-keeper", "skate-gcs")]


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="ascii", errors="replace") as file:
            name = file.read().strip()
    except OSError:
        return ""
    return name if start_time(pid) else ""


def cluster_dir(base: str, address: str) -> str:
    """The folder of a cluster's files."""
    return os.path.join(base, "cluster_" + address.replace(":", "_"))


def _read_json(path: str) -> dict[str, Any] | None:
    import json

    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def is_alive(record: dict[str, Any]) -> bool:
    """Does the daemon of a record still run?"""
    pid = record.get("pid", 0)
    return bool(pid) and start_time(pid) == record.get("start_time")


def record_cluster(base: str, node: Node, raylet: dict[str, Any] | None = None) -> None:
    """Write the files by which drivers and other nodes of this machine find a new cluster.
    raylet: its first node's process, when that was there before."""
    import json

    assert node.gcs is not None
    folder = cluster_dir(base, node.gcs_address)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    write_private(os.path.join(folder, "key"), node.key)
    record = {"address": node.gcs_address, "pid": node.gcs.pid,
              "start_time": start_time(node.gcs.pid), "session_dir": node.session_dir,
              "by": BY_START, "raylet": raylet or {}}  # fmt: skip
    if node.raylet is not None:
        record["raylet"] = {"pid": node.raylet.pid, "start_time": start_time(node.raylet.pid)}
    write_private(os.path.join(folder, "cluster.json"), json.dumps(record))
    make_current(base, node.gcs_address)


def record_node(base: str, address: str, socket_path: str, pid: int, session_dir: str,
                by: str = "") -> str:  # fmt: skip
    """Write the file by which drivers of this machine find a raylet; its path. by: BY_START when
    `skate stop` shall end it."""
    import json

    folder = cluster_dir(base, address)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = os.path.join(folder, f"node_{pid}.json")
    record = {"address": address, "socket": socket_path, "pid": pid,
              "start_time": start_time(pid), "session_dir": session_dir, "by": by}  # fmt: skip
    write_private(path, json.dumps(record))
    return path


def cluster_nodes(base: str, address: str) -> list[dict[str, Any]]:
    """The records of the living raylets of this machine in a cluster, oldest first."""
    folder = cluster_dir(base, address)
    try:
        names = [n for n in os.listdir(folder) if n.startswith("node_") and n.endswith(".json")]
    except OSError:
        return []
    records = [_read_json(os.path.join(folder, name)) for name in names]
    living = [r for r in records if r and is_alive(r)]
    return sorted(living, key=lambda r: (r["start_time"], r["pid"]))  # a tick may hold two


def make_current(base: str, address: str) -> None:
    """Let this be the cluster that programs of this machine join by init()."""
    write_private(os.path.join(base, "current_cluster"), address)


def current_cluster(base: str) -> str | None:
    """The address of the cluster that the last `skate start` has begun or joined, if a node of it
    lives on this machine."""
    try:
        with open(os.path.join(base, "current_cluster"), encoding="ascii") as file:
            address = file.read().strip()
    except (OSError, ValueError):
        return None
    return address if address and cluster_nodes(base, address) else None


def read_key(base: str, address: str) -> str | None:
    """The key of a cluster, if this machine and user has it."""
    try:
        with open(os.path.join(cluster_dir(base, address), "key"), encoding="ascii") as file:
            key = file.read().strip()
    except (OSError, ValueError):
        return None
    return key or None


def split_address(address: str) -> tuple[str, int]:
    """Host and port. ValueError when it is not an address."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(
            f"{address!r} is not an address: host:port is one, or 'auto', or 'local'"
        )
    return host, int(port)


def resolve(address: str) -> str:
    """The address with its host as a number. ConnectionError when there is no such host."""
    import _socket

    host, port = split_address(address)
    try:
        found = _socket.getaddrinfo(host, port, _socket.AF_INET, _socket.SOCK_STREAM)
    except OSError as error:
        raise ConnectionError(f"cannot find the host of {address}: {error}") from None
    return f"{found[0][4][0]}:{port}"


def resolve_here(base: str, address: str) -> str:
    """The same; of a loopback address that of this machine's cluster with its head at this port,
    if there is one: such a head listens on the machine's own address only."""
    found = resolve(address)
    if not found.startswith("127.") or os.path.isdir(cluster_dir(base, found)):
        return found
    port = found.rpartition(":")[2]
    for name in sorted(os.listdir(base)):
        own = name.removeprefix("cluster_").replace("_", ":")
        is_head = os.path.exists(os.path.join(base, name, "cluster.json"))
        if name.endswith(f"_{port}") and is_head and cluster_nodes(base, own):
            return own
    return found


NAMES = {
    "ray": "a real Ray cluster (it speaks gRPC)",
    "redis": "a Redis server (as Ray before 2.0 had one)",
    "unknown": "another program",
}
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


def probe(address: str, seconds: float = 1.0) -> str:
    """Who listens there: "skate", "ray" (gRPC), "redis" or "unknown". ConnectionError: nobody."""
    import _socket

    host, port = split_address(address)
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    try:
        sock.settimeout(2.0)
        sock.connect((host, port))
        sock.settimeout(0.25)
        said = _hear(sock)
        if not said:
            sock.sendall(_PREFACE)
            sock.settimeout(seconds)
            said = _hear(sock)
    except OSError as error:
        raise ConnectionError(
            f"nothing answers at {address}: {error}. Does the cluster run, and is this the address "
            "that `skate start --head` has printed?"
        ) from None
    finally:
        sock.close()
    if said.startswith(b"SKATE/"):
        return "skate"
    if len(said) >= 9 and said[:1] == b"\0" and said[3] == 4:
        return "ray"
    if said[:1] in (b"-", b"+"):
        return "redis"
    return "unknown"


def _hear(sock: Any) -> bytes:
    try:
        return sock.recv(64)
    except TimeoutError:
        return b""


def local_raylet(base: str, resolved: str) -> str | None:
    """The socket of a raylet of this machine in that cluster; None when there is none."""
    nodes = cluster_nodes(base, resolved)
    if any("executor" in node for node in nodes):  # inside Spark: the node of our own executor
        from skate.util.spark._attach import choose
        from skate.util.spark._executor import executor_pid

        pid = executor_pid()
        nodes = [choose(nodes, pid)] if pid else nodes
    if nodes:
        return nodes[0]["socket"]
    return local_sessions(base).get(resolved)


def find_raylet(base: str, address: str) -> str:
    """The same; ConnectionError with the reason when there is none."""
    found = local_raylet(base, resolve(address))
    if found is not None:
        return found
    must_be_skate(address)
    raise ConnectionError(
        f"{address} is a Skate cluster, but no node of it runs on this machine: run "
        f"`skate start --address={address}` here first"
    )


def must_be_skate(address: str) -> None:
    """ConnectionError with the reason when there is no Skate cluster at this address."""
    kind = probe(resolve(address))
    if kind != "skate":
        raise ConnectionError(
            f"what listens at {address} is {NAMES[kind]}, not a Skate cluster: start one with "
            "`skate start --head`, or call init() without an address"
        )


def local_sessions(base: str) -> dict[str, str]:
    """Address and socket of each session that some program's init() began here and that lives."""
    import _socket

    found: dict[str, str] = {}
    try:
        entries = list(os.scandir(base))
    except OSError:
        return found
    for entry in entries:
        path = os.path.join(entry.path, "raylet.sock")
        try:
            with open(os.path.join(entry.path, "address"), encoding="ascii") as file:
                address = file.read().strip()
            sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
            try:
                sock.connect(path)
            finally:
                sock.close()
            found[address] = path
        except (OSError, ValueError):
            continue
    return found


def own_ip(toward: str = "192.0.2.1") -> str:
    """The address of this machine that others would use (those in the network of `toward`, when
    given); 127.0.0.1 when there is no network."""
    import _socket

    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        sock.connect((toward, 9))  # sends nothing: asks the routing table
        return str(sock.getsockname()[0])
    except OSError:
        return "127.0.0.1"
    finally:
        sock.close()
