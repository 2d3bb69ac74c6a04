"""The actors that Spark on Skate consists of: one keeps Spark's Master, the others a Worker each.

An actor is where its JVM runs, holds its resources, and starts it anew when it ends. When the
actor itself or its node is lost, Skate makes the actor again, there or elsewhere. A Worker asks for
the Master's address before each start; the Master keeps its records in a folder of the driver, so
that a new one knows the application and goes on with it.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass, field
from typing import Any

from skate.util.spark import _hosted_jvm, _hosted_plan
from skate.util.spark._executor import NODE
from skate.util.spark._hosted_jvm import Daemon, Launch
from skate.util.spark._janitor import Janitor

START_S = 120.0  # for a JVM until it serves; a machine may be busy
RECOVERY_S = 10  # a new Master waits so long for Workers that the one before it knew
_SERVES = re.compile(r"Starting Spark master at (spark://\S+:(\d+))")
_JOINED = re.compile(r"Successfully registered with master (\S+)")


@dataclass(frozen=True)
class Shared:
    """What all daemons of a session of Spark have in common."""

    folder: str  # of the driver, who removes it; its name is the session's
    conf: dict[str, str]
    spark: str  # the version on the driver
    address: str  # of the cluster of Skate
    restarts: bool
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Here:
    """Where an actor runs."""

    ip: str
    socket: str  # of the node


def here() -> Here:
    """Where this process runs."""
    import skate

    own = skate.get_runtime_context().get_node_id()
    [row] = [row for row in skate.nodes() if row["NodeID"] == own]
    return Here(row["NodeManagerAddress"], row["RayletSocketName"])


def installation(shared: Shared) -> _hosted_jvm.Installation:
    """Spark of this machine. RuntimeError: there is none, or another version than the driver's."""
    found = _hosted_jvm.find(os.environ)
    if found.version != shared.spark:
        raise RuntimeError(
            f"{found.home} on {socket.gethostname()} is Spark {found.version}, and the driver has "
            f"{shared.spark}: install the same version on each node"
        )
    return found


class SparkMaster:
    """Keeps Spark's Master. folder: where it has its files, which outlive this actor."""

    def __init__(self, shared: Shared, folder: str) -> None:
        self._shared = shared
        self._folder = os.path.join(folder, "master")
        self._here = here()
        self._janitor = Janitor()
        self._daemon = Daemon("Spark's Master", self._launch, self._janitor, shared.restarts)

    def _launch(self) -> Launch:
        shared = self._shared
        spark = installation(shared)
        records = os.path.join(self._folder, "records")
        os.makedirs(records, mode=0o700, exist_ok=True)
        own = {"spark.deploy.recoveryMode": "FILESYSTEM", "spark.deploy.recoveryDirectory": records,
               "spark.deploy.recoveryTimeout": str(RECOVERY_S)}  # fmt: skip
        conf = _hosted_plan.daemon_conf(shared.conf, own if shared.restarts else {})
        conf_dir = _hosted_jvm.write_conf(self._folder, _hosted_plan.properties(conf))
        arguments = [
            "--host", self._here.ip, "--port", str(self._last_port()), "--webui-port", "0",
            "--properties-file", os.path.join(conf_dir, "spark-defaults.conf"),
        ]  # fmt: skip
        return Launch(
            _hosted_jvm.command(spark, conf_dir, MASTER, arguments),
            _hosted_jvm.environment(os.environ, spark, conf_dir, self._here.ip, shared.secret),
            self._folder,
            _SERVES,
        )

    def _last_port(self) -> int:
        """The port of the Master before this one; Workers and driver look for it there. 0: none."""
        try:
            with open(os.path.join(self._folder, "port"), encoding="ascii") as file:
                return int(file.read())
        except (OSError, ValueError):
            return 0

    def url(self) -> str:
        """spark://host:port, as soon as it serves. SparkError: it does not."""
        said = self._daemon.wait_ready(START_S)
        with open(os.path.join(self._folder, "port"), "w", encoding="ascii") as file:
            file.write(said[2])
        return said[1]

    def look(self) -> dict[str, Any]:
        """For people and tests: the processes, and how often the JVM was started."""
        return _look(self._daemon, self._here)

    def stop(self) -> None:
        """End it; the folder is its maker's."""
        self._daemon.stop()
        self._janitor.clean()


