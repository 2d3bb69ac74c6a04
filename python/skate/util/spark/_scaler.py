"""The process that decides how many nodes a cluster on Spark has: look, decide, act, once a second.

The rules are the autoscaler's (`skate.autoscaler._policy`). Nodes are started by Spark jobs, which
only the Spark driver can submit: it is asked to on stdout. Nodes are ended here: drained first,
and told to end through the control store, so that their Spark tasks return in order.

It talks in lines of JSON. In come {"address", "config", ...} first, {"config"} with other limits,
and at each change {"held": n, "started": n}: nodes that are meant to be there, and how many of
those that were asked for from here are in that number. Out go {"start": n},
{"ended": number}, {"late": up, "of": held}, {"idle": seconds}, {"say": text}. The end of stdin is
its end.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from typing import Any

from skate import _state, _wire
from skate.autoscaler import _config, _monitor, _policy
from skate.autoscaler._policy import Node
from skate.util.spark._plan import NODE_TYPE
from skate.util.spark._task import NUMBER_LABEL

LOOK_S = 1.0


def config_of(told: dict[str, Any]) -> _config.Config:
    """The rules' own form of what the driver says."""
    kind = _config.NodeType(
        name=NODE_TYPE, resources={k: float(v) for k, v in told["resources"].items() if v},
        labels=told.get("labels") or {}, min_workers=told["min"], max_workers=told["max"],
    )  # fmt: skip
    return _config.Config(
        name="spark", types={NODE_TYPE: kind}, head_type=None, max_workers=told["max"],
        upscaling_speed=told["speed"], idle_timeout_s=told["idle_s"],
    )  # fmt: skip


def starting(held: int, nodes: list[Node]) -> int:
    """How many nodes were asked for and have not joined."""
    return max(0, held - sum(1 for node in nodes if node.type == NODE_TYPE))


class Lateness:
    """Are nodes missing for longer than this? Says so once for each time that some are."""

    def __init__(self, patience_s: float) -> None:
        self.patience_s = patience_s
        self._since: float | None = None
        self._told = False

    def is_news(self, held: int, up: int, now: float) -> bool:
        """held: nodes that are meant to be there."""
        if up >= held:
            self._since, self._told = None, False
            return False
        if self._since is None:
            self._since = now
        if self._told or now - self._since <= self.patience_s:
            return False
        self._told = True
        return True


class Count:
    """How many nodes are meant to be there: what the driver said last, and what was asked of it
    since. What was told to end since then counts still: a moment too many does no harm, one too
    few would start a node too many."""

    def __init__(self) -> None:
        self._held = self._started = 0  # as the driver said
        self.started = 0  # all that was asked from here

    def hear(self, line: dict[str, Any]) -> None:
        """A line of the driver."""
        if "held" in line:
            self._held, self._started = line["held"], line["started"]

    @property
    def held(self) -> int:
        """Now."""
        return self._held + self.started - self._started


class _Retire:
    """Ends a node in order, by its number at the control store."""

    def __init__(self) -> None:
        self.node = 0
        self.ended: list[int] = []

    def end(self, _pid: int) -> None:
        """Tell it to end."""
        answer = _monitor._ask("node_drain", node=self.node, on=2)
        if answer["status"] == 0:
            self.ended.append(self.node)


class SparkMonitor(_monitor.Monitor):
    """The autoscaler's look and rules, with Spark as the one who starts nodes."""

    def __init__(self, address: str, told: dict[str, Any]) -> None:
        self.retire = _Retire()
        super().__init__(address, config_of(told), self.retire)
        self.count = Count()
        self.lent = float(told.get("lent", 0))  # CPUs of a shared node that count as taken
        self._ending: set[str] = set()  # told to end, and still listed
        self._numbers: dict[int, int] = {}  # the control store's -> ours
        self._late = Lateness(float(told["patience_s"]))
        self._stop_s = float(told["stop_s"])
        self._used_at = time.monotonic()

    def configure(self, told: dict[str, Any]) -> None:
        """Other limits from now on."""
        self.config = config_of(told)

    def _node_of(self, row: dict[str, Any]) -> Node:
        labels = dict(pair.split("=", 1) for pair in row["labels"].decode().split(",") if pair)
        number = labels.get(NUMBER_LABEL, "")
        if number.isdigit():
            self._numbers[row["node"]] = int(number)
        if not self.lent or not number:
            node = super()._node_of(row)
        else:  # what Spark's tasks have not lent it is not in use
            total = _wire.unpack_resources(row["total"])
            free = _wire.unpack_resources(row["available"])
            most = max(0.0, total.get("CPU", 0.0) - self.lent)
            base = dict(total, CPU=most)
            own = dict(free, CPU=min(most, free.get("CPU", 0.0)))
            pack = _wire.pack_resources
            node = super()._node_of({**row, "total": pack(base), "available": pack(own)})
        node.type = NODE_TYPE if number else None
        return node

    def turn(self) -> None:
        """One look; what follows from it is asked for, or done."""
        with _state.attached(self.address):
            state = self.look()
            self._ending &= {node.id for node in state.nodes}
            state.nodes = [node for node in state.nodes if node.id not in self._ending]
            held = self.count.held
            coming = starting(held, state.nodes)
            state.starting = {NODE_TYPE: coming} if coming else {}
            if self._late.is_news(held, held - coming, time.monotonic()):
                tell({"late": held - coming, "of": held})
            plan = _policy.decide(self.config, state)
            self._tell_never(plan)
            for number in plan.end:
                self.retire.node = int(number)
                self._end(int(number))
            self._look_for_programs()
        count = sum(plan.start.values())
        if count:
            self.count.started += count
            tell({"start": count})
        for node in self.retire.ended:
            self._ending.add(str(node))
            tell({"ended": self._numbers.get(node, -1)})
        self.retire.ended.clear()


    def _look_for_programs(self) -> None:
        """Is anybody connected? What is attached for a look is no program."""
        if not self._stop_s:
            return
        now = time.monotonic()
        jobs = [row for _, row in _wire.frames(_monitor._ask("list", what=3)["frames"])]
        if any(not row["ended"] for row in jobs):
            self._used_at = now
        elif now - self._used_at >= self._stop_s:
            tell({"idle": now - self._used_at})
            self._used_at = now


def tell(message: dict[str, Any]) -> None:
    """One line for the driver."""
    print(json.dumps(message), flush=True)


class Ears:
    """Lines from stdin, without ever waiting longer than asked."""

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno()
        self._rest = b""

    def hear(self, seconds: float) -> list[dict[str, Any]] | None:
        """What came within this time; None: the driver is gone."""
        ready, _, _ = select.select([self._fd], [], [], seconds)
        if not ready:
            return []
        data = os.read(self._fd, 65536)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines if line]


def main() -> None:
    """Entry point: `python -m skate.util.spark._scaler`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ears = Ears()
    first: list[dict[str, Any]] | None = []
    while first == []:
        first = ears.hear(60.0)
    if not first:
        return
    monitor = SparkMonitor(first[0]["address"], first[0]["config"])
    heard: list[dict[str, Any]] | None = first
    trouble = ""
    while heard is not None:
        for line in heard:
            if "config" in line:
                monitor.configure(line["config"])
            monitor.count.hear(line)
        try:
            monitor.turn()
            trouble = ""
        except (OSError, RuntimeError, ValueError, KeyError, _state.Unreachable) as error:
            if str(error) != trouble:
                trouble = str(error)
                tell({"say": f"cannot look whether nodes are needed: {trouble}"})
        heard = ears.hear(LOOK_S)


if __name__ == "__main__":
    main()
