"""The process that scales a cluster on Spark, with real nodes; the test is the Spark driver."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from e2e_help import eventually

import skate
from skate.cluster_utils import Cluster

LIMITS = {
    "min": 1, "max": 3, "resources": {"CPU": 1.0}, "labels": {}, "idle_s": 1.0, "speed": 1.0,
    "lent": 0.0, "patience_s": 600.0, "stop_s": 0.0,
}  # fmt: skip


class Scaler:
    """The process, and what it said."""

    def __init__(self, address: str, **limits: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "skate.util.spark._scaler"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.say(address=address, config={**LIMITS, **limits})

    def say(self, **message: Any) -> None:
        """One line."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Its next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "it has ended"
        return json.loads(line)

    def end(self) -> int:
        """As a driver that is gone."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(timeout=30)


@pytest.fixture()
def head(no_leaks: None) -> Iterator[Cluster]:
    """A head without CPUs; nodes of Spark come by add()."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    yield made
    skate.shutdown()
    made.shutdown()


def add(cluster: Cluster, number: int) -> Any:
    """A node as Spark's task number `number` starts it."""
    return cluster.add_node(num_cpus=1, labels={"spark-partition": str(number)})


def names(cluster: Cluster) -> list[str]:
    """Numbers of the living nodes of Spark."""
    labels = [n["Labels"] for n in skate.nodes() if n["Alive"]]
    return sorted(found["spark-partition"] for found in labels if "spark-partition" in found)


def test_nodes_are_asked_for_and_ended(head: Cluster) -> None:
    add(head, 0)
    head.connect()
    scaler = Scaler(head.address)
    try:
        scaler.say(held=1, started=0)

        @skate.remote
        class Holder:
            """Keeps its node busy."""

        holders = [Holder.options(num_cpus=1).remote() for _ in range(3)]
        assert scaler.hear() == {"start": 2}, "one for each that waits, no more than max"
        scaler.say(held=1, started=0)  # crossed the request on its way: nothing more is asked for
        scaler.say(held=2, started=1)
        scaler.say(held=3, started=2)
        add(head, 1)
        add(head, 2)
        assert eventually(lambda: names(head) == ["0", "1", "2"])
        for holder in holders:
            skate.kill(holder)
        ended = []
        for held in (2, 1):  # one, or both at once
            ended.append(scaler.hear()["ended"])
            scaler.say(held=held, started=2)
        assert len(set(ended)) == 2 and set(ended) <= {0, 1, 2}
        assert eventually(lambda: len(names(head)) == 1), "one is the least"
        told = [n["DeathReasonMessage"] for n in skate.nodes() if not n["Alive"]]
        assert told == ["it ended: it was told to end"] * 2
        scaler.say(config={**LIMITS, "min": 2})
        assert scaler.hear() == {"start": 1}, "other limits"
    finally:
        assert scaler.end() == 0


def test_late_nodes_and_idle_clusters_are_told(head: Cluster) -> None:
    scaler = Scaler(head.address, min=0, stop_s=0.5, patience_s=0.2)
    try:
        scaler.say(held=2, started=0)
        found = [scaler.hear(), scaler.hear()]
        assert {"late": 0, "of": 2} in found
        assert any("idle" in message for message in found), "no program was ever connected"
    finally:
        assert scaler.end() == 0
