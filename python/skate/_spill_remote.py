"""The helper of a raylet that spills to a URI: it does with fsspec what the raylet asks.

Started by src/raylet/spill_remote.c, which has the same layouts and says when. Descriptors: 3 the
control socket (one START, then nothing: its end is the end of the session), 4 and 5 a socket for
each slot. A slot is a piece of the staging memory, whose descriptor comes with START, and carries
one request at a time: bytes to be written lie in it, bytes read are put there.

Request (40 bytes): magic, op, file, at, bytes, flags, bytes of text; then the text (START only:
URIs divided by spaces, newline, the session's random name, newline, options as JSON; `at` is the
raylet's process number, `bytes` those of a slot).
Reply (32 bytes): magic, op, status, bytes of text, file, bytes; then the text of an error.

A file of several parts is written by several WRITE, the first and the last of them marked; it is
there when the last was answered. Nothing is retried here: the raylet still has the bytes. What it
is told of an error never holds a password.

The files are <URI>/skate-spill-<session>/<number>. They are removed when the control socket ends;
those of sessions of this machine that are dead, when a helper starts.
"""

from __future__ import annotations

import _signal
import os
import struct
import threading

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    import mmap
    import socket
    from typing import Any

MAGIC = 0x31504B53
REQUEST = struct.Struct("<IIQQQII")
REPLY = struct.Struct("<IIIIQQ")
START, WRITE, READ, REMOVE = 1, 2, 3, 4
FIRST, LAST = 1, 2
OK, TRANSIENT, GONE, FULL, REFUSED, BROKEN = range(6)
SLOTS = 2
MOST_TEXT = 256 << 10
CLEAN_S = 1.2  # for the removal of everything: a session leaves no process behind for long
# Folders come into being with their files there (and a bucket must not, by our doing).
_NO_FOLDERS = frozenset(
    ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "memory", "r2")
)


class Failed(Exception):
    """A typed failure: kind is one of TRANSIENT ... BROKEN."""

    def __init__(self, kind: int, text: str) -> None:
        super().__init__(text)
        self.kind = kind


# -------------------------------------------------------------------------------------- sessions


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def session_name(pid: int, random: str) -> str:
    """Name of the folder of a raylet: machine, boot, process, so that a later one can tell whether
    it still lives."""
    from skate import _node

    machine, boot, space = _here()
    return f"skate-spill-{machine}-{boot}-{space}-{pid}-{_node.start_time(pid)}-{random}"


def _here() -> tuple[str, str, str]:
    """This machine, its boot, and the space of process numbers that we are in."""
    import hashlib

    name = "\n".join((os.uname().nodename, _text_of("/etc/machine-id")))
    machine = hashlib.sha256(name.encode()).hexdigest()[:12]
    boot = _text_of("/proc/sys/kernel/random/boot_id").replace("-", "")[:12] or "0"
    try:
        space = str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        space = "0"
    return machine, boot, space


def is_dead(name: str) -> bool:
    """Does this folder belong to a raylet of this machine that lives no more? In doubt, no."""
    from skate import _node

    words = name.split("-")
    if words[:2] != ["skate", "spill"] or len(words) != 8:
        return False
    machine, boot, space = _here()
    if words[2] != machine or not words[5].isdigit() or not words[6].isdigit():
        return False
    if words[3] != boot:
        return True
    return words[4] == space and _node.start_time(int(words[5])) != int(words[6])


# ------------------------------------------------------------------------------------ the target


