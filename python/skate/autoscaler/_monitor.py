"""The autoscaler's process: look, decide, act, once a second.

It is told by one line of JSON on stdin: {"address", "config", "lasting"}, the cluster's key in
"key"; it answers READY. With "lasting" it stays until a signal ends it, else
until stdin is closed, and takes its nodes with it. It is no part of any decision about tasks: when
it is gone, nodes neither come nor go, and nothing else changes.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time

from skate import _core, _node, _state, _wire
from skate.autoscaler import _config, _policy, _provider, sdk
from skate.autoscaler._policy import Node, Want

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

LOOK_S = 1.0
_DRAINED_S = 0.3  # a lease that was granted before the drain is in the node's report by then
_OF_ONE_KIND = 200  # more of the same that waits changes no decision
_FAILED_S = 10.0  # after a node could not be started


def _labels_of(selector: str) -> dict[str, str]:
    """The labels that a node must have by the first alternative, as far as each is one value."""
    terms = selector.split("\n")[0].split(";")
    pairs = [term.split("=", 1) for term in terms if "=" in term and "|" not in term]
    return dict((key, value) for key, value in pairs)


class Monitor:
    """What it remembers between two looks."""

    def __init__(self, address: str, config: _config.Config, provider: Any) -> None:
        self.address, self.config, self.provider = address, config, provider
        self._idle_since: dict[int, float] = {}  # by number of the node
        self._not_before = 0.0
        self._told: set[str] = set()

    # ---------------------------------------------------------------------------------- look

    def look(self) -> _policy.State:
        """The cluster as it is now. The caller is attached to it."""
        asked = _state.Asked(5.0)
        nodes = [self._node_of(row) for row in asked.node_rows() if row["state"] == 1]
        waiting = [
            Want(row["resources"], _labels_of(row["labels"]))
            for row in _state.demands(asked)
            if row["kind"] != "bundle"  # these come with their group
            for _ in range(min(row["count"], _OF_ONE_KIND))
        ]
        return _policy.State(nodes, {}, waiting + _of_groups(), _requested())

    def _node_of(self, row: dict[str, Any]) -> Node:
        total = _wire.unpack_resources(row["total"])
        free = _wire.unpack_resources(row["available"])
        labels = dict(pair.split("=", 1) for pair in row["labels"].decode().split(",") if pair)
        now = time.monotonic()
        if row["suspect"] or any(free.get(k, 0.0) < v for k, v in total.items()):
            self._idle_since.pop(row["node"], None)
        since = self._idle_since.setdefault(row["node"], now)
        kind = labels.get(_provider.GROUP_LABEL)
        return Node(str(row["node"]), kind, total, free, labels,
                    0.0 if row["arena_used"] and _holds_objects(row) else now - since)  # fmt: skip

    # ----------------------------------------------------------------------------------- act

    def turn(self) -> None:
        """Look, decide, act. What failed is said on stderr and tried again later."""
        with _state.attached(self.address):
            plan = _policy.decide(self.config, self.look())
            self._tell_never(plan)
            for number in plan.end:
                self._end(int(number))
        if time.monotonic() >= self._not_before:
            for name in [name for name, count in plan.start.items() for _ in range(count)]:
                if not self._start(name):
                    break

    def _start(self, name: str) -> bool:
        try:
            pid = self.provider.start(self.config.types[name])
            _say(f"started a node of type {name}, raylet process {pid}")
        except (OSError, RuntimeError, ValueError) as error:
            self._not_before = time.monotonic() + _FAILED_S
            _say(f"a node of type {name} could not be started: {error}")
            return False
        return True

    def _end(self, number: int) -> None:
        """Give it nothing new, look once more, end it."""
        if not _drain(number, True):
            return
        time.sleep(_DRAINED_S)
        rows = {row["node"]: row for row in _state.Asked(5.0).node_rows() if row["state"] == 1}
        row = rows.get(number)
        if row is None:
            return
        free = _wire.unpack_resources(row["available"])
        if any(free.get(k, 0.0) < v for k, v in _wire.unpack_resources(row["total"]).items()):
            _drain(number, False)  # somebody was quicker
            return
        _say(f"ending node {number}: idle")
        self.provider.end(row["pid"])

    def _tell_never(self, plan: _policy.Plan) -> None:
        for want in plan.never:
            text = f"no type of node can hold {want.resources} {want.labels or ''}".rstrip()
            if text not in self._told and len(self._told) < 1000:
                self._told.add(text)
                _say(text)


def _ask(kind: str, **fields: Any) -> dict[str, Any]:
    _, answer = _wire.parse(_core.call(_wire.GCS, _wire.build(kind, **fields), 5.0))
    return answer


def _drain(number: int, on: bool) -> bool:
    return bool(_ask("node_drain", node=number, on=int(on))["status"] == 0)


def _holds_objects(row: dict[str, Any]) -> bool:
    """Does its store hold anything that a process has made and still needs?"""
    from skate import _memory

    return _memory.node_holds(_state.Asked(5.0), row["node"])


def _of_groups() -> list[Want]:
    """The bundles that have no node yet."""
    from skate.util.placement_group import _bundles

    wants = []
    for _, row in _wire.frames(_ask("list", what=4)["frames"]):
        if row["state"] not in (0, 2):  # pending, rescheduling
            continue
        bundles = _bundles(row)
        missing = [b for b, node in zip(bundles, row["nodes"], strict=False) if not node]
        name = row["group"].hex()
        if row["strategy"] == 2:  # STRICT_PACK: one node for all of it
            whole: dict[str, float] = {}
            for bundle in missing:
                for key, amount in bundle.items():
                    whole[key] = whole.get(key, 0.0) + amount
            missing = [whole] if whole else []
        wants += [Want(b, {}, name if row["strategy"] == 3 else "") for b in missing]
    return wants


def _requested() -> list[Want]:
    answer = _ask("kv_get", key=sdk.KEY)
    if answer["status"] != 0:
        return []
    return [Want(w["resources"], w["labels"]) for w in json.loads(answer["value"])]


def _say(text: str) -> None:
    print(f"autoscaler: {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Entry point: `python -m skate.autoscaler._monitor`."""
    told = json.loads(sys.stdin.readline())
    config = _config.check(told["config"])
    lasting = bool(told["lasting"])
    provider = _provider.LocalProvider(_node.base_dir(), told["address"], told["key"], lasting)
    monitor = Monitor(told["address"], config, provider)
    over = False
    hear, tell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    ends = [hear] if lasting else [hear, sys.stdin.fileno()]

    def stop(*_: Any) -> None:
        nonlocal over
        over = True

    signal.set_wakeup_fd(tell)  # it ends the wait between two looks
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("READY", flush=True)
    trouble = ""
    try:
        while not over:
            try:
                monitor.turn()
                trouble = ""
            except Exception as error:  # whatever it is: without this process no node comes
                if str(error) != trouble:  # the control store may be away for long
                    trouble = str(error)
                    _say(f"could not look: {trouble}")
            ready, _, _ = select.select(ends, [], [], LOOK_S)
            over = over or bool(ready)
    finally:
        if not lasting:
            provider.end_all()


if __name__ == "__main__":
    main()
