"""The forms of values that every language reads: tensors and Arrow tables, both ways."""

from __future__ import annotations

import collections
import enum
import gc
import random
import struct
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

import skate
from skate import _core
from skate.cross_language import plain, put

RAW, PLAIN, PICKLED, TENSOR, ARROW = 1, 2, 3, 4, 5
DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "?", "c8", "c16"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 0, 2), (4, 5, 6)], ids=str)
def test_arrays_of_every_type(dtype, shape):
    array = np.asarray(np.arange(np.prod(shape, dtype=int)).reshape(shape) % 100, dtype)
    packed = _core.pack_plain(array)
    assert packed[0] == TENSOR
    body = packed[64:]
    number, ndim = struct.unpack_from("<II", body)
    assert (number, ndim) == (DTYPES.index(dtype) + 1, len(shape))
    assert struct.unpack_from(f"<{ndim}q", body, 8) == shape
    start = (8 + 8 * ndim + 63) // 64 * 64
    assert body[start:] == array.tobytes() and not any(body[8 + 8 * ndim : start])
    back = _core.unpack(packed)
    assert back.dtype == array.dtype and back.shape == shape and np.array_equal(back, array)


def test_arrays_that_lie_otherwise_are_copied():
    base = np.arange(24.0).reshape(4, 6)
    for array in (base.T, base[::2, ::3], base.astype(">f8"), np.asfortranarray(base)):
        back = _core.unpack(_core.pack_plain(array))
        assert np.array_equal(back, array) and back.flags.c_contiguous and back.dtype == "<f8"


def test_what_has_no_form_is_pickled():
    for value in (np.array([object()]), np.array(["2020-01-01"], "M8[D]"), np.array(["text"]),
                  np.ma.masked_array([1]), {1, 2}, 2**70, 1j, [np.ones(1)]):  # fmt: skip
        assert _core.pack_plain(value)[0] == PICKLED
    assert _core.pack([np.ones(1)])[0] == PICKLED


def test_what_is_nearly_plain_becomes_plain():
    class Color(enum.IntEnum):
        RED = 3

    point = collections.namedtuple("point", "x y")(1, np.int8(2))
    cases = [(np.float64(1.5), 1.5), (np.bool_(True), True), (Color.RED, 3), (point, (1, 2)),
             (collections.OrderedDict(a=np.float32(2)), {"a": 2.0}),
             (bytearray(b"x"), b"x")]  # fmt: skip
    for value, expected in cases:
        packed = _core.pack_plain(value)
        back = _core.unpack(packed)
        assert packed[0] == PLAIN and back == expected and type(back) is type(expected)
    shared = [1]
    assert _core.pack_plain([shared, shared])[0] == PLAIN


def test_tables():
    table = pa.table({"n": [1, None, 3], "s": ["a", "b", None], "l": [[1], [], None]})
    for value in (table, table.to_batches()[0], table.slice(1, 1), table.schema.empty_table()):
        packed = _core.pack_plain(value)
        assert packed[0] == ARROW and packed[64:72] == b"\xff\xff\xff\xff" + packed[68:72]
        back = _core.unpack(packed)
        assert isinstance(back, pa.Table)
        assert back.to_pylist() == value.to_pylist() and back.schema == value.schema


def test_hostile_bytes_raise():
    head = bytes([TENSOR]) + bytes(63)
    bad = [b"", struct.pack("<I", 7), struct.pack("<II", 0, 0), struct.pack("<II", 99, 0),
           struct.pack("<II", 7, 17), struct.pack("<IIq", 7, 1, -1) + bytes(48),
           struct.pack("<IIq", 7, 1, 5) + bytes(48), struct.pack("<II", 7, 16),
           struct.pack("<IIqq", 7, 2, 2**62, 4) + bytes(40)]  # fmt: skip
    for body in bad:
        with pytest.raises(ValueError, match="malformed tensor"):
            _core.unpack(head + body)
    with pytest.raises(pa.ArrowInvalid):
        _core.unpack(bytes([ARROW]) + bytes(63) + b"no stream at all")
    actor = b"\xc7\x18\x04" + bytes(24)
    for end in range(len(actor)):
        with pytest.raises(ValueError, match="malformed"):
            _core.unpack(bytes([PLAIN]) + bytes(63) + actor[:end])
    with pytest.raises(ValueError, match="malformed"):
        _core.unpack(bytes([PLAIN]) + bytes(63) + actor.replace(b"\x04", b"\x05"))
    assert "number 258" in repr(_core.unpack(bytes([PLAIN]) + bytes(63) + actor[:-2] + b"\1\2"))
    dice = random.Random(5)
    whole = _core.pack_plain(np.arange(6.0).reshape(2, 3))
    for _ in range(500):
        bent = bytearray(whole)
        bent[64 + dice.randrange(64)] = dice.randrange(256)
        try:
            _core.unpack(bytes(bent[: dice.randrange(64, len(bent) + 1)]))
        except ValueError:
            pass


def test_a_stored_array_is_read_where_it_lies(session):
    array = np.arange(1_000_000, dtype="i4").reshape(1000, 1000)
    ref = put(array)
    one, two = skate.get(ref), skate.get(ref)
    assert np.array_equal(one, array) and not one.flags.writeable
    assert one.ctypes.data == two.ctypes.data and one.ctypes.data % 64 == 0
    mine = skate.get(ref, copy=True)
    mine[0, 0] = 9
    assert one[0, 0] == 0
    table = pa.table({"n": np.arange(100_000)})
    kept = skate.get(put(table))  # the ref is gone, the bytes are not
    gc.collect()
    skate.put(np.ones(1_000_000))
    assert kept == table
    skate.shutdown()
    assert kept == table and np.array_equal(one, array)


def test_plain_marks_what_another_language_reads(session):
    array, table = np.asfortranarray(np.ones((2, 3))), pa.table({"a": [1]})
    assert _core.pack(plain(array))[0] == _core.pack(plain(plain(array)))[0] == TENSOR
    assert _core.pack(plain(table))[0] == ARROW and _core.pack(plain((1, np.int8(2))))[0] == PLAIN
    inside = _core.unpack(_core.pack({"a": {1}, "b": [plain(array), plain(table)]}))["b"]
    assert np.array_equal(inside[0], array) and inside[1] == table
    with pytest.raises(TypeError, match="the value is of type builtins.set"):
        plain({1})

    @skate.remote
    def several():
        return plain(array), plain(table), plain(np.float32(1.5))

    one, two, three = skate.get(list(several.options(num_returns=3).remote()))
    assert one.flags.c_contiguous and np.array_equal(one, array) and two == table and three == 1.5


def test_torch_tensors():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    for given in (torch.arange(6).reshape(2, 3), torch.randn(3, 4).T, torch.zeros(0, 3),
                  torch.ones(4, requires_grad=True), torch.tensor(2.5),
                  torch.eye(2) > 0):  # fmt: skip
        packed = _core.pack_plain(given)
        assert packed[0] == TENSOR and np.array_equal(_core.unpack(packed), given.detach().numpy())
    assert _core.pack_plain(torch.ones(3, dtype=torch.bfloat16))[64] == 15
    assert _core.pack_plain(torch.eye(3).to_sparse())[0] == PICKLED


def test_without_numpy_the_error_says_so():
    code = (
        "import sys; sys.modules['numpy'] = None\n"
        "from skate import _core\n"
        f"try: _core.unpack({bytes(_core.pack_plain(np.ones(2)))!r})\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "a tensor" in done.stdout and "install numpy" in done.stdout, done.stderr
