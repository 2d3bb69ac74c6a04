"""setup_ray_cluster() and shutdown_ray_cluster(): a Skate cluster inside a Spark application.

Set-up: check the arguments and Spark's settings; start the head (GCS and a raylet without CPUs
unless asked) as children of this process, bound to the interface of spark.driver.host; submit one
Spark job with a task for each node; wait until the nodes are registered at the head, or a task
failed, whichever is first. Every daemon says itself when it serves; which nodes are registered the
head is asked again and again, POLL_S apart. A set-up that fails leaves nothing behind.

Shutdown: the nodes are told to end, then the GCS goes, so the Spark tasks end normally and their
slots are free at once. Only what is left after 5 s is cancelled. If this process dies instead, the
head ends by its lifeline, and so do the nodes.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from skate._init_config import FORWARD
from skate.util.spark import _away_head, _budget, _global, _gpu, _guards, _hook, _read_logs, _slots
from skate.util.spark._attach import carried_pair
from skate.util.spark._connect import Place
from skate.util.spark._executor import ADDRESS
from skate.util.spark._fleet import Fleet
from skate.util.spark._head import Head, say
from skate.util.spark._job import is_executor_loss
from skate.util.spark._job import run_once as run_somewhere
from skate.util.spark._plan import MAX_NUM_WORKER_NODES, NodeShape, Plan, check_limits, make_plan
from skate.util.spark._scale import Limits, Scaler
from skate.util.spark._task import NUMBER_LABEL, NodeSettings, log_folder
from skate.util.spark._watch import Watch

DRAIN_S = 5.0  # from the stop of the head to cancelling what is left
QUEUED_S = 0.5  # the same when some tasks have not even started
CANCEL_S = 10.0
SLOW_START_S = 4.0  # after so long, say what set-up waits for
POLL_S = 0.02

_lock = threading.RLock()
_active: RayClusterOnSpark | None = None
_global_ray_cluster_cancel_event: threading.Event | None = None  # as named in Ray


class RayClusterOnSpark(tuple[str, str]):
    """What setup_ray_cluster() returns: the pair (address, client address), and the handle.

    Pickles as the plain pair, so that it may stand in the closure of a UDF; by it attach() there
    finds the job of this program.
    """

    _head: Head
    _fleet: Fleet
    _watch: Watch | None
    _scaler: Scaler | None
    _claim: _global.Claim | None
    _shape: dict[str, Any]
    _context: Any
    _limits: Limits
    is_shutdown: bool
    start_hook: _hook.RayOnSparkStartHook
    min_worker_nodes: int
    max_worker_nodes: int
    temp_dir: str
    cluster_unique_id: str
    ray_dashboard_port: None

    def __new__(cls, head: Head, session: str, hook: _hook.RayOnSparkStartHook) -> Any:
        self = super().__new__(cls, (head.address, f"ray://{head.address}"))
        self._head, self.start_hook = head, hook
        self._watch, self._scaler, self._claim = None, None, None
        self.is_shutdown = False
        self.temp_dir, self.cluster_unique_id = head.session_dir, session
        self.min_worker_nodes = self.max_worker_nodes = 0
        self.ray_dashboard_port = None
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        from skate import _api, _core

        mine = _core.epoch() and _api.info()["gcs_address"] == self.address
        return carried_pair, (tuple(self), _api.info()["job"] if mine else 0)

    @property
    def address(self) -> str:
        """ip:port of the head."""
        return str(self[0])

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that the head knows, as skate.nodes() tells them; the head is one of them.
        RuntimeError after shutdown."""
        self._must_live()
        with _lock:
            try:
                return self._head.nodes()
            finally:
                self._head.release()

    def logs(self, node: Any, *, tail: int | None = 100) -> dict[str, str]:
        """The logs of one node: name of the file -> its last `tail` lines (None: all). Of a node
        that has ended: what its raylet had complained of, and how it ended.

        node: its NodeID (or the beginning), its NodeName, its number, or its row of nodes(). Uses
        the session of this process, or one that ends with this call. ValueError: no such node.
        """
        import skate

        if tail is not None and (isinstance(tail, bool) or not isinstance(tail, int) or tail < 0):
            raise ValueError(f"tail is a number of lines >= 0, or None for all, not {tail!r}")
        self._must_live()
        row = _read_logs.pick(self.nodes(), node)
        with _lock:
            if not row["Alive"]:
                try:
                    return _read_logs.of_ended(row, self._head.said(row["NodeID"]), tail)
                finally:
                    self._head.release()
            if skate.is_initialized():
                return _read_logs.of_node(row, tail)
            with skate.init(self.address, log_to_driver=False):
                return _read_logs.of_node(row, tail)

    def scale(self, min: int, max: int) -> None:
        """From now on between `min` and `max` nodes: so many as there is work for.

        Nodes beyond `max`, and those beyond `min` that are idle for autoscale_idle_timeout_minutes
        end when they have no task, actor or needed object. Returns at once. ValueError for numbers
        that cannot be meant, RuntimeError after shutdown.
        """
        check_limits(min, max)
        with _lock:
            self._must_live()
            self.min_worker_nodes, self.max_worker_nodes = min, max
            self._limits = dataclasses.replace(self._limits, min=min, max=max)
            if self._scaler is None or not self._scaler.is_alive:
                self._scaler = _start_scaler(self)
            else:
                self._scaler.limit(self._limits)

    def connect(self) -> Any:
        """init() with the address of this cluster."""
        import skate

        if skate.is_initialized():
            raise RuntimeError("This process is connected to a cluster already.")
        return skate.init(self.address)

    def disconnect(self) -> None:
        """End this process's session, if there is one."""
        import skate

        skate.shutdown()

    def wait_until_ready(self) -> None:
        """Returns at once: set-up returns only when the nodes are up."""
        self._must_live()

    def _must_live(self) -> None:
        if self.is_shutdown:
            raise RuntimeError("The cluster on Spark has been shut down, or did not start.")

    def shutdown(self) -> None:
        """The same as shutdown_ray_cluster(), but quiet when that was done already."""
        global _active
        with _lock:
            if self.is_shutdown:
                return
            self.is_shutdown = True
            if _active is self:
                _active = None
            self._end()

    def _end(self) -> None:
        """All of it, whatever becomes of the parts: the last one noted is done first."""
        with contextlib.ExitStack() as left:
            if _global_ray_cluster_cancel_event is not None:
                left.callback(_global_ray_cluster_cancel_event.set)
            if self._claim is not None:
                left.callback(self._claim.release)
            left.callback(_stop, self._head, self._fleet)
            if self._scaler is not None:
                left.callback(self._scaler.stop)
            if self._watch is not None:
                left.callback(self._watch.stop)
            left.callback(self._leave)

    def _leave(self) -> None:
        """This process's session, and what names the cluster here and in Spark."""
        import skate

        if skate.is_initialized() and self._head.is_mine():
            skate.shutdown()
        if os.environ.get("RAY_ADDRESS") == self.address:
            os.environ.pop("RAY_ADDRESS", None)
        os.environ.pop(FORWARD, None)
        with contextlib.suppress(Exception):  # a Spark that was stopped: py4j raises what it likes
            self._context.setLocalProperty(ADDRESS, None)

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
    mode: str = "exclusive",
    wait: str = "min",
    forward_env: list[str] | None = None,
    tls: str = "off",
    head: str = "driver",
    start_timeout_s: float = 60.0,
    idle_shutdown_minutes: float = 0,
    **kwargs: Any,
) -> RayClusterOnSpark:
    """Start a cluster in the active Spark application; returns (address, client address).

    A node is a Spark task that holds `num_cpus_worker_node` cores of an executor until
    shutdown_ray_cluster(); without it, all cores of an executor. `max_worker_nodes` may be
    MAX_NUM_WORKER_NODES: as many nodes as Spark can run at once. With `min_worker_nodes` below it,
    nodes come and go with the work. The environment variable RAY_ADDRESS of this process is set, so
    that a plain init() connects. The other arguments are described in docs/spark/nodes.md.

    ValueError: an argument that cannot be meant. RuntimeError: no Spark session, a cluster is
    there already, or the nodes did not start; the text says why and what to change.
    """
    arguments = dict(locals())
    extra = arguments.pop("kwargs")
    return _setup(make_plan(arguments, extra, os.environ))


