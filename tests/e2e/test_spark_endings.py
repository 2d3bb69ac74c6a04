"""Heads of clusters on Spark end whatever goes wrong beside them; no Spark is needed for that."""

from __future__ import annotations

import dataclasses
import inspect
import os
import pickle
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from skate import _core
from skate.util.spark import (
    RayClusterOnSpark,
    _away_head,
    _cluster,
    _global,
    _head_keeper,
    _hook,
    _slots,
    setup_ray_cluster,
)
from skate.util.spark._fleet import Fleet
from skate.util.spark._head import Head
from skate.util.spark._plan import Plan, make_plan
from skate.util.spark._scale import Limits, Scaler

LIMITS = Limits(min=0, max=1, resources={"CPU": 1.0}, labels={}, idle_s=60.0, speed=1.0)


class Untouched:
    """A SparkContext of which nothing is wanted."""

    def setLocalProperty(self, *_: object) -> None:  # noqa: N802, as Spark names it
        """Nothing is kept."""


class Interrupted:
    """Cannot be ended: the user loses patience first."""

    def stop(self) -> None:
        """Ctrl-C."""
        raise KeyboardInterrupt


def plan(**arguments: Any) -> Plan:
    """Of one node."""
    parameters = inspect.signature(setup_ray_cluster).parameters
    defaults = {n: p.default for n, p in parameters.items() if n != "kwargs"}
    return make_plan({**defaults, "max_worker_nodes": 1, **arguments}, {}, os.environ)


@pytest.fixture()
def start(no_leaks: None) -> Iterator[Callable[[], RayClusterOnSpark]]:
    """Makes clusters that have a head and no node yet; ends the heads whatever the test did."""
    made: list[Head] = []

    def make() -> RayClusterOnSpark:
        made.append(Head.start(plan(), "127.0.0.1", secrets.token_hex(32), {}))
        cluster = RayClusterOnSpark(made[-1], "s", _hook.make(False))
        cluster._context, cluster._limits = Untouched(), LIMITS
        settings: Any = SimpleNamespace(session="s")
        cluster._fleet = Fleet(cluster._context, settings, None, print, print)
        return cluster

    yield make
    for head in made:
        head.stop()


def is_over(cluster: RayClusterOnSpark) -> bool:
    """Have the daemons of its head ended, and is it noted nowhere?"""
    gone = not any(os.path.exists(f"/proc/{pid}") for pid in cluster._head.pids)
    return gone and _cluster._active is None and not os.path.exists(cluster.temp_dir)


def test_an_interrupted_shutdown_ends_the_head(start: Callable[[], RayClusterOnSpark]) -> None:
    cluster = start()
    watch: Any = Interrupted()
    cluster._watch = watch
    with pytest.raises(KeyboardInterrupt):
        cluster.shutdown()
    assert is_over(cluster)


def test_a_head_ends_that_cannot_tell_its_nodes(
    start: Callable[[], RayClusterOnSpark], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = start()
    monkeypatch.setattr(_cluster, "_end_nodes", lambda _: Interrupted().stop())
    with pytest.raises(KeyboardInterrupt):
        cluster.shutdown()
    assert is_over(cluster)


def test_a_record_that_cannot_be_written(
    start: Callable[[], RayClusterOnSpark], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = start()

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(_slots, "active_context", Untouched)
    monkeypatch.setattr(_cluster, "_launch", lambda *_: cluster)
    monkeypatch.setattr(_global.Claim, "record", full)
    with pytest.raises(OSError, match="no space left"):
        _cluster._setup(dataclasses.replace(plan(), is_global=True))
    assert is_over(cluster)
    _global.Claim().release()  # the place is free again


def test_a_scaler_that_was_killed_is_stopped(no_leaks: None) -> None:
    fleet = Fleet(Untouched(), SimpleNamespace(session="s"), None, print, print)  # type: ignore[arg-type]
    scaler = Scaler("127.0.0.1:9", fleet, LIMITS, lambda up, of: "", lambda: None)
    scaler._process.kill()
    scaler._process.wait()
    scaler.limit(LIMITS)  # nobody reads it
    scaler.stop()
    assert not scaler.is_alive


def away(folder: Path, **more: Any) -> _away_head.HeadSettings:
    """Of a head on an executor."""
    own = plan(ray_temp_root_dir=str(folder))
    return _away_head.HeadSettings(
        secrets.token_hex(32), own, "127.0.0.1", _core.version, None, **more
    )


def test_a_head_that_nobody_joins_ends(no_leaks: None, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("h")
    keeper = subprocess.Popen(
        [sys.executable, "-m", "skate.util.spark._head_keeper"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    told = pickle.dumps((away(folder, join_s=0.0), "127.0.0.1", 0))
    said, _ = keeper.communicate(told, timeout=60)
    assert said.startswith(b"READY 127.0.0.1:")
    assert keeper.wait(timeout=60) == 0
    assert not list(folder.rglob("gcs.*")), "its files are gone"


def test_a_joined_head_is_seen_to_be(no_leaks: None, tmp_path_factory: Any) -> None:
    settings = away(tmp_path_factory.mktemp("h"))
    head = Head.start(settings.plan, "127.0.0.1", settings.key, {})
    try:
        assert _head_keeper.is_joined(head) is False
        driver = _away_head.AwayHead.begin(settings, lambda _: head.address)
        try:
            assert _head_keeper.is_joined(head) is True
        finally:
            driver.stop()
    finally:
        head.stop()
    assert _head_keeper.is_joined(head) is None, "a head that is gone says nothing"