class Target:
    """Files of one session under one or several URIs."""

    def __init__(self, uris: list[str], options: dict[str, Any], name: str) -> None:
        from fsspec.core import url_to_fs

        self._name = name
        self._options = options
        self._uris = uris
        self._places: list[tuple[Any, str]] = []
        for uri in uris:
            system, path = url_to_fs(uri, skip_instance_cache=True, **options)
            self._places.append((system, path.rstrip("/")))
        self._made = [False] * len(uris)
        self._lock = threading.Lock()

    def _place(self, file: int) -> tuple[Any, str]:
        system, prefix = self._places[file % len(self._places)]
        return system, f"{prefix}/{self._name}/{file}"

    def _make_folder(self, file: int) -> None:
        i = file % len(self._places)
        system, prefix = self._places[i]
        with self._lock:
            if not self._made[i]:
                protocol = system.protocol if isinstance(system.protocol, str) else ""
                names = {protocol} if protocol else set(system.protocol)
                if not names & _NO_FOLDERS:
                    system.makedirs(f"{prefix}/{self._name}", exist_ok=True)
                self._made[i] = True

    def open(self, file: int) -> Upload:
        """A file of several parts."""
        self._make_folder(file)
        return Upload(*self._place(file))

    def write(self, file: int, data: bytes) -> None:
        """A whole file."""
        self._make_folder(file)
        system, path = self._place(file)
        try:
            system.pipe_file(path, data)
        except BaseException:
            _drop(system, path)
            raise

    def read(self, file: int, at: int, count: int) -> bytes:
        """Exactly these bytes."""
        system, path = self._place(file)
        data: bytes = system.cat_file(path, start=at, end=at + count)
        if len(data) != count:
            raise Failed(
                GONE, f"the file has {len(data)} bytes from {at} on where {count} were written"
            )
        return data

    def remove(self, file: int) -> None:
        """One that is not there is fine."""
        system, path = self._place(file)
        try:
            system.rm_file(path)
        except FileNotFoundError:
            pass

    def remove_all(self) -> None:
        """Everything of this session."""
        for system, prefix in self._places:
            _remove_tree(system, f"{prefix}/{self._name}")

    def sweep(self) -> None:
        """Everything of dead sessions of this machine."""
        for system, prefix in self._places:
            try:
                system.invalidate_cache()
                found = system.ls(prefix, detail=False)
            except Exception:
                continue  # no such prefix yet; what matters is said when something is written
            for path in found:
                path = str(path).rstrip("/")
                if is_dead(path.rpartition("/")[2]):
                    _remove_tree(system, path)

    def failure(self, error: BaseException, writing: bool) -> Failed:
        """An exception of fsspec as one that can be told, without secrets."""
        if isinstance(error, Failed):
            return error
        kind = kind_of(error)
        if kind == GONE and writing:
            kind = REFUSED  # no such bucket, or folder
        text = str(error).strip() or "no reason given"
        where = ", ".join(self._uris)
        return Failed(kind, self.without_secrets(f"{where}: {type(error).__name__}: {text}"))

    def without_secrets(self, text: str) -> str:
        """Of the options everything that is text, of URIs the part before the host."""
        return without_secrets(text, self._options)


class Upload:
    """A file that is being written, part by part; there only when it was finished."""

    def __init__(self, system: Any, path: str) -> None:
        self._system, self._path = system, path
        self.at = 0
        self._out = system.open(path, "wb", block_size=16 << 20)

    def add(self, data: bytes) -> None:
        """The next part."""
        try:
            self._out.write(data)
        except BaseException:
            self.drop()
            raise
        self.at += len(data)

    def finish(self) -> None:
        """All parts are in."""
        try:
            self._out.close()
        except BaseException:
            self.drop()
            raise

    def drop(self) -> None:
        """Forget what was written."""
        discard = getattr(self._out, "discard", None)
        try:
            if discard is not None:
                discard()
        except Exception:
            pass
        try:  # its __del__ would finish it
            self._out.closed = True
        except AttributeError:
            try:
                self._out.close()
            except Exception:
                pass
        _drop(self._system, self._path)


def _drop(system: Any, path: str) -> None:
    try:
        system.rm_file(path)
    except Exception:
        pass  # it is written again, or removed with all the others


