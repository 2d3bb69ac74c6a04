"""`ray.experimental.internal_kv`: small named values of the cluster."""

from __future__ import annotations

import pytest
from compat_target import ray

kv = pytest.importorskip(f"{ray.__name__}.experimental.internal_kv")

pytestmark = pytest.mark.row("9.locations")


@pytest.fixture()
def clean(cluster):
    yield
    for space in (None, "ns"):
        kv._internal_kv_del("t/", del_by_prefix=True, namespace=space)


def test_put_says_whether_there_was_one(clean):
    assert kv._internal_kv_initialized()
    assert kv._internal_kv_get("t/a") is None
    assert not kv._internal_kv_exists("t/a")
    assert kv._internal_kv_put("t/a", "v") is False
    assert kv._internal_kv_put("t/a", b"v2") is True
    assert kv._internal_kv_put("t/a", "v3", overwrite=False) is True
    assert kv._internal_kv_get("t/a") == kv._internal_kv_get(b"t/a") == b"v2"
    assert kv._internal_kv_exists("t/a")


def test_namespaces_and_prefixes(clean):
    kv._internal_kv_put("t/1", "x", namespace="ns")
    kv._internal_kv_put(b"t/2\xff\x00", "", namespace=b"ns")
    kv._internal_kv_put("t/1", "other")
    assert sorted(kv._internal_kv_list("t/", namespace="ns")) == [b"t/1", b"t/2\xff\x00"]
    assert kv._internal_kv_list("t/") == [b"t/1"]
    assert kv._internal_kv_get(b"t/2\xff\x00", namespace="ns") == b""
    assert kv._internal_kv_del("t/", namespace="ns") == 0
    assert kv._internal_kv_del("t/", del_by_prefix=True, namespace="ns") == 2
    assert kv._internal_kv_get("t/1") == b"other"
    assert kv._internal_kv_del("t/1") == 1
    assert kv._internal_kv_del("t/1") == 0


def test_tasks_see_the_same_values(clean):
    module = kv.__name__

    @ray.remote
    def rename(key):
        import importlib

        there = importlib.import_module(module)
        value = there._internal_kv_get(key)
        there._internal_kv_put(key + "/done", value + b"!")
        return there._internal_kv_del(key)

    kv._internal_kv_put("t/k", "value")
    assert ray.get(rename.remote("t/k")) == 1
    assert kv._internal_kv_get("t/k") is None
    assert kv._internal_kv_get("t/k/done") == b"value!"


def test_other_types_are_refused(clean):
    for key, value in ((5, "v"), ("k", 5), (None, "v"), ("k", None)):
        with pytest.raises(AssertionError):
            kv._internal_kv_put(key, value)
