"""Control frames built in Python are what Python, and the C validator's rules, read."""

from __future__ import annotations

import pytest

from skate import _wire


def test_round_trip_of_every_message():
    from skate._wire_gen import MESSAGES

    for name, (_, fixed, scalars, spans) in MESSAGES.items():
        given = {}
        for i, (field, code, _) in enumerate(scalars):
            given[field] = bytes(range(16)) if code == "16s" else i + 1  # distinct
        for field, kind, _ in spans:
            given[field] = "text" if kind == "str" else bytes(128)
        frame = _wire.build(name, **given)
        assert int.from_bytes(frame[:4], "little") == len(frame) >= fixed
        found, fields = _wire.parse(frame)
        assert found == name
        for field, _, _ in scalars:
            assert fields[field] == given[field]
        for field, kind, offset in spans:
            assert int.from_bytes(frame[offset : offset + 4], "little") % 8 == 0
            if kind in ("str", "bytes"):
                assert fields[field] == given[field]


def test_unknown_fields_are_refused():
    with pytest.raises(TypeError):
        _wire.build("bye", nothing_like_it=1)


def test_rows():
    one, two = _wire.build("bye"), _wire.build("kv_get", key="a")
    data = one + bytes(-len(one) % 8) + two + bytes(-len(two) % 8)
    assert [name for name, _ in _wire.frames(data)] == ["bye", "kv_get"]
    assert _wire.frames(data[:20]) == []


def test_resources():
    amounts = {"CPU": 2.0, "gold": 0.25, "node:127.0.0.1": 1.0}
    assert _wire.unpack_resources(_wire.pack_resources(amounts)) == amounts
