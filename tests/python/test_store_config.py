"""How the store spills and waits: what init(), `skate start` and the environment may say."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import skate
from skate import _store_config
from skate._store_config import settings
from skate.cluster_utils import Cluster


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch):
    for key in _store_config.KEYS:
        monkeypatch.delenv(f"RAY_{key}", raising=False)
        monkeypatch.delenv(f"SKATE_{key}", raising=False)


@pytest.fixture
def no_session():
    skate.shutdown()
    yield
    skate.shutdown()


def config(kind, **params):
    return json.dumps({"type": kind, "params": params})


def test_nothing_told_is_nothing_said():
    assert settings() == [] == settings("", {}) == settings(None, {"max_lineage_bytes": 3})


def test_folders_in_all_their_forms(tmp_path, monkeypatch):
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    one, two = [("spill", a)], [("spill", f"{a}:{b}")]
    assert settings(a) == settings(tmp_path / "a") == settings([a, a]) == one
    assert settings([a, b]) == two
    assert settings(None, {"object_spilling_directory": a}) == one
    for form in (a, [a]):
        given = config("filesystem", directory_path=form)
        assert settings(None, {"object_spilling_config": given}) == one
    assert settings(None, {"object_spilling_config": json.loads(given)}) == one
    assert os.listdir(a) == os.listdir(b) == []  # made, tried, nothing left
    monkeypatch.setenv("RAY_object_spilling_config", config("filesystem", directory_path=b))
    assert settings() == [("spill", b)]
    monkeypatch.setenv("SKATE_object_spilling_config", given)
    assert settings() == one
    # The argument stands over _system_config, that over the environment.
    assert settings(None, {"object_spilling_directory": b}) == [("spill", b)]
    assert settings(str(tmp_path), {"object_spilling_directory": b}) == [("spill", str(tmp_path))]
    monkeypatch.chdir(tmp_path)
    assert settings("a") == one


def test_uris(tmp_path):
    uris = ["memory://x/y", f"file://{tmp_path}"]
    assert settings(uris[0]) == [("spill", uris[0]), ("spill_remote", 1)]
    for kind in ("smart_open", "ray_storage", "fsspec"):
        given = {"object_spilling_config": config(kind, uri=uris)}
        assert settings(None, given) == [("spill", " ".join(uris)), ("spill_remote", 1)]
    options = {"key": "k", "client_kwargs": {"endpoint_url": "http://127.0.0.1:1"}}
    found = dict(settings(None, {"object_spilling_config": {
        "type": "smart_open", "params": {"uri": "memory://x", "storage_options": options}}}))
    assert json.loads(found["spill_options"]) == options


def test_numbers(monkeypatch):
    assert settings(None, {"object_spilling_threshold": 0.5, "min_spilling_size": 100,
                           "max_fused_object_count": 10, "store_wait_s": 1.5,
                           "max_spilling_file_size_bytes": 4096.0}) == [
        ("spill_threshold", 0.5), ("spill_min_bytes", 100), ("spill_file_bytes", 4096),
        ("store_wait_s", 1.5)]  # fmt: skip
    assert settings(None, {"automatic_object_spilling_enabled": False}) == [("spill", "")]
    assert settings(None, {"automatic_object_spilling_enabled": True}) == []
    assert settings(None, {"max_spilling_file_size_bytes": -1}) == []
    monkeypatch.setenv("RAY_object_spilling_threshold", "1")
    monkeypatch.setenv("SKATE_store_span_bytes", str(1 << 33))
    monkeypatch.setenv("RAY_automatic_object_spilling_enabled", "0")
    assert settings() == [("spill", ""), ("spill_threshold", 1.0), ("span", 1 << 33)]


@pytest.mark.parametrize(
    ("directory", "system", "error", "says"),
    [
        ("/proc/nothing/here", None, OSError, "cannot spill objects to the folder /proc/nothing"),
        (["/tmp", "memory://x"], None, ValueError, "not both"),
        ("/tmp/a:b", None, ValueError, "colon"),
        ("/tmp/" + "a" * 400, None, ValueError, "at most 360 bytes"),
        (3, None, TypeError, "object_spilling_directory"),
        ([], None, ValueError, "1 to 16"),
        ("nosuch://x", None, ValueError, "nosuch://"),
        ("http://x/y", None, ValueError, "only be read"),
        ("s3://a b", None, ValueError, "no URI"),
        ("S3x//://a", None, ValueError, "no URI"),
        (None, [], TypeError, "_system_config"),
        (None, {"object_spilling_config": "{"}, ValueError, "no JSON"),
        (None, {"object_spilling_config": "[]"}, ValueError, "directory_path"),
        (None, {"object_spilling_config": config("tape")}, ValueError, "Unknown external storage"),
        (None, {"object_spilling_config": config("filesystem")}, ValueError, "directory_path"),
        (None, {"object_spilling_config": config("smart_open")}, ValueError, "uri"),
        (None, {"object_spilling_config": config("smart_open", uri="memory://x",
                                                 storage_options=3)}, ValueError, "is a dict"),
        (None, {"object_spilling_threshold": 1.5}, ValueError, "from 0 to 1"),
        (None, {"object_spilling_threshold": "most"}, ValueError, "'most'"),
        (None, {"object_spilling_threshold": float("nan")}, ValueError, "threshold"),
        (None, {"min_spilling_size": -1}, ValueError, "at least 0"),
        (None, {"min_spilling_size": 1.5}, ValueError, "min_spilling_size"),
        (None, {"min_spilling_size": True}, ValueError, "min_spilling_size"),
        (None, {"max_fused_object_count": 0}, ValueError, "at least 1"),
        (None, {"store_wait_s": "forever"}, ValueError, "store_wait_s"),
        (None, {"automatic_object_spilling_enabled": "maybe"}, ValueError, "true or false"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant(directory, system, error, says):
    with pytest.raises(error, match="(?s).*") as raised:
        settings(directory, system)
    assert says in str(raised.value)


def test_a_missing_package_is_named(monkeypatch):
    """Each of the three: fsspec itself, what it needs for a protocol, what fsspec's own needs."""
    with pytest.raises(ModuleNotFoundError, match="s3fs|adlfs") as raised:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        settings("abfs://container/x")
    assert raised.value.name == "adlfs" and "pip install adlfs" in str(raised.value)
    with pytest.raises(ModuleNotFoundError, match="needs the package paramiko") as raised:
        monkeypatch.setitem(sys.modules, "paramiko", None)
        monkeypatch.delitem(sys.modules, "fsspec.implementations.sftp", raising=False)
        settings("sftp://me:secret@host/x")
    assert "secret" not in str(raised.value)
    monkeypatch.setitem(sys.modules, "fsspec.registry", None)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ModuleNotFoundError, match="needs the package fsspec: pip install fsspec"):
        settings("s3://bucket/x")


