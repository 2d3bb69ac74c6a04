"""A daemon of Spark as a child process: how it is started, when it is ready, and what if it ends.

java is started directly, not through Spark's shell scripts, so that the daemon is this process's
own child: it dies with it (PR_SET_PDEATHSIG), and so do the executors, which watch their Worker.
"""

from __future__ import annotations

import collections
import contextlib
import glob
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from skate.util.spark._janitor import Janitor

# Dies when the process $1 dies, also if that has died already; then becomes the rest.
_LAUNCH = (
    "import ctypes,os,sys;ctypes.CDLL(None).prctl(1,9);"
    "os.getppid()==int(sys.argv[1]) or os._exit(1);os.execve(sys.argv[2],sys.argv[2:],os.environ)"
)
_SMALL = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
_OPENS = (
    "java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio",
    "java.util", "java.util.concurrent", "java.util.concurrent.atomic", "sun.nio.ch",
    "sun.nio.cs", "sun.security.action", "sun.util.calendar",
)  # fmt: skip
_LOGGING = """\
rootLogger.level = error
rootLogger.appenderRef.console.ref = console
logger.deploy.name = org.apache.spark.deploy
logger.deploy.level = info
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %p %c{1}: %m%n%ex
"""
SECRET = "_SPARK_AUTH_SECRET"  # where Spark looks for it first
LINES = 40
QUICK_S = 10.0  # a daemon that lived for less has not started well
TRIES = 3  # so often in a row, then it is given up
RETRY_S = 1.0
_HIDDEN = ("PYSPARK_GATEWAY", "PYTHON_WORKER_FACTORY", "SPARK_MASTER_", "SPARK_WORKER_", "_PYSPARK")


class SparkError(RuntimeError):
    """A daemon of Spark did not start, or is gone for good."""


@dataclass(frozen=True)
class Installation:
    """Spark and Java of this machine."""

    home: str
    scala: str
    version: str
    java: str


def find(environment: Mapping[str, str]) -> Installation:
    """By PATH, JAVA_HOME, SPARK_HOME and Python's packages. RuntimeError: something lacks."""
    home = environment.get("SPARK_HOME")
    if not home:
        spec = importlib.util.find_spec("pyspark")
        if spec is None or not spec.submodule_search_locations:
            raise RuntimeError(
                f"there is no pyspark for {sys.executable}: install it (pip install pyspark), in "
                "the same version on each node"
            )
        home = spec.submodule_search_locations[0]
    jars = glob.glob(os.path.join(home, "jars", "spark-core_*.jar"))
    found = re.search(r"spark-core_([\d.]+)-(.+)\.jar$", jars[0]) if jars else None
    if found is None:
        raise RuntimeError(
            f"{home} has no jars/spark-core_*.jar, so it is no Spark (pyspark-client has none): "
            "install pyspark, or correct SPARK_HOME"
        )
    return Installation(home, found[1], found[2], find_java(environment))


def find_java(environment: Mapping[str, str]) -> str:
    """The program. RuntimeError: there is none."""
    home = environment.get("JAVA_HOME")
    if home:
        path = os.path.join(home, "bin", "java")
        if os.access(path, os.X_OK):
            return path
        raise RuntimeError(
            f"JAVA_HOME is {home}, which has no bin/java: set it to a Java of version 17 or later, "
            "or unset it"
        )
    path = shutil.which("java", path=environment.get("PATH")) or ""
    if not path:
        raise RuntimeError(
            "there is no Java: install version 17 or later (Debian: apt-get install "
            "openjdk-17-jre-headless) on each node, or set JAVA_HOME"
        )
    return path


def command(spark: Installation, conf_dir: str, main: str, arguments: list[str]) -> list[str]:
    """The line that starts a daemon of Spark. Holds no secret."""
    opens = [f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in _OPENS]
    jars = os.path.join(spark.home, "jars", "*")
    return [spark.java, *_SMALL, "-XX:+IgnoreUnrecognizedVMOptions", *opens, "-cp",
            f"{conf_dir}/:{jars}", main, *arguments]  # fmt: skip


def environment(
    base: Mapping[str, str], spark: Installation, conf_dir: str, ip: str, secret: str
) -> dict[str, str]:
    """That of a daemon; executors and Python workers of Spark inherit it."""
    env = {name: value for name, value in base.items() if not name.startswith(_HIDDEN)}
    env |= {
        "SPARK_HOME": spark.home,
        "SPARK_SCALA_VERSION": spark.scala,  # without it executors fail in silence
        "SPARK_CONF_DIR": conf_dir,
        "SPARK_LOCAL_IP": ip,
        SECRET: secret,
    }
    return env


