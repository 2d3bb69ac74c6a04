"""Being a member of a job that another program has started: skate.util.spark.attach().

A member is a program that was not forked by the node (a UDF in Spark's Python worker). It is in the
driver's job: it shares the job's workers, namespace and runtime environment, resolves its refs and
actor handles, and what it made and others hold goes to the driver when it ends. When the job ends
the member is cut off; it may join another one then.
"""

from __future__ import annotations

import os
import sys
import time

from skate import _api, _core, _wire

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

_EAGAIN = -4
_NEWS_S = 2.0  # how long the news of a job may take to this node
_ANSWER_S = 30.0


def is_member() -> bool:
    """Is this process in a job that another program has started (and no worker of it)?"""
    info = _api.info()
    return bool(info["is_driver"] and info["driver"] != info["proc"])


def become(job: int) -> bool:
    """Join that job over the connection that this process has, which is in none. False: it is over.

    ConnectionError: the node does not answer so.
    """
    told = _ask(job)
    if told["status"] < 0:
        return False
    _core.set_job(job, told["driver"])
    _take_on(_core.unpack(told["config"]))
    return True


def _ask(job: int) -> dict[str, Any]:
    raylet = _core.info()["proc"] & ~0xFFFFFFFF
    deadline = time.monotonic() + _NEWS_S
    while True:
        name, told = _wire.parse(
            _core.call(raylet, _wire.build("job_join", job=job, pad=0), _ANSWER_S)
        )
        if name != "job_joined":
            raise ConnectionError(f"the node answered {name} to a process that joins a job")
        if told["status"] != _EAGAIN or time.monotonic() > deadline:
            return told
        time.sleep(0.005)  # the GCS tells each node of a new job; asks again until a deadline


def _take_on(config: dict[str, Any]) -> None:
    """The job's settings, as far as they concern a program that sends work."""
    from skate import _memory_config, _runtime_env

    if "max_lineage_bytes" in config:
        _core.lineage_max(config["max_lineage_bytes"])
    _memory_config.take_on(config)
    _runtime_env.be_driver(config.get("runtime_env") or {})
    session = _api._session
    session.node = session.printer = session.actor = None
    session.info = _core.info()
    session.namespace = config["namespace"]
    session.pid = os.getpid()
    session.lifetime = config.get("actor_lifetime", "")
    session.context = _api.RayContext(_api._address_info(session.info, ""))
    _api._at_exit()


def tell_spark(session: dict[str, Any]) -> None:
    """Called by init() in a program that uses Spark: its UDFs shall find its job."""
    try:
        from skate.util.spark import _driver_job

        _driver_job.announce(session["job"], session["gcs_address"])
    except Exception as error:
        print(f"[skate] warning: UDFs will not find this program's job: {error}", file=sys.stderr)


def attached() -> bool:
    """Called instead of init() in a UDF of Spark that says nothing, and where refs were unpickled
    before there was a session, as those of a UDF's closure are: join their job, if it lives."""
    pyspark: Any = sys.modules.get("pyspark")
    context = getattr(pyspark, "TaskContext", None)
    if not _core.carried() and (context is None or context.get() is None):
        return False
    from skate.util.spark._attach import attach

    try:
        attach()
    except ConnectionError:
        return False
    return True
