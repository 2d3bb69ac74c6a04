"""A small thread beside a running cluster: says when a job waits in vain, or a node falls.

Every node holds slots of Spark for as long as it lives. When the nodes hold all of them, the next
Spark job waits until shutdown_ray_cluster(), in silence: this thread says so, once for each job. It
asks Spark's status tracker (a call through py4j, about a millisecond) four times a second while no
slot is free, once a second otherwise.

Spark's tables tell late that a task started (up to a heartbeat, 10 s), so they are not asked how
many node tasks run: slots that the nodes hold or wait for count as taken. While some nodes are
still to come (min_worker_nodes below max_worker_nodes), a job must look idle for longer than a
heartbeat before we say that it waits.

A barrier job, whose tasks start together or not at all, may wait although some slots are free. One
that has more tasks than there are slots is not even in these tables: Spark looks again every 15 s,
in silence, and the scheduler's own list of such jobs is asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from skate.util.spark import _guards, _slots
from skate.util.spark._fleet import Fleet
from skate.util.spark._job import is_executor_loss

FULL_PERIOD_S, FREE_PERIOD_S = 0.25, 1.0
LOOKS, LOOKS_WHEN_UNSURE = 2, 50  # in a row, before a job counts as waiting


class Watch:
    """Owns the thread. `say` gets each text for the user."""

    def __init__(
        self,
        context: Any,
        fleet: Fleet,
        node_cpus: int,
        all_up: bool,
        look_after: Callable[[], None],
    ) -> None:
        """look_after: called four times a second, for what else is to be watched. context: None
        where Spark cannot be asked, and only that is done."""
        self._look_after = look_after
        self._context, self._fleet, self._say = context, fleet, fleet.say
        self._looks = LOOKS if all_up else LOOKS_WHEN_UNSURE
        self._task_cpus = _slots.task_cpus(context) if context is not None else 1
        self._of_a_node = -(-node_cpus // self._task_cpus)
        self._stop = threading.Event()
        self._suspects: dict[int, int] = {}
        self._told: set[int] = set()
        self._thread = threading.Thread(target=self._run, name="skate-spark-watch", daemon=True)

    def start(self) -> None:
        """Begin to watch; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; waits for its last look."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        due = 0.0
        while not self._stop.wait(0.0 if due == 0.0 and self._context else FULL_PERIOD_S):
            try:
                self._look_after()
                if self._context is None or time.monotonic() < due:
                    continue
                free = self.free_slots()
                self._tell_waiting_jobs(free)
                self._tell_stuck_barriers(free)
                for failure in self._fleet.task_failures():
                    if not self._fleet.is_stopping:
                        self._tell_failure(failure)
            except Exception as error:  # Spark is stopping: py4j raises what it likes
                spark = self._context
                if not self._stop.is_set() and spark is not None and spark._jsc is not None:
                    self._say(f"no longer watching Spark: {type(error).__name__}")
                return
            due = time.monotonic() + (0.0 if free <= 0 else FREE_PERIOD_S - FULL_PERIOD_S / 2)

    def free_slots(self) -> int:
        """Slots for ordinary tasks that the node tasks leave."""
        there = _slots.slots(_slots.executors(self._context), self._task_cpus)
        return there - self._fleet.held * self._of_a_node

    def _tell_waiting_jobs(self, free: int) -> None:
        """A job none of whose tasks runs, at some looks in a row, waits for the nodes' slots."""
        tracker = self._context.statusTracker()
        own = _slots.jobs_of(tracker, self._fleet.groups)
        waiting = {
            job for job in set(tracker.getActiveJobsIds()) - own - self._told
            if self._idle(tracker, job) and (free <= 0 or self._barrier_tasks(tracker, job) > free)
        }  # fmt: skip
        self._suspects = {j: self._suspects.get(j, 0) + 1 for j in waiting}
        for job in sorted(waiting):
            if self._suspects[job] < self._looks:
                continue
            self._told.add(job)
            if free > 0:
                tasks = self._barrier_tasks(tracker, job)
                self._say(_guards.stuck_barrier(job, tasks, free, self._fleet.held))
                continue
            self._say(
                f"Spark job {job} waits: the {self._fleet.held} Skate nodes hold all task slots of "
                "this Spark application. It starts when shutdown_ray_cluster() frees them, or when "
                "Spark gets more executors. To run both, leave slots free: fewer nodes "
                "(max_worker_nodes), or smaller ones (num_cpus_worker_node)."
            )

    def _tell_stuck_barriers(self, free: int) -> None:
        for job in sorted(_slots.stuck_barriers(self._context) - self._told):
            self._told.add(job)
            self._say(_guards.stuck_barrier(job, 0, free, self._fleet.held))

    def _barrier_tasks(self, tracker: Any, job: int) -> int:
        """How many tasks must start together next; 0: none must."""
        info = tracker.getJobInfo(job)
        stages = [tracker.getStageInfo(stage) for stage in (info.stageIds if info else [])]
        return max(
            (s.numTasks for s in stages if s is not None and s.numCompletedTasks < s.numTasks
             and _slots.is_barrier(self._context, s.stageId)), default=0,
        )  # fmt: skip

    @staticmethod
    def _idle(tracker: Any, job: int) -> bool:
        info = tracker.getJobInfo(job)
        if info is None or info.status != "RUNNING":
            return False
        stages = [tracker.getStageInfo(stage) for stage in info.stageIds]
        known = [stage for stage in stages if stage is not None]
        running = sum(stage.numActiveTasks for stage in known)
        left = sum(stage.numTasks - stage.numCompletedTasks for stage in known)
        return bool(known) and running == 0 and left > 0

    def _tell_failure(self, failure: str) -> None:
        if is_executor_loss(failure):
            self._say(f"a node was lost with its executor; Spark starts it elsewhere: "
                      f"{failure.splitlines()[0]}")  # fmt: skip
        else:
            text = self._fleet.explained(failure)
            self._say(f"a node was lost; Spark runs its task again: {text}")
