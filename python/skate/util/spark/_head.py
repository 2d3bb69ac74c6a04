"""The head of a cluster on Spark: GCS and a raylet beside the Spark driver.

Both are children of this process with a pipe each as lifeline, as in a local session, but they
stay when a driver disconnects: init() and shutdown() may come and go until `stop`. Their files lie
in one session folder, which they remove themselves when this process is killed.

The GCS keeps a log there and has a keeper: killed, it is there again in a moment, and nodes and
programs go on. So nodes are told to end by name at a shutdown, and end by themselves only when the
GCS stays away. The head's raylet, and the GCS with its keeper, are started again by mend().
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Callable
from typing import Any

from skate.util.spark import _budget
from skate.util.spark._janitor import Janitor, publish
from skate.util.spark._keep_logs import LogKeeper
from skate.util.spark._plan import Plan
from skate.util.spark._task import GCS_WAIT_S, NUMBER_LABEL

SMALL_STORE = 1 << 30  # of a head that runs no tasks, unless asked; memory is taken when touched
CONNECT_S = 20.0
LABEL_BYTES = f"{NUMBER_LABEL}=".encode()
END_NODES_S = 1.0  # how long nodes that were told to end are waited for before the GCS goes


def say(text: str) -> None:
    """One line for the user, on stderr, where Spark's own notices go."""
    print(f"(skate on spark) {text}", file=sys.stderr, flush=True)


