"""head="executor": the head of a cluster on an executor, for drivers that executors cannot reach.

A short Spark task starts the head's keeper (`_head_keeper.py`) beside its executor, and returns the
head's address. The keeper holds no slot: it ends when the executor does, which is when the Spark
application ends, when it is told to, or when no driver has joined the head within JOIN_S. On the
driver's machine a raylet without work (an outpost, as drivers without a node have) connects this
program, through the head's one port.

How a function is run on an executor is the caller's: `RunOnce`. No SparkContext is known here.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from skate.util.spark import _guards, _task
from skate.util.spark._head import Head, say
from skate.util.spark._janitor import publish
from skate.util.spark._plan import Plan

REACH_S = 3.0
START_S = 60.0
JOIN_S = 120.0  # a head that no driver has joined by then ends
RunOnce = Callable[[Callable[[], Any]], Any]  # runs it on some executor; what it returns


@dataclass(frozen=True)
class HeadSettings:
    """What the driver sends along. The key must show nowhere."""

    key: str = field(repr=False)
    plan: Plan
    toward: str  # the driver, as executors know it: its network is the one to listen in
    version: str
    logs_to: str | None
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    join_s: float = JOIN_S


# ------------------------------------------------------------------------------- on the executor


def can_reach(address: str) -> bool:
    """Does somebody answer there within REACH_S?"""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=REACH_S):
            return True
    except OSError:
        return False


def start_here(settings: HeadSettings) -> str:
    """In a Spark task: start the head and leave it to its keeper; the head's address."""
    import pickle

    from skate import _core

    wrong = _guards.wrong_package(settings.version, _core.version, sys.executable)
    if wrong:
        raise _task.NodeError(wrong)
    told = pickle.dumps((settings, _task.own_ip(f"{settings.toward}:9"), _task.executor_pid()))
    path = os.pathsep.join(entry for entry in sys.path if entry)  # what Spark shipped is on it
    keeper = subprocess.Popen(
        [sys.executable, "-m", "skate.util.spark._head_keeper"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True, cwd="/",
        env={**_task.plain_environment(), **settings.environment, "PYTHONPATH": path},
    )  # fmt: skip
    assert keeper.stdin and keeper.stdout and keeper.stderr
    overdue = threading.Timer(START_S, keeper.kill)
    overdue.daemon = True
    overdue.start()
    try:
        with contextlib.suppress(BrokenPipeError):
            keeper.stdin.write(told)
            keeper.stdin.close()
        word, _, rest = keeper.stdout.readline().decode(errors="replace").strip().partition(" ")
        if word == "READY":
            return rest
        said = keeper.stderr.read().decode(errors="replace")
    finally:
        overdue.cancel()
        keeper.stdout.close()
        keeper.stderr.close()
    keeper.wait()
    last = rest or "\n".join(said.splitlines()[-_task.STDERR_LINES :])
    raise _task.NodeError(f"the head did not start on {socket.gethostname()}: {last}")


# --------------------------------------------------------------------------------- on the driver


class AwayHead(Head):
    """The driver's side of a head on an executor: its outpost, and the way to end that head."""

    @classmethod
    def begin(cls, settings: HeadSettings, run_once: RunOnce) -> AwayHead:
        """Start the head and connect this machine to it; returns when it serves. RuntimeError."""
        from skate import _node

        self = cls(_node.new_session_dir(settings.plan.temp_root))
        self._start["raylet"] = lambda: self._start_outpost(settings)
        try:
            self.address = str(run_once(partial(start_here, settings)))
            self._start["raylet"]()
        except _node.StartError as error:
            self.stop()
            raise RuntimeError(
                f"The head of the cluster serves on an executor at {self.address}, but this driver "
                f"cannot join it: {error}. Open that way, or use head='driver', where the "
                "executors come to the driver."
            ) from None
        except BaseException:
            self.stop()
            raise
        return self

    def _start_outpost(self, settings: HeadSettings) -> None:
        from skate import _node, _store_config

        node = _node.Node(self.session_dir, settings.key)
        node.gcs_address = self.address
        more: list[tuple[str, Any]] = [
            *_store_config.settings(), ("outpost", 1), ("gcs_wait_s", _task.GCS_WAIT_S),
            *([("tls", 1)] if settings.plan.tls else ()),
        ]  # fmt: skip
        ip = _node.own_ip(self.address.rpartition(":")[0])
        try:
            node.start_raylet(ip, {}, _node.default_store_bytes(), name="driver", head=False,
                              alone=True, more=more)  # fmt: skip
        finally:
            self._raylet = node.raylet
        self._raylet.wait_ready()
        self._socket = node.socket_path
        self._record = publish(self.address, self._socket, self._raylet.pid, self.session_dir)

    def stop(self) -> None:
        """End the cluster: its head is told to end, and its keeper ends the rest."""
        try:
            with contextlib.suppress(Exception):  # a head that is gone: whatever a call raises
                self._end_head()
        finally:
            super().stop()

    def _end_head(self) -> None:
        from skate import _api, _core, _wire

        if not self._socket:
            return  # never joined: the head ends by itself, JOIN_S after its start
        self.nodes()  # connects, unless the user's session is there
        for row in _api._node_rows():
            if row["is_head"] and row["state"] == 1:
                frame = _wire.build("node_drain", node=row["node"], on=2)
                _core.call(_wire.GCS, frame, 5.0)


def start(
    where: str,
    settings: HeadSettings,
    ip: str,
    run_once: RunOnce,
) -> Head:
    """A head on the driver, on an executor, or ("auto") where the executors can reach it."""
    plan = settings.plan
    if where == "executor":
        return AwayHead.begin(settings, run_once)
    head = Head.start(plan, ip, settings.key, settings.environment)
    if where == "driver":
        return head
    try:
        if run_once(partial(can_reach, head.address)):
            return head
    except BaseException:
        head.stop()
        raise
    head.stop()
    say(f"the executors cannot reach this driver at {head.address}: the head of the cluster runs "
        "on an executor")  # fmt: skip
    return AwayHead.begin(settings, run_once)