def write_conf(folder: str, text: str) -> str:
    """Write the settings for a daemon into <folder>/conf; that path."""
    conf_dir = os.path.join(folder, "conf")
    os.makedirs(conf_dir, mode=0o700, exist_ok=True)
    for name, content in (("spark-defaults.conf", text), ("log4j2.properties", _LOGGING)):
        path = os.path.join(conf_dir, name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(content)
    return conf_dir


@dataclass
class Launch:
    """One start: what to run, and the pattern of the line by which it says that it is ready."""

    command: list[str]
    environment: dict[str, str] = field(repr=False)
    folder: str
    ready: re.Pattern[str]


class Daemon:
    """A JVM, started by a thread of its own and, if it may restart, started anew when it ends.

    `make` is called before each start. The thread is what the JVM dies with, so it lives as long.
    """

    def __init__(
        self, what: str, make: Callable[[], Launch], janitor: Janitor, restarts: bool
    ) -> None:
        self.what = what
        self._make = make
        self._janitor = janitor
        self._restarts = restarts
        self._state = threading.Condition()
        self._said: re.Match[str] | None = None  # the line by which it became ready
        self._failed = ""
        self._over = False
        self._process: subprocess.Popen[str] | None = None
        self._lines: collections.deque[str] = collections.deque(maxlen=LINES)
        self.starts = 0
        self._thread = threading.Thread(target=self._run, name=f"spark-{what}", daemon=True)
        self._thread.start()

    def wait_ready(self, seconds: float) -> re.Match[str]:
        """The line by which it said so. SparkError: it failed, or is late."""
        deadline = time.monotonic() + seconds
        with self._state:
            while self._said is None and not self._failed:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise SparkError(
                        f"{self.what} was not ready within {seconds:.0f} s; {self._tail()}"
                    )
                self._state.wait(left)
            if self._said is None:
                raise SparkError(self._failed)
            return self._said

    def stop(self) -> None:
        """End it, with all that it started."""
        with self._state:
            self._over = True
            self._state.notify_all()
            self._kill()
        self._thread.join(timeout=10)

    def said(self) -> list[str]:
        """Its last lines."""
        return list(self._lines)

    @property
    def pid(self) -> int:
        """Of the JVM; 0 when there is none just now."""
        process = self._process
        return process.pid if process is not None else 0

    # ----------------------------------------------------------------------------- the thread

    def _run(self) -> None:
        quick = 0
        while True:
            began = time.monotonic()
            hopeless = False
            try:
                why = _ending(self._once())
            except Exception as error:
                why = f"cannot start: {error}"
                hopeless = not self.starts  # what it needs is not there
            quick = quick + 1 if time.monotonic() - began < QUICK_S else 0
            with self._state:
                self._said = None
                if self._over:
                    return
                if not self._restarts or hopeless or quick >= TRIES:
                    self._failed = f"{self.what} {why}; {self._tail()}"
                    print(f"{self._failed}\n(it is not started again)", file=sys.stderr, flush=True)
                    self._state.notify_all()
                    return
                print(f"{self.what} {why}: starting it anew", file=sys.stderr, flush=True)
                self._state.wait(0.0 if quick < 2 else RETRY_S)
                if self._over:
                    return

    def _once(self) -> int:
        """Start it, and read what it says until it ends; its exit status."""
        launch = self._make()
        launcher = [sys.executable, "-S", "-E", "-c", _LAUNCH, str(os.getpid())]
        with self._state:
            if self._over:
                return 0
            self._lines.clear()
            process = subprocess.Popen(
                [*launcher, *launch.command],
                env=launch.environment, cwd=launch.folder, start_new_session=True, text=True,
                errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )  # fmt: skip
            self._process = process
            self.starts += 1
        self._janitor.takes_along(process.pid)
        reader = threading.Thread(target=self._read, args=(process, launch.ready), daemon=True)
        reader.start()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._state:
            self._kill()
            self._process = None  # from here its number may be somebody else's
        self._janitor.takes_along(0)
        reader.join(timeout=5)  # its last words; whoever else has the pipe was killed just now
        return process.wait()

    def _read(self, process: subprocess.Popen[str], ready: re.Pattern[str]) -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                self._lines.append(line.rstrip()[:2000])
                if self._said is None and (found := ready.search(line)):
                    with self._state:
                        self._said = found
                        self._state.notify_all()

    def _kill(self) -> None:
        """The JVM's group: executors of a Worker that was killed are in it, too."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _tail(self) -> str:
        lines = list(self._lines)
        return "its last lines:\n" + "\n".join(lines) if lines else "it said nothing"


def _ending(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit status {code}"