def setup_global_ray_cluster(
    *,
    max_worker_nodes: int,
    is_blocking: bool = True,
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
    strict_mode: bool = False,
    collect_log_to_path: str | None = None,
    autoscale_upscaling_speed: float | None = 1.0,
    autoscale_idle_timeout_minutes: float | None = 1.0,
    mode: str = "exclusive",
    wait: str = "min",
    tls: str = "off",
    start_timeout_s: float = 60.0,
) -> RayClusterOnSpark | None:
    """The same for everybody on this machine: init() without an address joins it, in any program
    of this user. There is one at a time.

    With is_blocking this call waits until it is interrupted, or the cluster is shut down by another
    thread, and ends the cluster then; without, it returns what setup_ray_cluster() returns. The
    head offers all CPUs and GPUs of this machine unless told otherwise, and nobody's idleness ends
    the cluster. ValueError: there is one already; and what setup_ray_cluster() raises.
    """
    arguments = {**locals(), "ray_temp_root_dir": None, "forward_env": None,
                 "idle_shutdown_minutes": 0}  # fmt: skip
    arguments.pop("is_blocking")
    cluster = _setup(make_plan(arguments, {}, os.environ, is_global=True))
    if not is_blocking:
        return cluster
    _serve_until_told(cluster)
    return None


