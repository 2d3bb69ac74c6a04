"""The head and the task of a node, as set-up runs them, without Spark between them."""

from __future__ import annotations

import inspect
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e_help import eventually

from skate.util.spark import _read_logs, _task, setup_ray_cluster
from skate.util.spark._head import Head
from skate.util.spark._plan import make_plan
from skate.util.spark._task import Grant, NodeSettings


class Alone:
    """A head, and nodes each in a thread of this process."""

    def __init__(self, folder: Path, **arguments: Any) -> None:
        parameters = inspect.signature(setup_ray_cluster).parameters
        defaults = {n: p.default for n, p in parameters.items() if n != "kwargs"}
        self.plan = make_plan({**defaults, "max_worker_nodes": 1, **arguments}, {}, os.environ)
        self.key, self.folder = secrets.token_hex(32), folder
        self.head = Head.start(self.plan, "127.0.0.1", self.key, {"OF_THE_TEST": "1"})
        self.head.logs_to = _task.log_folder(str(folder), "s", "head")
        self.endings: list[str] = []
        self.threads: list[threading.Thread] = []

    def node(self, number: int) -> None:
        """Start one, as the task with this number."""
        settings = NodeSettings(
            key=self.key, gcs=self.head.address, session="s", cpus=1, gpus=None, memory=None,
            object_store_memory=80 << 20, resources={}, labels={}, temp_root=None,
            logs_to=str(self.folder), session_dir=self.head.session_dir, python_path=(),
            tls=self.plan.tls, environment={"OF_THE_TEST": "1"},
        )  # fmt: skip
        grant = Grant(number, 0, 1, ())
        run_dir = _task.make_run_dir(settings, grant)

        def run() -> None:
            self.endings.append(_task._serve(settings, grant, run_dir))

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()

    def living(self) -> list[str]:
        """Names of living nodes."""
        return sorted(n["NodeName"] for n in self.head.nodes() if n["Alive"])

    def stop(self) -> None:
        """The head goes, and the nodes."""
        self.head.stop()
        for thread in self.threads:
            thread.join(timeout=30)
            assert not thread.is_alive()


@pytest.fixture()
def start(no_leaks: None, tmp_path: Path) -> Iterator[Callable[..., Alone]]:
    """Makes clusters, and ends them whatever the test did."""
    made: list[Alone] = []

    def make(**arguments: Any) -> Alone:
        made.append(Alone(tmp_path, **arguments))
        return made[-1]

    yield make
    for alone in made:
        alone.stop()


def test_a_node_ends_with_its_head(start: Callable[..., Alone], tmp_path: Path) -> None:
    alone = start(tls="psk", collect_log_to_path=str(tmp_path))
    alone.node(0)
    alone.node(1)
    assert eventually(lambda: alone.living() == ["head", "spark-0.0", "spark-1.0"])
    alone.stop()
    assert alone.endings == ["the cluster was stopped"] * 2
    kept = {p.name for p in (tmp_path / "skate-s").iterdir()}
    assert kept == {"head", "spark-0.0", "spark-1.0"}
    assert any((tmp_path / "skate-s" / "head").iterdir())


def test_a_node_is_told_to_end(start: Callable[..., Alone]) -> None:
    from skate import _core, _wire

    alone = start()
    alone.node(0)
    alone.node(1)
    assert eventually(lambda: len(alone.living()) == 3)
    row = _read_logs.pick(alone.head.nodes(), 0)
    number = next(r["node"] for r in _rows() if r["name"] == row["NodeName"])
    frame = _wire.build("node_drain", node=number, on=2)
    _core.call(_wire.GCS, frame, 10.0)
    alone.threads[0].join(timeout=30)
    assert alone.endings == ["it was told to end"], "no reason for Spark to run the task again"
    assert alone.living() == ["head", "spark-1.0"]


def _rows() -> list[dict[str, Any]]:
    from skate import _api

    return _api._node_rows()
