"""Cuts and delays where there may be no network namespaces: a proxy for TCP, without privileges.

The machines are loopback addresses, 127.77.0.PORT. tcpshim.c, preloaded into the daemons, sends
each connection between two of them through this process, which forwards bytes late or not at all.
Cut off, bytes wait and come after the heal, as those that TCP would send again; new connections
stay without an answer. There is no loss, no reordering and no bandwidth here, and a machine whose
port is closed looks like one that hangs up.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cuts import Cuts
from netns import run

HERE = Path(__file__).resolve().parent
PIECE = 1 << 18
HELD_PIECES = 64  # of one direction; then the sender is not read any more


class Net(Cuts):
    """The same calls as netns.Net, as far as TCP goes."""

    switch = None

    def __init__(self, folder: Path) -> None:
        """folder: for the compiled shim."""
        super().__init__()
        self.shim = folder / "tcpshim.so"
        run("cc", "-O2", "-Wall", "-Wextra", "-Werror", "-std=gnu11", "-shared", "-fPIC", "-o",
            str(self.shim), str(HERE / "tcpshim.c"), "-ldl")  # fmt: skip
        self.delay_s = 0.0
        self.forwarded = 0
        self.loop = asyncio.new_event_loop()
        self.healed = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
        self.listener.bind(("0.0.0.0", 0))  # each address of lo, and no other
        self.listener.listen(100)
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    @staticmethod
    def ip(port: int) -> str:
        """The address of a machine."""
        return f"127.77.0.{port}"

    def add(self, port: int) -> None:
        """A machine more."""
        self.names[port], self.deaf[port] = self.ip(port), set()

    def shape(self, delay_ms: float = 0.0) -> None:
        """Everything comes so much later."""
        self.delay_s = delay_ms / 1000

    def heal(self) -> None:
        """No fault any more."""
        for heard in self.deaf.values():
            heard.clear()
        self.delay_s = 0.0
        self.loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self.healed.set()
        self.healed = asyncio.Event()

    @contextmanager
    def inside(self, port: int) -> Iterator[None]:
        """Programs started meanwhile are on that machine. One thread at a time."""
        mine = {"LD_PRELOAD": str(self.shim), "FAULTS_PROXY": f"{port}:{self.port}"}
        before = {key: os.environ.get(key) for key in mine}
        os.environ.update(mine)
        try:
            yield
        finally:
            for key, value in before.items():
                os.environ.pop(key)
                if value is not None:
                    os.environ[key] = value

    def close(self) -> None:
        """Everything is as before."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.listener.close()

    # -------------------------------------------------------------------------- its thread

    def _serve(self) -> None:
        self.tasks.add(self.loop.create_task(self._accept()))
        self.loop.run_forever()
        for task in self.tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*self.tasks, return_exceptions=True))
        self.loop.close()

    async def _accept(self) -> None:
        while True:
            sock, peer = await self.loop.sock_accept(self.listener)
            task = self.loop.create_task(self._join(sock, peer[0]))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _join(self, sock: socket.socket, peer: str) -> None:
        _, second, high, low = (int(part) for part in sock.getsockname()[0].split("."))
        source, target = int(peer.rpartition(".")[2]), second - 128
        sock.setblocking(False)
        with sock, socket.socket() as other:
            other.setblocking(False)
            other.bind((self.ip(source), 0))
            await self._open(source, target)
            await self._open(target, source)
            try:
                await self.loop.sock_connect(other, (self.ip(target), high * 256 + low))
            except OSError:
                return
            both = [self._forward(sock, other, source, target),
                    self._forward(other, sock, target, source)]  # fmt: skip
            await asyncio.gather(*both)

    async def _open(self, source: int, target: int) -> None:
        while source in self.deaf.get(target, ()):
            await self.healed.wait()

    async def _forward(self, one: socket.socket, other: socket.socket, source: int, target: int
                       ) -> None:
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(HELD_PIECES)

        async def read() -> None:
            data = b"-"
            while data:
                try:
                    data = await self.loop.sock_recv(one, PIECE)
                except OSError:
                    data = b""
                await held.put((self.loop.time() + self.delay_s, data))

        reader = self.loop.create_task(read())
        try:
            while True:
                due, data = await held.get()
                await asyncio.sleep(due - self.loop.time())
                await self._open(source, target)
                if not data:
                    break
                await self.loop.sock_sendall(other, data)
                self.forwarded += len(data)
        except OSError:
            pass
        finally:
            reader.cancel()
            with suppress(OSError):
                other.shutdown(socket.SHUT_WR)
            with suppress(OSError):
                one.shutdown(socket.SHUT_RD)
