"""Who starts and ends nodes. The local one: raylets on this machine, beside the head.

A node that the autoscaler has started has the label `ray.io/node-group` with the name of its type:
by it, and by the records of this machine, one that comes later knows them again.
"""

from __future__ import annotations

import os
import signal
import time

from skate import _node

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from skate.autoscaler._config import NodeType

GROUP_LABEL = "ray.io/node-group"
_END_S = 5.0


class LocalProvider:
    """Nodes on this machine, of the cluster at `address`.

    lasting: they outlive this process (a cluster of `skate start`); else they end with it.
    """

    def __init__(self, base: str, address: str, key: str, lasting: bool) -> None:
        self._base, self._address, self._key, self._lasting = base, address, key, lasting
        self._made: dict[int, _node.Node] = {}  # by the pid of the raylet

    def start(self, kind: NodeType) -> int:
        """Start a node and wait until it has joined. Its raylet's pid. StartError, OSError."""
        node = _node.Node(_node.new_session_dir(), self._key)
        node.gcs_address = self._address
        ip = _node.split_address(self._address)[0]
        store = kind.object_store_memory or 100 << 20
        amounts = dict(kind.resources)
        amounts.pop("object_store_memory", None)
        offered = _node.node_resources(
            ip, False, amounts.pop("CPU", 0), amounts.pop("GPU", 0) or 0,
            int(amounts.pop("memory", 0)) or 1 << 30, store, amounts,
        )  # fmt: skip
        labels = {**kind.labels, GROUP_LABEL: kind.name}
        try:
            node.start_raylet(ip, offered, store, labels, kind.name, head=False,
                              lasting=self._lasting, alone=True)  # fmt: skip
            assert node.raylet is not None
            node.raylet.wait_ready()
        except BaseException:
            node.stop()
            raise
        by = _node.BY_START if self._lasting else ""
        _node.record_node(self._base, self._address, node.socket_path, node.raylet.pid,
                          node.session_dir, by)  # fmt: skip
        self._made[node.raylet.pid] = node
        return node.raylet.pid

    def end(self, pid: int) -> None:
        """End a node of this machine; one that is gone already is no error."""
        record = os.path.join(_node.cluster_dir(self._base, self._address), f"node_{pid}.json")
        found = _node._read_json(record)
        if found and _node.is_alive(found):
            self._terminate(found)
        node = self._made.pop(pid, None)
        if node is not None:
            node.stop()
        if found:
            _node.remove_tree(found["session_dir"])
        if os.path.exists(record):
            os.unlink(record)

    @staticmethod
    def _terminate(record: dict[str, object]) -> None:
        """End its raylet in order. (One that is lasting has no other way to hear of it.)"""
        pid, deadline = int(str(record["pid"])), time.monotonic() + _END_S
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return
            while _node.is_alive(record) and time.monotonic() < deadline:
                time.sleep(0.01)

    def end_all(self) -> None:
        """End every node that this object has started."""
        for pid in list(self._made):
            self.end(pid)