def _serve_until_told(cluster: RayClusterOnSpark) -> None:
    global _global_ray_cluster_cancel_event
    _global_ray_cluster_cancel_event = event = threading.Event()
    try:
        if not cluster.is_shutdown:
            event.wait()
    finally:
        _global_ray_cluster_cancel_event = None
        cluster.shutdown()
        atexit.unregister(cluster.shutdown)


def shutdown_ray_cluster() -> None:
    """End the cluster that setup_ray_cluster() started: its nodes, its head, its files."""
    with _lock:
        if _active is None:
            raise RuntimeError("There is no active cluster on Spark to shut down.")
        cluster = _active
        cluster.shutdown()
        atexit.unregister(cluster.shutdown)


def _setup(plan: Plan) -> RayClusterOnSpark:
    global _active
    import skate

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
        context = _slots.active_context()
        hook = _hook.make(plan.is_global)
        if plan.temp_root is None and not plan.is_global:
            plan = dataclasses.replace(plan, temp_root=_hook.temp_root(hook))
        claim = _global.Claim() if plan.is_global else None
        with contextlib.ExitStack() as undo:
            if claim is not None:
                undo.callback(claim.release)
            cluster = _launch(plan, context, hook)
            undo.callback(cluster.shutdown)
            if claim is not None:
                claim.record(cluster.address)
                cluster._claim = claim
            if plan.forward:
                os.environ[FORWARD] = ",".join(plan.forward)
            _active = cluster
            atexit.register(cluster.shutdown)
            undo.pop_all()
    return cluster


def _launch(plan: Plan, context: Any, hook: _hook.RayOnSparkStartHook) -> RayClusterOnSpark:
    began = time.monotonic()
    conf = _slots.settings(context)
    if plan.missed:
        say(f"options without a meaning here, ignored: {', '.join(plan.missed)}")
    for trouble in _guards.of_settings(conf):
        if trouble.fatal:
            raise RuntimeError(trouble.text)
        say(trouble.text)
    nodes_wanted = 0 if plan.max_nodes == MAX_NUM_WORKER_NODES else plan.max_nodes
    patience = min(_slots.EXECUTORS_TIMEOUT_S, plan.start_timeout_s)
    found = _slots.wait_executors(context, nodes_wanted, say, patience)
    grant, nodes = _size(plan, context, found, conf)
    profile = _slots.profile(context, grant.task_cpus, grant.gpus)
    _check_size(plan, grant)

    limits = _limits_of(plan, grant, plan.first_nodes(nodes), nodes)

    key, session = secrets.token_hex(32), secrets.token_hex(4)
    env = _hook.variables(hook)
    head_env = {**env, "SKATE_WORKER_NICENESS": str(plan.niceness)} if plan.niceness else env
    before = os.environ.get("RAY_ADDRESS")
    with contextlib.ExitStack() as undo:
        if before is not None:
            undo.callback(os.environ.__setitem__, "RAY_ADDRESS", before)
        head = _start_head(plan, context, key, session, head_env)
        not_yet = undo.enter_context(contextlib.ExitStack())
        not_yet.callback(head.stop)
        settings = dataclasses.replace(_settings(plan, grant, head, key, session), environment=env)
        cluster: RayClusterOnSpark = RayClusterOnSpark(head, session, hook)
        cluster._context, cluster._limits = context, limits
        cluster.min_worker_nodes, cluster.max_worker_nodes = limits.min, limits.max
        cluster._fleet = Fleet(context, settings, profile, say, hook.on_spark_job_created)
        undo.callback(cluster.shutdown)  # from here on the head's end, too
        not_yet.pop_all()
        up = _start_nodes(cluster, plan)
        # Spark Connect tells nobody what waits: there the head alone is watched.
        watched = None if isinstance(context, Place) else context
        cluster._watch = Watch(watched, cluster._fleet, grant.task_cpus, up == nodes,
                               lambda: _look_after(cluster))  # fmt: skip
        if plan.is_elastic or plan.idle_shutdown_s:
            cluster._scaler = _start_scaler(cluster)
        _tell_start(cluster, grant, found, up, time.monotonic() - began)
        cluster._watch.start()
        undo.pop_all()
    return cluster


