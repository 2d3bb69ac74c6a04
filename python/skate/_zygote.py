"""The zygote: one warm, single-threaded Python process of a node that forks the workers.

Started by the raylet, which talks to it over descriptor 3 with whole frames of messages.def:
`fork` (with three descriptors: the worker's socket, stdout, stderr) is answered by `forked`; when
a worker ends, `exited` tells its wait status. It imports what every worker needs, freezes the
heap, and nothing else: no thread, no key, no descriptor of the raylet but its socket.

When descriptor 3 ends the raylet is gone: remove the node's run directory and exit; the workers
die with their parent (PDEATHSIG). Only C modules are imported for the plumbing (`_socket`,
`_signal`, `select`): their Python faces would double the start-up time.
"""

from __future__ import annotations

import _signal
import _socket
import gc
import os
import select
import sys
from collections.abc import Callable
from types import ModuleType

# Head of a frame: u32 size, u16 kind, u16 fixed, u32 call, u8 nfds, u8 flags, u16 zero.
_HEAD = 16
_FORK, _FORKED, _EXITED = 44, 45, 46
_SOCKET_FD = 3
_LEVELS = _socket.SOL_SOCKET, _socket.SCM_RIGHTS


def _frame(kind: int, call: int, body: bytes) -> bytes:
    """A frame without spans."""
    size = _HEAD + len(body)
    return (
        size.to_bytes(4, "little")
        + kind.to_bytes(2, "little")
        + size.to_bytes(2, "little")
        + call.to_bytes(4, "little")
        + b"\0\0\0\0"
        + body
    )


def _u64(n: int) -> bytes:
    return n.to_bytes(8, "little")


def _i32(n: int) -> bytes:
    return (n & 0xFFFFFFFF).to_bytes(4, "little")


class _Zygote:
    """State of the one loop: the socket, bytes and descriptors that came but are not used yet."""

    def __init__(self, child: Callable[[int], object], setup: Callable[[int], None]) -> None:
        self.child, self.setup = child, setup
        self.sock = _socket.socket(fileno=_SOCKET_FD)
        self.bell_r, self.bell_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.data = b""
        self.fds: list[int] = []
        self.pid = os.getpid()
        self.children: set[int] = set()

    def serve(self) -> None:
        """Until the raylet closes its end. A child never returns from here."""
        _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
        _signal.signal(_signal.SIGCHLD, lambda _number, _frame: None)
        _signal.set_wakeup_fd(self.bell_w)
        while True:
            ready, _, _ = select.select([self.sock, self.bell_r], [], [])
            if self.bell_r in ready:
                self.drain_bell()
                self.reap()
            if self.sock in ready and not self.receive():
                return

    def drain_bell(self) -> None:
        """Empty the pipe that the signal handler writes to."""
        try:
            while os.read(self.bell_r, 4096):
                pass
        except BlockingIOError:
            pass

    def send(self, frame: bytes) -> None:
        """Frames to the raylet are small and it always reads: a blocking send."""
        self.sock.sendall(frame)

    def reap(self) -> None:
        """Tell the end of each child that ended."""
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid not in self.children:
                continue  # one that a dead worker has started
            self.children.discard(pid)
            self.send(_frame(_EXITED, 0, _u64(used.ru_maxrss << 10) + _i32(pid) + _i32(status)))

    def receive(self) -> bool:
        """Read, and serve whole frames. False at the end of the raylet."""
        data, ancillary, _, _ = self.sock.recvmsg(
            65536, _socket.CMSG_SPACE(4 * 64), _socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, blob in ancillary:
            if (level, kind) == _LEVELS:
                for at in range(0, len(blob) - 3, 4):
                    self.fds.append(int.from_bytes(blob[at : at + 4], "little"))
        if not data:
            return False
        self.data += data
        while len(self.data) >= _HEAD:
            size = int.from_bytes(self.data[:4], "little")
            if size < _HEAD or len(self.data) < size:
                break
            frame, self.data = self.data[:size], self.data[size:]
            if int.from_bytes(frame[4:6], "little") == _FORK and len(self.fds) >= 3:
                self.fork(frame)
        return True

    def fork(self, frame: bytes) -> None:
        """Make one worker, and answer."""
        call = int.from_bytes(frame[8:12], "little")
        proc = frame[_HEAD : _HEAD + 8]
        fds, self.fds = self.fds[:3], self.fds[3:]
        try:
            pid = os.fork()
        except OSError as error:
            pid = -(error.errno or 1)
        if pid == 0:
            self.become_worker(fds)
        for fd in fds:
            os.close(fd)
        if pid < 0:
            self.send(_frame(_FORKED, call, proc + _i32(0) + _i32(pid)))
        else:
            self.children.add(pid)
            self.send(_frame(_FORKED, call, proc + _i32(pid) + _i32(0)))

    def end(self) -> None:
        """Without a raylet: the workers and all that they have started end. What was in a
        session of its own comes to us when its parent dies; bounded, for it may not die."""
        for pid in self.children:
            _kill(-pid)
        for _ in range(50):
            try:
                with open(f"/proc/self/task/{self.pid}/children") as file:
                    pids = file.read().split()
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except OSError:
                return
            for text in pids:
                _kill(int(text))
            select.select([], [], [], 0.001)

    def become_worker(self, fds: list[int]) -> None:
        """In the child: be a clean process, run the worker, never return."""
        status = 1
        try:
            self.setup(self.pid)
            _signal.set_wakeup_fd(-1)
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)
            os.dup2(fds[1], 1)
            os.dup2(fds[2], 2)
            null = os.open("/dev/null", os.O_RDONLY)
            os.dup2(null, 0, inheritable=True)
            for fd in (null, fds[1], fds[2], self.bell_r, self.bell_w, *self.fds):
                os.close(fd)
            self.sock.detach()
            os.close(_SOCKET_FD)
            random = sys.modules.get("random")
            if random is not None:
                random.seed()
            gc.enable()
            self.child(fds[0])
            status = 0
        except SystemExit as error:
            code = error.code
            status = code & 255 if isinstance(code, int) else int(code is not None)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except (AttributeError, OSError, ValueError):
                    pass
            os._exit(status)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, _signal.SIGKILL)
    except OSError:
        pass


