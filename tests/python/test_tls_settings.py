"""What the environment asks for about TLS, and where a head listens unless it is told."""

from __future__ import annotations

import pytest

from skate import _node, _tls
from skate.cli import _interfaces, _start


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in ("USE_TLS", "TLS_SERVER_CERT", "TLS_SERVER_KEY", "TLS_CA_CERT"):
        monkeypatch.delenv(f"RAY_{name}", raising=False)
        monkeypatch.delenv(f"SKATE_{name}", raising=False)


def test_settings(monkeypatch):
    assert _tls.settings() == []
    monkeypatch.setenv("RAY_TLS_CA_CERT", "/ca")
    assert _tls.settings() == []  # as Ray: nothing without RAY_USE_TLS
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with pytest.raises(ValueError, match="RAY_TLS_SERVER_KEY"):
        _tls.settings()
    monkeypatch.setenv("RAY_TLS_SERVER_CERT", "/cert")
    monkeypatch.setenv("SKATE_TLS_SERVER_KEY", "/key")
    assert _tls.settings() == [("tls", "1"), ("tls_cert", "/cert"), ("tls_key", "/key"),
                               ("tls_ca", "/ca")]  # fmt: skip


@pytest.mark.parametrize(
    ("own", "only", "listens"),
    [("10.1.2.3", "10.1.2.3", "10.1.2.3"), ("192.168.1.9", None, "192.168.1.9"),
     ("127.0.0.1", None, "127.0.0.1"), ("127.0.0.1", "10.1.2.3", "10.1.2.3"),
     ("127.0.0.1", "8.8.8.8", "127.0.0.1"), ("8.8.8.8", "8.8.8.8", "127.0.0.1")],
)  # fmt: skip
def test_no_public_address_unless_asked(monkeypatch, capsys, own, only, listens):
    """only: the address of the single network, where no route leads outside."""
    monkeypatch.setattr(_node, "own_ip", lambda toward="192.0.2.1": own)
    monkeypatch.setattr(_interfaces, "only_one", lambda: only)
    assert _start._node_ip(None, None) == listens
    said = "--node-ip-address=8.8.8.8" in capsys.readouterr().err
    assert said == ("8.8.8.8" in (own, only))
    assert _start._node_ip("8.8.8.8", None) == "8.8.8.8"
