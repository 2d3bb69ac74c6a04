"""The driver's side of the scaler (`_scaler.py`): its process, its wishes, its limits.

The process decides; this object submits the Spark jobs that it asks for, and tells it how many
nodes are meant to be there. Nodes that Spark finds no slots for are told to the user once they are
late, with what holds the slots.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from skate.util.spark._fleet import Fleet


@dataclass(frozen=True)
class Limits:
    """What the scaler may do."""

    min: int
    max: int
    resources: dict[str, float]  # of one node
    labels: dict[str, str]
    idle_s: float
    speed: float
    lent: float = 0.0  # CPUs of a shared node that are Spark's unless lent
    patience_s: float = 60.0  # after it, nodes that have not come are told
    stop_s: float = 0.0  # after so long without a connected program the cluster ends; 0: never


class Scaler:
    """Owns the process and two threads of its own. stop() before the head goes."""

    def __init__(
        self,
        address: str,
        fleet: Fleet,
        limits: Limits,
        why_late: Callable[[int, int], str],
        on_idle: Callable[[], None],
    ) -> None:
        """why_late: what to say when only so many nodes are up of so many. on_idle: ends the
        cluster; called in this object's thread."""
        self.limits = limits
        self._fleet, self._why_late, self._on_idle = fleet, why_late, on_idle
        self._lock = threading.Lock()
        self._counting = threading.RLock()  # a change and what is told of it
        self._process = subprocess.Popen(
            [sys.executable, "-m", "skate.util.spark._scaler"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self._started = 0
        self._tell({"address": address, "config": asdict(limits)})
        self._tell_held()
        fleet.on_change = self._tell_held
        self._thread = threading.Thread(target=self._listen, name="skate-spark-scale", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Does its process run?"""
        return self._process.poll() is None

    def limit(self, limits: Limits) -> None:
        """Other limits from now on."""
        self.limits = limits
        self._tell({"config": asdict(limits)})

    def _tell_held(self) -> None:
        with self._counting:
            self._tell({"held": self._fleet.held, "started": self._started})

    def _tell(self, message: dict[str, Any]) -> None:
        with self._lock:
            stdin = self._process.stdin
            if stdin is None or stdin.closed:
                return
            try:
                stdin.write(json.dumps(message) + "\n")
                stdin.flush()
            except OSError:
                pass  # it has ended: the listening thread says so

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if "start" in message:
                with self._counting:
                    self._started += int(message["start"])
                    self._fleet.add(int(message["start"]))
                    self._tell_held()
            elif "ended" in message:
                self._fleet.retired(int(message["ended"]))
            elif "idle" in message:
                self._on_idle()
                return
            elif "late" in message:
                self._fleet.say(self._why_late(message["late"], message["of"]))
            elif "say" in message:
                self._fleet.say(message["say"])
        with self._lock:
            stopped = self._process.stdin is None or self._process.stdin.closed
        if not stopped:
            self._fleet.say("the scaler has ended: nodes neither come nor go by themselves any "
                            "more; scale(min, max) of the cluster starts it again")  # fmt: skip

    def stop(self) -> None:
        """No node comes or goes from now on."""
        self._fleet.on_change = lambda: None
        with self._lock:
            if self._process.stdin is not None:
                with contextlib.suppress(OSError):  # it has ended, and never read its last words
                    self._process.stdin.close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=2)
