"""What bare Python can do here: the floor of rows that run Python functions. floor.py SECONDS

  asyncio  create_task and gather of a coroutine that does next to nothing, 1,000 outstanding
  pycall   calls of a Python function in another process, 1,000 at a time: pickle the arguments,
           one write to a pipe for all, call, pickle the result back, unpickle; no ids, no refs

Prints lines `name value unit`, as floor.c does. Run by bench/run.py.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import struct
import sys
import time

BATCH = 1000
HEAD = struct.Struct("<I")


def measure_asyncio(seconds: float) -> float:
    """Tasks a second."""

    async def add(x: int) -> int:
        return x + 1

    async def run() -> float:
        done, began = 0, time.perf_counter()
        while True:
            tasks = [asyncio.create_task(add(done + i)) for i in range(BATCH)]
            assert (await asyncio.gather(*tasks))[-1] == done + BATCH
            done += BATCH
            spent = time.perf_counter() - began
            if spent >= seconds:
                return done / spent

    return asyncio.run(run())


def read_all(fd: int, count: int) -> bytes:
    """Exactly that many bytes; fewer at the end."""
    parts = []
    while count:
        part = os.read(fd, count)
        if not part:
            break
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def write_all(fd: int, frames: list[bytes]) -> None:
    """All frames, each behind its length, as one message."""
    body = b"".join([HEAD.pack(len(frame)) + frame for frame in frames])
    view = memoryview(HEAD.pack(len(body)) + body)
    while view:
        view = view[os.write(fd, view) :]


def frames_of(fd: int) -> list[memoryview]:
    """The frames of one message."""
    head = read_all(fd, HEAD.size)
    if not head:
        return []
    body = memoryview(read_all(fd, HEAD.unpack(head)[0]))
    frames, at = [], 0
    while at < len(body):
        size = HEAD.unpack_from(body, at)[0]
        frames.append(body[at + 4 : at + 4 + size])
        at += 4 + size
    return frames


def serve(source: int, target: int) -> None:
    """The other process: call, answer."""

    def add(x: int, y: float) -> float:
        return x + y

    while frames := frames_of(source):
        write_all(target, [pickle.dumps(add(*pickle.loads(f)), 5) for f in frames])


def measure_pycall(seconds: float) -> float:
    """Calls a second."""
    to_read, to_write = os.pipe()
    back_read, back_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(to_write)
        serve(to_read, back_write)
        os._exit(0)
    os.close(to_read)
    done, began = 0, time.perf_counter()
    while True:
        write_all(to_write, [pickle.dumps((done + i, 0.5), 5) for i in range(BATCH)])
        results = [pickle.loads(f) for f in frames_of(back_read)]
        assert results[-1] == done + BATCH - 0.5
        done += BATCH
        spent = time.perf_counter() - began
        if spent >= seconds:
            break
    os.close(to_write)
    os.waitpid(child, 0)
    return done / spent


if __name__ == "__main__":
    length = float(sys.argv[1])
    print("asyncio", measure_asyncio(length), "/s")
    print("pycall", measure_pycall(length), "/s")