def _start_head(plan: Plan, context: Any, key: str, session: str, env: dict[str, str]) -> Head:
    """Where the caller wants it."""
    from skate import _core

    def run_once(function: Callable[[], Any]) -> Any:
        return run_somewhere(context, session, function, plan.start_timeout_s)

    logs_to = log_folder(plan.logs_to, session, "head") if plan.logs_to else None
    ip = _driver_ip(context)
    settings = _away_head.HeadSettings(key, plan, ip, _core.version, logs_to, env)
    place = "driver" if _slots.is_local(context) and plan.head_at == "auto" else plan.head_at
    head = _away_head.start(place, settings, ip, run_once)
    if not isinstance(head, _away_head.AwayHead):
        head.logs_to = logs_to or ""
    elif _slots.can_grow(_slots.settings(context)):
        say("the head of the cluster runs on an executor, and holds no slot there: dynamic "
            "allocation may end that executor when it is idle, and the cluster with it. Set "
            "spark.dynamicAllocation.minExecutors to all that are there.")  # fmt: skip
    return head


def _start_nodes(cluster: RayClusterOnSpark, plan: Plan) -> int:
    """The first ones, until as many are up as the caller wants to wait for; how many are."""
    head, fleet, first = cluster._head, cluster._fleet, cluster._limits.min
    os.environ["RAY_ADDRESS"] = head.address
    cluster.start_hook.on_cluster_created(cluster)
    fleet.start(first)
    up = _wait_ready(cluster, plan.awaited(first), first, plan.start_timeout_s)
    cluster._context.setLocalProperty(ADDRESS, head.address)
    fleet.mark_ready()
    if plan.node.object_store_memory is None:
        small = _guards.small_stores(head.nodes(), _budget.LEAST_STORE)
        if small:
            say(small)
    head.release()
    return up


