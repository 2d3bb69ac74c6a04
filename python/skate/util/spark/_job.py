"""A Spark job that carries nodes, one task for each, all submitted at once.

The first nodes are one job rather than one for each, because Spark then deals its tasks out over
the executors. Nodes that come later are a job of one task each (`_fleet.py`).
It is no barrier job: slots may come late, and a lost node does not take the others along. Spark
runs a lost task again by itself; when a task used up spark.task.maxFailures the whole job ends, and
`NodeJob` submits a fresh one, after a pause when that happens again and again.

Threads: `NodeJob` has one thread, which sleeps inside Spark's collect(). Other methods may be
called from any thread; they read Spark's own status tables through py4j and never block for long.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from skate.util.spark import _guards
from skate.util.spark._task import NodeSettings, run_node

# A job bears spark.task.maxFailures losses of one node, however far apart; then it is submitted
# afresh. Jobs that end sooner than LIVED_S one after the other, and so may have nodes that cannot
# live, are submitted at once for QUICK times, then after pauses that double.
LIVED_S = 15.0
QUICK = 3
PAUSE_FIRST_S, PAUSE_MOST_S = 1.0, 30.0


@dataclass(frozen=True)
class JobHooks:
    """Whom a job tells of itself."""

    say: Callable[[str], None]
    on_job: Callable[[str], None]
    on_end: Callable[[NodeJob], None]


class NodeJob:
    """Runs the tasks of the nodes `numbers` until they end. `on_job` is called with the job group
    before each submission, `on_end` when the last one is over; both in this object's thread."""

    def __init__(
        self,
        context: Any,
        settings: NodeSettings,
        numbers: Sequence[int],
        profile: Any,
        hooks: JobHooks,
    ) -> None:
        self.group = f"skate-nodes-{settings.session}"
        if numbers[0] > 0:
            self.group += f"-{numbers[0]}"
        self.numbers = tuple(numbers)
        self.say = hooks.say
        self._hooks = hooks
        self._context, self._settings, self._profile = context, settings, profile
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._failure: str | None = None
        self._seen: set[tuple[int, int, int]] = set()
        self._ended = threading.Event()
        self._rounds = 0
        self._thread = threading.Thread(target=self._run, name="skate-spark-nodes", daemon=True)

    def start(self) -> None:
        """Submit; returns at once."""
        self._thread.start()

    def mark_ready(self) -> None:
        """From now on a lost node is replaced instead of ending the set-up."""
        self._ready.set()

    def expect_end(self) -> None:
        """From now on the tasks are meant to end."""
        self._stopping.set()

    def wait_end(self, timeout: float) -> bool:
        """Have all tasks ended? Sleeps up to `timeout` seconds."""
        return self._ended.wait(timeout)

    def cancel(self) -> None:
        """Kill the Python workers of the tasks: their raylets end by their lifelines."""
        self._stopping.set()
        self._context.cancelJobGroup(self.group)

    @property
    def ended(self) -> bool:
        """Is the job over, for whatever reason?"""
        return self._ended.is_set()

    @property
    def failure(self) -> str | None:
        """Why the job ended or a task failed during set-up; None while all is well."""
        return self._failure

    def _run(self) -> None:
        quick = 0  # jobs in a row that ended soon
        try:
            while True:
                began = time.monotonic()
                error = self._run_once()
                if error is None or self._stopping.is_set() or not self._ready.is_set():
                    self._failure = self._failure or error
                    return
                if self.is_spark_gone():
                    self._failure = "Spark was stopped"
                    self.say("Spark was stopped, and the nodes with it")
                    return
                quick = quick + 1 if time.monotonic() - began < LIVED_S else 0
                pause = pause_before(quick)
                after = f" in {pause:.0f} s" if pause else ""
                self._rounds += 1
                self.say(f"Spark gave the node tasks up; submitting them afresh{after}: {error}")
                if self._stopping.wait(pause):
                    self._failure = error
                    return
        finally:
            self._ended.set()
            self._hooks.on_end(self)

    def _run_once(self) -> str | None:
        """One job from submission to end; the error's text when it did not end by itself."""
        try:
            self._hooks.on_job(self.group)
            most = int(self._context.getConf().get("spark.task.maxFailures", "4"))
            settings = dataclasses.replace(self._settings, attempts_before=self._rounds * most)
            self.run_tasks(settings)
        except Exception as error:  # whatever Spark raises: Py4JError, connection errors
            return self.explained(str(getattr(error, "java_exception", None) or error))
        return None

    def is_spark_gone(self) -> bool:
        """Was Spark stopped, and with it what it ran?"""
        return bool(self._context._jsc is None or self._context._jsc.sc().isStopped())

    def run_tasks(self, settings: NodeSettings) -> None:
        """Until all have ended. Raises what Spark raises."""
        sc = self._context
        sc.setJobGroup(self.group, f"Skate nodes ({self._settings.session})", True)
        sc.setLocalProperty("spark.scheduler.pool", self.group)
        tasks = sc.parallelize(list(self.numbers), len(self.numbers))
        if self._profile is not None:
            tasks = tasks.withResources(self._profile)
        tasks.mapPartitions(functools.partial(run_node, settings)).collect()

    def explained(self, text: str) -> str:
        """The part of Spark's error that a person can use."""
        python = str(getattr(self._context, "pythonExec", "python3"))
        return _guards.explain(text, python) or short_error(text)

    def task_failures(self) -> list[str]:
        """Texts of task failures not told before. Loss of an executor is not one of them."""
        failures = []
        for stage, attempt in self._stages():
            tasks = self._context._jsc.sc().statusStore().taskList(stage, attempt, 10_000)
            for i in range(tasks.size()):
                task = tasks.apply(i)
                if task.status() not in ("FAILED", "KILLED") or task.errorMessage().isEmpty():
                    continue
                mark = (stage, attempt, int(task.taskId()))
                if mark not in self._seen:
                    self._seen.add(mark)
                    failures.append(str(task.errorMessage().get()))
        return failures

    def _stages(self) -> list[tuple[int, int]]:
        """The newest job's stage and attempt."""
        tracker = self._context.statusTracker()
        jobs = sorted(tracker.getJobIdsForGroup(self.group))
        info = tracker.getJobInfo(jobs[-1]) if jobs else None
        stages = [] if info is None else list(info.stageIds)
        infos = [(stage, tracker.getStageInfo(stage)) for stage in stages]
        return [(stage, i.currentAttemptId) for stage, i in infos if i is not None]