class Head:
    """Owns the two daemons. Used under the lock of `_cluster`, by one thread at a time."""

    def __init__(self, session_dir: str) -> None:
        self.session_dir = session_dir
        self.address = ""
        self._socket = ""
        self._gcs: Any = None
        self._raylet: Any = None
        # The raylet removes the session folder if it ends in order; the log must outlive that.
        self._log_dir = os.path.join(os.path.dirname(session_dir), f"head_{secrets.token_hex(4)}")
        os.mkdir(self._log_dir, mode=0o700)
        self._janitor = Janitor("", session_dir, self._log_dir)
        self._record: Janitor | None = None
        self._borrowed = False  # is this process connected on our behalf?
        self._keeper: LogKeeper | None = None
        self._tls: dict[str, str] = {}
        self.logs_to = ""  # where its logs are kept at its end
        self._start: dict[str, Callable[[], None]] = {}  # by daemon: how it is started

    @classmethod
    def start(cls, plan: Plan, ip: str, key: str, env: dict[str, str]) -> Head:
        """Start both; returns when they serve. env: variables for them and the head's workers."""
        from skate import _node, _tls

        self = cls(_node.new_session_dir(plan.temp_root))
        try:
            self._tls = dict(_tls.settings()) | ({"tls": "1"} if plan.tls else {})
            self._start["gcs"] = lambda: self._start_gcs(ip, key, env)
            self._start["raylet"] = lambda: self._start_raylet(plan, ip, key, env)
            self._start["gcs"]()
            self._start["raylet"]()
            if plan.logs_to:
                self._keeper = LogKeeper(self.session_dir)
        except BaseException:
            self.stop()
            raise
        return self

    def _start_gcs(self, ip: str, key: str, env: dict[str, str]) -> None:
        from skate import _node

        port = self.address.rpartition(":")[2] or 0  # of the first start, and so of any later one
        settings = [
            ("cluster_key", key), ("listen_ip", ip), ("listen_port", port),
            ("session_dir", self.session_dir), ("lifeline_pid", os.getpid()), *self._tls.items(),
            ("log", os.path.join(self._log_dir, "gcs.db")), ("keep", 1),  # this one last
        ]  # fmt: skip
        log = os.path.join(self.session_dir, "logs", "gcs.err")
        self._gcs = _node.Daemon("skate-gcs", settings, log, env)
        self.address = f"{ip}:{self._gcs.wait_ready()['port']}"

    def _start_raylet(self, plan: Plan, ip: str, key: str, env: dict[str, str]) -> None:
        from skate import _node, _store_config

        shape = plan.head
        machine = _budget.measure(os.environ, driver=True)
        cpus = shape.cpus
        if cpus is None:
            cpus = _budget.override(os.environ, _budget.CPU_CORES) or _node.default_cpus()
        gpus = shape.gpus
        if gpus is None:
            told = _budget.override(os.environ, _budget.GPU_NUM)
            gpus = _node.default_gpus() if told is None else told
        store, memory = shape.object_store_memory, shape.memory
        budget = _budget.plan(machine, machine.cores, None, memory, store)
        if budget.note:
            say(budget.note.replace("worker_node", "head_node"))
        store, memory = budget.store, budget.memory
        if not cpus and not gpus:
            store = store if shape.object_store_memory else min(store, SMALL_STORE)
            memory = shape.memory or store
        resources = _node.node_resources(ip, True, cpus, gpus, memory, store, shape.resources)
        settings = [
            ("cluster_key", key), ("gcs", self.address), ("node_ip", ip),
            ("listen_port", shape.port),
            ("session_dir", self.session_dir), ("run_dir", self.session_dir),
            ("python", sys.executable), ("python_path", _node.zygote_path()),
            ("resources", ",".join(f"{k}:{v:.4f}" for k, v in resources.items())),
            ("labels", ",".join(f"{k}={v}" for k, v in shape.labels.items())),
            ("arena_bytes", max(store & ~4095, 4096)), ("node_name", shape.name or "head"),
            ("gpu_names", os.environ.get("CUDA_VISIBLE_DEVICES", "") if gpus else ""),
            ("is_head", 1), ("report_log", 1), ("local_session", 0), ("lifeline_pid", os.getpid()),
            ("slot", "head"), ("gcs_wait_s", GCS_WAIT_S),
            *self._tls.items(), *_store_config.settings(shape.spills_to, shape.system),
        ]  # fmt: skip
        log = os.path.join(self.session_dir, "logs", "raylet.err")
        self._raylet = _node.Daemon("skate-raylet", settings, log, env)
        self._socket = self._raylet.wait_ready()["socket"]
        self._record = publish(self.address, self._socket, self._raylet.pid, self.session_dir)

    @property
    def pids(self) -> list[int]:
        """Its daemons."""
        return [daemon.pid for daemon in (self._gcs, self._raylet) if daemon is not None]

    def nodes(self) -> list[dict[str, Any]]:
        """What the GCS says of its nodes: over the session of this process, or one of our own."""
        from skate import _api, _core

        if not self.is_mine() and not _core.epoch():
            _core.connect(self._socket, CONNECT_S)
            self._borrowed = True
        return _api.nodes()

    def said(self, node_id: str) -> str:
        """What the raylet of that node has complained of, its last lines; the node may be dead."""
        from skate import _api, _wire

        self.nodes()
        numbers = [process >> 32 for process in [_api.raylet_of(node_id)] if process]
        _, answer = _api._call(_wire.GCS, "list", what=8)
        rows = [fields for _, fields in _wire.frames(answer["frames"])]
        return "".join(r["text"].decode(errors="replace") for r in rows if r["node"] in numbers)

    @property
    def was_told_to_end(self) -> bool:
        """Has its raylet ended in order?"""
        return "exited with code 0" in str(self._raylet.obituary(0.0))

    def mend(self) -> list[str]:
        """Start again what has ended; how each did, for a person. StartError: it cannot be."""
        ended = []
        if self._gcs is not None and (how := self._gcs.obituary(0.0)):
            ended.append(_short(how))
            self._gcs.wait_end()
            self._start["gcs"]()
        if self._raylet is not None and (how := self._raylet.obituary(0.0)):
            ended.append(_short(how))
            self.release()
            self._raylet.wait_end()
            if self._record is not None:
                self._record.forget()
                self._record = None
            os.makedirs(os.path.join(self.session_dir, "logs"), mode=0o700, exist_ok=True)
            with contextlib.suppress(OSError):
                os.unlink(self._socket)
            self._start["raylet"]()
        return ended

    def end_nodes(self) -> int:
        """Tell the nodes of Spark to end, and wait a moment for it; how many there were."""
        from skate import _core, _state, _wire

        most = 0
        deadline = time.monotonic() + END_NODES_S
        self.nodes()  # so that there is a session
        while True:
            living = [row["node"] for row in _state.Asked(5.0).node_rows()
                      if row["state"] == 1 and LABEL_BYTES in row["labels"]]  # fmt: skip
            most = max(most, len(living))
            if not living or time.monotonic() > deadline:
                return most
            for node in living:  # again and again: one whose link was away has not heard it
                _core.call(_wire.GCS, _wire.build("node_drain", node=node, on=2), 5.0)
            time.sleep(0.02)

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
        if self._keeper is not None and self.logs_to:
            self._keeper.finish(self.logs_to)
        if self._record is not None:
            self._record.clean()
        self._janitor.clean()


def _short(obituary: str) -> str:
    """How a daemon ended; its last line unless it was killed, and so had nothing to say."""
    how, _, words = obituary.partition(": ")
    return how if "SIGKILL" in how or not words else f"{how}: {words.splitlines()[-1]}"
