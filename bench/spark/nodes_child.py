"""One Spark application for nodes.py: clusters of Skate, or of Ray, on its executors, with a clock.

    nodes_child.py skate|ray MASTER FOLDER CYCLES ROWS

Writes a line `NAME SECONDS` for each measurement to the file ROWS. Each cycle sets a cluster up,
uses it and shuts it down; in the last one an executor is killed before that. Both sides run this
program, import their own package by name, and get executors on which Python has run already.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NODES = 2
TASKS = 200
LONG_S = 90.0  # a row that takes longer is missing, and those behind it
GONE_S = 20.0  # the same for the last process


def row(name: str, seconds: float) -> None:
    """Write one: Ray's daemons say things on stdout."""
    with open(sys.argv[5], "a", encoding="ascii") as out:
        out.write(f"{name} {seconds:.6f}\n")


def until(condition: Callable[[], bool], what: str, limit_s: float = LONG_S) -> float:
    """When it holds: the clock. RuntimeError after limit_s."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {limit_s:g} s: {what}")
        time.sleep(0.005)  # asks again until a deadline
    return time.monotonic()


# ----------------------------------------------------------------------------------- the processes


def commands() -> dict[int, tuple[int, str]]:
    """pid -> (parent, command line) of all living processes."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if stat[0] not in "ZX":
            found[int(entry.name)] = int(stat[1]), command
    return found


def below(root: int, table: dict[int, tuple[int, str]]) -> set[int]:
    """All descendants."""
    found: set[int] = set()
    todo = [root]
    while todo:
        parent = todo.pop()
        young = {pid for pid, (p, _) in table.items() if p == parent} - found
        found |= young
        todo += young
    return found


def alive(pid: int) -> bool:
    """Does the process run? A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def executors_of(app: str) -> list[int]:
    """The executors' JVMs."""
    return [
        pid for pid, (_, command) in commands().items()
        if "CoarseGrainedExecutorBackend" in command and f"--app-id {app}" in command
    ]  # fmt: skip


# --------------------------------------------------------------------------------------- Spark


def session(master: str, folder: str) -> Any:
    """The application. Its executors have this program's environment, but for Spark's own."""
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    from pyspark.sql import SparkSession

    settings = {
        "spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false",
        "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": folder, "spark.executor.memory": "512m", "spark.executor.cores": "1",
        "spark.executorEnv.PATH": os.environ["PATH"], "spark.log.level": "ERROR",
        "spark.executorEnv.RAY_AUTH_MODE": "disabled",
    }  # fmt: skip
    builder = SparkSession.builder.master(master).appName("nodes")
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def all_at_once(folder: str) -> Callable[[int, Any], Any]:
    """A task body: when it began, and its process; ends only when all the others have begun."""

    def body(index: int, _: Any) -> Any:
        began = time.time()
        marks = Path(folder)
        marks.mkdir(exist_ok=True)
        (marks / str(index)).touch()
        deadline = time.time() + LONG_S
        while len(list(marks.iterdir())) < NODES and time.time() < deadline:
            time.sleep(0.005)  # asks again until a deadline
        yield began, os.getpid()

    return body


class Spark:
    """The session, and jobs that need all slots."""

    def __init__(self, master: str, folder: str) -> None:
        self.folder, self.count = folder, 0
        self.sc = session(master, folder).sparkContext
        for _ in range(2):
            self.fill()

    def fill(self) -> float:
        """A job with a task in each slot; when the last of them began (wall clock)."""
        self.count += 1
        marks = os.path.join(self.folder, f"{os.getpid()}-{self.count}")
        tasks = self.sc.parallelize(range(NODES), NODES)
        rows = tasks.mapPartitionsWithIndex(all_at_once(marks)).collect()
        assert len({pid for _, pid in rows}) == NODES, "the tasks did not run at once"
        return max(began for began, _ in rows)

    def waiting_job(self) -> tuple[threading.Thread, list[float]]:
        """fill(), submitted now, in a thread of its own; it is Spark's next job."""
        known = set(self.sc.statusTracker().getActiveJobsIds())
        began: list[float] = []
        thread = threading.Thread(target=lambda: began.append(self.fill()))
        thread.start()
        until(lambda: bool(set(self.sc.statusTracker().getActiveJobsIds()) - known),
              "the job is submitted")  # fmt: skip
        return thread, began


# ------------------------------------------------------------------------------------- the sides


