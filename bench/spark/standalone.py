"""A standalone Spark on this machine: a master and workers, with every file in one folder."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

JVM = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto"  # small, quick to start
START_S = 90.0
_LOGGING = """\
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %m%n
"""


def _await_line(process: subprocess.Popen[bytes], log: Path, pattern: str) -> str:
    """The first group of the first line of its log that matches; RuntimeError when none comes."""
    deadline = time.monotonic() + START_S
    while True:
        found = re.search(pattern, log.read_text(errors="replace"))
        if found:
            return found.group(1)
        if process.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            raise RuntimeError(f"{log.name}: no line like {pattern!r}:\n{tail}")
        time.sleep(0.05)  # asks again until a deadline


@contextlib.contextmanager
def standalone(
    workers: int = 2, cores: int = 1, memory_mb: int = 1024
) -> Iterator[tuple[str, str]]:
    """`workers` machines of one executor each. Yields the master's URL and the folder."""
    import pyspark

    home = Path(pyspark.__file__).parent
    folder = Path(tempfile.mkdtemp(prefix="sk-"))
    (folder / "conf").mkdir()
    (folder / "conf" / "log4j2.properties").write_text(_LOGGING)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SKATE_"))}
    environment |= {
        "SPARK_HOME": str(home), "SPARK_CONF_DIR": str(folder / "conf"),
        "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_DIRS": str(folder / "scratch"),
        "SPARK_WORKER_DIR": str(folder / "work"), "SPARK_DAEMON_MEMORY": "256m",
        "SPARK_DAEMON_JAVA_OPTS": JVM,
    }  # fmt: skip
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, *arguments: str) -> tuple[subprocess.Popen[bytes], Path]:
        log = folder / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [str(home / "bin" / "spark-class"), *arguments], env=environment, cwd=folder,
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        started.append(process)
        return process, log

    try:
        master = start("master", "org.apache.spark.deploy.master.Master", "--host", "127.0.0.1",
                       "--port", "0", "--webui-port", "0")  # fmt: skip
        url = _await_line(*master, r"Starting Spark master at (spark://\S+)")
        _await_line(*master, r"(elected leader)")
        those = [
            start(f"worker-{i}", "org.apache.spark.deploy.worker.Worker", "--webui-port", "0",
                  "-c", str(cores), "-m", f"{memory_mb}m", url) for i in range(workers)
        ]  # fmt: skip
        for worker in those:
            _await_line(*worker, r"(Successfully registered) with master")
        yield url, str(folder)
    finally:
        for process in reversed(started):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)
