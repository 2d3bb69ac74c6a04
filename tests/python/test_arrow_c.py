"""src/arrow, the Arrow data of C: both ways against pyarrow, and hostile bytes."""

from __future__ import annotations

import ctypes
import decimal
import pathlib
import random
import shutil
import subprocess

import pyarrow as pa
import pytest

ROOT = pathlib.Path(__file__).parents[2]
EPROTO, ETYPE, EINVAL = -3, -24, -2


class Stream(ctypes.Structure):
    """struct ArrowArrayStream; its functions are called by pyarrow alone."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("schema", "next", "error", "release", "own")]


class Error(ctypes.Structure):
    """struct skate_error"""

    _fields_ = [("text", ctypes.c_char * 512)]


@pytest.fixture(scope="module")
def arrow(tmp_path_factory):
    """The folder src/arrow alone, as a library with checks."""
    target = tmp_path_factory.mktemp("arrow") / "libarrow_test.so"
    sources = [*sorted((ROOT / "src" / "arrow").glob("*.c")), ROOT / "src" / "base" / "err.c"]
    subprocess.run(
        [shutil.which("cc") or "gcc", "-shared", "-fPIC", "-std=gnu11", "-O1", "-D_GNU_SOURCE",
         "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error", "-fvisibility=default",
         f"-I{ROOT / 'src'}", f"-I{ROOT / 'include'}", "-o", target, *sources],
        check=True, timeout=120,
    )  # fmt: skip
    library = ctypes.CDLL(str(target))
    library.free_bytes = ctypes.CDLL(None).free
    library.free_bytes.argtypes = [ctypes.c_void_p]
    return library


def encode(arrow, value) -> bytes:
    """The IPC bytes that C makes of a table of pyarrow."""
    reader = value if isinstance(value, pa.RecordBatchReader) else value.to_reader()
    stream, error = Stream(), Error()
    data, length = ctypes.c_void_p(), ctypes.c_size_t()
    reader._export_to_c(ctypes.addressof(stream))
    code = arrow.arrow_encode(ctypes.byref(stream), ctypes.byref(data), ctypes.byref(length),
                              ctypes.byref(error))  # fmt: skip
    assert stream.release is None  # taken, whatever came of it
    if code < 0:
        raise OSError(-code, error.text.decode())
    made = ctypes.string_at(data, length.value)
    arrow.free_bytes(data)
    return made


def decode(arrow, data: bytes):
    """The table that C reads in IPC bytes, and what must stay as long as it does."""
    kept = pa.py_buffer(bytearray(64 + len(data)))  # aligned as the object store is
    shift = -kept.address % 64
    ctypes.memmove(kept.address + shift, data, len(data))
    stream, error = Stream(), Error()
    code = arrow.arrow_decode(ctypes.c_void_p(kept.address + shift), ctypes.c_size_t(len(data)),
                              ctypes.byref(stream), ctypes.byref(error))  # fmt: skip
    if code < 0:
        raise OSError(-code, error.text.decode())
    return pa.RecordBatchReader._import_from_c(ctypes.addressof(stream)), kept


def ipc(value, **options) -> bytes:
    """What pyarrow writes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, value.schema, options=pa.ipc.IpcWriteOptions(**options)) as out:
        out.write(value)
    return sink.getvalue().to_pybytes()


def same(arrow, table) -> None:
    """C writes it and pyarrow reads it, and the other way round."""
    made = pa.ipc.open_stream(encode(arrow, table)).read_all()
    made.validate(full=True)
    assert made == table and made.schema == table.schema
    for data in (ipc(table), encode(arrow, table)):
        reader, kept = decode(arrow, data)
        read = reader.read_all()
        read.validate(full=True)
        assert read == table and read.schema == table.schema
        del read, reader, kept


def column(kind, values):
    return pa.table({"c": pa.array(values, kind)})