def _remove_tree(system: Any, path: str) -> None:
    try:
        system.invalidate_cache()
        system.rm(path, recursive=True)
    except Exception:
        pass  # nothing there, or nothing to be done about it


# ---------------------------------------------------------------------------------------- errors


def kind_of(error: BaseException) -> int:
    """TRANSIENT (may pass), GONE, FULL, REFUSED, BROKEN."""
    import errno as e

    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, FileNotFoundError) or number == e.ENOENT:
        return GONE
    if number in (e.ENOSPC, e.EDQUOT, e.EFBIG):
        return FULL
    if isinstance(error, PermissionError) or number in (e.EROFS, e.ENOTDIR, e.EISDIR):
        return REFUSED
    passing = (
        e.EAGAIN, e.EBUSY, e.EIO, e.ETIMEDOUT, e.EPIPE, e.ESTALE, e.ENETUNREACH, e.ENETDOWN,
        e.EHOSTUNREACH, e.ECONNRESET, e.ECONNREFUSED, e.ECONNABORTED, e.EMFILE, e.ENFILE,
    )  # fmt: skip
    if isinstance(error, (ConnectionError, TimeoutError, MemoryError)) or number in passing:
        return TRANSIENT
    for name in ("status", "status_code", "code"):
        status = getattr(error, name, None)
        if isinstance(status, int) and not isinstance(error, SystemExit):
            if status in (408, 425, 429) or 500 <= status < 600:
                return TRANSIENT
            if status in (401, 403):
                return REFUSED
    names = " ".join(kind.__name__ for kind in type(error).__mro__)
    if "Credential" in names or "Auth" in names:
        return REFUSED
    if any(word in names for word in ("Timeout", "onnect", "ServerError", "Incomplete")):
        return TRANSIENT
    return BROKEN