def _remove_all(path: str) -> None:
    try:
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                _remove_all(entry.path)
            else:
                os.unlink(entry.path)
        os.rmdir(path)
    except OSError:
        pass


def _remove_spilled(names: str) -> None:
    """The session's own folders in the directories that it spilled to: one a line in this file."""
    try:
        with open(names, encoding="utf-8", errors="surrogateescape") as f:
            folders = f.read().splitlines()
        os.unlink(names)
    except OSError:
        return
    for folder in folders:
        if os.path.basename(folder).startswith("skate-spill-"):
            _remove_all(folder)


def _remove_run_dir(path: str) -> None:
    """What the raylet would have removed: its socket, its log files, what runtime environments
    made, what it had spilled, the directory."""
    _remove_all(os.path.join(path, "runtime_resources"))
    _remove_spilled(os.path.join(path, "spill_folders"))
    for folder in (os.path.join(path, "logs"), os.path.join(path, "spill"), path):
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            own = ("raylet.sock", "address", "spill.err")
            if name in own or name.startswith(("worker-", "zygote")):
                try:
                    os.unlink(os.path.join(folder, name))
                except OSError:
                    pass
        try:
            os.rmdir(folder)
        except OSError:
            pass


def _load(name: str) -> ModuleType:
    """The module whose main(fd) is a worker; only tests name another than skate._worker."""
    __import__(name)
    return sys.modules[name]


def _setup() -> Callable[[int], None]:
    """Die with the zygote: in C when the extension is there."""
    from skate import _core

    _core._adopt_orphans()
    return _core._child_setup


def main(run_dir: str, worker: str = "skate._worker") -> None:
    """Warm up, then serve until the raylet ends."""
    gc.disable()
    child = _load(worker).main
    setup = _load(worker)._child_setup if worker != "skate._worker" else _setup()
    try:
        __import__("cloudpickle")
        __import__("resource")  # of wait4
        if worker == "skate._worker":
            __import__("skate._async")  # every actor asks whether it is asynchronous
    except ImportError:
        pass
    gc.freeze()
    niceness = os.environ.pop("SKATE_WORKER_NICENESS", "")
    if niceness.isdigit():
        os.nice(int(niceness))  # the workers have it from us
    zygote = _Zygote(child, setup)
    try:
        zygote.serve()
    except OSError:
        pass
    zygote.end()
    _remove_run_dir(run_dir)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
