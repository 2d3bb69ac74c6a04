"""A disk with faults that a test switches on and off: `bad_disk.py MOUNT FAULTS COMMAND...`

Mounts a file system of its own (FUSE, spoken directly to /dev/fuse) at the folder MOUNT and becomes
COMMAND; the process that serves it ends with COMMAND, and the mount with it. To be run in a mount
namespace of its own: `unshare -rm`. What is written stays in memory. The programs under test see
system calls that fail or do not return; nothing of theirs is replaced.

A file in the folder FAULTS is a fault, as long as it is there:

- `full`: no byte more (ENOSPC). `readonly`: nothing is created, written, removed (EROFS).
- `unreadable`: EIO from reads. `garbage`: reads give wrong bytes.
- `hangs`: nothing comes back, whatever is asked, until it is removed.
- `slow`: each read and write waits for as many seconds as the file says.

The server makes a file `met.NAME` there when a fault is met for the first time, and removes it when
the fault is gone. Exit status 77 and one line when this place permits no such mount.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import stat
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

NOT_POSSIBLE = 77
MS_NOSUID, MS_NODEV = 2, 4
PR_SET_PDEATHSIG = 1
ROOT = 1
MOST_BYTES = 1 << 20  # of one request
BIG_WRITES, MAX_PAGES, DIRECT_IO = 1 << 5, 1 << 22, 1
SET_MODE, SET_SIZE = 1, 8
PUNCH_HOLE = 2
BLOCKS = 1 << 24  # of 4 KB: the disk is large
HEAD, REPLY = struct.Struct("<IIQQIIIHH"), struct.Struct("<IiQ")
ATTR = struct.Struct("<6Q10I")


class Refused(Exception):
    """An error for the caller."""

    def __init__(self, number: int) -> None:
        self.number = number


@dataclass
class Node:
    """A file or a folder."""

    number: int
    mode: int
    data: bytearray = field(default_factory=bytearray)
    names: dict[bytes, int] = field(default_factory=dict)
    looked_up: int = 0
    linked: bool = True


class Disk:
    """Answers the kernel's requests."""

    def __init__(self, device: int, faults: Path) -> None:
        self.device = device
        self.faults = faults
        self.nodes = {ROOT: Node(ROOT, stat.S_IFDIR | 0o777)}
        self.next = ROOT + 1
        self.answers: dict[int, Callable[[Node, memoryview], bytes]] = {
            1: self.lookup, 3: self.getattr, 4: self.setattr, 8: self.mknod, 9: self.mkdir,
            10: self.remove, 11: self.remove, 12: self.rename, 14: self.open, 15: self.read,
            16: self.write, 17: self.statfs, 18: self.nothing, 20: self.nothing,
            25: self.nothing, 26: self.init, 27: self.open, 28: self.readdir, 29: self.nothing,
            30: self.nothing, 35: self.create, 43: self.allocate, 45: self.rename2,
        }  # fmt: skip

    def serve(self) -> None:
        """Until the file system is gone."""
        while True:
            try:
                request = memoryview(os.read(self.device, MOST_BYTES + 4096))
            except InterruptedError:
                continue
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EAGAIN):  # a request that was taken back
                    continue
                return
            _, code, unique, number, *_ = HEAD.unpack_from(request)
            body = request[HEAD.size :]
            if code in (2, 42):
                self.forget(code, number, body)
                continue
            try:
                if code != 26:
                    self.meet_waits(code)
                answer = self.answers[code](self.nodes[number or ROOT], body)
                reply = REPLY.pack(REPLY.size + len(answer), 0, unique) + answer
            except Refused as error:
                reply = REPLY.pack(REPLY.size, -error.number, unique)
            except KeyError:
                reply = REPLY.pack(REPLY.size, -errno.ENOSYS, unique)
            try:
                os.write(self.device, reply)
            except OSError:
                continue  # who asked is gone

    # ------------------------------------------------------------------------------- faults

    def fault(self, name: str) -> bool:
        """Is it on? Said where the test can see it."""
        met = self.faults / f"met.{name}"
        on = (self.faults / name).exists()
        if on:
            met.touch()
        else:
            met.unlink(missing_ok=True)
        return on

    def meet_waits(self, code: int) -> None:
        while self.fault("hangs"):
            time.sleep(0.005)
        if code in (15, 16) and self.fault("slow"):
            try:
                time.sleep(float((self.faults / "slow").read_text()))
            except (OSError, ValueError):
                return  # just now removed

    def may_change(self) -> None:
        if self.fault("readonly"):
            raise Refused(errno.EROFS)

    def may_grow(self) -> None:
        self.may_change()
        if self.fault("full"):
            raise Refused(errno.ENOSPC)

    # -------------------------------------------------------------------------------- names

    def new(self, mode: int) -> Node:
        node = Node(self.next, mode)
        self.nodes[self.next] = node
        self.next += 1
        return node

    @staticmethod
    def attr(node: Node) -> bytes:
        size = len(node.data)
        return ATTR.pack(node.number, size, (size + 511) // 512, 0, 0, 0, 0, 0, 0, node.mode, 1, 0,
                         0, 0, 4096, 0)

    def entry(self, node: Node) -> bytes:
        """A name's answer; nothing is to be cached."""
        node.looked_up += 1
        return struct.pack("<4QII", node.number, 0, 0, 0, 0, 0) + self.attr(node)

    @staticmethod
    def name(body: memoryview) -> bytes:
        return bytes(body).partition(b"\0")[0]

    def child(self, folder: Node, name: bytes) -> Node:
        if name not in folder.names:
            raise Refused(errno.ENOENT)
        return self.nodes[folder.names[name]]

    def lookup(self, folder: Node, body: memoryview) -> bytes:
        return self.entry(self.child(folder, self.name(body)))

    def made(self, folder: Node, name: bytes, mode: int) -> Node:
        self.may_grow()
        if name in folder.names:
            raise Refused(errno.EEXIST)
        node = self.new(mode)
        folder.names[name] = node.number
        return node

    def mknod(self, folder: Node, body: memoryview) -> bytes:
        mode = struct.unpack_from("<I", body)[0]
        return self.entry(self.made(folder, self.name(body[16:]), mode))

    def mkdir(self, folder: Node, body: memoryview) -> bytes:
        mode = struct.unpack_from("<I", body)[0]
        return self.entry(self.made(folder, self.name(body[8:]), stat.S_IFDIR | mode))

    def create(self, folder: Node, body: memoryview) -> bytes:
        mode = struct.unpack_from("<4I", body)[1]
        node = self.made(folder, self.name(body[16:]), mode)
        return self.entry(node) + self.opened(node)

    def remove(self, folder: Node, body: memoryview) -> bytes:
        self.may_change()
        name = self.name(body)
        node = self.child(folder, name)
        if node.names:
            raise Refused(errno.ENOTEMPTY)
        del folder.names[name]
        node.linked = False
        self.drop(node)
        return b""

    def moved(self, folder: Node, target: int, names: memoryview) -> bytes:
        self.may_change()
        old, new = bytes(names).split(b"\0")[:2]
        node = self.child(folder, old)
        del folder.names[old]
        gone = self.nodes[target].names.pop(new, None)
        self.nodes[target].names[new] = node.number
        if gone is not None:
            self.nodes[gone].linked = False
            self.drop(self.nodes[gone])
        return b""

    def rename(self, folder: Node, body: memoryview) -> bytes:
        return self.moved(folder, struct.unpack_from("<Q", body)[0], body[8:])

    def rename2(self, folder: Node, body: memoryview) -> bytes:
        target, flags = struct.unpack_from("<QI", body)
        if flags:
            raise Refused(errno.EINVAL)
        return self.moved(folder, target, body[16:])

    def drop(self, node: Node) -> None:
        if not node.linked and node.looked_up <= 0:
            self.nodes.pop(node.number, None)

    def forget(self, code: int, number: int, body: memoryview) -> None:
        if code == 2:
            gone = [(number, struct.unpack_from("<Q", body)[0])]
        else:
            count = struct.unpack_from("<I", body)[0]
            gone = [struct.unpack_from("<QQ", body, 8 + 16 * i) for i in range(count)]
        for which, times in gone:
            if which in self.nodes and which != ROOT:
                self.nodes[which].looked_up -= times
                self.drop(self.nodes[which])

    def readdir(self, folder: Node, body: memoryview) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        out = b""
        for place, (name, number) in enumerate(folder.names.items(), 1):
            kind = self.nodes[number].mode >> 12
            line = struct.pack("<QQII", number, place, len(name), kind) + name
            line += bytes(-len(line) % 8)
            if place > offset and len(out) + len(line) <= size:
                out += line
        return out

    # ---------------------------------------------------------------------------- what is in

    @staticmethod
    def init(_: Node, body: memoryview) -> bytes:
        ahead = struct.unpack_from("<4I", body)[2]
        return struct.pack("<4IHH2IHH8I", 7, 31, ahead, BIG_WRITES | MAX_PAGES, 16, 12, MOST_BYTES,
                           1, MOST_BYTES // 4096, 0, *[0] * 8)

    @staticmethod
    def nothing(_: Node, body: memoryview) -> bytes:
        return b""

    def getattr(self, node: Node, body: memoryview) -> bytes:
        return struct.pack("<QII", 0, 0, 0) + self.attr(node)

    def setattr(self, node: Node, body: memoryview) -> bytes:
        self.may_change()
        valid, _, _, size = struct.unpack_from("<IIQQ", body)
        if valid & SET_SIZE:
            del node.data[size:]
            node.data.extend(bytes(size - len(node.data)))
        if valid & SET_MODE:
            mode = struct.unpack_from("<I", body, 68)[0]
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        return self.getattr(node, body)

    @staticmethod
    def opened(node: Node) -> bytes:
        return struct.pack("<QII", node.number, DIRECT_IO if stat.S_ISREG(node.mode) else 0, 0)

    def open(self, node: Node, body: memoryview) -> bytes:
        if struct.unpack_from("<I", body)[0] & (os.O_WRONLY | os.O_RDWR):
            self.may_change()
        return self.opened(node)

    def read(self, node: Node, body: memoryview) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        if self.fault("unreadable"):
            raise Refused(errno.EIO)
        found = bytes(node.data[offset : offset + size])
        return bytes(len(found)) if self.fault("garbage") else found

    def write(self, node: Node, body: memoryview) -> bytes:
        self.may_grow()
        _, offset, size = struct.unpack_from("<QQI", body)
        node.data.extend(bytes(max(0, offset - len(node.data))))
        node.data[offset : offset + size] = body[40 : 40 + size]
        return struct.pack("<II", size, 0)

    def allocate(self, node: Node, body: memoryview) -> bytes:
        _, offset, length, mode, _ = struct.unpack_from("<QQQII", body)
        if mode & PUNCH_HOLE:
            end = min(offset + length, len(node.data))
            node.data[offset:end] = bytes(max(0, end - offset))
        elif mode == 0:
            self.may_grow()
            node.data.extend(bytes(max(0, offset + length - len(node.data))))
        else:
            raise Refused(errno.EOPNOTSUPP)
        return b""

    def statfs(self, _: Node, body: memoryview) -> bytes:
        used = sum(len(node.data) for node in self.nodes.values()) // 4096
        free = 0 if self.fault("full") else BLOCKS - used
        return struct.pack("<5Q4I6I", BLOCKS, free, free, 1 << 20, 1 << 20, 4096, 255, 4096, 0,
                           *[0] * 6)


def main() -> None:
    mount, faults, command = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        print(f"/dev/fuse: {error.strerror}", file=sys.stderr)
        sys.exit(NOT_POSSIBLE)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    if libc.mount(b"bad_disk", os.fsencode(mount), b"fuse", MS_NOSUID | MS_NODEV, options.encode()):
        print(f"mount of fuse: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        sys.exit(NOT_POSSIBLE)
    ours = os.getpid()
    if os.fork() == 0:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == ours:
            Disk(device, faults).serve()
        os._exit(0)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