class SparkWorker:
    """Keeps one of Spark's Workers, which runs one executor."""

    def __init__(
        self, shared: Shared, master: Any, number: int, cores: int, memory_mb: int
    ) -> None:
        self._shared = shared
        self._master = master
        self._cores, self._memory_mb = cores, memory_mb
        self._here = here()
        name = f"worker_{number}_{os.getpid()}"
        self._folder = os.path.join(self._root(), name)
        self._local = [os.path.join(part, name) for part in local_dirs(shared.conf, shared.folder)]
        self._shuffles: socket.socket | None = None
        self._janitor = Janitor("", self._folder, *self._local, patience_s=1.0)
        self._daemon = Daemon(
            f"Spark's Worker {number}", self._launch, self._janitor, shared.restarts
        )

    def _root(self) -> str:
        """A folder that somebody removes when this actor and its janitor are killed with the node:
        the driver's on its machine, elsewhere one of those that the node removes."""
        if os.path.isdir(self._shared.folder):
            return self._shared.folder
        return os.path.join(os.path.dirname(self._here.socket), "runtime_resources")

    def _launch(self) -> Launch:
        import skate

        shared = self._shared
        spark = installation(shared)
        url = skate.get(self._master.url.remote())
        for folder in (self._folder, *self._local):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        own = {"spark.shuffle.service.enabled": "true" if self._serves_shuffles() else "false"}
        conf = _hosted_plan.daemon_conf(shared.conf, own)
        conf_dir = _hosted_jvm.write_conf(self._folder, _hosted_plan.properties(conf))
        arguments = [
            "--host", self._here.ip, "--port", "0", "--webui-port", "0",
            "--cores", str(self._cores), "--memory", f"{self._memory_mb}M",
            "--work-dir", os.path.join(self._folder, "work"),
            "--properties-file", os.path.join(conf_dir, "spark-defaults.conf"), url,
        ]  # fmt: skip
        env = _hosted_jvm.environment(os.environ, spark, conf_dir, self._here.ip, shared.secret)
        env["SPARK_LOCAL_DIRS"] = ",".join(self._local) or self._folder
        env["RAY_ADDRESS"] = shared.address
        env[NODE] = self._here.socket
        return Launch(
            _hosted_jvm.command(spark, conf_dir, WORKER, arguments), env, self._folder, _JOINED
        )

    def _serves_shuffles(self) -> bool:
        """One Worker of a machine serves the shuffle files of all: who has the name."""
        if self._shared.conf.get("spark.shuffle.service.enabled", "").lower() != "true":
            return False
        if self._shuffles is None:
            name = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                name.bind("\0skate-" + os.path.basename(self._shared.folder))
            except OSError:
                name.close()
                return False
            self._shuffles = name
        return True

    def ready(self) -> str:
        """The Master's address, as soon as the Worker is registered there. SparkError: not."""
        return self._daemon.wait_ready(START_S)[1]

    def look(self) -> dict[str, Any]:
        """For people and tests: the processes, and how often the JVM was started."""
        return {**_look(self._daemon, self._here), "folder": self._folder}

    def stop(self) -> None:
        """End it with its executor, and remove its files."""
        self._daemon.stop()
        self._janitor.clean()


def local_dirs(conf: dict[str, str], folder: str) -> list[str]:
    """Folders of this session in those that spark.local.dir names; none when it names none."""
    named = conf.get("spark.local.dir", "").split(",")
    return [os.path.join(part, os.path.basename(folder)) for part in named if part]


MASTER = "org.apache.spark.deploy.master.Master"
WORKER = "org.apache.spark.deploy.worker.Worker"


def _look(daemon: Daemon, where: Here) -> dict[str, Any]:
    return {"pid": os.getpid(), "jvm": daemon.pid, "starts": daemon.starts, "ip": where.ip,
            "socket": where.socket, "said": daemon.said()}  # fmt: skip
