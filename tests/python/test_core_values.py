"""Values without a cluster: what the extension encodes comes back equal, and hostile bytes fail."""

from __future__ import annotations

import gc
import os
import pickle
import random
import threading

import numpy as np
import pytest

from skate import _core

RAW, PLAIN, PICKLED = 1, 2, 3

PLAIN_VALUES = [
    None, True, False, 0, -1, 127, 128, -32, -33, 2**31 - 1, -(2**31), 2**31, 2**63 - 1, -(2**63),
    1.5, float("inf"), "", "a", "ü" * 1000, [1, [2, (3,)]], (1, "a", ()), {"a": {1: 2}}, [b"x"],
    list(range(1000)), {(1, 2): "tuple key"}, "x" * 40, [None] * 20, {i: i for i in range(20)},
]  # fmt: skip


@pytest.mark.parametrize("value", PLAIN_VALUES, ids=lambda v: type(v).__name__)
def test_plain_values_need_no_pickle(value):
    packed = _core.pack(value)
    assert packed[0] == PLAIN
    back = _core.unpack(packed)
    assert back == value and type(back) is type(value)


@pytest.mark.parametrize(
    "value",
    [2**64, 2**63, -(2**63) - 1, 1 + 2j, {1, 2}, range(5), int, bytearray(b"x"), frozenset({1}),
     "\ud800", Ellipsis, np.float64(3), [{1}]],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_other_values_are_pickled(value):
    packed = _core.pack(value)
    assert packed[0] == PICKLED
    back = _core.unpack(packed)
    assert back == value and type(back) is type(value)


def test_bytes_are_raw():
    data = os.urandom(100_000)
    assert _core.pack(data)[0] == RAW and _core.unpack(_core.pack(data)) == data


def test_nan():
    assert _core.unpack(_core.pack(float("nan"))) != _core.unpack(_core.pack(float("nan")))


def test_aliasing_is_kept():
    inner: list[int] = []
    a, b = _core.unpack(_core.pack([inner, inner]))
    assert a is b
    loop: list[object] = []
    loop.append(loop)
    back = _core.unpack(_core.pack(loop))
    assert back[0] is back


def test_subclasses_keep_their_type():
    class Mine(dict):
        pass

    assert type(_core.unpack(_core.pack(Mine(a=1)))).__name__ == "Mine"
    flag = type(_core.unpack(_core.pack([np.bool_(True)]))[0])
    assert flag is np.bool_


def test_deep_nesting():
    value: object = 1
    for _ in range(300):
        value = [value]
    back = _core.unpack(_core.pack(value))
    for _ in range(300):
        [back] = back
    assert back == 1


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_only_aligned_views(order):
    array = np.asarray(np.arange(10_000.0).reshape(100, 100), order=order)
    back = _core.unpack(_core.pack(array))
    assert np.array_equal(back, array) and not back.flags.writeable
    assert back.ctypes.data % 64 == 0
    strided = _core.unpack(_core.pack(array[::2, 1::3]))
    assert np.array_equal(strided, array[::2, 1::3])


def test_a_view_outlives_everything_else():
    part = _core.unpack(_core.pack({"a": np.arange(1000)}))["a"][500:]
    gc.collect()
    assert part[0] == 500 and part[-1] == 999


def test_local_classes_travel_by_value():
    class Local:
        def __init__(self) -> None:
            self.x = [1, 2]

        def double(self):
            return [2 * v for v in self.x]

    assert _core.unpack(_core.pack(Local())).double() == [2, 4]


@pytest.mark.parametrize("value", [threading.Lock(), [threading.Lock()], (v for v in ())])
def test_what_cannot_be_pickled_is_a_type_error(value):
    with pytest.raises(TypeError):
        _core.pack(value)


def test_an_error_leaves_no_references():
    gc.collect()
    held = ["a", threading.Lock()]
    for _ in range(3):
        with pytest.raises(TypeError):
            _core.pack([held, held, 2**70])
    assert len(gc.get_referrers(held)) <= 1


def test_random_bytes_never_crash():
    """Whatever another process writes: a value or an exception, never a crash."""
    chosen = random.Random(5)
    seeds = [_core.pack(v) for v in ([1, "a", {"b": (1.5, None)}], [np.arange(20)], (1, b"x" * 50))]
    for _ in range(20_000):
        data = bytearray(chosen.choice(seeds))
        data[0] = chosen.choice((RAW, PLAIN))
        for _ in range(chosen.randrange(4)):
            data[chosen.randrange(64, len(data))] = chosen.randrange(256)
        try:
            _core.unpack(bytes(data[: chosen.randrange(64, len(data) + 1)]))
        except (ValueError, TypeError, OverflowError, MemoryError):
            pass


def test_damaged_headers_of_pickles():
    packed = bytearray(_core.pack([np.arange(1000)]))
    for at in (64, 72, 80, 88):
        for wrong in (b"\xff" * 8, b"\0\0\0\0\0\0\0\x7f", (10**6).to_bytes(8, "little")):
            data = bytes(packed[:at]) + wrong + bytes(packed[at + 8 :])
            with pytest.raises((ValueError, pickle.UnpicklingError, EOFError, MemoryError)):
                _core.unpack(data)


def test_ids_without_a_session():
    nil = _core.ObjectRef.nil()
    assert nil.is_nil() and len(nil.binary()) == 28 and nil.hex() == "ff" * 28
    assert nil == _core.ObjectRef.nil() and len({nil, _core.ObjectRef.nil()}) == 1
    assert len(_core.ActorID.nil().binary()) == 16
    assert pickle.loads(pickle.dumps(nil)) == nil
    with pytest.raises(TypeError):
        _core.ObjectRef()