SIMPLE = [
    *[(kind, [1, None, 0, 120]) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64(),
      pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())],
    (pa.float16(), [1.5, None]), (pa.float32(), [1.5, None, -2]), (pa.float64(), [None, 2.5]),
    (pa.null(), [None, None]), (pa.bool_(), [True, None, False] * 7),
    (pa.utf8(), ["a", None, "", "üß" * 50]), (pa.large_utf8(), ["a", None, "bcd"]),
    (pa.binary(), [b"\0", None, b"xyz"]), (pa.large_binary(), [b"", b"q" * 1000, None]),
    (pa.string_view(), ["a", None, "", "just twelve.", "thirteen long", "üß" * 50]),
    (pa.binary_view(), [b"\0", None, b"xyz" * 9]),
    (pa.list_(pa.string_view()), [["a"], None, [None]]),
    (pa.dictionary(pa.int8(), pa.string_view()), None),
    (pa.binary(3), [b"abc", None, b"xyz"]), (pa.date32(), [1, None]),
    (pa.date64(), [86400000, None]),
    (pa.time32("s"), [1, None]), (pa.time32("ms"), [5]), (pa.time64("us"), [7, None]),
    (pa.time64("ns"), [9]), (pa.timestamp("s"), [1, None]),
    (pa.timestamp("us", "Europe/Bern"), [2]),
    (pa.timestamp("ns"), [3]), (pa.duration("s"), [4, None]), (pa.duration("ms"), [5]),
    (pa.duration("us"), [5]), (pa.duration("ns"), [6]),
    (pa.month_day_nano_interval(), [(1, 2, 3), None]),
    (pa.decimal128(9, 2), [decimal.Decimal("1.23"), None]),
    (pa.decimal256(50, 3), [decimal.Decimal("7.125")]),
    (pa.decimal32(5, 1), [decimal.Decimal("1.5")]), (pa.decimal64(12, 1), [decimal.Decimal("1.5")]),
    (pa.list_(pa.int32()), [[1, 2], None, [], [None, 3]]),
    (pa.large_list(pa.utf8()), [["a"], None, ["b", None]]),
    (pa.list_(pa.int16(), 2), [[1, 2], None, [3, None]]),
    (pa.list_(pa.list_(pa.bool_())), [[[True], []], None, [None]]),
    (pa.struct([("a", pa.int8()), ("b", pa.utf8())]), [{"a": 1, "b": "x"}, None, {"a": None}]),
    (pa.map_(pa.utf8(), pa.int64()), [[("k", 1)], None, [("l", None), ("m", 2)]]),
    (pa.map_(pa.int8(), pa.int8(), keys_sorted=True), [[(1, 2)]]),
    (pa.dictionary(pa.int8(), pa.utf8()), ["x", None, "y", "x"]),
    (pa.dictionary(pa.uint16(), pa.int64(), ordered=True), [5, 6, None]),
    (pa.list_(pa.dictionary(pa.int32(), pa.utf8())), [["x", "y"], None, ["x"]]),
    (pa.dictionary(pa.int32(), pa.list_(pa.int8())), None),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "values"), SIMPLE, ids=lambda v: str(v)[:40])
def test_every_type_both_ways(arrow, kind, values):
    if values is None:
        items = [[1], [2, 3]] if kind.value_type == pa.list_(pa.int8()) else ["a", "thirteen long"]
        meant = pa.array(items, kind.value_type)
        table = pa.table({"c": pa.DictionaryArray.from_arrays(pa.array([1, 0, None]), meant)})
        same(arrow, table)
        return
    table = column(kind, values)
    same(arrow, table)
    same(arrow, pa.concat_tables([table, table.slice(1), table]))  # several batches
    same(arrow, table.schema.empty_table())
    longer = pa.concat_tables([table] * 9).combine_chunks()
    for start in (1, 3, 7, 8, 9):  # arrays that begin inside of a byte of bits
        same(arrow, longer.slice(start, 11))
    same(arrow, column(kind, [value for value in values if value is not None]))


def test_tables_as_a_whole(arrow):
    same(arrow, pa.table({}))
    same(arrow, pa.table({f"c{i}": [i] for i in range(300)}))
    same(arrow, pa.table({"n": range(100_000), "s": [str(i) for i in range(100_000)]}))
    fields = [pa.field("", pa.int8(), nullable=False), pa.field("ü", pa.utf8())]
    same(arrow, pa.table([[1], ["x"]], schema=pa.schema(fields)))


