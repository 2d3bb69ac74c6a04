"""The head of a cluster on Spark: GCS and a raylet beside the Spark driver.

Both are children of this process with a pipe each as lifeline, as in a local session, but they
stay when a driver disconnects: init() and shutdown() may come and go until `stop`. Their files lie
in one session folder, which they remove themselves when this process is killed.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from skate.util.spark._janitor import Janitor, publish
from skate.util.spark._plan import NodeShape, Plan

SMALL_STORE = 1 << 30  # of a head that runs no tasks, unless asked; memory is taken when touched
CONNECT_S = 20.0


class Head:
    """Owns the two daemons. Used under the lock of `_cluster`, by one thread at a time."""

    def __init__(self, session_dir: str) -> None:
        self.session_dir = session_dir
        self.address = ""
        self._socket = ""
        self._gcs: Any = None
        self._raylet: Any = None
        self._janitor = Janitor("", session_dir)
        self._record: Janitor | None = None
        self._borrowed = False  # is this process connected on our behalf?

    @classmethod
    def start(cls, plan: Plan, ip: str, key: str) -> Head:
        """Start both; returns when they serve."""
        from skate import _node

        self = cls(_node.new_session_dir(plan.temp_root))
        try:
            self._start_gcs(ip, key)
            self._start_raylet(plan.head, ip, key)
        except BaseException:
            self.stop()
            raise
        return self

    def _start_gcs(self, ip: str, key: str) -> None:
        from skate import _node

        settings = [
            ("cluster_key", key), ("listen_ip", ip), ("listen_port", 0),
            ("session_dir", self.session_dir), ("lifeline_pid", os.getpid()),
        ]  # fmt: skip
        log = os.path.join(self.session_dir, "logs", "gcs.err")
        self._gcs = _node.Daemon("skate-gcs", settings, log)
        self.address = f"{ip}:{self._gcs.wait_ready()['port']}"

    def _start_raylet(self, shape: NodeShape, ip: str, key: str) -> None:
        from skate import _node, _store_config

        store = shape.object_store_memory
        if store is None:
            store = _node.default_store_bytes()
            if not shape.cpus and not shape.gpus:
                store = min(store, SMALL_STORE)
        resources = _node.node_resources(
            ip, True, shape.cpus, shape.gpus, shape.memory or store, store, shape.resources
        )
        settings = [
            ("cluster_key", key), ("gcs", self.address), ("node_ip", ip), ("listen_port", 0),
            ("session_dir", self.session_dir), ("run_dir", self.session_dir),
            ("python", sys.executable), ("python_path", _node.zygote_path()),
            ("resources", ",".join(f"{k}:{v:.4f}" for k, v in resources.items())),
            ("labels", ",".join(f"{k}={v}" for k, v in shape.labels.items())),
            ("arena_bytes", max(store & ~4095, 4096)), ("node_name", "head"),
            ("is_head", 1), ("local_session", 0), ("lifeline_pid", os.getpid()),
            *_store_config.settings(shape.spills_to, shape.system),
        ]  # fmt: skip
        log = os.path.join(self.session_dir, "logs", "raylet.err")
        self._raylet = _node.Daemon("skate-raylet", settings, log)
        self._socket = self._raylet.wait_ready()["socket"]
        self._record = publish(self.address, self._socket, self._raylet.pid, self.session_dir)

    def nodes(self) -> list[dict[str, Any]]:
        """What the GCS says of its nodes: over the session of this process, or one of our own."""
        from skate import _api, _core

        if not self.is_mine() and not _core.epoch():
            _core.connect(self._socket, CONNECT_S)
            self._borrowed = True
        return _api.nodes()

    def release(self) -> None:
        """End the connection that nodes() made, so that the user's init() finds none."""
        from skate import _core

        if self._borrowed:
            self._borrowed = False
            _core.close()

    def is_mine(self) -> bool:
        """Is the user's session, if there is one, a session of this cluster?"""
        from skate import _api, _core

        return bool(
            not self._borrowed and _core.epoch() and _api.info()["gcs_address"] == self.address
        )

    def stop(self) -> None:
        """End the cluster: every raylet goes when its GCS does. Removes the head's files."""
        self.release()
        for daemon in (self._gcs, self._raylet):
            if daemon is not None:
                daemon.wait_end()
        if self._record is not None:
            self._record.clean()
        self._janitor.clean()
