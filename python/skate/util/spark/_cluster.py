"""setup_ray_cluster() and shutdown_ray_cluster(): a Skate cluster inside a Spark application.

Set-up: check the arguments; start the head (GCS and a raylet without CPUs unless asked) as children
of this process, bound to the interface of spark.driver.host; submit one Spark job with a task for
each node; wait until the nodes are registered at the head, or a task failed, whichever is first.
Nothing is timed by sleeping: the head and every node say when they serve.

Shutdown: the GCS goes and the nodes with it, so the Spark tasks end normally and their slots are
free at once. Only what is left after 5 s is cancelled. If this process dies instead, the head ends
by its lifeline, and so do the nodes.
"""

from __future__ import annotations

import atexit
import os
import secrets
import socket
import sys
import threading
import time
from typing import Any

from skate.util.spark import _slots
from skate.util.spark._head import Head
from skate.util.spark._job import NodeJob, is_executor_loss, short_error
from skate.util.spark._plan import MAX_NUM_WORKER_NODES, NodeShape, Plan, make_plan
from skate.util.spark._task import NodeSettings
from skate.util.spark._watch import Watch

DRAIN_S = 5.0  # from the stop of the head to cancelling what is left
CANCEL_S = 10.0
SLOW_START_S = 5.0  # after so long, say what set-up waits for
POLL_S = 0.02

_lock = threading.RLock()
_active: RayClusterOnSpark | None = None


def say(text: str) -> None:
    """One line for the user, on stderr, where Spark's own notices go."""
    print(f"(skate on spark) {text}", file=sys.stderr, flush=True)


