"""A cluster of several real nodes on this machine, for tests and for trying things out.

Each node is a raylet of its own (own worker processes, own object store) on loopback; they end with
this process. Ray's names: https://docs.ray.io, `ray.cluster_utils`.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from skate import _labels, _node, _store_config

_NODE_ID_DIGITS = 56  # of a NodeID in Ray's API; a daemon's own id is the first 32


class ClusterNode:
    """One node: a raylet of this machine."""

    def __init__(self, cluster: Cluster, node: _node.Node) -> None:
        self._cluster = cluster
        self._node = node
        assert node.raylet is not None
        ready = node.raylet.wait_ready()
        self.number = int(ready["node"])
        self.node_id = ready["node_id"].ljust(_NODE_ID_DIGITS, "0")
        self.pid = node.raylet.pid
        self.socket_path = ready["socket"]

    @property
    def unique_id(self) -> str:
        """The same as node_id."""
        return self.node_id

    @property
    def node_ip_address(self) -> str:
        """Where the others reach it: loopback."""
        return "127.0.0.1"

    @property
    def raylet_socket_name(self) -> str:
        """The same as socket_path."""
        return self.socket_path

    def kill_raylet(self) -> None:
        """End this node at once with SIGKILL, as a broken machine would."""
        os.kill(self.pid, signal.SIGKILL)
        assert self._node.raylet is not None
        self._node.raylet.wait_end()

    def __repr__(self) -> str:
        return f"ClusterNode({self.node_id[:8]}, pid={self.pid})"


class Cluster:
    """Nodes that form one cluster. The first one added is the head.

    shutdown_at_exit is accepted for Ray's sake: the daemons always end with this process.
    """

    def __init__(
        self,
        initialize_head: bool = False,
        connect: bool = False,
        head_node_args: dict[str, Any] | None = None,
        shutdown_at_exit: bool = True,
    ) -> None:
        if connect and not initialize_head:
            raise RuntimeError("Cannot connect to uninitialized cluster.")
        self._base = _node.base_dir()
        self._key = _node.new_key()
        self._gcs: _node.Node | None = None
        self._records: dict[str, str] = {}
        self._nodes: list[ClusterNode] = []
        self.head_node: ClusterNode | None = None
        self.connected = False
        if initialize_head:
            self.add_node(**(head_node_args or {}))
            if connect:
                self.connect()

    @property
    def address(self) -> str:
        """host:port for init(address=...)."""
        if self._gcs is None:
            raise RuntimeError("the cluster has no head yet: call add_node()")
        return self._gcs.gcs_address

    gcs_address = address

    @property
    def worker_nodes(self) -> set[ClusterNode]:
        """All nodes but the head."""
        return {n for n in self._nodes if n is not self.head_node}

    def add_node(
        self,
        wait: bool = True,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        resources: dict[str, float] | None = None,
        object_store_memory: int | None = None,
        labels: dict[str, str] | None = None,
        node_name: str = "",
        memory: int | None = None,
        object_spilling_directory: Any = None,
        _system_config: dict[str, Any] | None = None,
        **ignored: Any,
    ) -> ClusterNode:
        """Start a node (1 CPU and a store of 150 MiB unless said otherwise) and wait until the
        cluster knows it."""
        if labels:
            _labels.check_node_labels(labels)
        more = _store_config.settings(object_spilling_directory, _system_config)
        node = _node.Node(_node.new_session_dir(), self._key)
        store = object_store_memory or 150 << 20
        amounts = _node.node_resources(
            "127.0.0.1", self._gcs is None, 1 if num_cpus is None else num_cpus, num_gpus or 0,
            memory or 1 << 30, store, resources,
        )
        head = self._gcs is None
        try:
            if self._gcs is None:
                node.start_gcs(alone=True, system=_system_config)
                self._gcs = node
            node.gcs_address = self.address
            node.start_raylet(
                "127.0.0.1", amounts, store, labels, node_name, head=head, alone=True, more=more
            )
            added = ClusterNode(self, node)
        except BaseException:
            node.stop()
            raise
        self._records[added.node_id] = _node.record_node(
            self._base, self.address, added.socket_path, added.pid, node.session_dir
        )
        self._nodes.append(added)
        if head:
            self.head_node = added
            _node.write_private(
                os.path.join(_node.cluster_dir(self._base, self.address), "key"), self._key
            )
        return added

    def remove_node(self, node: ClusterNode, allow_graceful: bool = True) -> None:
        """End a node: orderly, or as if the machine had been switched off."""
        if allow_graceful:
            node._node.raylet.wait_end()  # type: ignore[union-attr]
        else:
            node.kill_raylet()
        self._forget(node)

    def _forget(self, node: ClusterNode) -> None:
        if node in self._nodes:
            self._nodes.remove(node)
        record = self._records.pop(node.node_id, None)
        if record and os.path.exists(record):
            os.unlink(record)
        if node is not self.head_node:
            node._node.stop()

    def connect(self, namespace: str | None = None) -> None:
        """init() this process as a driver of the cluster."""
        import skate

        skate.init(address=self.address, namespace=namespace)
        self.connected = True

    def list_all_nodes(self) -> list[ClusterNode]:
        """The nodes that were added and not removed."""
        return list(self._nodes)

    def remaining_processes_alive(self) -> bool:
        """Do all daemons of the nodes that were added and not removed still run?"""
        daemons = [n._node.raylet for n in self._nodes] + [self._gcs.gcs if self._gcs else None]
        return all(_node.start_time(d.pid) for d in daemons if d is not None)

    def wait_for_nodes(self, timeout: float = 30) -> None:
        """Until the control store sees as many nodes alive as this object has. TimeoutError."""
        import skate

        want = len(self._nodes)
        deadline = time.monotonic() + timeout
        while True:
            alive = sum(n["Alive"] for n in skate.nodes())
            if alive == want:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{alive} nodes are alive, {want} were started")
            time.sleep(0.01)

    def shutdown(self) -> None:
        """Disconnect this process, end all nodes and remove their folders."""
        import skate

        if self.connected or skate.is_initialized():
            skate.shutdown()
            self.connected = False
        for node in list(self._nodes):
            if node is not self.head_node:
                self._forget(node)
        if self.head_node is not None:
            head, self.head_node = self.head_node, None
            self._forget(head)
        if self._gcs is not None:
            folder = _node.cluster_dir(self._base, self._gcs.gcs_address)
            self._gcs.stop()
            _node.remove_tree(folder)
            self._gcs = None


class AutoscalingCluster:
    """A cluster on this machine whose nodes come when something waits, and go when they are idle.

    Args:
        head_resources: of the first node, like {"CPU": 2}.
        worker_node_types: name -> {"resources": {...}, "min_workers": 0, "max_workers": 2}.
        config_kwargs: idle_timeout_minutes, max_workers, upscaling_speed (docs/autoscaler.md).
    """

    def __init__(
        self,
        head_resources: dict[str, Any],
        worker_node_types: dict[str, Any],
        autoscaler_v2: bool = False,
        **config_kwargs: Any,
    ) -> None:
        from skate.autoscaler import _config

        self._head = dict(head_resources)
        self._config = {"cluster_name": "autoscaling-cluster", "max_workers": 100,
                        "available_node_types": worker_node_types, **config_kwargs}  # fmt: skip
        _config.check(self._config)
        self._cluster: Cluster | None = None
        self._monitor: Any = None

    @property
    def address(self) -> str:
        """host:port for init(address=...)."""
        if self._cluster is None:
            raise RuntimeError("the cluster does not run: call start()")
        return self._cluster.address

    def start(self, _system_config: dict[str, Any] | None = None, **ignored: Any) -> None:
        """Start the head and the autoscaler; init(address=...) is for the caller."""
        from skate.autoscaler import _start

        amounts = dict(self._head)
        cpus, gpus = amounts.pop("CPU", 0), amounts.pop("GPU", None)
        store = amounts.pop("object_store_memory", None)
        self._cluster = Cluster(True, head_node_args={
            "num_cpus": cpus, "num_gpus": gpus, "memory": amounts.pop("memory", None),
            "object_store_memory": store, "resources": amounts, "_system_config": _system_config,
        })  # fmt: skip
        try:
            self._monitor = _start.start(
                self.address, self._cluster._key, self._config, False, os.devnull
            )
        except BaseException:
            self.shutdown()
            raise

    def shutdown(self) -> None:
        """End the autoscaler, its nodes and the head."""
        from skate.autoscaler import _start

        if self._monitor is not None:
            _start.stop(self._monitor)
            self._monitor = None
        if self._cluster is not None:
            self._cluster.shutdown()
            self._cluster = None
