"""One Spark application for udf.py: loops inside UDFs, plain and through Skate, or Ray.

    udf_child.py skate|ray MASTER FOLDER PAIRS ROWS

Writes a line `NAME VALUE` for each measurement to the file ROWS. What is compared within a pair
runs in one call of one UDF, one after the other, on the same data; the clock is read inside of it,
so that Spark's own time is in none of them. Both sides run this program.
"""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import prefix_models
import walk_forward

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import load

ROWS, FEATURES = 400, 200
LONG, SHORT = 600, 40  # 3 s of fits on a quick core
TASKS, TASK_S = 120, 0.020
CHUNKS = 16
SETTLE_S, LOOK_S = 2.5, 0.1
Timed = Callable[[], Any]


def row(name: str, value: float) -> None:
    """Write one."""
    with open(sys.argv[5], "a", encoding="ascii") as out:
        out.write(f"{name} {value:.6f}\n")


def session(master: str, folder: str) -> Any:
    """The application: executors of two cores, one for a node, one for UDFs."""
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    from pyspark.sql import SparkSession

    settings = {
        "spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false",
        "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": folder, "spark.executor.memory": "512m", "spark.executor.cores": "2",
        "spark.log.level": "ERROR", "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.adaptive.coalescePartitions.enabled": "false",
        "spark.sql.shuffle.partitions": "4",
    }  # fmt: skip
    for name in ("PATH", "PYTHONPATH", "RAY_AUTH_MODE", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        settings[f"spark.executorEnv.{name}"] = os.environ[name]
    builder = SparkSession.builder.master(master).appName("udf")
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


# ------------------------------------------------------------------------- what runs in the UDF


def two_plain(fn: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    """The loop, by two plain processes: forks of this one, each with every other item."""
    out: list[Any] = [None] * len(items)
    children = []
    for half in range(2):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            with os.fdopen(write, "wb") as pipe:
                pickle.dump([fn(item) for item in items[half::2]], pipe)
            os._exit(0)
        os.close(write)
        children.append((pid, read))
    for half, (pid, read) in enumerate(children):
        with os.fdopen(read, "rb") as pipe:
            out[half::2] = pickle.load(pipe)
        os.waitpid(pid, 0)
    return out


def in_turn(ways: dict[str, Timed], first: int) -> list[tuple[str, float]]:
    """Seconds of each way, which all have the same result; begun with another one each time."""
    names = list(ways)
    names = names[first % len(names) :] + names[: first % len(names)]
    out, results = [], []
    for name in names:
        began = time.perf_counter()
        results.append(ways[name]())
        out.append((name, time.perf_counter() - began))
    if any(pickle.dumps(r) != pickle.dumps(results[0]) for r in results):
        raise AssertionError(f"{', '.join(names)} do not agree")
    return out


def fit_prefix(x: np.ndarray, y: np.ndarray) -> float:
    """The article's task: it is sent the rows that it needs."""
    return prefix_models.forecast(len(y) - 1, x, y)


def fit_rows(rows: range, x: np.ndarray, y: np.ndarray) -> list[float]:
    """A chunk of rows."""
    return [prefix_models.forecast(i, x, y) for i in rows]


def articles_udf(side: str, where: Any, first: int) -> Callable[[Any], Any]:
    """The pandas UDF of the article, in several ways."""

    def udf(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        ray = importlib.import_module(side)
        joined = udf_child.join(side, where)
        task = ray.remote(udf_child.fit_prefix)
        for batch in batches:
            x = np.ascontiguousarray(batch[[c for c in batch.columns if c[0] == "f"]].to_numpy())
            y = batch["y"].to_numpy().copy()
            ways: dict[str, Timed] = {
                "plain": lambda x=x, y=y: [prefix_models.forecast(i, x, y) for i in range(len(y))],
                "two": lambda x=x, y=y: udf_child.two_plain(
                    lambda i: prefix_models.forecast(i, x, y), list(range(len(y)))
                ),
                "literal": lambda x=x, y=y: ray.get(
                    [task.remote(x[: i + 1], y[: i + 1]) for i in range(len(y))]
                ),
            }
            if side == "skate":
                from skate.util.spark import fan_out

                ways["fan"] = lambda x=x, y=y: fan_out(
                    prefix_models.forecast, range(len(y)), broadcast=(x, y)
                )
            else:
                ways["fan"] = lambda x=x, y=y: udf_child.by_hand(ray, x, y)
            out = udf_child.in_turn(ways, first)
            yield pd.DataFrame([*out, *joined], columns=["name", "seconds"])

    import udf_child

    return udf


def by_hand(ray: Any, x: np.ndarray, y: np.ndarray) -> list[float]:
    """What a user of Ray writes who knows it: put once, and chunks."""
    refs = [ray.put(x), ray.put(y)]
    task = ray.remote(fit_rows)
    bounds = np.linspace(0, len(y), CHUNKS + 1).astype(int)
    parts = [range(int(a), int(b)) for a, b in zip(bounds, bounds[1:])]
    done = {part: task.remote(part, *refs) for part in reversed(parts)}
    return [value for part in parts for value in ray.get(done[part])]


def join(side: str, where: Any) -> list[tuple[str, float]]:
    """Be in the cluster: milliseconds of the first time, and of the next."""
    out = []
    module = importlib.import_module(side)
    fresh = not module.is_initialized()
    for name in ("first", "again"):
        if not fresh:
            break
        began = time.perf_counter()
        if side == "skate":
            from skate.util.spark import attach

            attach(where)
        else:
            module.init(where[0], log_to_driver=False, logging_level="ERROR")
        out.append((f"attach_{name}", time.perf_counter() - began))
        if name == "first":
            module.shutdown()
    return out


def back_test(side: str, where: Any, fanned: bool) -> Callable[[Any], Any]:
    """The back-test of one series: when it began, when it ended."""

    def udf(series: pd.DataFrame) -> pd.DataFrame:
        began = time.time()
        y = series.sort_values("t")["y"].to_numpy().copy()
        origins = range(walk_forward.FIRST, len(y))
        if fanned:
            udf_child.join(side, where)
            from skate.util.spark import fan_out

            said = fan_out(walk_forward.forecasts, origins, broadcast=(y,))
        else:
            said = [walk_forward.forecasts(origin, y) for origin in origins]
        return pd.DataFrame(
            {"began": [began], "ended": [time.time()], "bits": [pickle.dumps(said).hex()],
             "series": series["series"].iloc[:1].tolist()}  # fmt: skip
        )

    import udf_child

    return udf


def back_test_in_two(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """All fits of all series, by two plain processes."""
    import udf_child

    table = pd.concat(list(batches))
    parts = [part.sort_values("t")["y"].to_numpy().copy() for _, part in table.groupby("series")]
    items = [(k, o) for k, y in enumerate(parts) for o in range(walk_forward.FIRST, len(y))]
    began = time.time()
    udf_child.two_plain(lambda item: walk_forward.forecasts(item[1], parts[item[0]]), items)
    yield pd.DataFrame({"began": [began], "ended": [time.time()], "bits": "", "series": 0})


# ------------------------------------------------------------------------------------ the rows


def measure_article(spark: Any, side: str, where: Any, pairs: int) -> None:
    for pair in range(pairs + 1):  # the first one warms up
        rows = ROWS if pair else ROWS // 5
        table = prefix_models.make_table(rows, FEATURES, 1, spark)
        out = table.mapInPandas(articles_udf(side, where, pair), "name string, seconds double")
        for name, seconds in out.collect():
            if pair or name.startswith("attach"):
                row(name if name.startswith("attach") else f"article_{name}", seconds)
        table.unpersist()


def measure_back_test(spark: Any, where: Any, pairs: int) -> None:
    table = walk_forward.make_table(LONG, SHORT, 1, spark).repartition(1).cache()
    shape = "began double, ended double, bits string, series long"
    groups = table.groupBy("series")
    for pair in range(pairs + 1):
        bits = []
        for name in ("plain", "two", "fan"):
            if name == "two":
                found = table.mapInPandas(back_test_in_two, shape).collect()
            else:
                udf = back_test("skate", where, name == "fan")
                found = groups.applyInPandas(udf, shape).collect()
                bits.append({r["series"]: r["bits"] for r in found})
            if pair:
                seconds = max(r["ended"] for r in found) - min(r["began"] for r in found)
                row(f"back_test_{name}", seconds)
        assert bits[0] == bits[1], "the two do not agree"


ATTACHED = """
import importlib, sys, time
side, where, count = sys.argv[1], bytes.fromhex(sys.argv[2]), int(sys.argv[3])
ray = importlib.import_module(side)
import cloudpickle, udf_child
if side == "skate":
    from skate.util.spark import attach
print("ready", flush=True)
sys.stdin.readline()
where = cloudpickle.loads(where)
if side == "skate":
    attach(where)
else:
    ray.init(where[0], log_to_driver=False, logging_level="ERROR")
task = ray.remote(udf_child.burn)
ray.get([task.remote() for _ in range(count)])
print("done", flush=True)
sys.stdin.readline()
"""


def burn() -> None:
    """A task of TASK_S of CPU."""
    end = time.process_time() + TASK_S
    while time.process_time() < end:
        pass


class Cpu:
    """CPU seconds of all processes of this bench but Java's and this one's own, while it is open.

    Looks again and again: workers that are killed meanwhile are in nobody's sum of children.
    """

    def __enter__(self) -> Cpu:
        self._root = os.getppid()
        self._known: dict[int, bool] = {}  # is it Java?
        self._first = self._look()
        self._last = dict(self._first)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()
        self._last |= self._look()
        ticks = sum(last - self._first.get(pid, 0) for pid, last in self._last.items())
        self.seconds = ticks / load.TICKS

    def _watch(self) -> None:
        while not self._over.wait(LOOK_S):
            self._last |= self._look()

    def _look(self) -> dict[int, int]:
        table: dict[int, tuple[int, int]] = {}
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as stat:
                    fields = stat.read().rpartition(")")[2].split()
            except OSError:
                continue
            table[int(name)] = int(fields[1]), int(fields[11]) + int(fields[12])
        ours = {self._root}
        for _ in range(8):  # generations
            ours |= {pid for pid, (parent, _) in table.items() if parent in ours}
        mine = ours - {self._root, os.getpid()}
        return {pid: table[pid][1] for pid in mine if pid in table and not self._is_java(pid)}

    def _is_java(self, pid: int) -> bool:
        if pid not in self._known:
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")
            except OSError:
                return False
            self._known[pid] = b"java" in words[0]
        return self._known[pid]


def measure_churn(side: str, where: Any, pairs: int) -> None:
    """So many attached processes share the same number of tasks: CPU of all processes."""
    import cloudpickle

    text = cloudpickle.dumps(where).hex()
    for _ in range(pairs):
        for count in (1, 2, 4):
            started = [
                subprocess.Popen(
                    [sys.executable, "-c", ATTACHED, side, text, str(TASKS // count)],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                )
                for _ in range(count)
            ]  # fmt: skip
            hear(started, b"ready\n")
            with Cpu() as cpu:
                tell(started)
                hear(started, b"done\n")
                time.sleep(SETTLE_S)  # for workers that end, or begin, without being needed now
            row(f"churn_cpu_{count}", cpu.seconds)
            tell(started)
            for one in started:
                one.communicate()


def tell(processes: list[subprocess.Popen[bytes]]) -> None:
    """Go on."""
    for one in processes:
        assert one.stdin is not None
        one.stdin.write(b"go\n")
        one.stdin.flush()


def hear(processes: list[subprocess.Popen[bytes]], line: bytes) -> None:
    """Each says this."""
    for one in processes:
        assert one.stdout is not None
        while (said := one.stdout.readline()) != line:
            assert said, "it ended early"


def main() -> None:
    side, master, folder, pairs = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    ray = importlib.import_module(side)
    on_spark = importlib.import_module(f"{side}.util.spark")
    spark = session(master, folder)
    where = on_spark.setup_ray_cluster(
        max_worker_nodes=2, num_cpus_worker_node=1, num_gpus_worker_node=0,
        head_node_options={"include_dashboard": False},
    )  # fmt: skip
    ray.init(log_to_driver=False, logging_level="ERROR")
    if side == "ray":
        where = (ray.get_runtime_context().gcs_address, "")
    measure_article(spark, side, where, pairs)
    if side == "skate":
        measure_back_test(spark, where, pairs)
    measure_churn(side, where, min(pairs, 2) if side == "skate" else 1)
    ray.shutdown()
    on_spark.shutdown_ray_cluster()
    spark.stop()


if __name__ == "__main__":
    import udf_child

    udf_child.main()