class Cluster:
    """`skate` or `ray` on that Spark."""

    def __init__(self, name: str, spark: Spark) -> None:
        self.name, self.spark = name, spark
        self.ray: Any = importlib.import_module(name)
        self.on_spark: Any = importlib.import_module(f"{name}.util.spark")

    def rows(self) -> list[dict[str, Any]]:
        """The nodes on executors that are alive."""
        found = self.ray.nodes()
        return [n for n in found if n["Alive"] and n["Resources"].get("CPU", 0) > 0]

    def start(self) -> set[int]:
        """Measure until two nodes are there; the processes that were there before, by number."""
        before = set(commands())
        began = time.monotonic()
        self.on_spark.setup_ray_cluster(
            max_worker_nodes=NODES,
            num_cpus_worker_node=1,
            num_gpus_worker_node=0,
            head_node_options={"include_dashboard": False},  # Ray waits 60 s for one
        )
        called = time.monotonic()
        self.ray.init(log_to_driver=False, logging_level="ERROR")
        connected = time.monotonic()
        there = until(lambda: len(self.rows()) >= NODES, "two nodes are listed")
        row("ready", there - began - (connected - called))
        row("init", connected - called)
        return before

    def work(self) -> None:
        """Measure the first task, and many."""
        twice = self.ray.remote(lambda x: 2 * x)
        began = time.monotonic()
        assert self.ray.get(twice.remote(21)) == 42
        row("first_task", time.monotonic() - began)
        began = time.monotonic()
        values = self.ray.get([twice.remote(i) for i in range(TASKS)])
        row("tasks", time.monotonic() - began)
        assert values == [2 * i for i in range(TASKS)]

    def own(self, before: set[int]) -> set[int]:
        """The processes of the cluster: those that came since, and look like it. nodes.py inherits
        all orphans, so they are below it."""
        words = ("raylet", "gcs", f"{self.name}::", "start_ray_node", "_zygote", "janitor")
        table = commands()
        return {
            pid for pid in below(os.getppid(), table) - before
            if any(word in table[pid][1] for word in words)
            and "pyspark" not in table[pid][1] and "java" not in table[pid][1]
        }  # fmt: skip

    def stop(self, before: set[int]) -> None:
        """Measure how long a Spark job that needs all slots waits for the end of the cluster."""
        job, starts = self.spark.waiting_job()
        own = self.own(before)
        self.ray.shutdown()
        clock, began = time.time(), time.monotonic()
        self.on_spark.shutdown_ray_cluster()
        row("shutdown", time.monotonic() - began)
        job.join()
        row("slots_free", starts[0] - clock)
        assert starts[0] > clock, "the nodes did not hold the slots"
        with contextlib.suppress(RuntimeError):
            end = until(lambda: not any(map(alive, own)), "its processes end", GONE_S)
            row("all_gone", end - began)

    def lose(self) -> None:
        """Measure what follows when an executor is killed."""
        executor = executors_of(self.spark.sc.applicationId)[0]
        table = commands()
        [raylet] = [p for p in below(executor, table) if "/raylet/raylet " in table[p][1]
                    or "skate-raylet" in table[p][1]]  # fmt: skip
        known = {n["NodeID"] for n in self.rows()}
        [lost] = [n["NodeID"] for n in self.rows() if self._is_of(n, executor, table[raylet][1])]
        os.kill(executor, signal.SIGKILL)
        began = time.monotonic()
        gone = noticed = 0.0
        deadline = began + LONG_S
        while not (gone and noticed) and time.monotonic() < deadline:
            if not gone and not alive(raylet):
                gone = time.monotonic()
                row("daemon_gone", gone - began)
            if not noticed and all(n["NodeID"] != lost for n in self.rows()):
                noticed = time.monotonic()
                row("noticed", noticed - began)
            time.sleep(0.002)  # asks again until a deadline

        def replaced() -> bool:
            rows = self.rows()
            return len(rows) == NODES and any(n["NodeID"] not in known for n in rows)

        back = until(replaced, "a new node")
        row("replaced", back - began)

    def _is_of(self, node: dict[str, Any], executor: int, command: str) -> bool:
        socket = str(node["RayletSocketName"])
        if self.name == "ray":
            return f"--raylet_socket_name={socket} " in command
        return f"_{executor}_" in socket


def main() -> None:
    name, master, folder, cycles = sys.argv[1:5]
    spark = Spark(master, folder)
    cluster = Cluster(name, spark)
    for cycle in range(int(cycles)):
        before = cluster.start()
        cluster.work()
        if cycle == int(cycles) - 1:
            cluster.lose()
        cluster.stop(before)
    spark.sc.stop()


if __name__ == "__main__":
    main()
