"""TensorBoard event files, written without TensorBoard.

A file is a row of records: length (8 bytes), masked CRC-32C of the length, the data, masked
CRC-32C of the data. The data is a protocol buffer `Event` of which only four fields are used:
wall_time (1, double), step (2, varint), file_version (3, string), summary (5), the last being a
list of `Value` {tag (1, string), simple_value (2, float)}.
"""

from __future__ import annotations

import math
import os
import socket
import struct
import time
from collections.abc import Mapping
from typing import IO

from skate import _core


def masked_crc32c(data: bytes) -> int:
    """The checksum of the record format."""
    crc = _core.crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _varint(value: int) -> bytes:
    out = bytearray()
    value &= 0xFFFFFFFFFFFFFFFF
    while value > 0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _text(field: int, data: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(data)) + data


class EventWriter:
    """Appends scalars to one event file in a folder."""

    def __init__(self, folder: str) -> None:
        now = time.time()
        name = f"events.out.tfevents.{int(now)}.{socket.gethostname()}"
        self._heads: dict[str, bytes] = {}
        self.path = os.path.join(folder, name)
        self._file: IO[bytes] = open(self.path, "ab")
        if self._file.tell() == 0:
            self._record(struct.pack("<Bd", 0x09, now) + _text(3, b"brain.Event:2"))
            self._file.flush()

    def add_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        """One event with all scalars of a step."""
        summary = b"".join([(self._heads.get(tag) or self._head(tag)) + _float32(value)
                            for tag, value in scalars.items()])
        head = struct.pack("<Bd", 0x09, time.time()) + b"\x10" + _varint(step)
        self._record(head + _text(5, summary))
        self._file.flush()

    def _head(self, tag: str) -> bytes:
        """What comes before a tag's number: always the same."""
        name = _text(1, tag.encode()) + b"\x15"
        self._heads[tag] = b"\x0a" + _varint(len(name) + 4) + name
        return self._heads[tag]

    def _record(self, data: bytes) -> None:
        length = struct.pack("<Q", len(data))
        self._file.write(b"".join((
            length, struct.pack("<I", masked_crc32c(length)),
            data, struct.pack("<I", masked_crc32c(data)))))

    def close(self) -> None:
        """No more events."""
        self._file.close()


def _float32(value: float) -> bytes:
    """A value in four bytes: what is too large becomes infinite."""
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", math.inf if value > 0 else -math.inf)
