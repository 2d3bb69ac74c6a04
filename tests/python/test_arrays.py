"""numpy arrays travel as tensors where that says all about them, and as pickles elsewhere."""

from __future__ import annotations

import random

import numpy as np
import pytest

import skate
from skate import _core
from skate.util import deregister_serializer, register_serializer

PICKLED, TENSOR = 3, 4
KINDS = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "?", "c8", "c16"]
SHAPES = [(), (1,), (7,), (3, 4), (1, 5, 1), (2, 3, 4, 5), (1,) * 16]


class Own(np.ndarray):
    pass


def same(back, array):
    assert type(back) is type(array) and back.dtype == array.dtype and back.shape == array.shape
    assert np.array_equal(back, array)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_tensors_of_every_shape(kind):
    for shape in SHAPES:
        array = np.random.default_rng(1).integers(0, 2, shape).astype(kind)
        array = np.asarray(array)  # also of no dimensions
        packed = _core.pack(array)
        assert packed[0] == TENSOR
        back = _core.unpack(packed)
        same(back, array)
        assert not back.flags.writeable and back.flags.aligned and back.flags.c_contiguous


def test_what_a_tensor_does_not_say_is_pickled():
    base = np.arange(24.0).reshape(4, 6)
    own = base.view(Own)
    strange = [
        base.T, base[::2], base[:, ::3], np.asfortranarray(base), base.astype(">f8"), own,
        np.array([], "f8"), np.zeros((3, 0, 2)), np.array(["text"]), np.array([b"raw"]),
        np.array(["2020-01-01"], "M8[D]"), np.zeros(2, [("a", "i4"), ("b", "f8")]),
        np.array([1, "a", None], dtype=object), np.ones((1,) * 17),
        np.ma.masked_array([1, 2], [0, 1]), np.float64(2.5),
    ]  # fmt: skip
    for array in strange:
        packed = _core.pack(array)
        assert packed[0] == PICKLED
        back = _core.unpack(packed)
        assert type(back) is type(array) and np.array_equal(back, array)
    noted = np.dtype("f8", metadata={"unit": "m"})
    back = _core.unpack(_core.pack(np.ones(2, noted)))
    assert dict(back.dtype.metadata) == {"unit": "m"}


def test_a_view_in_c_order_takes_only_its_own_bytes():
    base = np.arange(1000.0)
    packed = _core.pack(base[10:20])
    assert len(packed) == 64 + 64 + 80
    same(_core.unpack(packed), base[10:20])
    odd = np.frombuffer(bytes(range(17)), "u1")[1:].view("f4")  # at an odd address
    same(_core.unpack(_core.pack(odd)), odd)


def test_damaged_tensors_never_crash():
    chosen = random.Random(7)
    seeds = [_core.pack(a) for a in (np.arange(20), np.ones((2, 3), "f4"), np.array(1j))]
    for _ in range(20_000):
        data = bytearray(chosen.choice(seeds))
        for _ in range(chosen.randrange(4)):
            data[chosen.randrange(64, 64 + 40)] = chosen.choice((0, 1, 127, 128, 255))
        try:
            back = _core.unpack(bytes(data[: chosen.randrange(64, len(data) + 1)]))
        except (ValueError, TypeError, OverflowError, MemoryError, ImportError):
            continue
        assert back.nbytes <= len(data)
        back.tobytes()


def test_store_arguments_and_results(session):
    @skate.remote
    def double(array):
        assert not array.flags.writeable
        return array * 2

    for n in (1, 100, 300, 100_000):
        array = np.arange(n, dtype="i4")
        ref = skate.put(array)
        same(skate.get(ref), array)
        same(skate.get(double.remote(ref)), array * 2)
        same(skate.get(double.remote(array)), array * 2)
        mine = skate.get(ref, copy=True)
        mine += 1
        same(skate.get(ref), array)


def test_a_serializer_of_the_user_comes_first(session):
    register_serializer(
        np.ndarray, serializer=lambda a: a.tolist(), deserializer=lambda x: ("mine", x)
    )
    try:
        assert skate.get(skate.put(np.arange(3))) == ("mine", [0, 1, 2])
    finally:
        deregister_serializer(np.ndarray)
    same(skate.get(skate.put(np.arange(3))), np.arange(3))
