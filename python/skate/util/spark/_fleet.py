"""All nodes of a cluster on Spark: the job of the first ones, and one job for each that came later.

Nodes are numbered from 0 on and no number is used twice. `held` counts those that are meant to be
there: tasks submitted whose node was not told to end. Spark may still be looking for slots for some
of them, or running the task of a lost one again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from skate.util.spark._connect import ConnectJob, Place
from skate.util.spark._job import JobHooks, NodeJob
from skate.util.spark._task import NodeSettings


class Fleet:
    """Used by set-up, by the watching thread and by the scaler's; locks itself."""

    def __init__(
        self,
        context: Any,
        settings: NodeSettings,
        profile: Any,
        say: Callable[[str], None],
        on_job: Callable[[str], None],
    ) -> None:
        self.session = settings.session
        self.say = say
        self._context, self._settings, self._profile = context, settings, profile
        self._hooks = JobHooks(say, on_job, self._ended)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._jobs: list[NodeJob] = []  # those that run, and the first one
        self._next = 0
        self._gone: set[int] = set()  # numbers that were told to end
        self._ready = self._stopping = False
        self.on_change: Callable[[], None] = lambda: None

    def start(self, count: int) -> None:
        """Ask for so many nodes, in one job; returns at once. 0 is fine."""
        if count > 0:
            self._submit(count)

    def add(self, count: int) -> list[int]:
        """Ask for so many more, a job for each; their numbers. None once the cluster stops."""
        numbers = [number for _ in range(count) for number in self._submit(1)]
        self.on_change()
        return numbers

    def _submit(self, count: int) -> list[int]:
        with self._lock:
            if self._stopping:
                return []
            numbers = list(range(self._next, self._next + count))
            self._next += count
            kind = ConnectJob if isinstance(self._context, Place) else NodeJob
            job = kind(self._context, self._settings, numbers, self._profile, self._hooks)
            if self._ready:
                job.mark_ready()
            self._jobs.append(job)
            job.start()
        return numbers

    def _ended(self, job: NodeJob) -> None:
        """In the job's thread: it is over."""
        with self._changed:
            told = all(number in self._gone for number in job.numbers)
            # Its head is gone, or somebody ended its raylets; nobody asked for that here.
            alone = self._ready and not self._stopping and not told and job.failure is None
            self._gone |= set(job.numbers)
            if job is not self._jobs[0]:
                self._jobs.remove(job)
            last = not any(not j.ended for j in self._jobs)
            self._changed.notify_all()
        if alone and last:
            self.say("the head of the cluster is gone, and all nodes with it: call "
                     "shutdown_ray_cluster(), then set it up again")  # fmt: skip
        self.on_change()

    def retired(self, number: int) -> None:
        """This node was told to end: it is not meant to be there any more."""
        with self._lock:
            self._gone.add(number)
        self.on_change()

    @property
    def held(self) -> int:
        """How many nodes are meant to be there."""
        with self._lock:
            return self._next - len(self._gone)

    @property
    def groups(self) -> list[str]:
        """The job groups of what runs."""
        with self._lock:
            return [job.group for job in self._jobs]

    def mark_ready(self) -> None:
        """From now on a lost node is replaced instead of ending the set-up."""
        with self._lock:
            self._ready = True
            for job in self._jobs:
                job.mark_ready()

    @property
    def ended(self) -> bool:
        """Was there a job, and is all over?"""
        with self._lock:
            return bool(self._jobs) and all(job.ended for job in self._jobs)

    @property
    def failure(self) -> str | None:
        """Why a job ended; None while all is well."""
        with self._lock:
            return next((job.failure for job in self._jobs if job.failure), None)

    def task_failures(self) -> list[str]:
        """Texts of task failures not told before."""
        with self._lock:
            jobs = list(self._jobs)
        return [failure for job in jobs for failure in job.task_failures()]

    def explained(self, text: str) -> str:
        """The part of Spark's error that a person can use."""
        with self._lock:
            job = self._jobs[0]
        return job.explained(text)

    @property
    def is_stopping(self) -> bool:
        """Are the tasks meant to end?"""
        with self._lock:
            return self._stopping

    def expect_end(self) -> None:
        """From now on the tasks are meant to end, and no more are started."""
        with self._lock:
            self._stopping = True
            for job in self._jobs:
                job.expect_end()

    def wait_end(self, timeout: float) -> bool:
        """Have all tasks ended? Waits up to `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while any(not job.ended for job in self._jobs):
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def cancel(self) -> None:
        """Kill the Python workers of the tasks: their raylets end by their lifelines."""
        with self._lock:
            jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
