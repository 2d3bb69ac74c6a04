"""Frames between PolicyClient and PolicyServerInput.

A frame is 12 bytes (b"SKPS", bytes of the header, bytes of the body: little-endian u32), a header
that is a JSON object in UTF-8, and a body of arrays one after the other as the header says. A
connection's first frame must be {"op": "hello", "version": 1, "token": text or null}; every frame
of a client gets one frame back, {"error": text, "type": name} if it was refused. Ops and what they
carry are in server.py. Nothing is unpickled.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

MAGIC = b"SKPS"
HEAD = struct.Struct("<4sII")
VERSION = 1
HEADER_MAX = 1 << 20
BODY_MAX = 1 << 28
DTYPES = ("float32", "int32", "int64")


class FrameError(ConnectionError):
    """The other side sent what is no frame."""


def send(sock: socket.socket, header: dict[str, Any], body: bytes = b"") -> None:
    """One frame. ValueError: too long."""
    text = json.dumps(header).encode()
    if len(text) > HEADER_MAX or len(body) > BODY_MAX:
        raise ValueError(f"a frame of {len(text)} + {len(body)} bytes is longer than "
                         f"{HEADER_MAX} + {BODY_MAX}")
    sock.sendall(HEAD.pack(MAGIC, len(text), len(body)) + text + body)


def receive(sock: socket.socket) -> tuple[dict[str, Any], bytes] | None:
    """The next frame, None at the end of the connection. FrameError."""
    head = _exactly(sock, HEAD.size, True)
    if head is None:
        return None
    magic, header_bytes, body_bytes = HEAD.unpack(head)
    if magic != MAGIC:
        raise FrameError("not a frame of a policy server")
    if header_bytes > HEADER_MAX or body_bytes > BODY_MAX:
        raise FrameError(f"a frame of {header_bytes} + {body_bytes} bytes is too long")
    text, body = _exactly(sock, header_bytes), _exactly(sock, body_bytes)
    try:
        header = json.loads(text or b"")
    except ValueError as error:
        raise FrameError(f"the header is no JSON: {error}") from error
    if not isinstance(header, dict):
        raise FrameError("the header must be a JSON object")
    return header, body or b""


def _exactly(sock: socket.socket, n: int, may_end: bool = False) -> bytes | None:
    parts, left = [], n
    while left:
        part = sock.recv(min(left, 1 << 20))
        if not part:
            if may_end and left == n:
                return None
            raise FrameError(f"the connection ended {left} bytes too early")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def pack(arrays: dict[str, Any]) -> tuple[list[list[Any]], bytes]:
    """([[name, dtype, shape], ...], the arrays' bytes)."""
    import numpy as np

    plan, parts = [], []
    for name, array in arrays.items():
        array = np.ascontiguousarray(array)
        plan.append([name, str(array.dtype), list(array.shape)])
        parts.append(array.tobytes())
    return plan, b"".join(parts)


def unpack(plan: Any, body: bytes) -> dict[str, Any]:
    """What pack() packed (copies). FrameError: it does not fit the body."""
    import numpy as np

    arrays: dict[str, Any] = {}
    at = 0
    try:
        for name, dtype, shape in plan:
            if dtype not in DTYPES or not all(isinstance(n, int) and n >= 0 for n in shape):
                raise FrameError(f"array {name!r} of {dtype!r} {shape!r}")
            count = 1
            for n in shape:
                count *= n
            size = count * np.dtype(dtype).itemsize
            if size > len(body) - at:
                raise FrameError(f"array {name!r} goes over the end of the body")
            arrays[str(name)] = np.frombuffer(body, dtype, count, at).reshape(shape).copy()
            at += size
    except (TypeError, ValueError) as error:
        raise FrameError(f"the list of arrays is malformed: {error}") from error
    if at != len(body):
        raise FrameError(f"{len(body) - at} bytes of the body belong to no array")
    return arrays