class RayClusterOnSpark(tuple):
    """What setup_ray_cluster() returns: the pair (address, client address), and the handle.

    Pickles as the plain pair, so that it may stand in the closure of a UDF.
    """

    _head: Head
    _job: NodeJob
    _watch: Watch
    _alive: bool

    def __new__(cls, head: Head, job: NodeJob, watch: Watch) -> RayClusterOnSpark:
        self = super().__new__(cls, (head.address, f"ray://{head.address}"))
        self._head, self._job, self._watch, self._alive = head, job, watch, True
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (tuple(self),)

    @property
    def address(self) -> str:
        """ip:port of the head."""
        return str(self[0])

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that the head knows, as skate.nodes() tells them; the head is one of them."""
        with _lock:
            try:
                return self._head.nodes()
            finally:
                self._head.release()

    def wait_until_ready(self) -> None:
        """Returns at once: set-up returns only when the nodes are up."""

    def shutdown(self) -> None:
        """The same as shutdown_ray_cluster(), but quiet when that was done already."""
        global _active
        with _lock:
            if not self._alive:
                return
            self._alive = False
            if _active is self:
                _active = None
            self._end()

    def _end(self) -> None:
        import skate

        if skate.is_initialized() and self._head.is_mine():
            skate.shutdown()
        if os.environ.get("RAY_ADDRESS") == self.address:
            del os.environ["RAY_ADDRESS"]
        self._watch.stop()
        _stop(self._head, self._job)

    def __enter__(self) -> RayClusterOnSpark:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()


def setup_ray_cluster(
    *,
    max_worker_nodes: int,
    min_worker_nodes: int | None = None,
    num_cpus_worker_node: int | None = None,
    num_cpus_head_node: int | None = None,
    num_gpus_worker_node: int | None = None,
    num_gpus_head_node: int | None = None,
    memory_worker_node: int | None = None,
    memory_head_node: int | None = None,
    object_store_memory_worker_node: int | None = None,
    object_store_memory_head_node: int | None = None,
    head_node_options: dict[str, Any] | None = None,
    worker_node_options: dict[str, Any] | None = None,
    ray_temp_root_dir: str | None = None,
    strict_mode: bool = False,
    collect_log_to_path: str | None = None,
    autoscale_upscaling_speed: float | None = 1.0,
    autoscale_idle_timeout_minutes: float | None = 1.0,
    start_timeout_s: float = 120.0,
    **kwargs: Any,
) -> RayClusterOnSpark:
    """Start a cluster in the active Spark application; returns (address, client address).

    A node is a Spark task that holds `num_cpus_worker_node` cores of an executor until
    shutdown_ray_cluster(); without it, all cores of an executor. `max_worker_nodes` may be
    MAX_NUM_WORKER_NODES: as many nodes as Spark can run at once. With `min_worker_nodes`, set-up
    returns when so many are up, and the others join when Spark has slots for them. The environment
    variable RAY_ADDRESS of this process is set, so that a plain init() connects. The other
    arguments are described in docs/spark.md.
    """
    arguments = dict(locals())
    extra = arguments.pop("kwargs")
    global _active
    import skate

    plan = make_plan(arguments, extra)
    with _lock:
        if _active is not None:
            raise RuntimeError(
                "There is an active cluster on Spark already: call shutdown_ray_cluster() first."
            )
        if skate.is_initialized():
            raise RuntimeError(
                "This process is connected to a cluster already: call shutdown() before "
                "setup_ray_cluster()."
            )
        cluster = _launch(plan, _slots.active_context())
        os.environ["RAY_ADDRESS"] = cluster.address
        _active = cluster
        atexit.register(cluster.shutdown)
    return cluster


def shutdown_ray_cluster() -> None:
    """End the cluster that setup_ray_cluster() started: its nodes, its head, its files."""
    with _lock:
        if _active is None:
            raise RuntimeError("There is no active cluster on Spark to shut down.")
        cluster = _active
        cluster.shutdown()
        atexit.unregister(cluster.shutdown)


def _launch(plan: Plan, context: Any) -> RayClusterOnSpark:
    began = time.monotonic()
    _slots.warn_about_settings(context, say)
    nodes_wanted = 0 if plan.max_nodes == MAX_NUM_WORKER_NODES else plan.max_nodes
    found = _slots.wait_executors(context, nodes_wanted, say)
    cpus, nodes = _size(plan, context, found)
    profile = _slots.profile(context, cpus, plan.node.gpus or 0)
    _check_size(plan, cpus)

    key, session = secrets.token_hex(32), secrets.token_hex(4)
    head = Head.start(plan, _driver_ip(context), key)
    context.environment["RAY_ADDRESS"] = head.address  # of Spark's Python workers from now on
    job = NodeJob(context, _settings(plan, cpus, head, key, session), nodes, profile, say)
    job.start()
    try:
        least = nodes if plan.min_nodes is None else plan.min_nodes
        _wait_ready(head, job, least, nodes, plan.start_timeout_s)
    except BaseException:
        _stop(head, job)
        raise
    job.mark_ready()
    head.release()
    watch = Watch(context, job, cpus, all_up=least == nodes)
    free = _slots.slots(found, _slots.task_cpus(context))
    free -= nodes * -(-cpus // _slots.task_cpus(context))
    if free <= 0:
        say(
            f"the {nodes} nodes hold all task slots of this Spark application: its other Spark "
            "jobs wait until shutdown_ray_cluster(). To run both, ask for fewer or smaller nodes."
        )
    watch.start()
    say(f"{nodes} nodes of {cpus} CPUs at {head.address} in {time.monotonic() - began:.1f} s; "
        f"{max(free, 0)} task slots left to Spark")  # fmt: skip
    return RayClusterOnSpark(head, job, watch)


def _size(plan: Plan, context: Any, found: list[_slots.Executor]) -> tuple[int, int]:
    """CPUs of a node, and the number of nodes."""
    cpus = plan.node.cpus
    if cpus is None and (_slots.is_local(context) or not found):
        cpus = _slots.task_cpus(context)
    elif cpus is None:
        cpus = min(executor.cores for executor in found)
    largest = max((executor.cores for executor in found), default=0)
    if found and cpus > largest:
        raise ValueError(
            f"num_cpus_worker_node={cpus}, but the largest Spark executor has {largest} cores: no "
            "node could ever start."
        )
    fit = _slots.slots(found, cpus)
    if plan.max_nodes == MAX_NUM_WORKER_NODES:
        if fit == 0:
            raise RuntimeError("Spark has no executor yet: MAX_NUM_WORKER_NODES would be 0 nodes.")
        return cpus, fit
    if fit < plan.max_nodes:
        say(f"Spark has room for {fit} of the {plan.max_nodes} nodes now; the others start when it "
            "gets more executors")  # fmt: skip
    return cpus, plan.max_nodes


def _check_size(plan: Plan, cpus: int) -> None:
    """strict_mode: refuse nodes smaller than Ray recommends. Smaller ones are fine here."""
    if plan.strict and cpus < 4:
        raise ValueError(
            f"strict_mode: a node would have {cpus} CPUs; at least 4 are recommended. Set "
            "num_cpus_worker_node, or strict_mode=False."
        )


def _settings(plan: Plan, cpus: int, head: Head, key: str, session: str) -> NodeSettings:
    node: NodeShape = plan.node
    return NodeSettings(
        key=key,
        gcs=head.address,
        session=session,
        cpus=cpus,
        gpus=node.gpus,
        memory=node.memory,
        object_store_memory=node.object_store_memory,
        resources=node.resources,
        labels=node.labels,
        temp_root=plan.temp_root,
        logs_to=plan.logs_to,
        session_dir=head.session_dir,
        spills_to=node.spills_to,
        system=node.system,
        python_path=tuple(p for p in sys.path if p and ":" not in p and "\t" not in p),
    )


def _driver_ip(context: Any) -> str:
    """The address that executors reach this driver by: the interface Spark itself is bound to."""
    host = context.getConf().get("spark.driver.host", "127.0.0.1")
    try:
        return socket.gethostbyname(host)
    except OSError:
        raise RuntimeError(f"spark.driver.host is {host!r}, which has no IPv4 address") from None


def _wait_ready(head: Head, job: NodeJob, least: int, nodes: int, timeout_s: float) -> None:
    """Until `least` nodes are registered. Raises with the task's own words as soon as one fails."""
    began = time.monotonic()
    told = False
    look_at_tasks = 0.0
    while True:
        up = len([n for n in head.nodes() if n["Alive"] and n["NodeName"].startswith("spark-")])
        if up >= least:
            return
        if job.ended:
            raise RuntimeError(f"The cluster on Spark did not start: {job.failure or 'it ended'}")
        now = time.monotonic()
        if now >= look_at_tasks:
            look_at_tasks = now + 0.1
            for failure in job.task_failures():
                if not is_executor_loss(failure):
                    text = short_error(failure)
                    raise RuntimeError(f"The cluster on Spark did not start: {text}")
        if now - began > timeout_s:
            raise RuntimeError(
                f"The cluster on Spark did not start: {up} of {nodes} nodes registered within "
                f"{timeout_s:g} s. The others found no free Spark slot, or cannot reach the head, "
                f"{head.address}."
            )
        if not told and now - began > SLOW_START_S:
            told = True
            say(f"waiting: {up} of {nodes} nodes are up; the others wait for free Spark slots, or "
                "for Spark to start Python on its executors")  # fmt: skip
        time.sleep(POLL_S)


def _stop(head: Head, job: NodeJob) -> None:
    """The head goes first and takes the nodes along; what stays behind is cancelled."""
    job.expect_end()
    job.forget_address()
    head.stop()
    if job.wait_end(DRAIN_S):
        return
    try:
        job.cancel()
    except Exception as error:  # Spark itself is gone: so are its tasks
        say(f"cannot cancel the node tasks: {type(error).__name__}")
        return
    if not job.wait_end(CANCEL_S):
        say(f"node tasks of {job.group} are still running; Spark was asked to cancel them")
