"""The Spark job that carries the nodes: one job, one task for each node, all submitted at once.

One job rather than one for each node, because Spark then deals its tasks out over the executors.
It is no barrier job: slots may come late, and a lost node does not take the others along. Spark
runs a lost task again by itself; when a task used up spark.task.maxFailures the whole job ends, and
`NodeJob` submits a fresh one, a limited number of times.

Threads: `NodeJob` has one thread, which sleeps inside Spark's collect(). Other methods may be
called from any thread; they read Spark's own status tables through py4j and never block for long.
"""

from __future__ import annotations

import functools
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from skate.util.spark._task import NodeSettings, run_node

RESUBMITS = 3  # fresh jobs after one that ended by failures
RESUBMIT_FORGET_S = 600.0  # after so long without a failure, the count begins anew


class NodeJob:
    """Runs the node tasks until the cluster stops."""

    def __init__(
        self, context: Any, settings: NodeSettings, nodes: int, profile: Any, say: Callable
    ) -> None:
        self.group = f"skate-nodes-{settings.session}"
        self.nodes = nodes
        self.say = say
        self._context, self._settings, self._profile = context, settings, profile
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._failure: str | None = None
        self._seen: set[tuple[int, int, int]] = set()
        self._ended = threading.Event()
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

    def forget_address(self) -> None:
        """Take back what set-up put into the environment of Spark's Python workers."""
        self._context.environment.pop("RAY_ADDRESS", None)

    @property
    def ended(self) -> bool:
        """Is the job over, for whatever reason?"""
        return self._ended.is_set()

    @property
    def failure(self) -> str | None:
        """Why the job ended or a task failed during set-up; None while all is well."""
        return self._failure

    def _run(self) -> None:
        left, last = RESUBMITS, time.monotonic()
        try:
            while True:
                error = self._run_once()
                if error is None and self._ready.is_set() and not self._stopping.is_set():
                    self.say("the head of the cluster is gone, and all nodes with it: call "
                             "shutdown_ray_cluster(), then set it up again")  # fmt: skip
                if error is None or self._stopping.is_set() or not self._ready.is_set():
                    self._failure = self._failure or error
                    return
                if self._context._jsc is None or self._context._jsc.sc().isStopped():
                    self._failure = "Spark was stopped"
                    self.say("Spark was stopped, and the nodes with it")
                    return
                if time.monotonic() - last > RESUBMIT_FORGET_S:
                    left = RESUBMITS
                last = time.monotonic()
                if left == 0:
                    self._failure = error
                    self.say(f"the nodes failed again and again and are given up: {error}")
                    return
                left -= 1
                self.say(f"Spark gave the node tasks up; submitting them afresh: {error}")
        finally:
            self._ended.set()

    def _run_once(self) -> str | None:
        """One job from submission to end; the error's text when it did not end by itself."""
        sc = self._context
        try:
            sc.setJobGroup(self.group, f"Skate nodes ({self._settings.session})", True)
            sc.setLocalProperty("spark.scheduler.pool", self.group)
            tasks = sc.parallelize(range(self.nodes), self.nodes)
            if self._profile is not None:
                tasks = tasks.withResources(self._profile)
            tasks.mapPartitions(functools.partial(run_node, self._settings)).collect()
        except Exception as error:  # whatever Spark raises: Py4JError, connection errors
            return short_error(str(getattr(error, "java_exception", None) or error))
        return None

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