def test_views_that_lie_in_several_buffers(arrow):
    parts = [pa.array([f"{i} in a buffer of its own", None, "short"], pa.string_view())
             for i in range(5)]  # fmt: skip
    several = pa.concat_arrays(parts)
    assert len(several.buffers()) > 4
    table = pa.table({"a": several, "b": several, "n": range(15)})
    same(arrow, table)
    for start in range(15):
        same(arrow, table.slice(start, 4))
    many = pa.array([f"row {i} of very many" for i in range(10_000)], pa.string_view())
    assert len(encode(arrow, pa.table({"c": many.slice(70, 3)}))) < 2_000
    assert len(encode(arrow, pa.table({"c": pa.array([None] * 9, pa.string_view())}))) < 2_000


def test_what_is_written_is_aligned_and_read_in_place(arrow):
    table = pa.table({"a": pa.array([1.0, 2.0]), "b": ["x", None]})
    reader, kept = decode(arrow, encode(arrow, table))
    batch = reader.read_next_batch()
    for buffer in [b for column in batch.columns for b in column.buffers() if b is not None]:
        assert kept.address <= buffer.address < kept.address + kept.size
        assert buffer.address % 64 == 0
    assert batch.to_pydict() == table.to_pydict()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pa.table({"v": pa.array([["a"]], pa.list_view(pa.utf8()))}), "'v': the Arrow type list v"),
        (pa.table({"u": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])}),
         "'u': the Arrow type union"),
        (pa.table({"r": pa.RunEndEncodedArray.from_arrays([2], ["x"])}), "run-end encoded"),
        (pa.table({"s": pa.array([[["a"]]], pa.list_(pa.large_list_view(pa.utf8())))}),
         "large list view"),
    ],
)  # fmt: skip
def test_types_that_are_not_carried(arrow, table, words):
    with pytest.raises(OSError, match=words) as caught:
        encode(arrow, table)
    assert caught.value.errno == -ETYPE
    with pytest.raises(OSError, match=words) as caught:
        decode(arrow, ipc(table))
    assert caught.value.errno == -ETYPE


def test_streams_that_are_not_carried(arrow):
    table = pa.table({"a": list(range(1000))})
    reader, kept = decode(arrow, ipc(table, compression="zstd"))
    with pytest.raises(OSError, match="compressed"):
        reader.read_all()
    assert kept

    def broken():
        yield table.to_batches()[0]
        raise RuntimeError("no more of that")

    with pytest.raises(OSError, match="no more of that") as caught:
        encode(arrow, pa.RecordBatchReader.from_batches(table.schema, broken()))
    assert caught.value.errno == -EINVAL
    with pytest.raises(OSError, match="does not begin with a schema"):
        decode(arrow, b"")
    with pytest.raises(OSError, match="no message"):
        decode(arrow, b"not arrow at all" * 8)


def test_changed_bytes_never_lead_outside(arrow):
    """pyarrow's own full validation accepts what C has let through."""
    dice = random.Random(11)
    table = pa.table({
        "n": pa.array([1, None, 3], pa.int16()), "s": [b"a", b"bc", None], "l": [[1], None, [2, 3]],
        "d": pa.array([b"x", b"y", b"x"]).dictionary_encode(), "b": [True, None, False],
        "t": pa.array([{"q": 1.5}, None, {"q": None}]),
        "z": pa.array([b"x"] * 3, pa.large_binary()),
        "f": pa.array([[1, 2]] * 3, pa.list_(pa.int8(), 2)),
        "v": pa.array([b"short", None, b"a long one, in a buffer"], pa.binary_view()),
    })  # fmt: skip
    whole = ipc(table)
    passed = 0
    for _ in range(5000):
        bent = bytearray(whole[: dice.randrange(len(whole))] if dice.random() < 0.1 else whole)
        for _ in range(dice.randrange(1, 4)):
            if bent:
                odd = dice.choice([0, 1, 0x7F, 0xFF, dice.randrange(256)])
                bent[dice.randrange(len(bent))] = odd
        try:
            reader, kept = decode(arrow, bytes(bent))
            batches = list(reader)
        except (OSError, pa.ArrowException):
            continue
        for batch in batches:
            try:
                batch.to_struct_array().validate(full=True)
                passed += 1
            except pa.ArrowInvalid as error:
                # of a value, not of where it lies
                values = ("UTF8", "ecimal", "time", "date", "inlined prefix", "padding bytes")
                assert any(word in str(error) for word in values), error
        del reader, batches, kept
    assert passed > 100
