"""The id classes: lengths, text, nil, equality; what is not an id."""

from __future__ import annotations

import os
import pickle

import pytest
from compat_target import ray

SIZES = {
    "ObjectRef": 28, "ActorID": 16, "TaskID": 24, "JobID": 4, "NodeID": 28, "WorkerID": 28,
    "FunctionID": 28, "ActorClassID": 28, "PlacementGroupID": 18, "UniqueID": 28, "ClusterID": 28,
}  # fmt: skip
RANDOM = sorted(set(SIZES) - {"TaskID", "JobID"})
FROM_HEX = sorted(set(SIZES) - {"ObjectRef", "UniqueID"})
pytestmark = pytest.mark.row("1.ids")


@pytest.mark.parametrize("name", sorted(SIZES))
def test_nil_and_length(name):
    kind = getattr(ray, name)
    nil = kind.nil()
    assert kind.size() == SIZES[name] and nil.is_nil()
    assert nil.binary() == b"\xff" * SIZES[name]
    assert nil.hex() == "ff" * SIZES[name]
    assert nil == kind.nil() and hash(nil) == hash(kind.nil())
    assert nil.hex() in repr(nil) and name in repr(nil)


@pytest.mark.parametrize("name", RANDOM)
def test_random_ones_differ(name):
    kind = getattr(ray, name)
    one, other = kind.from_random(), kind.from_random()
    assert one != other and not one.is_nil() and len(one.binary()) == SIZES[name]


@pytest.mark.parametrize("name", FROM_HEX)
def test_to_text_and_back(name):
    kind = getattr(ray, name)
    one = kind(os.urandom(SIZES[name]))
    again = kind.from_hex(one.hex())
    assert again == one and hash(again) == hash(one) and type(again) is kind
    assert kind.from_binary(one.binary()) == one
    assert one != one.binary() and {one: 1}[again] == 1
    assert pickle.loads(pickle.dumps(one)) == one


@pytest.mark.parametrize("name", ["ObjectRef", "UniqueID"])
def test_no_text_for_these(name):
    with pytest.raises(NotImplementedError):
        getattr(ray, name).from_hex("00" * 28)


@pytest.mark.parametrize("name", sorted(SIZES))
def test_wrong_bytes(name):
    kind = getattr(ray, name)
    with pytest.raises(ValueError):
        kind(b"x")
    with pytest.raises(TypeError):
        kind("x")


@pytest.mark.parametrize("name", sorted(SIZES))
def test_no_order(name):
    nil = getattr(ray, name).nil()
    with pytest.raises(TypeError):
        assert nil < nil


def test_kinds_are_not_equal():
    assert ray.NodeID.nil() != ray.WorkerID.nil()
    assert ray.ObjectID is ray.ObjectRef


def test_job_numbers():
    job = ray.JobID.from_int(5)
    assert job.binary() == b"\x05\0\0\0" and job.int() == 5 and job.hex() == "05000000"


@pytest.mark.row("1.object_ref")
def test_ids_of_a_ref(cluster):
    @ray.remote
    def own():
        return ray.get_runtime_context().get_task_id()

    ref = own.remote()
    assert len(ref.binary()) == 28 and ref.hex() == ref.binary().hex()
    assert ref.task_id().hex() == ray.get(ref) == ref.hex()[:48]
    assert ref.job_id().hex() == ray.get_runtime_context().get_job_id()
    assert isinstance(ref.owner_address(), bytes) and isinstance(ref.call_site(), str)
    put = ray.put(1)
    assert put != ref and put.binary() != ref.binary() and not put.is_nil()


def test_ids_travel(cluster):
    @ray.remote
    def back(*ids):
        return ids

    ids = tuple(getattr(ray, name).nil() for name in sorted(SIZES) if name != "ObjectRef")
    assert ray.get(back.remote(*ids)) == ids
