"""A small thread beside a running cluster: says when a job waits in vain, or a node falls.

Every node holds slots of Spark for as long as it lives. When the nodes hold all of them, the next
Spark job waits until shutdown_ray_cluster(), in silence: this thread says so, once for each job. It
asks Spark's status tracker (a call through py4j, about a millisecond) four times a second while no
slot is free, once a second otherwise.

Spark's tables tell late that a task started (up to a heartbeat, 10 s), so they are not asked how
many node tasks run: slots that the nodes hold or wait for count as taken. While some nodes are
still to come (min_worker_nodes below max_worker_nodes), a job must look idle for longer than a
heartbeat before we say that it waits.
"""

from __future__ import annotations

import threading
from typing import Any

from skate.util.spark import _slots
from skate.util.spark._job import NodeJob, is_executor_loss, short_error

FULL_PERIOD_S, FREE_PERIOD_S = 0.25, 1.0
LOOKS, LOOKS_WHEN_UNSURE = 2, 50  # in a row, before a job counts as waiting


class Watch:
    """Owns the thread. `say` gets each text for the user."""

    def __init__(self, context: Any, job: NodeJob, node_cpus: int, all_up: bool) -> None:
        self._context, self._job, self._say = context, job, job.say
        self._looks = LOOKS if all_up else LOOKS_WHEN_UNSURE
        self._task_cpus = _slots.task_cpus(context)
        self._taken = job.nodes * -(-node_cpus // self._task_cpus)
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
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        period = 0.0
        while not self._stop.wait(period):
            try:
                free = self.free_slots()
                if free <= 0:
                    self._tell_waiting_jobs()
                for failure in self._job.task_failures():
                    self._tell_failure(failure)
            except Exception as error:  # Spark is stopping: py4j raises what it likes
                if not self._stop.is_set() and self._context._jsc is not None:
                    self._say(f"no longer watching Spark: {type(error).__name__}")
                return
            period = FULL_PERIOD_S if free <= 0 else FREE_PERIOD_S

    def free_slots(self) -> int:
        """Slots for ordinary tasks that the node tasks leave."""
        return _slots.slots(_slots.executors(self._context), self._task_cpus) - self._taken

    def _tell_waiting_jobs(self) -> None:
        """A job none of whose tasks runs, at some looks in a row, waits for the nodes' slots."""
        tracker = self._context.statusTracker()
        own = set(tracker.getJobIdsForGroup(self._job.group))
        waiting = {j for j in tracker.getActiveJobsIds() if j not in own and self._idle(tracker, j)}
        self._suspects = {j: self._suspects.get(j, 0) + 1 for j in waiting}
        for job in sorted(waiting - self._told):
            if self._suspects[job] < self._looks:
                continue
            self._told.add(job)
            self._say(
                f"Spark job {job} waits: the {self._job.nodes} Skate nodes hold all task slots of "
                "this Spark application. It starts when shutdown_ray_cluster() frees them, or when "
                "Spark gets more executors. To run both, leave slots free: fewer nodes "
                "(max_worker_nodes), or smaller ones (num_cpus_worker_node)."
            )

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
            self._say(f"a node was lost; Spark runs its task again: {short_error(failure)}")
