"""`ray.experimental.get_object_locations`: where the bytes of objects lie."""

from __future__ import annotations

import importlib

import pytest
from compat_target import ON_RAY, ray

experimental = importlib.import_module(f"{ray.__name__}.experimental")

pytestmark = [pytest.mark.row("9.locations"), pytest.mark.usefixtures("cluster")]


@ray.remote
def make(n):
    return b"x" * n


@ray.remote
def where_is(refs):
    module = importlib.import_module(experimental.__name__)
    return module.get_object_locations(refs)[refs[0]]["object_size"]


def test_large_objects_lie_on_their_node():
    put, made = ray.put(b"x" * 1_000_000), make.remote(2_000_000)
    ray.wait([made])
    here = ray.get_runtime_context().get_node_id()
    for places in (
        experimental.get_object_locations([put, made]),
        experimental.get_local_object_locations([put, made]),
    ):
        assert list(places) == [put, made]
        for ref, size in ((put, 1_000_000), (made, 2_000_000)):
            assert places[ref]["node_ids"] == [here]
            assert size <= places[ref]["object_size"] < size + 200
            assert places[ref]["did_spill"] is False


def test_what_is_not_there_yet():
    never = make.options(resources={"gold": 99}).remote(1)
    place = experimental.get_object_locations([never], timeout_ms=100)[never]
    assert place["node_ids"] == [] and place["object_size"] is None


def test_of_another_process_s_object():
    ref = ray.put(b"x" * 1_000_000)
    assert ray.get(where_is.remote([ref])) >= 1_000_000


def test_what_is_refused():
    assert experimental.get_object_locations([]) == {}
    with pytest.raises(TypeError):
        experimental.get_object_locations(5)
    if not ON_RAY:  # where it ends the process with SIGSEGV
        with pytest.raises(TypeError):
            experimental.get_object_locations([5])
