"""init_spark() and stop_spark(): Spark whose Master and Workers are actors of a Skate cluster.

One at a time in a process, as a process has one SparkContext. Whatever ends the driver, the actors
end with its job, their JVMs with them, and janitors remove the files.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from skate.util.spark import _hosted_actors, _hosted_jvm, _hosted_plan
from skate.util.spark._head import say
from skate.util.spark._hosted_plan import Order
from skate.util.spark._janitor import Janitor

FIRST_WORD_S = 3.0  # a wait for resources that is longer is explained
NEXT_WORD_S = 60.0
END_S = 5.0  # for the actors to end their JVMs, until they are killed

_lock = threading.RLock()
_active: Hosted | None = None
_registered = False


def init_spark(
    app_name: str,
    num_executors: int,
    executor_cores: int,
    executor_memory: str | int,
    enable_hive: bool = False,
    fault_tolerant_mode: bool = True,
    placement_group_strategy: str | None = None,
    placement_group: Any = None,
    placement_group_bundle_indexes: list[int] | None = None,
    configs: Mapping[str, Any] | None = None,
) -> Any:
    """A SparkSession whose executors run on the nodes of this cluster, each in an actor.

    executor_memory: "1g", "500M", or bytes. fault_tolerant_mode: what is lost is replaced.
    placement_group_strategy: how executors are spread over the nodes, "SPREAD" unless told; or
    placement_group, with the bundles to use: that group stays when Spark stops. configs: settings
    of Spark. init() is called when it was not yet. See docs/spark/spark_on_skate.md.

    TypeError, ValueError: an argument. RuntimeError: a second session, no Java, no pyspark, no
    room, or Spark did not start; the text says what to do.
    """
    global _active, _registered
    if placement_group is not None and not hasattr(placement_group, "bundle_specs"):
        raise TypeError(f"placement_group must be a placement group, not {placement_group!r}")
    with _lock:
        _refuse_second()
        # The parts of the order that can be checked without a cluster come before init().
        wanted = _hosted_plan.order(
            app_name, num_executors, executor_cores, executor_memory, enable_hive=enable_hive,
            fault_tolerant_mode=fault_tolerant_mode, strategy=placement_group_strategy,
            group=placement_group, indexes=placement_group_bundle_indexes, configs=configs,
        )  # fmt: skip
        spark = _hosted_jvm.find(os.environ)
        _join()
        for note in wanted.notes:
            say(note)
        made = Hosted(wanted, spark)
        try:
            made.start()
        except BaseException:
            made.stop(True)
            raise
        _active = made
        if not _registered:
            import atexit

            atexit.register(_at_exit)
            _registered = True
        return made.session


def stop_spark(cleanup_data: bool = True) -> None:
    """End the session of init_spark(), its processes and its placement group.

    Refs and datasets stay. cleanup_data: names that were published, and what from_refs() laid down
    for DataFrames, are forgotten; False: they stay for the next session. Without a session it
    does nothing.
    """
    global _active
    with _lock:
        made, _active = _active, None
        if made is not None:
            made.stop(cleanup_data)


def _at_exit() -> None:
    if _active is not None and _active.pid == os.getpid():
        stop_spark()


def _refuse_second() -> None:
    from skate import _core

    if _active is not None:
        if _active.pid == os.getpid() and _active.epoch == _core.epoch():
            raise RuntimeError(
                "The spark environment has inited: there is one session of init_spark() at a time. "
                "Use SparkSession.getActiveSession(), or call stop_spark() before."
            )
        stop_spark()  # its cluster is gone
    pyspark = sys.modules.get("pyspark")
    if pyspark is not None and pyspark.SparkContext._active_spark_context is not None:
        raise RuntimeError(
            "This process has a SparkSession that init_spark() did not make, and Spark allows one "
            "in a process: call its stop() before."
        )


def _join() -> None:
    import skate
    from skate import _api

    if not skate.is_initialized():
        skate.init()
    node = _api._session.node
    if node is not None and getattr(node, "is_outpost", False):
        from skate._absent import refuse

        refuse(
            "init_spark() in a driver without a node on its machine",
            "run the driver on a node of the cluster; Spark's executors call it back",
        )


class Hosted:
    """One session of Spark on Skate, and all that belongs to it. Used under _lock."""

    def __init__(self, wanted: Order, spark: _hosted_jvm.Installation) -> None:
        from skate import _api, _core, _node

        self.pid = os.getpid()
        self.epoch = _core.epoch()
        self.session: Any = None
        self.wanted = wanted
        self._spark = spark
        self._here = _hosted_actors.here()
        self.folder = os.path.join(_node.base_dir(), f"spark_{secrets.token_hex(4)}")
        others = _hosted_actors.local_dirs(dict(wanted.conf), self.folder)
        self._janitor = Janitor("", self.folder, *others, patience_s=2.0)
        os.makedirs(os.path.join(self.folder, "master"), mode=0o700)
        self.group = wanted.group
        self.workers: list[Any] = []
        self.master: Any = None
        self.shared = _hosted_actors.Shared(
            self.folder,
            _hosted_plan.session_conf(wanted, self._here.ip, _free_port(wanted, self._here.ip)),
            spark.version,
            _api.info()["gcs_address"],
            wanted.tolerant,
            secrets.token_hex(32),
        )

    # ------------------------------------------------------------------------------- start

    def start(self) -> None:
        """Actors, then the session. RuntimeError with what went wrong."""
        import skate
        from skate import _api
        from skate.util.spark import _driver_job

        self._start_master()
        if self.group is None:
            self.group = place(self.wanted, self._keep_group)
        self._start_workers()
        try:
            url = skate.get(self.master.url.remote())
            skate.get([worker.ready.remote() for worker in self.workers])
        except Exception as error:
            raise RuntimeError(f"Spark did not start: {_text(error)}") from None
        self.session = self._open(url)
        # UDFs find the driver's job by the name of the application, which is known from now on.
        _driver_job.announce(_api.info()["job"], self.shared.address)

    def _start_master(self) -> None:
        import skate
        from skate.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        own = skate.get_runtime_context().get_node_id()
        where = NodeAffinitySchedulingStrategy(own, soft=False)  # where its folder is
        options = _options(self.wanted.master_holds, self.wanted.tolerant)
        actor = skate.remote(_hosted_actors.SparkMaster).options(
            **options, scheduling_strategy=where
        )
        self.master = actor.remote(self.shared, self.folder)

    def _keep_group(self, group: Any) -> None:
        self.group = group  # stop() removes it, also when the wait for it is interrupted

    def _start_workers(self) -> None:
        import skate
        from skate.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        wanted = self.wanted
        options = _options(wanted.executor_holds, wanted.tolerant)
        bundles = wanted.bundles or range(wanted.executors)
        for number, index in enumerate(bundles):
            actor = skate.remote(_hosted_actors.SparkWorker).options(
                **options,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    self.group, placement_group_bundle_index=index
                ),
            )
            self.workers.append(
                actor.remote(self.shared, self.master, number, wanted.cores, wanted.memory_mb)
            )

    def _open(self, url: str) -> Any:
        """The SparkSession; a JVM of an earlier one would have the earlier settings."""
        from skate.util.spark._local import _end_gateway

        _end_gateway()
        wanted = {
            "SPARK_LOCAL_IP": self._here.ip,
            "PYSPARK_PYTHON": os.environ.get("PYSPARK_PYTHON")
            or self.wanted.conf.get("spark.pyspark.python", sys.executable),
        }
        with _variables(wanted):
            from pyspark import SparkConf, SparkContext
            from pyspark.sql import SparkSession

            settings = {"spark.app.name": self.wanted.app_name, "spark.master": url,
                        **self.shared.conf}  # fmt: skip
            # The JVM's arguments are what is known now; the secret is told to it afterwards.
            SparkContext._ensure_initialized(conf=SparkConf().setAll(list(settings.items())))
            builder = SparkSession.builder
            for name, value in settings.items():
                builder = builder.config(name, value)
            builder = builder.config("spark.authenticate.secret", self.shared.secret)
            if self.wanted.hive:
                builder = builder.enableHiveSupport()
            return builder.getOrCreate()

    # -------------------------------------------------------------------------------- stop

    def stop(self, cleanup_data: bool) -> None:
        """End all that start() began, as far as it came. Raises nothing."""
        with contextlib.suppress(Exception):  # Spark's driver may be gone
            if self.session is not None:
                self.session.stop()
        with contextlib.suppress(Exception):
            _end_gateway_of(self.session)
        with contextlib.suppress(Exception):  # or the cluster
            self._end_actors(cleanup_data)
        self._janitor.clean()

    def _end_actors(self, cleanup_data: bool) -> None:
        import skate
        from skate import _core
        from skate.util.placement_group import remove_placement_group
        from skate.util.spark import _exchange

        if not self.epoch or _core.epoch() != self.epoch:
            return
        actors = [*self.workers, *([self.master] if self.master is not None else [])]
        skate.wait([actor.stop.remote() for actor in actors] or [skate.put(0)],
                   num_returns=max(1, len(actors)), timeout=END_S)  # fmt: skip
        for actor in actors:
            skate.kill(actor)
        self.workers, self.master = [], None
        if self.group is not None and self.wanted.group is None:
            remove_placement_group(self.group)
        if cleanup_data:
            _exchange.forget_all()


def place(
    wanted: Order, keep: Callable[[Any], None], first_s: float = FIRST_WORD_S
) -> Any:
    """The placement group, when it is there: it waits as Ray does, however long, and says for what.

    keep: is given the group before the wait. RuntimeError: the nodes can never hold it.
    """
    from skate.util import placement_group as groups

    bundle = dict(wanted.executor_holds)
    fit = _room(wanted, "total")
    if fit < wanted.executors:
        raise RuntimeError(f"init_spark(): {_hosted_plan.no_room(wanted, fit)}")
    group = groups.placement_group([bundle] * wanted.executors, wanted.strategy)
    keep(group)
    patience = first_s
    while not group.wait(patience):
        free = _room(wanted, "available")
        say(_hosted_plan.waiting(wanted, free, _holders(group.id.hex(), bundle)))
        patience = NEXT_WORD_S
    return group


def _room(wanted: Order, field: str) -> int:
    """For how many executors the nodes have room: in "total", or in what is "available" now."""
    from skate import _api, _wire

    rows = [row for row in _api._node_rows() if row["state"] == 1 and not row["outpost"]]
    amounts = [_wire.unpack_resources(row[field]) for row in rows]
    return _hosted_plan.room(amounts, wanted.executor_holds, wanted.strategy)


def _options(holds: Mapping[str, float], tolerant: bool) -> dict[str, Any]:
    """Options of an actor that holds these resources."""
    others = {name: amount for name, amount in holds.items() if name not in _KNOWN}
    options = {_KNOWN[name]: amount for name, amount in holds.items() if name in _KNOWN}
    restarts = -1 if tolerant else 0
    return {"num_cpus": 0, **options, **({"resources": others} if others else {}),
            "max_restarts": restarts, "max_task_retries": restarts,
            "max_concurrency": 64}  # fmt: skip


_KNOWN = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}


def _holders(own: str, bundle: Mapping[str, float]) -> list[str]:
    """Who holds what the bundle is of: placement groups, actors outside of them, or tasks."""
    from skate.util.placement_group import placement_group_table
    from skate.util.state import list_actors

    found = []
    for number, row in placement_group_table().items():
        if number != own and row["state"] == "CREATED":
            held: dict[str, float] = {}
            for resources in row["bundles"].values():
                for name, amount in resources.items():
                    held[name] = held.get(name, 0.0) + amount
            found.append(f"placement group {row['name'] or number[:8]}: {_hosted_plan.words(held)}")
    for actor in list_actors(detail=True):
        holds = actor.required_resources or {}
        if actor.state == "ALIVE" and not actor.placement_group_id and set(holds) & set(bundle):
            name = f"actor {actor.name or actor.class_name}"
            found.append(f"{name}: {_hosted_plan.words(holds)}")
    if len(found) > 8:
        found[8:] = [f"{len(found) - 8} more"]
    return found or ["running tasks"]


def _text(error: BaseException) -> str:
    """The text of an actor's error without the traceback inside the actor."""
    cause = getattr(error, "cause", None)
    return str(error if cause is None else cause)


def _end_gateway_of(session: Any) -> None:
    from skate.util.spark._local import _end_gateway

    if session is not None:
        _end_gateway()


def _free_port(wanted: Order, ip: str) -> int:
    """For Workers that serve shuffle files; the same on each machine. 0: it is not needed."""
    if not wanted.shuffle_service or "spark.shuffle.service.port" in wanted.conf:
        return 0
    with socket.socket() as probe:
        probe.bind((ip, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _variables(wanted: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the time being."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
