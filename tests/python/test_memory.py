"""Who holds the memory, asked from the program itself: the text, the sums, the limits."""

from __future__ import annotations

import warnings

import pytest

import skate
from skate import _core, _memory, _memory_text, _wire
from skate._private.internal_api import memory_summary
from skate.util import metrics
from skate.util.state import get_objects, list_objects, summarize_objects

MANY = 30_000


@pytest.fixture(scope="module")
def kept():
    skate.init(address="local", num_cpus=1, object_store_memory=128 << 20)
    kept = [skate.put(i) for i in range(MANY)] + [skate.put(bytes(1 << 20)) for _ in range(5)]
    yield kept
    del kept
    skate.shutdown()


def look(rows=10, **kw):
    return _memory.look(None, 10.0, rows, kw.pop("old_s", None), kw.pop("most", rows))


def test_all_are_counted_and_the_largest_are_shown(kept):
    found = look(10)
    assert found["total"] == len(kept) and found["rows_left_out"] == len(kept) - 10
    sizes = [row["object_size"] for row in found["objects"]]
    assert [size >= 1 << 20 for size in sizes] == [True] * 5 + [False] * 5
    assert {row["object_id"] for row in found["objects"][:5]} == {r.hex() for r in kept[-5:]}
    assert sum(group["count"] for group in found["groups"]) == len(kept)
    whole = summarize_objects()["cluster"]
    assert whole["total_objects"] == len(kept)
    assert whole["summary"]["disabled"]["ref_type_counts"] == {"LOCAL_REFERENCE": len(kept)}
    text = memory_summary(num_entries=7)
    assert f"{len(kept) - 7:,} of {len(kept):,} references, the smallest," in text
    assert sum(kept[-1].hex()[:40] in line for line in text.splitlines()) >= 1


def test_one_among_many_is_found(kept):
    (row,) = get_objects(kept[3].hex())
    assert row.object_id == kept[3].hex() and row.where == "inline" and row.owner_pid == row.pid
    assert list_objects(filters=[("object_id", "=", kept[4].hex())])[0].object_id == kept[4].hex()
    assert get_objects("00" * 28) == get_objects("no id") == []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert len(list_objects(limit=5)) == 5
    assert any("more rows than a process gives out" in str(w.message) for w in said)


@pytest.mark.parametrize("group_by", ["NODE_ADDRESS", "STACK_TRACE"])
def test_a_terminal_of_a_hundred_columns(kept, group_by):
    found = look(20, old_s=0.0)
    for options in (
        _memory_text.Options(group_by, units="MB", num_entries=20, width=100),
        _memory_text.Options(group_by, stats_only=True, width=100),
    ):
        text = _memory_text.text(found, options)
        assert max(map(len, text.splitlines())) <= 100, text
    wide = _memory_text.text(found, _memory_text.Options(group_by)).splitlines()
    assert any(line.startswith("IP Address") and line.endswith("Object Ref") for line in wide)


def test_numbers_of_the_store(kept):
    (node,) = look()["nodes"]
    assert node["objects"] == 5 and node["object_bytes"] >= 5 << 20
    tags = f'NodeAddress="{node["ip"]}",NodeId="{node["node_id"]}"'
    text = metrics.prometheus_text()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(lines[f'ray_object_store_memory{{Location="IN_MEMORY",{tags}}}']) >= 5 << 20
    assert float(lines[f'ray_object_store_memory{{Location="SPILLED",{tags}}}']) == 0
    used = float(lines[f"ray_object_store_used_memory{{{tags}}}"])
    assert used + float(lines[f"ray_object_store_available_memory{{{tags}}}"]) == 128 << 20
    assert float(lines[f'ray_spill_manager_request_total{{Type="Spilled",{tags}}}']) == 0
    assert "# TYPE ray_spill_manager_request_total counter" in text


def test_wishes_that_cannot_be(kept):
    for wrong in ({"group_by": "PID"}, {"sort_by": "size"}, {"units": "TB"}):
        with pytest.raises(ValueError, match="is not one of"):
            memory_summary(**wrong)


def test_what_a_peer_may_ask(kept):
    """Bounds hold whatever the numbers say."""
    me = _core.info()["proc"]
    for fields in ({"rows": 0xFFFFFFFF, "groups": 0xFFFFFFFF}, {"old_ns": -(1 << 63)},
                   {"obj": b"\xff" * 16, "rows": 5}):  # fmt: skip
        _, answer = _wire.parse(_core.call(me, _wire.build("memory_req", **fields), 10.0))
        assert answer["rows"] <= 20_000
        assert answer["objects"] == (0 if "obj" in fields else len(kept))
    _core.send(me, _wire.build("memory_req", rows=10))  # no call: no answer


def test_what_moved_and_what_waits_is_told():
    """The words for numbers that are seldom other than zero."""
    base = dict.fromkeys(
        (f[0] for f in _wire.MESSAGES["store_stats"][2]), 0
    ) | {"ip": "10.0.0.7", "node_id": "ab" * 28, "objects": 0, "object_bytes": 0, "spare": 0,
         "unexplained": 0, "processes": [], "waits_for": ""}  # fmt: skip
    node = base | {
        "budget": 4 << 30, "resident": 3 << 30, "spilled": 10 << 30, "disk_used": 12 << 30,
        "pinned": 1 << 30, "copies": 2, "copies_bytes": 1 << 20, "unused_copies": 1,
        "unused_copies_bytes": 1 << 19, "held": 5 << 20, "kept": 6 << 20, "lost": 7 << 20,
        "spills": 40, "spilled_bytes": 10 << 30, "spill_ns": 10 * 10**9, "spill_rate": 1 << 20,
        "restores": 4, "restored_bytes": 1 << 30, "restore_ns": 10**9, "evictions": 3,
        "evicted_bytes": 9 << 20, "waiting": 2, "waits_for": "2 wait for 3 MB", "refused": 1,
        "failures": 5,
    }  # fmt: skip
    found = {"time": 0.0, "objects": [], "total": 0, "rows_left_out": 0, "groups": [], "leaks": [],
             "leaks_after_s": 60.0, "nodes": [base, node], "call_sites": False,
             "silent": [{"what": "raylet", "pid": 9, "node": 3}]}  # fmt: skip
    text = _memory_text.text(found, _memory_text.Options(stats_only=True, width=100))
    assert max(map(len, text.splitlines())) <= 100, text
    for words in (
        "3.0 GiB of 4.0 GiB (75.0 %)", "10.0 GiB, spill files 12.0 GiB", "1.0 GiB",
        "2 copies of other nodes' objects, 1.0 MiB; nobody uses 1 of them, 512.0 KiB",
        "5.0 MiB of processes that died", "6.0 MiB of workers that ended",
        "7.0 MiB of spill files that cannot be read", "waiting           2 wait for 3 MB",
        "1 request refused, store full; 5 failures of spill files", "raylet 9 of node 3",
        "Spilled 10240 MiB, 40 objects, avg write throughput 1024 MiB/s",
        "Restored 1024 MiB, 4 objects, avg read throughput 1024 MiB/s", "1.0 GiB/s",
    ):  # fmt: skip
        assert words in text, (words, text)
