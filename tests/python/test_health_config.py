"""After how much silence a node is dead: what is said of it, and what is refused."""

from __future__ import annotations

import pytest

from skate import _memory_config

KEY = "health_check_timeout_ms"


def test_it_is_told_or_left_out(monkeypatch):
    monkeypatch.delenv(f"RAY_{KEY}", raising=False)
    monkeypatch.delenv(f"SKATE_{KEY}", raising=False)
    assert _memory_config.health() == _memory_config.health({"other": 1}) == []
    assert _memory_config.health({KEY: 3000}) == [("heartbeat_ms", 3000)]
    monkeypatch.setenv(f"RAY_{KEY}", "4000")
    assert _memory_config.health() == [("heartbeat_ms", 4000)]
    assert _memory_config.health({KEY: 3000}) == [("heartbeat_ms", 3000)]


@pytest.mark.parametrize("value", [0, 999, -1, "soon", 1 << 40, True])
def test_what_cannot_be_meant_is_refused(value):
    with pytest.raises(ValueError, match=KEY):
        _memory_config.health({KEY: value})
