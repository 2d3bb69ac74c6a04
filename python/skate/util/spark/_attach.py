"""attach(): what a UDF calls to use the cluster from inside Spark's Python worker.

init(address) in a UDF joins some node of the machine. attach() joins the node of the UDF's own
executor, and may be called again and again: Spark gives the same Python worker to one task after
the other, and every batch of every task runs the UDF.
"""

from __future__ import annotations

import os
from typing import Any

from skate.util.spark._task import executor_pid


def attach(address: str | tuple[str, str] | None = None) -> None:
    """Connect this process to the node of its own executor, unless it is connected already.

    address: that of setup_ray_cluster(), or the pair it returned; None: RAY_ADDRESS, which set-up
    also sets in Spark's Python workers. When the cluster of an earlier call is gone (Spark may use
    this process for longer than a cluster lives) that session is ended and the new one joined.
    Without a node on this executor another node of the machine serves. ConnectionError: none does.
    """
    from skate import _api, _core, _node

    if isinstance(address, tuple):
        address = address[0]
    address = address or os.environ.get("SKATE_ADDRESS") or os.environ.get("RAY_ADDRESS")
    if not address:
        raise ConnectionError(
            "attach() was given no address and RAY_ADDRESS is not set: is there a cluster? Call "
            "setup_ray_cluster() on the Spark driver before the UDF is defined."
        )
    resolved = _node.resolve(address)
    if _core.epoch():
        if _core.alive() is None and _api.info()["gcs_address"] == resolved:
            return
        _api.shutdown()
    base = _node.base_dir()
    own = choose(_node.cluster_nodes(base, resolved), executor_pid())
    socket_path = own["socket"] if own else _node.find_raylet(base, resolved)
    _api._join(None, socket_path, _api._program_config(None, None, None), True)


def choose(records: list[dict[str, Any]], executor: int) -> dict[str, Any] | None:
    """The record of this executor's node; else of another executor's; else any."""
    for wanted in (
        lambda record: executor and record.get("executor") == executor,
        lambda record: record.get("executor"),
        lambda record: True,
    ):
        for record in records:
            if wanted(record):
                return record
    return None
