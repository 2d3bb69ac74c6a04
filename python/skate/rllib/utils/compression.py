"""Packed columns of offline data: base64 of an LZ4 frame of a pickle, as RLlib writes them.

pack() needs the package lz4 or pyarrow (either is enough); without both it gives the data back as
it is, and writers then write plain lists. unpack() always works: with neither package a decoder in
Python does it. A pickle may hold arrays, numbers, strings and containers and nothing else: a file
from elsewhere cannot run code here.
"""

from __future__ import annotations

import base64
import binascii
import functools
import importlib
import io
import pickle
from typing import Any

MAX_BYTES = 1 << 31     # of one unpacked column
PIECE_BYTES = 1 << 20
MAGIC = 0x184D2204
# What a pickled column may be made of.
ALLOWED = frozenset({
    ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"),
    ("collections", "OrderedDict"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core")
      for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
})


class CompressionError(ValueError):
    """Packed data that cannot be unpacked; the text says why."""


@functools.lru_cache(maxsize=1)
def _codec() -> Any:
    """(compress, decompress) of an installed package, or None."""
    try:
        frame = importlib.import_module("lz4.frame")
    except ImportError:
        try:
            import pyarrow
            codec = pyarrow.Codec("lz4")
        except Exception:       # not installed, or built without LZ4
            return None
        return lambda data: codec.compress(data, asbytes=True), _read_with_pyarrow
    return frame.compress, lambda data: frame.LZ4FrameDecompressor().decompress(
        data, max_length=MAX_BYTES + 1)


def _read_with_pyarrow(data: bytes) -> bytes:
    """By pieces: pyarrow keeps the memory of a read that fails, and makes it as large as asked."""
    import pyarrow

    stream = pyarrow.CompressedInputStream(pyarrow.BufferReader(data), "lz4")
    pieces, size = [], 0
    while size <= MAX_BYTES:
        piece = stream.read_buffer(PIECE_BYTES)
        if not piece.size:
            break
        pieces.append(piece)
        size += piece.size
    return b"".join(pieces)


def compression_supported() -> bool:
    """True if pack() packs."""
    return _codec() is not None


def pack(data: Any) -> Any:
    """`data` as text, or `data` itself if nothing here can compress."""
    codec = _codec()
    if codec is None:
        return data
    # Protocol 3 and numpy's older module name: what Python 3.6 with numpy 1 can read.
    plain = pickle.dumps(data, protocol=3).replace(
        b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n", 1)
    return base64.b64encode(codec[0](plain)).decode("ascii")


def pack_if_needed(data: Any) -> Any:
    """pack() unless it is packed."""
    return data if is_compressed(data) else pack(data)


def is_compressed(data: Any) -> bool:
    """True for what pack() made."""
    return isinstance(data, (bytes, str))


def unpack(data: Any) -> Any:
    """Undo pack().

    Raises:
        CompressionError: not base64, not LZ4, cut off, or a pickle of something else than data.
    """
    if not is_compressed(data):
        return data
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CompressionError(f"not base64: {error}") from None
    plain = _decompress(raw)
    try:
        return _Unpickler(io.BytesIO(plain)).load()
    except CompressionError:
        raise
    except Exception as error:      # a damaged pickle raises almost anything
        raise CompressionError(f"not a pickled column: {type(error).__name__}: {error}") from None


def unpack_if_needed(data: Any) -> Any:
    """unpack() if it is packed."""
    return unpack(data) if is_compressed(data) else data


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise CompressionError(f"the pickle names {module}.{name}: only arrays, numbers, "
                                   "strings and containers are read")
        return super().find_class(module, name)


def _decompress(raw: bytes) -> bytes:
    codec = _codec()
    if codec is None:
        return decompress_frame(raw)
    if len(raw) < 7 or int.from_bytes(raw[:4], "little") != MAGIC:
        raise CompressionError("not an LZ4 frame")
    try:
        plain = bytes(codec[1](raw))
    except Exception as error:      # each package has its own types
        raise CompressionError(f"a damaged LZ4 frame: {error}") from None
    if len(plain) > MAX_BYTES:
        raise CompressionError(f"a column of more than {MAX_BYTES} bytes")
    return plain


def decompress_frame(raw: bytes) -> bytes:
    """The content of an LZ4 frame, in Python (about 5 MB/s; checksums are not looked at).

    Raises:
        CompressionError: not a frame, or damaged.
    """
    if len(raw) < 7 or int.from_bytes(raw[:4], "little") != MAGIC:
        raise CompressionError("not an LZ4 frame")
    flags = raw[4]
    if flags >> 6 != 1 or flags & 1:
        raise CompressionError("an LZ4 frame of another version, or with a dictionary")
    at = 7 + (8 if flags & 8 else 0)
    out = bytearray()
    while True:
        size = int.from_bytes(raw[at:at + 4], "little")
        if at + 4 > len(raw):
            raise CompressionError("the LZ4 frame is cut off")
        at += 4
        if size == 0:
            return bytes(out)
        stored, size = size >> 31, size & 0x7fffffff
        if at + size > len(raw):
            raise CompressionError("the LZ4 frame is cut off")
        if stored:
            out += raw[at:at + size]
        else:
            _block(raw[at:at + size], out)
        if len(out) > MAX_BYTES:
            raise CompressionError(f"a column of more than {MAX_BYTES} bytes")
        at += size + (4 if flags & 16 else 0)


def _block(block: bytes, out: bytearray) -> None:
    """Append the content of one LZ4 block; matches may reach into what `out` holds."""
    at, end = 0, len(block)
    try:
        while at < end:
            token = block[at]
            at += 1
            count = token >> 4
            if count == 15:
                count, at = _length(block, at, count)
            if at + count > end:
                raise CompressionError("a damaged LZ4 block: literals beyond its end")
            out += block[at:at + count]
            at += count
            if at == end:
                return
            back = block[at] | block[at + 1] << 8
            at += 2
            count = token & 15
            if count == 15:
                count, at = _length(block, at, count)
            count += 4
            start = len(out) - back
            if back == 0 or start < 0 or len(out) + count > MAX_BYTES:
                raise CompressionError("a damaged LZ4 block: a match outside the data")
            if back >= count:
                out += out[start:start + count]
            else:
                piece = bytes(out[start:])
                out += (piece * (count // back + 1))[:count]
    except IndexError:
        raise CompressionError("a damaged LZ4 block: it ends in the middle") from None


def _length(block: bytes, at: int, count: int) -> tuple[int, int]:
    while True:
        byte = block[at]
        at += 1
        count += byte
        if byte != 255:
            return count, at


__all__ = ["CompressionError", "compression_supported", "is_compressed", "pack",
           "pack_if_needed", "unpack", "unpack_if_needed"]
