"""A standalone Spark: stock Master and Workers as processes, all their files in one folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from spark_help import until

_OPENED = ("java.lang", "java.lang.invoke", "java.io", "java.net", "java.nio", "java.util",
           "java.util.concurrent", "sun.nio.ch", "sun.security.action")  # fmt: skip
_LOGGING = """\
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %p %c{1}: %m%n%ex
"""


class Standalone:
    """A master on loopback; workers get an address each, so that Spark takes them for machines."""

    def __init__(self, folder: Path) -> None:
        import pyspark

        self.folder = folder
        self._jars = Path(os.path.dirname(pyspark.__file__)) / "jars"
        (folder / "conf").mkdir()
        (folder / "conf" / "log4j2.properties").write_text(_LOGGING)
        self.workers: dict[str, subprocess.Popen[Any]] = {}
        master = "org.apache.spark.deploy.master.Master"
        self._master = self._java("master", master, "--host", "127.0.0.1", "--port", "0")
        found: Any = until(lambda: self._said("master", r"Starting Spark master at (spark://\S+)"),
                           60, "the master serves")  # fmt: skip
        self.url = str(found[0])

    def add_workers(self, *hosts: str) -> None:
        """Start one of one core on each of these addresses; returns when the master has them."""
        names = [f"worker-{len(self.workers) + i}" for i in range(len(hosts))]
        for name, host in zip(names, hosts, strict=True):
            self.workers[name] = self._java(
                name, "org.apache.spark.deploy.worker.Worker", "--host", host, "-c", "1",
                "-m", "1g", "-d", str(self.folder / name), self.url,
            )  # fmt: skip
        up = "Successfully registered with master"
        until(lambda: all(self._said(name, up) for name in names), 90, f"{names} are up")

    def stop(self) -> None:
        """End all of them."""
        for process in [*self.workers.values(), self._master]:
            process.kill()
            process.wait()

    def _java(self, name: str, *command: str) -> subprocess.Popen[Any]:
        java = os.path.join(os.environ.get("JAVA_HOME", "/usr"), "bin", "java")
        opened = [f"--add-opens=java.base/{p}=ALL-UNNAMED" for p in _OPENED]
        scala = re.search(r"scala-library-(\d+\.\d+)", " ".join(os.listdir(self._jars)))
        assert scala
        env = {
            **os.environ,
            "SPARK_HOME": str(self._jars.parent),
            "SPARK_SCALA_VERSION": scala.group(1),
            "SPARK_LOCAL_DIRS": str(self.folder),
            "SPARK_WORKER_DIR": str(self.folder),
            "SPARK_LOCAL_IP": "127.0.0.1",
        }
        if not os.path.exists(java):
            java = str(shutil.which("java"))
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *opened,
                 "-cp", f"{self.folder / 'conf'}:{self._jars}/*", command[0],
                 "--webui-port", "0", *command[1:]],
                env=env, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def _said(self, name: str, pattern: str) -> list[str]:
        return re.findall(pattern, (self.folder / f"{name}.log").read_text(errors="replace"))
