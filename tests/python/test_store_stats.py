"""What a raylet says about its object store: the message store_stats."""

from __future__ import annotations

import numpy as np
import pytest

import skate
from skate import _core, _memory, _wire
from skate.experimental import get_local_object_locations

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


def test_what_left_memory(session):
    """Three times what fits: the rows say which are out, the node how many bytes."""
    refs = [skate.put(np.full(8 << 20, i, np.uint8)) for i in range(24)]
    view = skate.get(refs[3])
    found = _memory.look(None, 20.0, 100, None, 100)
    (node,) = found["nodes"]
    assert node["object_bytes"] >= (24 * 8) << 20 and node["objects"] == 24
    assert node["resident"] <= node["budget"] == BUDGET
    assert node["lent"] >= (24 * 8) << 20  # in memory or not
    assert node["spilled"] >= (24 * 8 << 20) - BUDGET and node["disk_used"] >= node["spilled"]
    assert node["spilled"] + node["resident"] >= node["object_bytes"]
    assert node["spills"] > 0 and node["spilled_bytes"] >= node["spilled"] and node["spill_ns"] > 0
    assert node["restores"] >= 1 and node["restored_bytes"] >= 8 << 20
    assert 8 << 20 <= node["pinned"] < 9 << 20  # the view
    assert node["failures"] == node["refused"] == node["waiting"] == node["lost"] == 0
    where = {row["object_id"]: row["where"] for row in found["objects"]}
    assert where[refs[3].hex()] == "in memory" and view[0] == 3
    out = [ref for ref in refs if where[ref.hex()] in ("spilled", "partly spilled")]
    assert len(out) >= 16
    places = get_local_object_locations(refs)
    assert places[refs[3]]["did_spill"] is False
    assert sum(place["did_spill"] for place in places.values()) >= 16
    del view, refs