def _tell_start(
    cluster: RayClusterOnSpark, grant: Grant, found: list[_slots.Executor], up: int, seconds: float
) -> None:
    task_cpus = _slots.task_cpus(cluster._context)
    free = _slots.slots(found, task_cpus) - cluster._fleet.held * -(-grant.task_cpus // task_cpus)
    if free <= 0:
        say(
            f"the {cluster._fleet.held} nodes hold all task slots of this Spark application: its "
            "other Spark jobs wait until shutdown_ray_cluster(). To run both, ask for fewer or "
            "smaller nodes."
        )
    nodes = "1 node" if up == 1 else f"{up} nodes"
    of = "" if up == cluster.max_worker_nodes else f" (of up to {cluster.max_worker_nodes})"
    say(f"{nodes}{of} of {grant.cpus} CPUs at {cluster.address} in {seconds:.1f} s; "
        f"{max(free, 0)} task slots left to Spark")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Grant:
    """What a node's task asks Spark for, and what its node offers."""

    task_cpus: int
    cpus: int
    gpus: int
    executor: _budget.ExecutorShape
    offered_gpus: int | None  # of those granted; None: all


def _size(
    plan: Plan, context: Any, found: list[_slots.Executor], conf: dict[str, str]
) -> tuple[Grant, int]:
    """What each node gets, and the number of nodes."""
    largest = max((executor.cores for executor in found), default=0)
    smallest = min((executor.cores for executor in found), default=0)
    local = _slots.is_local(context)
    cpus = plan.node.cpus
    told = conf.get("spark.executorEnv." + _budget.CPU_CORES)
    if cpus is None and told and not local:
        cpus = _budget.override({_budget.CPU_CORES: told}, _budget.CPU_CORES)
    if cpus is None and not found and not local:  # none before the first task asks for one
        cpus = max(int(conf.get("spark.executor.cores", "0")), _slots.task_cpus(context))
    elif cpus is None and local and plan.mode != "shared":
        cpus = _slots.task_cpus(context)
    elif cpus is None:
        cpus = smallest
    if found and cpus > largest:
        raise ValueError(
            f"num_cpus_worker_node={cpus}, but the largest Spark executor has {largest} cores: no "
            "node could ever start. Ask for at most as many, or for larger executors "
            "(spark.executor.cores)."
        )
    task_cpus = cpus if plan.mode == "exclusive" else _slots.task_cpus(context)
    gpus = 0 if local else _gpu.wanted(conf, plan.node.gpus, plan.node.cpus is not None)
    executor = _budget.executor_shape(conf, smallest or cpus, local, context.master)
    grant = Grant(task_cpus, cpus, gpus, executor, _gpu.offered(conf, gpus))
    fit = _slots.slots(found, task_cpus, gpus, _gpu.of_executor(conf))
    if plan.max_nodes == MAX_NUM_WORKER_NODES:
        if fit == 0:
            raise RuntimeError(
                "MAX_NUM_WORKER_NODES would be 0 nodes: Spark has no executor yet, or none with "
                f"{task_cpus} cores and {gpus} GPUs."
            )
        return grant, fit
    short = _guards.too_few_slots(plan.first_nodes(plan.max_nodes), fit, task_cpus,
                                  _slots.can_grow(conf))  # fmt: skip
    if short:
        say(short)
    return grant, plan.max_nodes


def _check_size(plan: Plan, grant: Grant) -> None:
    """strict_mode: refuse nodes smaller than Ray recommends. Smaller ones are fine here."""
    if plan.strict and grant.cpus < 4:
        raise ValueError(
            f"strict_mode: a node would have {grant.cpus} CPUs; at least 4 are recommended. Set "
            "num_cpus_worker_node, or strict_mode=False."
        )


def _settings(plan: Plan, grant: Grant, head: Head, key: str, session: str) -> NodeSettings:
    from skate import _core

    node: NodeShape = plan.node
    return NodeSettings(
        key=key,
        gcs=head.address,
        session=session,
        cpus=grant.cpus,
        gpus=grant.offered_gpus,
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
        niceness=plan.niceness,
        shared=plan.mode == "shared",
        executor=grant.executor,
        version=_core.version,
        name=node.name or "spark",
        port=node.port,
        tls=plan.tls,
    )


def _limits_of(plan: Plan, grant: Grant, least: int, most: int) -> Limits:
    """What the scaler takes for one node; its memory as if the executors had machines like this."""
    guess = _budget.plan(_budget.measure(os.environ), grant.cpus, grant.executor,
                         plan.node.memory, plan.node.object_store_memory)  # fmt: skip
    resources = {"CPU": grant.cpus, "GPU": grant.gpus, "memory": guess.memory,
                 "object_store_memory": guess.store, **plan.node.resources}  # fmt: skip
    return Limits(
        min=least, max=most, resources={k: float(v) for k, v in resources.items()},
        labels=plan.node.labels, idle_s=plan.idle_timeout_s, speed=plan.upscaling_speed,
        lent=float(grant.cpus - grant.task_cpus), patience_s=plan.start_timeout_s,
        stop_s=plan.idle_shutdown_s,
    )  # fmt: skip


def _start_scaler(cluster: RayClusterOnSpark) -> Scaler:
    def why_late(up: int, held: int) -> str:
        return _why_waiting(cluster, up, held)

    def on_idle() -> None:
        say(f"no program was connected for {cluster._limits.stop_s / 60:g} minutes: the cluster is "
            "shut down (idle_shutdown_minutes)")  # fmt: skip
        cluster.shutdown()
        atexit.unregister(cluster.shutdown)

    return Scaler(cluster.address, cluster._fleet, cluster._limits, why_late, on_idle)


def _why_waiting(cluster: RayClusterOnSpark, up: int, held: int) -> str:
    others = _slots.other_jobs(cluster._context, cluster._fleet.groups)
    return _guards.why_waiting(up, held, others)


def _driver_ip(context: Any) -> str:
    """The address that executors reach this driver by: the interface Spark itself is bound to."""
    if isinstance(context, Place):
        return context.connect_ip()
    host = context.getConf().get("spark.driver.host", "127.0.0.1")
    try:
        return socket.gethostbyname(host)
    except OSError:
        raise RuntimeError(f"spark.driver.host is {host!r}, which has no IPv4 address") from None


def _look_after(cluster: RayClusterOnSpark) -> None:
    """In the watching thread, again and again: what has become of the head?"""
    if not _lock.acquire(blocking=False):
        return  # it is used, or shut down, just now
    try:
        if cluster.is_shutdown or cluster._fleet.is_stopping or cluster._fleet.ended:
            return
        for how in cluster._head.mend():
            gone = "" if "skate-gcs" in how else (
                "; programs beside the driver that were connected to it, this one too, call "
                "shutdown() and init() again"
            )  # fmt: skip
            say(f"the head's {how}. It was started again{gone}.")
    except Exception as error:  # it cannot be started: a port that is taken, no memory
        say(f"the head of the cluster is gone, and all nodes with it: {error}. Call "
            "shutdown_ray_cluster(), then set it up again.")  # fmt: skip
        cluster._fleet.expect_end()
        cluster._fleet.cancel()
    finally:
        _lock.release()


def _end_nodes(head: Head) -> int:
    """Tell all nodes of Spark to end; how many there were, 0 when there is no head to say it."""
    try:
        head.mend()
        return head.end_nodes()
    except Exception as error:  # whatever a head that is on its way out makes of a call
        say(f"the nodes cannot be told to end: {type(error).__name__}")
        return 0


def _wait_ready(cluster: RayClusterOnSpark, least: int, nodes: int, timeout_s: float) -> int:
    """Until `least` nodes are registered; how many are. When some are missing after the time they
    are left to come later. Raises with the task's own words as soon as one fails."""
    fleet = cluster._fleet
    began = time.monotonic()
    told = False
    look_at_tasks = 0.0
    while True:
        up = len([n for n in cluster._head.nodes() if n["Alive"] and NUMBER_LABEL in n["Labels"]])
        if up >= least:
            return up
        if fleet.ended:
            raise RuntimeError(f"The cluster on Spark did not start: {fleet.failure or 'it ended'}")
        now = time.monotonic()
        if now >= look_at_tasks:
            look_at_tasks = now + 0.1
            for failure in fleet.task_failures():
                if not is_executor_loss(failure):
                    text = fleet.explained(failure)
                    raise RuntimeError(f"The cluster on Spark did not start: {text}")
        if now - began > timeout_s:
            reason = _why_waiting(cluster, up, nodes).removeprefix("waiting: ")
            if up == 0:
                raise RuntimeError(
                    f"The cluster on Spark did not start: within {timeout_s:g} s {reason}. If "
                    f"there are free slots, the nodes cannot reach the head, {cluster.address}."
                )
            say(f"going on without waiting any longer: {reason}")
            return up
        if not told and now - began > SLOW_START_S:
            told = True
            say(_why_waiting(cluster, up, nodes))
        time.sleep(POLL_S)


def _stop(head: Head, fleet: Fleet) -> None:
    """The nodes are told to end, then the head goes; what stays behind is cancelled. Tasks that
    still wait for a slot never hear of it: these are cancelled soon."""
    try:
        try:
            fleet.expect_end()
            queued = not fleet.ended and _end_nodes(head) < fleet.held
        finally:
            head.stop()
        if fleet.wait_end(QUEUED_S if queued else DRAIN_S):
            return
    except BaseException:  # Ctrl-C: waited for no longer, but not left alone
        _cancel(fleet)
        raise
    if _cancel(fleet) and not fleet.wait_end(CANCEL_S):
        say(f"node tasks of {', '.join(fleet.groups)} are still running; Spark was asked to "
            "cancel them")  # fmt: skip


def _cancel(fleet: Fleet) -> bool:
    """Was Spark asked to cancel the tasks of the nodes?"""
    try:
        fleet.cancel()
    except Exception as error:  # Spark itself is gone: so are its tasks
        say(f"cannot cancel the node tasks: {type(error).__name__}")
        return False
    return True
