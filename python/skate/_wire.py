"""Control frames in Python, from the tables that src/wire/gen.py makes. See src/wire/frame.h."""

from __future__ import annotations

import struct

from skate._wire_gen import MESSAGES

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

GCS = 0
_NAMES = {number: name for name, (number, _, _, _) in MESSAGES.items()}
_HEAD = struct.Struct("<IHHIBBH")
_SPAN = struct.Struct("<II")
_ELEMENTS = {"id[]": 16, "u64[]": 8, "u32[]": 4, "val[]": 64}


def build(name: str, /, **fields: Any) -> bytes:
    """A frame; what is not given is zero or empty."""
    number, fixed, scalars, spans = MESSAGES[name]
    out = bytearray(fixed)
    for field, code, offset in scalars:
        value = fields.pop(field, b"" if code == "16s" else 0)
        struct.pack_into("<" + code, out, offset, value)
    for field, kind, offset in spans:
        value = fields.pop(field, None)
        if not value:
            continue
        data = value.encode() if kind == "str" else bytes(value)
        out += bytes(-len(out) % 8)
        _SPAN.pack_into(out, offset, len(out), len(data))
        out += data
    if fields:
        raise TypeError(f"{name} has no field {', '.join(fields)}")
    _HEAD.pack_into(out, 0, len(out), number, fixed, 0, 0, 0, 0)
    return bytes(out)


def parse(frame: bytes) -> tuple[str, dict[str, Any]]:
    """The name and the fields of a checked frame; val[] spans are left as bytes."""
    number = _HEAD.unpack_from(frame)[1]
    name = _NAMES[number]
    _, _, scalars, spans = MESSAGES[name]
    out: dict[str, Any] = {}
    for field, code, offset in scalars:
        out[field] = struct.unpack_from("<" + code, frame, offset)[0]
    for field, kind, offset in spans:
        start, length = _SPAN.unpack_from(frame, offset)
        data = frame[start : start + length]
        if kind == "str":
            out[field] = data.decode("utf-8", "replace")
        elif kind in ("u64[]", "u32[]"):
            code = "Q" if kind == "u64[]" else "I"
            out[field] = list(struct.unpack(f"<{length // _ELEMENTS[kind]}{code}", data))
        elif kind in _ELEMENTS and kind != "val[]":
            size = _ELEMENTS[kind]
            out[field] = [data[i : i + size] for i in range(0, length, size)]
        else:
            out[field] = data
    return name, out


def frames(data: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Whole frames back to back, each padded to 8 bytes (the answer `rows`)."""
    out, at = [], 0
    while at + 16 <= len(data):
        size = struct.unpack_from("<I", data, at)[0]
        if size < 16 or at + size > len(data):
            break
        out.append(parse(data[at : at + size]))
        at += size + -size % 8
    return out


def pack_resources(amounts: dict[str, float]) -> bytes:
    """Named amounts in units of 1/10000: see src/sched/resources.h."""
    out = bytearray()
    for name, amount in amounts.items():
        data = name.encode()
        out += struct.pack("<qI", round(amount * 10000), len(data)) + data
        out += bytes(-len(out) % 8)
    return bytes(out)


def unpack_resources(data: bytes) -> dict[str, float]:
    """The other way."""
    out: dict[str, float] = {}
    at = 0
    while at + 12 <= len(data):
        amount, length = struct.unpack_from("<qI", data, at)
        out[data[at + 12 : at + 12 + length].decode("utf-8", "replace")] = amount / 10000
        at += (12 + length + 7) & ~7
    return out