def run_once(context: Any, session: str, function: Callable[[], Any], timeout_s: float) -> Any:
    """Run a function in a Spark task of its own, on whichever executor; what it returned.
    RuntimeError with the task's words, or when Spark has no slot for it in this time."""
    group = f"skate-head-{session}"
    done: list[Any] = []
    failed: list[str] = []

    def run() -> None:
        try:
            if hasattr(context, "connect_once"):
                done.append(context.connect_once(group, function))
                return
            context.setJobGroup(group, f"Skate head ({session})", True)
            done.extend(context.parallelize([0], 1).map(lambda _: function()).collect())
        except Exception as error:  # whatever Spark raises: Py4JError, connection errors
            text = str(getattr(error, "java_exception", None) or error)
            python = str(getattr(context, "pythonExec", "python3"))
            failed.append(_guards.explain(text, python) or short_error(text))

    thread = threading.Thread(target=run, name="skate-spark-once", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if done:
        return done[0]
    if failed:
        raise RuntimeError(f"The cluster on Spark did not start: {failed[0]}")
    context.cancelJobGroup(group)
    raise RuntimeError(
        f"The cluster on Spark did not start: within {timeout_s:g} s Spark had no free slot to "
        "start its head in. Wait for other Spark jobs or cancel them, or use head='driver'."
    )


def pause_before(quick: int) -> float:
    """Seconds to wait after so many jobs in a row that ended soon."""
    if quick <= QUICK:
        return 0.0
    return min(PAUSE_FIRST_S * 2.0 ** (quick - QUICK - 1), PAUSE_MOST_S)


def is_executor_loss(text: str) -> bool:
    """Did the task fail because its executor went away? Spark finds another one for it."""
    return "ExecutorLostFailure" in text or "executor heartbeat" in text.lower()


def short_error(text: str) -> str:
    """The part of Spark's error that a person can use: the task's own words, no Java stack."""
    own = re.search(r"NodeError: (.*?)(?=\n\s*\n?\s*at |\n\nDriver stacktrace|\Z)", text, re.DOTALL)
    if own:
        return own.group(1).strip()
    trace = re.search(r"(Traceback \(most.*?)(?=\n\s*\n?\s*at |\Z)", text, re.DOTALL)
    if trace:
        return trace.group(1).strip()
    lines = [line for line in text.splitlines() if not re.match(r"\s+at |\s*\.\.\. \d+ more", line)]
    return "\n".join(lines[:20]).strip()