def without_secrets(text: str, options: dict[str, Any]) -> str:
    """A text that may be logged."""
    from skate._spill_uri import hidden

    secrets = [os.environ.get(n, "") for n in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")]
    todo: list[Any] = [options]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            todo += [value for key, value in item.items() if "url" not in str(key).lower()]
        elif isinstance(item, list):
            todo += item
        elif isinstance(item, str):
            secrets.append(item)
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= 4:
            text = text.replace(secret, "***")
    return hidden(text)[:2000]


# ---------------------------------------------------------------------------------------- serving


def _receive(sock: socket.socket, count: int) -> bytes:
    """EOFError at the end."""
    out = bytearray()
    while len(out) < count:
        data = sock.recv(count - len(out))
        if not data:
            raise EOFError
        out += data
    return bytes(out)


def _reply(sock: socket.socket, op: int, file: int, count: int, failed: Failed | None) -> None:
    text = str(failed).encode(errors="replace")[:2000] if failed else b""
    status = failed.kind if failed else OK
    sock.sendall(REPLY.pack(MAGIC, op, status, len(text), file, count) + text)


class Slot:
    """One request at a time, in a thread of its own."""

    def __init__(self, sock: socket.socket, target: Target, memory: memoryview) -> None:
        self._sock, self._target, self._memory = sock, target, memory
        self._upload: Upload | None = None

    def serve(self) -> None:
        """Until the socket ends."""
        try:
            while True:
                self._one(REQUEST.unpack(_receive(self._sock, REQUEST.size)))
        except (EOFError, OSError):
            self._sock.close()

    def _one(self, request: tuple[int, ...]) -> None:
        magic, op, file, at, count, flags, more = request
        if magic != MAGIC or op not in (WRITE, READ, REMOVE) or more or count > len(self._memory):
            raise EOFError  # not our raylet
        failed = None
        try:
            if op == WRITE:
                self._write(file, at, count, flags)
            elif op == READ:
                self._memory[:count] = self._target.read(file, at, count)
            else:
                self._target.remove(file)
        except Exception as error:
            self._drop()
            failed = self._target.failure(error, op == WRITE)
        _reply(self._sock, op, file, count, failed)

    def _write(self, file: int, at: int, count: int, flags: int) -> None:
        data = bytes(self._memory[:count])
        if flags & FIRST:
            self._drop()
        if flags & FIRST and flags & LAST:
            self._target.write(file, data)
            return
        if flags & FIRST:
            self._upload = self._target.open(file)
        if self._upload is None or self._upload.at != at:
            raise Failed(BROKEN, f"a part of file {file} is missing before byte {at}")
        self._upload.add(data)
        if flags & LAST:
            self._upload.finish()
            self._upload = None

    def _drop(self) -> None:
        if self._upload is not None:
            upload, self._upload = self._upload, None
            upload.drop()


def _start(control: socket.socket) -> tuple[Target, mmap.mmap, int]:
    """The target that START asks for, the staging memory, bytes of a slot."""
    import json
    import mmap
    import socket

    head, fds, _, _ = socket.recv_fds(control, REQUEST.size, 4)
    head += _receive(control, REQUEST.size - len(head))
    magic, op, _, pid, slot_bytes, _, count = REQUEST.unpack(head)
    if magic != MAGIC or op != START or len(fds) != 1 or count > MOST_TEXT:
        raise EOFError
    uris, random, options = _receive(control, count).decode().split("\n", 2)
    memory = mmap.mmap(fds[0], SLOTS * slot_bytes)
    os.close(fds[0])
    told: dict[str, Any] = json.loads(options) if options else {}
    try:
        target = Target(uris.split(" "), told, session_name(pid, random))
    except Exception as error:
        kind = REFUSED if isinstance(error, (ImportError, ValueError)) else kind_of(error)
        text = f"{uris}: {type(error).__name__}: {error}"
        _reply(control, START, 0, 0, Failed(kind, without_secrets(text, told)))
        raise EOFError from None
    return target, memory, slot_bytes


def main() -> None:
    """The whole life of the helper."""
    import socket

    for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
        _signal.signal(number, _signal.SIG_IGN)  # the end of the control socket is what ends us
    threading.excepthook = lambda _: os._exit(3)  # a half helper would keep the raylet waiting
    control = socket.socket(fileno=3)
    socks = [socket.socket(fileno=4 + i) for i in range(SLOTS)]
    try:
        target, memory, slot_bytes = _start(control)
    except (EOFError, OSError):
        os._exit(1)
    view = memoryview(memory)
    for i, sock in enumerate(socks):
        slot = Slot(sock, target, view[i * slot_bytes : (i + 1) * slot_bytes])
        threading.Thread(target=slot.serve, daemon=True).start()
    threading.Thread(target=target.sweep, daemon=True).start()
    try:
        _reply(control, START, 0, 0, None)
        _receive(control, 1)
    except (EOFError, OSError):
        pass  # the end, also when our answer is not awaited any more
    cleaner = threading.Thread(target=target.remove_all, daemon=True)
    cleaner.start()
    cleaner.join(CLEAN_S)
    os._exit(0)


# -------------------------------------------------------------------------------------- trying out


def try_out(given: dict[str, Any]) -> None:
    """Write, read and remove a small file at each of `uris`, with `options`; to stdout: the kind of
    failure (0: none), a space, its text. Ends the process."""
    options: dict[str, Any] = given["options"]
    kind, text = OK, ""
    for uri in given["uris"]:
        try:
            target = Target([uri], options, f"skate-spill-try-{os.urandom(8).hex()}")
            try:
                target.write(0, b"skate")
                if target.read(0, 0, 5) != b"skate":
                    raise Failed(BROKEN, "what was written is not what is read")
            finally:
                target.remove_all()
        except Exception as error:
            kind = error.kind if isinstance(error, Failed) else kind_of(error)
            text = without_secrets(f"{uri}: {type(error).__name__}: {error}", options)
            break
    os.write(1, f"{kind} {text}".encode(errors="replace"))
    os._exit(0)  # threads of some file systems would keep us