def test_a_password_is_not_repeated():
    with pytest.raises(ValueError, match="no URI") as raised:
        settings("FTP://me:secret@host/x")
    assert "secret" not in str(raised.value)


def test_init_says_it_at_once_and_starts_nothing(no_session):
    for given, error in (
        ({"object_spilling_directory": "/proc/nothing"}, OSError),
        ({"_system_config": {"object_spilling_config": "{"}}, ValueError),
        ({"_system_config": {"object_spilling_threshold": 2}}, ValueError),
    ):
        with pytest.raises(error):
            skate.init(num_cpus=1, **given)
        assert not skate.is_initialized()


def test_init_with_all_of_it(no_session, tmp_path):
    skate.init(num_cpus=1, object_spilling_directory=str(tmp_path), object_store_memory=10 << 20,
               _system_config={"object_spilling_threshold": 0.9, "store_wait_s": 3})  # fmt: skip
    assert skate.get(skate.put(bytes(100_000))) == bytes(100_000)


def test_a_joining_program_cannot_say_it(no_session, tmp_path):
    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=1, object_spilling_directory=str(tmp_path))
        with pytest.raises(ValueError, match="the node's business.*store_wait_s"):
            skate.init(address=cluster.address, _system_config={"store_wait_s": 3})
        skate.init(address=cluster.address, object_spilling_directory="/nowhere")  # as Ray's
        skate.shutdown()
        with pytest.raises(OSError, match="cannot spill"):
            cluster.add_node(object_spilling_directory="/proc/nothing")
    finally:
        cluster.shutdown()


def test_skate_start(no_session):
    done = subprocess.run(
        [sys.executable, "-m", "skate.cli", "start", "--head", "--object-spilling-directory",
         "/proc/nothing"], capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("Error: object_spilling_directory: cannot spill objects to the")
    done = subprocess.run(
        [sys.executable, "-m", "skate.cli", "start", "--head", "--system-config", "[1]"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1 and "--system-config must be like" in done.stderr
