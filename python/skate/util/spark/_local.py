"""A real Spark on one machine (master and executor JVMs), with every file in one folder.

Spark's local-cluster mode writes `work/` into the folder of the installed pyspark. Here SPARK_HOME
is a temporary folder of links to it, so that work, scratch and warehouse lie in the folder and
vanish with it.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from skate.util.spark._janitor import Janitor

JVM = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto"  # small, quick to start
_LINKS = ("bin", "jars", "python", "sbin")
_LOGGING = """\
rootLogger.level = error
rootLogger.appenderRef.console.ref = console
logger.gateway.name = org.apache.spark.api.python.PythonGatewayServer
logger.gateway.level = error
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
"""  # Spark's own default tells a page of warnings at every start


@contextlib.contextmanager
def local_cluster(
    executors: int = 2, cores: int = 2, memory_mb: int = 1024, conf: dict[str, str] | None = None
) -> Iterator[Any]:
    """A SparkSession on `local-cluster[executors,cores,memory_mb]`; all of it is gone at the end.

    The environment variables that Spark reads at its start are set for the time being.
    """
    with session_at(f"local-cluster[{executors},{cores},{memory_mb}]", conf) as session:
        yield session


@contextlib.contextmanager
def session_at(master: str, conf: dict[str, str] | None = None) -> Iterator[Any]:
    """The same on any master: what this process and its JVM write lies in one folder."""
    import pyspark

    home = pathlib.Path(tempfile.mkdtemp(prefix="skate-spark-"))
    janitor = Janitor("", str(home), patience_s=5)
    installed = pathlib.Path(os.environ.get("SPARK_HOME") or os.path.dirname(pyspark.__file__))
    for name in _LINKS:
        if (installed / name).exists():
            (home / name).symlink_to(installed / name)
    (home / "conf").mkdir()
    (home / "conf" / "log4j2.properties").write_text(_LOGGING)
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraJavaOptions": JVM,
        "spark.executor.extraJavaOptions": JVM,
        "spark.local.dir": str(home),
        "spark.sql.warehouse.dir": str(home / "warehouse"),
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        **(conf or {}),
    }
    wanted = {
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_DIRS": str(home),
        "PYSPARK_PYTHON": os.environ.get("PYSPARK_PYTHON", sys.executable),
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        from pyspark.sql import SparkSession

        builder = SparkSession.builder.master(master)
        for name, value in settings.items():
            builder = builder.config(name, value)
        session = builder.getOrCreate()
        try:
            yield session
        finally:
            session.stop()
            _end_gateway()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        janitor.clean()


def _end_gateway() -> None:
    """End the driver's JVM: it was started with this SPARK_HOME, the next one must not reuse it."""
    from pyspark import SparkContext

    gateway = SparkContext._gateway
    if gateway is None:
        return
    SparkContext._gateway = SparkContext._jvm = None
    process = getattr(gateway, "proc", None)
    gateway.shutdown()
    if process is not None:
        process.stdin.close()
        process.wait(timeout=30)
