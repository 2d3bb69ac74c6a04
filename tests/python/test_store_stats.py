"""What a raylet says about its object store: the message store_stats."""

from __future__ import annotations

import pytest

import skate
from skate import _core, _wire

BUDGET = 64 << 20


@pytest.fixture()
def session():
    skate.init(address="local", num_cpus=1, object_store_memory=BUDGET)
    yield
    skate.shutdown()


def stats() -> dict:
    raylet = _core.info()["proc"] >> 32 << 32
    name, fields = _wire.parse(_core.call(raylet, _wire.build("store_stats_req"), 10.0))
    assert name == "store_stats"
    return fields


def test_bytes_by_holder(session):
    before = stats()
    assert before["budget"] == BUDGET
    held = skate.put(bytes(10 << 20))
    now = stats()
    assert now["used"] - before["used"] >= 10 << 20
    assert now["lent"] == now["used"] and now["held"] == now["kept"] == now["copies"] == 0
    numbers = now["holders"]
    rows = dict(zip(numbers[::3], zip(numbers[1::3], numbers[2::3], strict=True), strict=True))
    assert rows[_core.info()["proc"]][0] >= 10 << 20
    assert rows[_core.info()["proc"]][1] == 0  # a living process
    assert sum(size for size, _ in rows.values()) == now["used"]
    del held


def test_the_message_of_nobody_changes_nothing(session):
    raylet = _core.info()["proc"] >> 32 << 32
    _core.send(raylet, _wire.build("store_stats_req"))  # no call: no answer
    _core.send(raylet, _wire.build("store_stats"))  # an answer that nobody asked for
    assert stats()["budget"] == BUDGET
